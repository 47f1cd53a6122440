"""The hot path: packed trees through the model, log-probabilities from the head in chunks."""
