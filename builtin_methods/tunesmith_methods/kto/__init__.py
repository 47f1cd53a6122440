"""Kahneman-Tversky optimisation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import (
    AnyObjective,
    Card,
    Method,
    Phase,
    ReferencedMethod,
    StepSize,
    Unpaired,
    UnpairedLogps,
    Volume,
    Workload,
)

if TYPE_CHECKING:
    from tunesmith.data.trees import Batch, Tree
    from tunesmith.runner.context import Context

log = logging.getLogger(__name__)


class KTO(ReferencedMethod):
    """Kahneman-Tversky optimisation: learn from single answers with a thumb up or down."""

    name: ClassVar[str] = "kto"
    consumes: ClassVar[type] = Unpaired
    supplies: ClassVar[type] = UnpairedLogps
    card: ClassVar[Card] = Card(
        paper="KTO: Model Alignment as Prospect Theoretic Optimization (arXiv:2402.01306)",
        use_when="Production logs with thumbs up and down, where pairs are scarce.",
        data="From a few thousand labelled answers; the two classes may be unbalanced.",
        memory="18 bytes per parameter in full (16 with a cached reference); with lora the reference is free.",
        volumes=(
            Volume(
                "thumbs up and down",
                "rows",
                1_000,
                60_000,
                source="ours, not verified: the guide gives no number",
                note="both labels; batches of 4 and more",
            ),
        ),
        goals=("style", "safety"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 5e-7,
        "schedule": {"name": "cosine", "warmup": 0.1},
        "batch_size": 64,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-6}

    objective: AnyObjective = Field(default="kto")  # type: ignore[assignment]
    """Loss: any that reads single answers."""
    desirable_weight: float | None = Field(default=None, gt=0)
    """Weight of good answers; by default such that both classes weigh the same, the larger one 1."""
    undesirable_weight: float | None = Field(default=None, gt=0)
    """Weight of bad answers."""

    def started(self, ctx: Context, trees: Iterable[Tree]) -> None:
        """Count the labels and settle the class weights; say them, and what the labels cannot teach."""
        up, down, conflicts = count_labels(trees)
        if not (up and down):
            log.warning("all labels are %s: the model learns nothing of the other kind", "good" if up else "bad")
        if conflicts:
            log.warning("%d answers have both labels, which cancel out; see `tunesmith data check`", conflicts)
        weights = self.label_weights(up, down)
        ctx.state["class_weights"] = list(weights)
        log.info("labels   %s good, %s bad; class weights %.3g and %.3g", f"{up:,}", f"{down:,}", *weights)

    def label_weights(self, good: int, bad: int) -> tuple[float, float]:
        """Weights of good and bad answers: those that are set, else such that both classes weigh the same."""
        return class_weights(good, bad, self.desirable_weight, self.undesirable_weight)

    def arrange(self, trees: Sequence[Tree]) -> Sequence[Tree]:
        """Give every tree the answer of another one as a second branch: the mismatched pair of the baseline."""
        return mismatched(trees)

    def workload(self, step: StepSize, layers: int) -> Workload:
        """References are scored with the mismatched answer beside the own one, and the policy scores the former."""
        usual = super().workload(step, layers)
        both = replace(self.texts_of_step(step), answers=2)
        scored = [replace(phase, texts=both) for phase in usual.phases if phase.does == "score"]
        mismatched = Phase("score mismatched answers", "score", ("policy",), self.texts_of_step(step), step.rows)
        return replace(usual, phases=(*scored, mismatched, *usual.phases[len(scored) :]))

    def collect(self, batch: Batch, ctx: Context) -> Batch:
        """References of both branches, and the mismatched answers' log-ratios, which carry no gradient."""
        import torch

        reference = ctx.models.reference.branch_sums(batch)
        others = replace(batch, trees=[replace(tree, branches=tree.branches[1:]) for tree in batch.trees])
        gaps = ctx.models.policy.branch_sums(others)[:, 0] - reference[:, 1]
        own = [replace(tree, branches=tree.branches[:1]) for tree in batch.trees]
        desirable = torch.tensor([bool(tree.branches[0].value) for tree in own], device=reference.device)
        good, bad = ctx.state.get("class_weights", (1.0, 1.0))
        return replace(batch, trees=own).with_columns(
            reference=reference[:, 0],
            desirable=desirable,
            weights=torch.where(desirable, good, bad),
            mismatched=gaps,
        )

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """Sum and number of the mismatched log-ratios: their mean over the whole step is the baseline z0."""
        return {"mismatched": float(batch.columns["mismatched"].sum()), "rows": len(batch)}

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Margins between the classes, where the step had both."""
        metrics = dict(super().after_step(ctx))
        rewards = [ctx.metrics.get(f"rewards/{name}") for name in ("chosen", "rejected")]
        if rewards[0] is not None and rewards[1] is not None:
            metrics["rewards/margins"] = rewards[0] - rewards[1]
        return metrics


def count_labels(trees: Iterable[Tree]) -> tuple[int, int, int]:
    """How many answers are good, how many bad, and how many different ones are both."""
    labels: dict[tuple[bytes, bytes], set[bool]] = {}
    up = down = 0
    for tree in trees:
        label = bool(tree.branches[0].value)
        up, down = up + label, down + (not label)
        labels.setdefault((tree.trunk.tobytes(), tree.branches[0].ids.tobytes()), set()).add(label)
    return up, down, sum(len(both) > 1 for both in labels.values())


def class_weights(up: int, down: int, good: float | None, bad: float | None) -> tuple[float, float]:
    """Weights of good and bad answers such that ``weight * number`` is the same for both; given ones are kept.

    >>> class_weights(700, 300, None, None)
    (1.0, 2.3333333333333335)
    >>> class_weights(700, 0, None, None)
    (1.0, 1.0)
    """
    most = max(up, down)
    balanced = (most / up if up and down else 1.0, most / down if up and down else 1.0)
    return good or balanced[0], bad or balanced[1]


def mismatched(trees: Sequence[Tree]) -> list[Tree]:
    """Every tree with the answer of the next tree that has another answer, around the end (arXiv:2402.01306, sec. 4).

    Where all answers of the batch are the same there is no mismatched one; the own answer stands in for it.
    """
    answers = [tree.branches[0] for tree in trees]
    keys = [answer.ids.tobytes() for answer in answers]
    paired = []
    for i, tree in enumerate(trees):
        others = ((i + step) % len(trees) for step in range(1, len(trees)))
        j = next((j for j in others if keys[j] != keys[i]), i)
        paired.append(replace(tree, branches=(tree.branches[0], answers[j])))
    return paired


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [KTO]
