"""Whether a method's models fit: bytes of model states, or what was computed from the model's shape."""

from __future__ import annotations

from tunesmith_plugins.advice.case import Case
from tunesmith_plugins.advice.engine import Facts, Methods

TRAINED, HELD, FOUR_BIT = 16.0, 2.0, 0.52
"""Bytes per parameter: trained with AdamW; kept for the forward pass in bf16; kept in 4 bits with double quantisation.

ZeRO (arXiv:1910.02054), section 3.1; QLoRA (arXiv:2305.14314), section 3.
"""
EXPANDED = 0.1
"""Share of parameters that copies of layers add and that alone are trained, where a method takes no adapter."""
FORMS = ("none", "lora", "4bit")
"""Ways of training, from the most memory to the least."""


def states(facts: Facts, parameters: float, form: str, *, judged: bool) -> float | None:
    """Gigabytes of weights, gradients and optimizer states; activations come on top.

    Args:
        facts: the method.
        parameters: of the model.
        form: one of `FORMS`.
        judged: whether a reward model of the same size is held as well.

    Returns:
        ``None`` where the method takes no adapter and one is asked for.
    """
    if form != "none" and not facts.adaptable:
        return None
    if not facts.adaptable and facts.name == "adept":
        grown = parameters * EXPANDED
        return (HELD * (parameters + grown) + (TRAINED - HELD) * grown) / 1e9
    if form == "none":
        held = HELD * ("reference" in facts.roles) + HELD * judged
        return parameters * (TRAINED * (1 + ("value" in facts.roles)) + held) / 1e9
    base = HELD if form == "lora" else FOUR_BIT
    return parameters * (base + HELD * judged) / 1e9  # with an adapter the base is reference and critic as well


def needed(case: Case, methods: Methods, name: str, form: str) -> float | None:
    """Gigabytes that a method needs in a form; ``None`` where that is not known."""
    facts = methods.get(name)
    if facts is None:
        return None
    if name in case.measured:
        return case.measured[name].get(form)
    if case.parameters is None:
        return None
    judged = facts.consumes == "prompt" and "rm" in case.have
    return states(facts, case.parameters, form, judged=judged)


def forms(case: Case, methods: Methods, name: str) -> tuple[str, ...]:
    """The ways of training that the user leaves open; raw text is trained on with all weights."""
    if case.adapter != "auto":
        return (case.adapter,)
    facts = methods.get(name)
    if facts is None or not facts.adaptable or facts.consumes == "text":
        return ("none",)
    return FORMS


def fits(case: Case, methods: Methods, name: str) -> bool | None:
    """Whether some open way of training fits all GPUs together; ``None`` where that is not known."""
    total = case.machine.total
    sizes = [size for form in forms(case, methods, name) if (size := needed(case, methods, name, form)) is not None]
    if total is None or not sizes:
        return None
    return min(sizes) <= total
