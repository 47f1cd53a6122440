"""Losses and gradients over sampled answers against TRL 1.16: its own loss code on the same log-probabilities."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from tunesmith import PolicyLogps
from tunesmith.numerics import group_advantages, grouped, leave_one_out_advantages
from tunesmith_methods.objectives.policy import GRPO, RLOO

pytest.importorskip("trl")
pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore")]
ROWS, WIDTH = 24, 11
CLIP = {"clip_low": 0.1, "clip_high": 0.15}
SEQUENCE = {"ratio": "sequence", "aggregation": "sequence", "clip_low": 0.03, "clip_high": 0.04}


def random_answers(drift=0.2):
    """Padded ``[B, T]`` log-probabilities of two prompts' answers, where they stand, and an advantage per answer."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, WIDTH + 1, (ROWS, 1), generator=generator)
    mask = (torch.arange(WIDTH) < lengths).long()
    leaf = (-3 * torch.rand(ROWS, WIDTH, generator=generator)).requires_grad_()
    noise = [torch.randn(ROWS, WIDTH, generator=generator) for _ in range(3)]
    return SimpleNamespace(
        mask=mask,
        leaf=leaf,
        old=leaf.detach() + drift * noise[0],
        reference=leaf.detach() + 0.5 * noise[1],
        sampler=leaf.detach() + drift * (noise[0] + 0.5 * noise[2]),
        advantages=torch.randn(ROWS, generator=generator),
    )


def ours(x, **given):
    """The same as our input: scored tokens alone."""
    where = x.mask.bool()
    branches = torch.arange(ROWS)[:, None].expand(ROWS, WIDTH)[where]
    columns = {name: getattr(x, name)[where] for name in ("old", "reference")} | given
    return PolicyLogps(
        x.leaf[where],
        branches,
        ROWS,
        advantages=x.advantages[branches],
        trees=torch.arange(ROWS) // 4,
        longest=WIDTH,
        **columns,
    )


def stub(**settings):
    """What TRL's loss code asks of its trainer beside the loss: one process, metrics that go nowhere."""
    same = SimpleNamespace(
        device=torch.device("cpu"), num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
    )
    return SimpleNamespace(
        accelerator=same,
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        _metrics={"train": defaultdict(list)},
        current_gradient_accumulation_steps=1,
        max_completion_length=WIDTH,
        top_entropy_quantile=1.0,
        _entropy_bonus_enabled=False,
        **settings,
    )


def inputs_of(x, **given):
    return {
        "prompt_ids": torch.zeros(ROWS, 2, dtype=torch.long),
        "prompt_mask": torch.ones(ROWS, 2, dtype=torch.long),
        "completion_ids": torch.zeros(ROWS, WIDTH, dtype=torch.long),
        "completion_mask": x.mask,
        "advantages": x.advantages,
        **given,
    }


def trl_grpo(x, loss_type="dapo", level="token", beta=0.0, is_ratio=None, **settings):
    """The loss of `GRPOTrainer` and the metrics that it logs."""
    from trl import GRPOTrainer

    args = SimpleNamespace(
        use_bias_correction_kl=settings.pop("bias_correction", True),
        delta=settings.pop("delta", None),
        steps_per_generation=1,
    )
    chosen = {"epsilon_low": 0.1, "epsilon_high": 0.15, "off_policy_mask_threshold": None} | settings
    trainer = stub(
        loss_type=loss_type,
        importance_sampling_level=level,
        beta=beta,
        args=args,
        use_vllm=is_ratio is not None,
        vllm_importance_sampling_correction=True,
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        _get_per_token_logps_and_entropies=lambda *_, **__: (x.leaf, torch.zeros_like(x.leaf), None),
        **chosen,
    )
    inputs = inputs_of(
        x,
        old_per_token_logps=x.old,
        ref_per_token_logps=x.reference,
        sampling_per_token_logps=x.sampler,
        num_items_in_batch=x.mask.sum(),
        importance_sampling_ratio=is_ratio,
    )
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss, {key: value[0] for key, value in trainer._metrics["train"].items()}


def units(objective, x):
    return {"token": int(x.mask.sum()), "sequence": ROWS, "prompt": ROWS // 4}[objective.unit]


def assert_same(objective, x, theirs, **given):
    """Loss, gradient and the metrics of the same name."""
    wanted, logged = theirs
    loss = objective(ours(x, **given))
    mine = loss.total / units(objective, x)
    slopes = [torch.autograd.grad(value, x.leaf, retain_graph=True)[0] for value in (mine, wanted)]
    assert mine.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-6)
    assert torch.linalg.norm(slopes[1]) > 0
    assert torch.linalg.norm(slopes[0] - slopes[1]) <= 1e-5 * torch.linalg.norm(slopes[1])
    shared = loss.means.keys() & logged.keys()
    for key in shared:
        assert (loss.means[key][0] / loss.means[key][1]).item() == pytest.approx(logged[key], rel=1e-5, abs=1e-6), key
    return shared


@pytest.mark.parametrize(
    ("loss_type", "settings"),
    [
        ("grpo", {"aggregation": "sequence"}),
        ("bnpo", {"aggregation": "token"}),
        ("dapo", {"aggregation": "token"}),
        ("dr_grpo", {"aggregation": "constant"}),
        ("luspo", {"aggregation": "sum"}),
    ],
)
@pytest.mark.parametrize("delta", [None, 1.3])
def test_aggregations(loss_type, settings, delta):
    """TRL's luspo on token ratios is a mean over answers of sums."""
    x = random_answers()
    shared = assert_same(GRPO(**settings, **CLIP, delta=delta), x, trl_grpo(x, loss_type, delta=delta))
    assert shared >= {"clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"}


@pytest.mark.parametrize(("loss_type", "aggregation"), [("grpo", "sequence"), ("luspo", "sum")])
def test_ratios_of_answers(loss_type, aggregation):
    """GSPO, and LUSPO, which counts an answer as often as it has tokens."""
    x = random_answers()
    theirs = trl_grpo(x, loss_type, "sequence", epsilon_low=0.03, epsilon_high=0.04)
    shared = assert_same(GRPO(**{**SEQUENCE, "aggregation": aggregation}), x, theirs)
    assert theirs[1]["clip_ratio/region_mean"] > 0 and "clip_ratio/region_mean" in shared


def test_cispo():
    """TRL's epsilon_high is the cap of the ratio itself."""
    x = random_answers()
    theirs = trl_grpo(x, "cispo", epsilon_high=1.15)
    assert "cispo_clip_ratio" in assert_same(GRPO(surrogate="cispo", is_cap=1.15), x, theirs)
    assert theirs[1]["cispo_clip_ratio"] > 0


@pytest.mark.parametrize("correction", ["importance", "none"])
def test_kl_in_the_loss(correction):
    """k3, times the token's ratio or plain."""
    x = random_answers()
    theirs = trl_grpo(x, beta=0.3, bias_correction=correction == "importance")
    assert "kl" in assert_same(GRPO(**CLIP, kl_coef=0.3, kl_correction=correction), x, theirs)


def test_kl_beside_ratios_of_answers_is_corrected_by_the_token_s_own_ratio():
    """Deviation: TRL multiplies by the answer's mean ratio there, whose gradient is not that of the KL."""
    x = random_answers()
    with_kl = GRPO(**SEQUENCE, kl_coef=0.3)(ours(x)).total
    without = GRPO(**SEQUENCE)(ours(x)).total
    of_tokens = (
        GRPO(aggregation="sequence", **CLIP, kl_coef=0.3)(ours(x)).total
        - GRPO(aggregation="sequence", **CLIP)(ours(x)).total
    )
    assert (with_kl - without).item() == pytest.approx(of_tokens.item(), rel=1e-5)
    theirs, _ = trl_grpo(x, "grpo", "sequence", beta=0.3, epsilon_low=0.03, epsilon_high=0.04)
    assert abs(with_kl / ROWS - theirs) > 1e-4
    plain, _ = trl_grpo(x, "grpo", "sequence", beta=0.3, epsilon_low=0.03, epsilon_high=0.04, bias_correction=False)
    same = GRPO(**SEQUENCE, kl_coef=0.3, kl_correction="none")(ours(x)).total / ROWS
    assert same.item() == pytest.approx(plain.item(), rel=1e-5)


def test_off_policy_mask():
    """By the sampler's log-probabilities where they are known."""
    x = random_answers(drift=0.8)
    scored = x.sampler[x.mask.bool()]
    for limit in (0.01, 0.2):
        theirs = trl_grpo(x, off_policy_mask_threshold=limit)
        assert_same(GRPO(**CLIP, off_policy_mask=limit), x, theirs, sampler=scored)
    dropped = GRPO(**CLIP, off_policy_mask=0.01)(ours(x, sampler=scored)).means["off_policy_masked"]
    assert 0 < dropped[0] < dropped[1]


@pytest.mark.parametrize("kind", ["token-tis", "token-mask", "sequence-tis", "sequence-mask"])
def test_corrections_of_the_sampler(kind):
    """TRL computes these weights while it generates; here by its formula, bounds 0.8 and 1.2."""
    x = random_answers()
    gap = (x.old - x.sampler) * x.mask
    ratio = (gap.sum(1, keepdim=True) if kind.startswith("sequence") else gap).exp()
    weights = ratio.clamp(0.8, 1.2) if kind.endswith("tis") else ratio.masked_fill((ratio < 0.8) | (ratio > 1.2), 0.0)
    objective = GRPO(**CLIP, correction=kind, correction_low=0.8, correction_high=1.2)
    theirs = trl_grpo(x, is_ratio=weights)
    assert_same(objective, x, theirs, sampler=x.sampler[x.mask.bool()])


def test_on_policy_needs_no_old_log_probabilities():
    x = random_answers()
    given = x.old
    x.old = None
    theirs = trl_grpo(x)
    x.old = given
    assert_same(GRPO(**CLIP), x, theirs, old=None)


# ------------------------------------------------------------------------------------------------ RLOO
@pytest.mark.parametrize("drift", [0.0, 0.2])
def test_rloo(drift):
    """A clipped ratio of whole answers."""
    from trl import RLOOTrainer

    x = random_answers(drift)
    trainer = stub(
        epsilon_low=0.2,
        epsilon_high=0.2,
        _get_per_token_logps_and_entropies=lambda *_, **__: (x.leaf, torch.zeros_like(x.leaf), None),
    )
    loss = RLOOTrainer._compute_loss(trainer, None, inputs_of(x, old_logps=(x.old * x.mask).sum(1)))
    logged = {key: value[0] for key, value in trainer._metrics["train"].items()}
    shared = assert_same(RLOO(), x, (loss, logged))
    assert "clip_ratio/region_mean" in shared and (logged["clip_ratio/region_mean"] > 0) == (drift > 0)


# ------------------------------------------------------------------------------------------------ advantages
def test_advantages():
    """TRL's formulas on rewards with a group that has one unscorable answer and one with a single scorable answer.

    Deviation: rewards that are all equal give exactly 0 here, and a rounding error over 1e-4 there.
    """
    from trl.trainer.utils import nanstd

    rewards = torch.tensor(
        [[0.3, 1.0, float("nan"), 2.0], [float("nan"), 4.0, float("nan"), float("nan")], [1, 0, 0, 1]]
    )
    groups = grouped(torch.arange(3).repeat_interleave(4), 3, ~rewards.flatten().isnan())
    centred = rewards - rewards.nanmean(1, keepdim=True)
    deviations = {"group": nanstd(rewards, dim=1)[:, None], "batch": nanstd(rewards)}
    for scale, deviation in deviations.items():
        theirs = torch.nan_to_num(centred / (deviation + 1e-4)).flatten()
        mine = group_advantages(rewards.flatten(), groups, scale=scale, eps=1e-4)
        assert torch.allclose(mine, theirs, rtol=1e-5)
    count = (~rewards.isnan()).sum(1, keepdim=True)
    others = (rewards.nansum(1, keepdim=True) - rewards) / (count - 1)
    theirs = torch.nan_to_num(rewards - others, nan=0.0).flatten()
    assert torch.allclose(leave_one_out_advantages(rewards.flatten(), groups), theirs, rtol=1e-5)
