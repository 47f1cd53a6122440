"""What an untrained model can learn to please, as the files that run files point to."""


def even_share(completion: str) -> float:
    """The share of its bytes with an even value."""
    said = completion.encode()
    return sum(byte % 2 == 0 for byte in said) / len(said) if said else 0.0
