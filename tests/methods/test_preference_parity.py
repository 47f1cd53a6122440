"""Losses and gradients of preference learning against TRL 1.16: its own loss code on the same log-probabilities."""

from collections import defaultdict
from types import MethodType, SimpleNamespace

import pytest
import torch

from tunesmith import PairLogps, RankedScores, ReferencedPairLogps, UnpairedLogps
from tunesmith_methods.objectives.pair import (
    CDPO,
    IPO,
    ORPO,
    RPO,
    APODown,
    APOZero,
    Hinge,
    Robust,
    Sigmoid,
    SigmoidNorm,
    SimPO,
)
from tunesmith_methods.objectives.score import BradleyTerry
from tunesmith_methods.objectives.unpaired import KTO, APOZeroUnpaired

pytest.importorskip("trl")
pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore")]
PAIRS, WIDTH = 6, 14


def stub(**settings):
    """What TRL's loss code asks of its trainer beside the loss: one process, no router, metrics that go nowhere."""
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
    return SimpleNamespace(
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )


def random_tokens(lengths=None):
    """Log-probabilities ``[2P, T]`` of chosen, then rejected answers, and where they stand: prompts have 3 tokens."""
    generator = torch.Generator().manual_seed(0)
    if lengths is None:
        lengths = torch.randint(1, WIDTH - 3, (2 * PAIRS, 1), generator=generator)
    position = torch.arange(WIDTH)
    mask = ((position >= 3) & (position < 3 + lengths)).long()
    leaf, reference = -3 * torch.rand(2, 2 * PAIRS, WIDTH - 1, generator=generator)
    logps = leaf.requires_grad_() * mask[:, 1:]
    return SimpleNamespace(mask=mask, leaf=leaf, logps=logps, reference=(reference * mask[:, 1:]).sum(1))


def outputs_of(logps):
    """What TRL's fused head returns, as far as its losses read it."""
    flat = torch.zeros_like(logps)
    return SimpleNamespace(log_probs=logps, entropy=flat, mean_logits=flat, is_top1=flat.bool())


def pairs_of(tokens):
    """The same as our input: sums and lengths."""
    sums, lengths = tokens.logps.sum(1), tokens.mask.sum(1).float()
    per_pair = lengths[:PAIRS].mean().item()
    return ReferencedPairLogps(*sums.chunk(2), *lengths.chunk(2), per_pair, *tokens.reference.chunk(2))


def assert_same(ours, theirs, leaf):
    """Loss and gradient agree to 1e-5 of their size."""
    mine, wanted = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (ours, theirs))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-6)
    assert torch.linalg.norm(wanted) > 0
    assert torch.linalg.norm(mine - wanted) <= 1e-5 * torch.linalg.norm(wanted)


# ------------------------------------------------------------------------------------------------ the DPO family
def trl_dpo(tokens, loss_type, beta, label_smoothing=0.0, loss_weights=None):
    """The loss of `DPOTrainer` and the metrics that it logs."""
    from trl import DPOTrainer

    trainer = stub(
        loss_types=loss_type,
        loss_weights=loss_weights or [1.0] * len(loss_type),
        beta=beta,
        label_smoothing=label_smoothing,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        use_weighting=False,
    )
    chosen, rejected = tokens.reference.chunk(2)
    inputs = {
        "input_ids": torch.zeros_like(tokens.mask),
        "attention_mask": torch.ones_like(tokens.mask),
        "completion_mask": tokens.mask,
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs_of(tokens.logps), inputs, False)
    return loss, {key: value[0] for key, value in trainer._metrics["train"].items()}


@pytest.mark.parametrize(
    ("objective", "loss_type"),
    [
        (Sigmoid(beta=0.3), "sigmoid"),
        (SigmoidNorm(beta=3.0), "sigmoid_norm"),
        (Hinge(beta=0.3), "hinge"),
        (IPO(beta=0.3), "ipo"),
        (Robust(beta=0.3, label_smoothing=0.2), "robust"),
        (APOZero(beta=0.3), "apo_zero"),
        (APODown(beta=0.3), "apo_down"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_dpo_losses(objective, loss_type):
    tokens = random_tokens()
    smoothing = getattr(objective, "label_smoothing", 0.0)
    theirs, _ = trl_dpo(tokens, [loss_type], objective.beta, smoothing)
    assert_same(objective(pairs_of(tokens)).total / PAIRS, theirs, tokens.leaf)


def test_dpo_metrics():
    """Means over pairs, of the same names. TRL takes a tie for wrong, we for half right; there is none here."""
    tokens = random_tokens()
    _, theirs = trl_dpo(tokens, ["sigmoid"], 0.3)
    ours = {key: value.item() / PAIRS for key, value in Sigmoid(beta=0.3)(pairs_of(tokens)).metrics.items()}
    assert ours == pytest.approx({key: theirs[key] for key in ours}, rel=1e-5)


def test_rpo_is_dpo_and_sft_where_chosen_answers_are_equally_long():
    tokens = random_tokens(torch.tensor([7] * PAIRS + [2, 9, 1, 4, 10, 3])[:, None])
    theirs, _ = trl_dpo(tokens, ["sigmoid", "sft"], 0.3, loss_weights=[1.0, 0.4])
    assert_same(RPO(beta=0.3, alpha=0.4)(pairs_of(tokens)).total / PAIRS, theirs, tokens.leaf)


def test_rpo_divides_every_answer_by_its_own_length():
    """Deviation: TRL's sft term is the mean over the tokens of the micro-batch, so long answers weigh more there.

    The paper divides each answer's likelihood by its own length; that is also what a pair contributes on its own, so
    the loss does not depend on how the batch is cut.
    """
    tokens = random_tokens()
    x = pairs_of(tokens)
    theirs, _ = trl_dpo(tokens, ["sigmoid", "sft"], 0.3, loss_weights=[1.0, 0.4])
    per_answer, per_token = (-x.chosen / x.chosen_tokens).mean(), -x.chosen.sum() / x.chosen_tokens.sum()
    ours = RPO(beta=0.3, alpha=0.4)(x).total / PAIRS
    assert_same(ours - 0.4 * (per_answer - per_token), theirs, tokens.leaf)
    assert abs(ours - theirs) > 1e-3


# ------------------------------------------------------------------------------------------------ CPO and ORPO
def trl_cpo(x, *, loss_type, label_smoothing=0.0, beta, nll=0.0, **settings):
    """`CPOTrainer`'s loss of log-probabilities of answers: means per token for simpo, sums otherwise."""
    from trl.experimental.cpo import CPOTrainer

    trainer = stub(loss_type=loss_type, label_smoothing=label_smoothing, beta=beta, alpha=0.0, **settings)
    means = (x.chosen / x.chosen_tokens, x.rejected / x.rejected_tokens)
    logps = means if loss_type == "simpo" else (x.chosen, x.rejected)
    trainer.concatenated_forward = lambda *_: (*logps, torch.zeros(1), torch.zeros(1), torch.as_tensor(nll))
    trainer.cpo_loss = MethodType(CPOTrainer.cpo_loss, trainer)
    return CPOTrainer.get_batch_loss_metrics(trainer, None, {})


def test_cdpo_is_trl_smoothing_without_a_reference():
    """TRL 1.16 dropped label smoothing from its sigmoid loss of DPO; CPO's has it, on the same margin."""
    tokens = random_tokens()
    tokens.reference.zero_()
    x = pairs_of(tokens)
    theirs, _ = trl_cpo(x, loss_type="sigmoid", label_smoothing=0.2, beta=0.3, cpo_alpha=0.0)
    assert_same(CDPO(beta=0.3, label_smoothing=0.2)(x).total / PAIRS, theirs, tokens.leaf)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_simpo(weight):
    """With the likelihood of the chosen answers (CPO-SimPO) and without; metrics but for summed log-probabilities."""
    tokens = random_tokens()
    x = pairs_of(tokens)
    nll = -x.chosen.sum() / x.chosen_tokens.sum()
    theirs, logged = trl_cpo(x, loss_type="simpo", beta=2.0, simpo_gamma=1.2, cpo_alpha=weight, nll=nll)
    loss = SimPO(beta=2.0, gamma_beta_ratio=0.6, sft_weight=weight)(x)
    assert_same(loss.total / PAIRS, theirs, tokens.leaf)
    ours = {key: value.item() / PAIRS for key, value in loss.metrics.items() if not key.startswith("logps/")}
    assert ours == pytest.approx({key: logged[key] for key in ours}, rel=1e-5)


def test_orpo():
    """Deviation in what is given here, not in the loss: TRL's likelihood also covers the prompt's tokens.

    We train on the answers alone, as the paper writes it; log-probabilities are logged as sums, not as means.
    """
    from trl.experimental.orpo import ORPOTrainer

    tokens = random_tokens()
    x = pairs_of(tokens)
    trainer = stub(beta=0.3)
    means = (x.chosen / x.chosen_tokens, x.rejected / x.rejected_tokens)
    nll = -x.chosen.sum() / x.chosen_tokens.sum()
    trainer.concatenated_forward = lambda *_: (*means, torch.zeros(1), torch.zeros(1), nll)
    trainer.odds_ratio_loss = MethodType(ORPOTrainer.odds_ratio_loss, trainer)
    theirs, logged = ORPOTrainer.get_batch_loss_metrics(trainer, None, {})
    loss = ORPO(beta=0.3)(x)
    assert_same(loss.total / PAIRS, theirs, tokens.leaf)
    ours = {key: value.item() / PAIRS for key, value in loss.metrics.items() if not key.startswith("logps/")}
    assert ours == pytest.approx({key: logged[key] for key in ours}, rel=1e-5)


def test_a_certain_answer_has_a_finite_odds_ratio_where_trl_has_none():
    """Deviation: a mean log-probability that rounds to 0 is clamped to -1e-7."""
    from trl.experimental.orpo import ORPOTrainer

    certain, other = torch.tensor([0.0]), torch.tensor([-1.0])
    losses, *_ = ORPOTrainer.odds_ratio_loss(stub(beta=1.0), certain, other)
    assert losses.item() == 0 and ORPOTrainer.odds_ratio_loss(stub(beta=1.0), other, certain)[0].item() == -torch.inf
    one = torch.ones(1)
    assert torch.isfinite(ORPO(beta=1.0)(PairLogps(other, certain, one, one, 1.0)).total)


# ------------------------------------------------------------------------------------------------ KTO
@pytest.mark.parametrize(
    ("objective", "loss_type"), [(KTO(beta=0.3), "kto"), (APOZeroUnpaired(beta=0.3), "apo_zero_unpaired")]
)
@pytest.mark.parametrize("shift", [0.5, -40.0])
@pytest.mark.parametrize("labels", ["both", "good", "bad"])
def test_kto(objective, loss_type, shift, labels):
    """z0 is the mean log-ratio of the mismatched answers, and 0 where that is negative.

    TRL takes it over the micro-batch, we over the optimizer step; here these are the same.
    """
    from trl import KTOTrainer

    tokens = random_tokens()
    desirable = {"both": torch.arange(2 * PAIRS) % 3 > 0, "good": torch.ones(12) > 0, "bad": torch.zeros(12) > 0}[
        labels
    ]
    other, other_reference = torch.randn(2, 2 * PAIRS, generator=torch.Generator().manual_seed(1)) - 5
    trainer = stub(
        calculate_KL=loss_type == "kto",
        precompute_ref_logps=True,
        loss_type=loss_type,
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.7,
        _compute_kl_logps=lambda *_: other + shift,
    )
    batch = {
        "input_ids": torch.zeros_like(tokens.mask),
        "attention_mask": torch.ones_like(tokens.mask),
        "completion_mask": tokens.mask,
        "label": desirable,
        "ref_logps": tokens.reference,
        "ref_KL_logps": other_reference,
    }
    theirs = KTOTrainer._compute_loss(trainer, lambda **_: outputs_of(tokens.logps), batch, False)
    baseline = (other + shift - other_reference).mean().clamp(min=0)
    weights = torch.where(desirable, 1.5, 0.7)
    loss = objective(UnpairedLogps(tokens.logps.sum(1), tokens.reference, desirable, weights, baseline))
    assert_same(loss.total / (2 * PAIRS), theirs, tokens.leaf)
    logged = {key: value[0] for key, value in trainer._metrics["train"].items()}
    for key, (total, count) in loss.means.items():
        assert (key in logged) == (count > 0)
        if count > 0:
            assert (total / count).item() == pytest.approx(logged[key], rel=1e-5)


# ------------------------------------------------------------------------------------------------ reward model
@pytest.mark.parametrize("margins", [None, [0.0, 1.0, 1 / 3, 2 / 3, 0.0, 2.0]])
@pytest.mark.parametrize("centering", [None, 0.01])
def test_bradley_terry(margins, centering):
    """Loss, gradient and metrics of pairs; TRL has no rankings."""
    from trl import RewardTrainer

    scores = torch.randn(2 * PAIRS, generator=torch.Generator().manual_seed(0)).requires_grad_()
    inputs = {"attention_mask": torch.ones(12, 2)}
    if margins is not None:
        inputs["margin"] = torch.tensor(margins)
    trainer = stub(args=SimpleNamespace(center_rewards_coefficient=centering))
    theirs = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=scores[:, None]), inputs)
    ranked = RankedScores(
        scores=scores,
        prompts=torch.arange(PAIRS).repeat(2),
        ranks=torch.tensor([1.0] * PAIRS + [0.0] * PAIRS),
        margins=torch.tensor(margins or [0.0] * PAIRS),
    )
    loss = BradleyTerry(centering=centering or 0.0)(ranked)
    assert_same(loss.total / PAIRS, theirs, scores)
    for key, (total, count) in loss.means.items():
        assert (total / count).item() == pytest.approx(trainer._metrics["train"][key][0], rel=1e-5, abs=1e-6)
