"""Checks of a method: how a step is cut changes nothing, what it declares is so, and it learns."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.components import Method
from tunesmith.data.trees import Batch, Tree
from tunesmith.inputs import PairLogps, RankedScores, TokenLogps, UnpairedLogps
from tunesmith.models.loading import load_model
from tunesmith.numerics import sum_by
from tunesmith.online import OnlineMethod
from tunesmith.plugins import Registry
from tunesmith.runner.loop import Trainer
from tunesmith.runner.signals import StopRequest
from tunesmith.scoring.probe import choose, only, probe_batch
from tunesmith.scoring.scorer import Scorer
from tunesmith.scoring.scores import ScoreScorer
from tunesmith.testing.altered import permuted, with_tails
from tunesmith.testing.exact import exact
from tunesmith.testing.held import Held, slope
from tunesmith.testing.report import Finding, failed, ok, skipped
from tunesmith.testing.suite import Suite
from tunesmith.testing.tiny import own_cache, tiny_model
from tunesmith.testing.trial import Outcome, Trial, flat, quietly

ROUNDING = 1e-4
"""What may differ, as a share of the gradient's size: about a hundred times what rounding does in fp32."""
KNOWN = 1e-4
"""How far a metric may be from what is known of it."""
DIRECTIONS = 3
SMALL_PARTS = 40
"""Tokens of a part when a step is cut into many."""
STEPS = {True: 25, False: 10}
"""In which it should learn: online, and from rows."""
LEARNS = {"eps": 1e-8}
LEAST = 0.01
"""What counts as learning, as a share of what there was or of 1."""


# ---------------------------------------------------------------------------------------------- one step, cut anyhow
def _compared(ours: Outcome, theirs: Outcome, what: str, hint: str = "") -> Finding:
    """The same first loss and gradient, and the same weights in the end; ``hint``: what is wrong where they differ."""
    if ours.gradient is None or theirs.gradient is None:
        return failed(f"{what}: there was nothing to learn from in the first step")
    seen = {
        "loss": _apart([torch.tensor(m["loss"]) for m in (ours.metrics[0], theirs.metrics[0])], least=1.0),
        "gradient": _apart([ours.gradient, theirs.gradient]),
        f"change of the weights in {len(ours.metrics)} steps": _apart([ours.change, theirs.change]),
    }
    for name, distance in seen.items():
        if not distance <= ROUNDING:
            told = f"{what}: the {name} differs by {distance:.1e} of its size, which is more than rounding"
            return failed(f"{told}; {hint}" if hint else told)
    return ok(f"{what}: the same loss, gradient and weights, up to {max(seen.values()):.0e}")


def _apart(tensors: Sequence[Tensor], least: float = 1e-12) -> float:
    ours, theirs = tensors
    if ours.shape != theirs.shape:
        return math.inf
    return float((ours - theirs).norm() / max(float(ours.norm()), least))


def packing(trial: Trial) -> Finding:
    """Trees in one stream do not see each other."""
    ours = trial.outcome()
    if ours.path != "packed":
        return skipped(f"this model takes the path {ours.path}: {ours.why}")
    return _compared(trial.outcome(paths=()), ours, "rows alone, and in one stream without padding")


def padding(trial: Trial) -> Finding:
    """A model that cannot take packed streams gets padded rows; padding does not count."""
    ours = trial.outcome(paths=("padded",))
    if ours.path != "padded":
        return skipped(f"this model takes the path {ours.path}: {ours.why}")
    return _compared(trial.outcome(paths=()), ours, "rows alone, and padded to one length")


def micro_batches(trial: Trial) -> Finding:
    """What is computed together is a matter of memory alone."""
    parts = trial.outcome(micro_tokens=SMALL_PARTS)
    hint = "a loss is a sum over its units, and what forward() needs of the whole step is in batch.totals"
    return _compared(trial.outcome(), parts, f"at once, and in parts of {SMALL_PARTS} tokens", hint)


def ranks(trial: Trial) -> Finding:
    """What a process computes is a share of one whole."""
    two = trial.outcome(ranks=2)
    if two.torn:
        return failed(f"two processes end with different weights: they differ by {two.torn:.1e}")
    hint = "collect() sees the share of one process; what it needs of the whole step goes through totals() to settle()"
    return _compared(trial.outcome(), two, "one process, and two", hint)


def row_order(trial: Trial) -> Finding:
    """The gradient is a sum over rows."""
    ours, theirs = trial.outcome(steps=1), trial.outcome(steps=1, alter=permuted)
    return _compared(ours, theirs, "the rows of a step in order, and in another")


def masked_tokens(trial: Trial) -> Finding:
    """Tokens that are not trained on, and that nothing trained can see, do not matter."""
    if trial.method.head == "score":
        return skipped("the score of an answer reads all of its tokens")
    return _compared(trial.outcome(), trial.outcome(alter=with_tails), "without and with untrained tokens at the end")


# ---------------------------------------------------------------------------------------------- what it starts from
def start(trial: Trial) -> Finding:
    """Before the first step the policy computes what its base does, adapter or not, and so does its reference."""
    method = trial.method
    if method.head == "score":
        return skipped("its head is new")
    if not method.starts_as_base:
        return skipped("it says that it changes what the model computes: starts_as_base is False")
    seen = []
    for adapter in ("none", "lora") if method.adaptable else ("none",):
        with quietly(), own_cache(), trial.trainer(trial.run(max_steps=1, adapter=adapter), trial.output()) as trainer:
            for name, distance in _from_base(trainer):
                if not distance <= ROUNDING:
                    how = "" if adapter == "none" else f" with {adapter}"
                    return failed(f"log-probabilities of the {name}{how} differ from the base's by {distance:.1e}")
                seen.append(distance)
    near = f"up to {max(seen):.0e}" if max(seen) else "exactly"
    return ok(f"log-probabilities are those of its base{', with lora as without' if method.adaptable else ''}: {near}")


def _from_base(trainer: Trainer) -> Iterator[tuple[str, float]]:
    models, settings = trainer.context.models, trainer.settings
    plain = settings.model_copy(update={"adapter": "none"})
    module = load_model(plain, trainer.method, trainer.context.tokenizer, torch.device("cpu"), torch.float32)
    base = Scorer(module, pad_id=models.policy.pad_id)
    base.temperature = models.policy.temperature
    choose(base)
    batch = probe_batch(module)
    with torch.no_grad():
        wanted = base.token_logps(batch).logps
        yield "policy", float((models.policy.token_logps(batch).logps - wanted).abs().max())
        if models.has_reference:
            with models.reference.active() as scorer:
                yield "reference", float((scorer.token_logps(batch).logps - wanted).abs().max())


def first_step(trial: Trial) -> Finding:
    """What is known before anything was learned."""
    known = trial.method.at_start()
    if not known:
        return skipped("at_start() declares nothing")
    model = str(tiny_model(uniform=True))
    metrics = trial.outcome(steps=1, alter=_even_scores, model=model, learning_rate=1e-12).metrics[0]
    for name, value in known.items():
        if name not in metrics:
            return failed(f"at_start() speaks of {name}, and the step reports {', '.join(metrics)}")
        if not abs(metrics[name] - value) <= KNOWN * max(1.0, abs(value)):
            return failed(f"{name} is {metrics[name]:.6g}, not {value:.6g}, on a model to which all is equally likely")
    return ok("; ".join(f"{name} is {value:.6g}" for name, value in known.items()))


def _even_scores(trainer: Trainer) -> None:
    policy = trainer.context.models.policy
    if isinstance(policy, ScoreScorer):
        with torch.no_grad():
            policy.score_weight.zero_()


def roles(trial: Trial) -> Finding:
    """The models that it declares are those that it asks for: each costs memory, and others are not there."""
    method = trial.method
    declared = method.active_roles() - {"policy"}
    if odd := declared - method.roles:
        return failed(f"active_roles() has {_listed(odd)}, which roles lacks")
    try:
        asked = trial.outcome().roles
    except LookupError as error:
        return failed(str(error))
    if idle := declared - asked:
        return failed(f"it declares {_listed(idle)} and never asks for it in two steps")
    return ok(f"it declares and uses {_listed({'policy', *declared})}")


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


# ---------------------------------------------------------------------------------------------- gradients
def gradient(trial: Trial) -> Finding:
    """The gradient that is trained with is that of the loss: finite, and equal to differences in float64."""
    run = trial.run(max_steps=1)
    with quietly(), own_cache(), only(), trial.trainer(run, trial.output()) as trainer:  # the other paths: see above
        context, method, stop = trainer.context, trainer.method, StopRequest()
        batch = method.minibatch(trainer._collected(stop), 0, context)
        count = batch.count(method.objective.unit)
        if not count:
            return failed("there was nothing to learn from in the first step")
        trainer.stepper.gradient(batch, count, stop, False)
        ours = flat([torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.parameters]).double()
        if not bool(torch.isfinite(ours).all()):
            return failed("it is not finite")
        if not bool(ours.any()):
            return failed("it is zero everywhere: nothing is learned")
        models, parameters = exact(context.models, trainer.parameters)
        held = Held(lambda: method.objective(method.forward(models, batch)).total / count)
        return _differences(ours, held, parameters)


def _differences(ours: Tensor, held: Held, parameters: Sequence[Tensor]) -> Finding:
    chance, size, worst = torch.Generator().manual_seed(0), float(ours.norm()), 0.0
    for number in range(DIRECTIONS):
        drawn = torch.randn(len(ours), generator=chance, dtype=torch.float64)
        direction = ours if number == 0 else drawn
        direction = direction / direction.norm()
        pieces = direction.split([parameter.numel() for parameter in parameters])
        shaped = [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
        wanted, found = slope(held, parameters, shaped), float(ours @ direction)
        worst = max(worst, abs(found - wanted) / size)
        if not abs(found - wanted) <= ROUNDING * size:
            where = "its own direction" if number == 0 else "a random direction"
            return failed(f"along {where} it is {found:.6g}, and the loss changes by {wanted:.6g}")
    return ok(f"finite; that of the loss in {DIRECTIONS} directions, up to {worst:.0e}")


def adapter(trial: Trial) -> Finding:
    """An adapter is trained and nothing else."""
    if not trial.method.adaptable:
        return skipped("it takes no adapter: adaptable is False")
    done = trial.outcome(adapter="lora")
    if done.base:
        return failed(f"weights of the frozen base have changed by up to {done.base:.1e}")
    if not bool(torch.isfinite(done.weights).all()):
        return failed("weights of the adapter are not finite")
    if not bool(done.change.any()):
        return failed("the adapter has not changed in two steps")
    return ok(f"{len(done.change):,} numbers trained, the base untouched")


# ---------------------------------------------------------------------------------------------- whole runs
def resume(trial: Trial) -> Finding:
    """A run that is stopped in the middle of its second step goes on as if it had not been."""
    updates = trial.method.updates_per_step
    straight, stopped = trial.outcome(steps=3), trial.resumed(3, updates + 1 + updates // 2)
    if not torch.equal(straight.weights, stopped.weights):
        distance = float((straight.weights - stopped.weights).abs().max())
        told = f"stopped and resumed it ends with other weights: they differ by up to {distance:.1e}"
        return failed(f"{told}; what a method remembers belongs into ctx.state")
    for number, (ours, theirs) in enumerate(zip(straight.metrics, stopped.metrics, strict=True), start=1):
        odd = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        if odd:
            return failed(f"stopped and resumed it reports another {_listed(odd)} in step {number}")
    return ok("stopped in its second step and resumed: the same weights and metrics, to the bit")


def learning(trial: Trial) -> Finding:
    """A few steps on a few rows move what the method is for."""
    method = trial.method
    steps = STEPS[isinstance(method, OnlineMethod)]
    before: list[float] = []
    after: list[float] = []
    name = _goal(method)

    def measured(trainer: Trainer) -> Callable[[], None] | None:
        if method.progress or name == "loss":
            return None
        trees = [corpus[i] for corpus in trainer.context.corpora["train"] for i in range(len(corpus))]
        before.append(_measure(method, trainer, trees))
        return lambda: after.append(_measure(method, trainer, trees))

    done = trial.outcome(steps=steps, alter=measured, **{**LEARNS, **method.run_for_checks})
    if not before:
        series = [metrics.get(name) for metrics in done.metrics]
        known = [(-value if name == "loss" else value) for value in series if value is not None]
        if len(known) < 2:
            return failed(f"no step reports {name}")
        before, after = [_mean(known[:3])], [_mean(known[-3:])]
    first, last = before[0], after[0]
    told = f"{name} {first:.3g}, then {last:.3g} after {steps} steps"
    if not last - first >= LEAST * max(1.0, abs(first)):
        return failed(f"it does not learn: {told}")
    return ok(told)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _goal(method: Method) -> str:
    """What rises where it learns."""
    if method.progress:
        return method.progress
    goals = {
        TokenLogps: "log-probability of a token",
        PairLogps: "log-ratio of chosen to rejected answers",
        UnpairedLogps: "log-ratio of good to bad answers",
        RankedScores: "score of best over worst answers",
    }
    return next((goal for supplied, goal in goals.items() if issubclass(method.supplies, supplied)), "loss")


def _measure(method: Method, trainer: Trainer, trees: Sequence[Tree]) -> float:
    """The goal of a method that learns from rows; see `_goal`."""
    policy, batch = trainer.context.models.policy, Batch(trees)
    with torch.no_grad():
        if isinstance(policy, ScoreScorer):
            groups = torch.split(policy.scores(batch), [len(tree.branches) for tree in trees])
            ranks = [torch.tensor([branch.value for branch in tree.branches]) for tree in trees]
            return _mean([float(g[r.argmax()] - g[r.argmin()]) for g, r in zip(groups, ranks, strict=True)])
        x = policy.token_logps(batch)
    if issubclass(method.supplies, TokenLogps):
        return float(x.logps.mean())
    sums = sum_by(x.logps, x.branches, x.num_branches)
    values = torch.tensor([branch.value for tree in trees for branch in tree.branches])
    return float(sums[values > 0].mean() - sums[values <= 0].mean())


# ---------------------------------------------------------------------------------------------- the suite
@contextmanager
def subject(method: Method, registry: Registry, *, examples: Sequence[Any] | None = None) -> Iterator[Trial]:
    """A method with a tiny model and rows; ``examples``: what to train on where none can be made up."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-trial-") as folder:
        yield Trial(method, registry, Path(folder), examples)


SUITE = Suite(
    "method",
    subject,
    {
        "roles": roles,
        "start": start,
        "first step": first_step,
        "gradient": gradient,
        "packing": packing,
        "padding": padding,
        "micro-batches": micro_batches,
        "ranks": ranks,
        "row order": row_order,
        "masked tokens": masked_tokens,
        "adapter": adapter,
        "resume": resume,
        "learning": learning,
    },
)
