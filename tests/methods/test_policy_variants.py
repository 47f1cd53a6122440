"""The named variants as whole runs: how a batch is cut changes nothing, whatever the loss is a mean over."""

import json
from typing import ClassVar

import pytest

from tunesmith import Reward


class EvenTokens(Reward):
    """The share of tokens with an even id."""

    name: ClassVar[str] = "even-tokens"
    isolated: ClassVar[bool] = False

    def __call__(self, rollouts):
        return [sum(i % 2 == 0 for i in r.ids) / len(r.ids) for r in rollouts]


VARIANTS = {
    "token": {"clip_high": 0.05, "delta": 3.0},
    "sequence": {"aggregation": "sequence", "kl_coef": 0.1},
    "constant": {"aggregation": "constant", "correction": "token-mask"},
    "prompt": {"aggregation": "prompt", "surrogate": "cispo", "is_cap": 1.1, "correction": "token-tis"},
    "gspo": {"aggregation": "sequence", "ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "product": {"aggregation": "sum", "ratio": "product", "correction": "sequence-tis", "off_policy_mask": 0.001},
}


@pytest.fixture
def variant(train, tmp_path):
    """``variant(settings, folder, micro_tokens)``: two steps of two updates each."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"numbers {i}" + " and then" * (i % 3)}) + "\n" for i in range(9)))

    def run(settings, name, micro_tokens):
        settings = {"objective": {"name": "grpo", **settings}, "micro_tokens": micro_tokens}
        more = {"max_steps": 2, "batch_size": 3, "group_size": 4, "max_new_tokens": 6, "probe": 0, "update_epochs": 2}
        return train("grpo", name, rewards=(EvenTokens(),), data=str(path), learning_rate=1e-3, **more, **settings)

    return run


@pytest.mark.parametrize("name", VARIANTS)
def test_parts_make_the_whole(variant, metrics, name):
    """Including the largest values; answers are sampled alike, so all that differs is rounding."""
    whole, parts = (metrics(variant(VARIANTS[name], f"run-{size}", size)) for size in (4096, 30))
    timed = {"tokens_per_s", "step_s"}
    for one, two in zip(whole, parts, strict=True):
        assert one.keys() == two.keys()
        shown = [{key: value for key, value in step.items() if key not in timed} for step in (one, two)]
        assert shown[0] == pytest.approx(shown[1], rel=1e-3, abs=1e-5)
    last = whole[-1]
    assert last["ratio/max"] > 1 and last["approx_kl"] > 0
    assert last["sampling/sampling_logp_difference/max"] >= last["sampling/sampling_logp_difference/mean"]
