"""Every method and loss that is registered passes the checks of its kind; a new one is picked up."""

import pytest

from tunesmith.plugins import load
from tunesmith.testing.conform import checking

REGISTRY = load()
KINDS = ("method", "objective")
EVERY = [f"{kind}/{name}" for kind in KINDS for name in REGISTRY.names(kind)]
CASES = [(word, check) for word in EVERY for check in checking(word, {}, REGISTRY).names]
SKIPPED = {
    "at start": "declares nothing",
    "first step": "declares nothing",
    "start": "its head is new",
    "masked tokens": "reads all of its tokens",
    "adapter": "takes no adapter",
    "optional inputs": "nothing that it reads is optional",
}
"""Checks that may be skipped, and the reason that they must give."""


@pytest.fixture(scope="module")
def made():
    """``made(word)``: a component with what its checks share, until a check of another one is made."""
    current = {}

    def of(word):
        if word not in current:
            for other in current.values():
                other.close()
            current.clear()
            current[word] = checking(word, {}, REGISTRY)
        return current[word]

    yield of
    for last in current.values():
        last.close()


@pytest.mark.parametrize(("word", "check"), CASES, ids=["-".join(case) for case in CASES])
def test_every_check_passes(made, word, check):
    finding = made(word).check(check)
    assert finding.state != "failed", finding.seen
    if finding.state == "skipped":
        assert SKIPPED[check] in finding.seen


VARIANTS = {
    "grpo": [
        *({"aggregation": aggregation} for aggregation in ("sequence", "sum", "constant", "prompt")),
        {"ratio": "sequence", "aggregation": "sequence"},
        {"ratio": "sequence-token", "aggregation": "sequence"},
        {"surrogate": "cispo"},
        {"surrogate": "none"},
        {"delta": 4.0},
        {"off_policy_mask": 0.1},
        *({"correction": correction} for correction in ("token-tis", "sequence-tis", "token-mask", "sequence-mask")),
        *({"kl_coef": 0.1, "kl_estimator": "k3", "kl_correction": kind} for kind in ("none", "straight-through")),
        {"kl_coef": 0.1, "kl_estimator": "k1"},
        {"kl_coef": 0.1, "kl_estimator": "k2", "kl_correction": "none"},
    ],
    "simpo": [{"sft_weight": 0.5}],
    "bradley-terry": [{"centering": 0.1}, {"label_smoothing": 0.1}],
}
"""Settings under which a loss is another one."""


@pytest.mark.parametrize(
    ("name", "settings"), [(name, one) for name, several in VARIANTS.items() for one in several], ids=str
)
def test_every_variant_of_a_loss_passes(name, settings):
    with checking(f"objective/{name}", settings, REGISTRY) as made:
        failed = [finding for finding in made.findings() if finding.state == "failed"]
    assert not failed
