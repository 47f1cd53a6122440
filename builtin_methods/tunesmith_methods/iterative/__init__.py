"""Preference optimisation on the policy's own answers, in rounds of sampling, judging and training."""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

import tunesmith
from tunesmith import (
    AnyObjective,
    Card,
    Method,
    OnlineMethod,
    PairLogps,
    ReferencedPairLogps,
    Role,
    StepSize,
    Texts,
    UnpairedLogps,
    Volume,
)

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.data.trees import Batch, Tree
    from tunesmith.models.roles import Models
    from tunesmith.runner.context import Context

ROUNDS = "rounds.jsonl"
"""In the folder of the run: a line for every round."""


class _Rounds(OnlineMethod):
    """A step is a round: sample answers to ``batch_size`` prompts, compare them, train on the comparisons."""

    group_size: int = Field(default=8, ge=2)
    """Answers to each prompt."""
    minibatches: int = Field(default=8, ge=1)
    """Updates in one pass, each on its part of the prompts."""
    mask_truncated: bool = True
    """An answer that was cut off at max_new_tokens is never taken for a good one."""
    length_penalty: float = Field(default=0.0, ge=0)
    """Take this from the reward for every token before answers are compared: rewards often like long ones."""
    buffer: int = Field(default=1, ge=0)
    """Rounds whose answers are trained on, the present one included; 0: all so far."""

    @model_validator(mode="after")
    def _is_heard(self) -> Self:
        """Refuse what only methods with advantages read."""
        if self.kl_coef:
            raise ValueError("kl_coef has no effect: what keeps the policy near its reference is the objective's beta")
        if not self.skip_equal_groups:
            raise ValueError("skip_equal_groups has no effect: answers of equal reward are never compared")
        return self

    @property
    def needs_reference(self) -> bool:
        """As the objective reads one."""
        return not issubclass(PairLogps, self.objective.inputs)

    def learned(self, step: StepSize) -> tuple[Texts, int]:
        """Single answers."""
        texts = replace(self.texts_of_step(step), answers=1)
        return texts, step.rows * self.group_size * max(1, self.buffer)

    def noted(self) -> Mapping[str, Role]:
        """References only: no update looks back at the policy that sampled."""
        return {"references": "reference"} if self.needs_reference else {}

    @abstractmethod
    def made_of(
        self, tree: Tree, rewards: Sequence[float | None], cut: Sequence[bool], chance: random.Random
    ) -> list[Tree]:
        """What is trained on of a prompt's answers."""

    @abstractmethod
    def columns_of(self, batch: Batch, models: Models) -> Batch:
        """With the columns that `forward` reads."""

    def collect(self, batch: Batch, ctx: Context) -> Batch:
        """Sample and judge; keep what can be compared."""
        from tunesmith.rollout.collect import grow
        from tunesmith.rollout.pairs import packed_trees, taken, weights_digest

        ctx.state["policy"] = weights_digest(ctx.models.policy.module)
        grown = grow(self, batch, ctx, f"step {ctx.step}")
        samples, made = [dict(sample) for sample in grown.samples], []
        for number, tree in enumerate(grown.trees):
            own = samples[number * self.group_size : (number + 1) * self.group_size]
            rewards = [self._penalised(sample) for sample in own]
            cut = [sample["stop"] == "length" for sample in own]
            trees = self.made_of(tree, rewards, cut, random.Random(own[0]["seed"]))
            own[0]["trained"] = packed_trees(trees)
            made.append(trees)
        return self.columns_of(replace(taken(grown, made), samples=samples), ctx.models)

    def _penalised(self, sample: Mapping[str, Any]) -> float | None:
        reward = sample["reward"]
        return None if reward is None else reward - self.length_penalty * sample["length"]

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """Prompts, comparisons, and what losses divide by."""
        from tunesmith.scoring.supply import totals

        first = [sample for sample in batch.samples if sample["sample"] == 0]
        varied = sum(bool(sample["trained"]) for sample in first)
        return {"prompts": len(first), "varied": varied, **totals(self.supplies, batch)}

    def settle(self, batch: Batch, ctx: Context) -> Batch:
        """Add this process's share of earlier rounds."""
        import torch

        from tunesmith.data.trees import joined
        from tunesmith.rollout.pairs import unpacked_trees

        prompts = int(batch.totals["prompts"])
        earlier = [tree for kept in ctx.state.get("rounds", []) for tree in unpacked_trees(kept)]
        if not earlier:
            return batch
        chosen = [(i % prompts, tree) for i, tree in enumerate(earlier) if i % ctx.processes == ctx.rank]
        old = type(batch)(
            [tree for _, tree in chosen], {"position": torch.tensor([place for place, _ in chosen], dtype=torch.int64)}
        )
        totals = {**batch.totals, **self.totals_with(batch.totals, earlier)}
        return replace(joined(batch, self.columns_of(old, ctx.models)), totals=totals)

    def totals_with(self, totals: Mapping[str, float], earlier: Sequence[Tree]) -> Mapping[str, float]:
        """The totals that change where trees of earlier rounds are trained on too; all processes know them all."""
        from tunesmith.data.trees import Batch
        from tunesmith.scoring.supply import totals as totals_of

        own = totals_of(self.supplies, Batch(earlier))
        return {name: totals[name] + value for name, value in own.items()}

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Keep what later rounds train on as well; write the round down."""
        from tunesmith.step_lines import write_line

        metrics = dict(super().after_step(ctx))
        trained = [pair for sample in ctx.samples for pair in sample.get("trained") or ()]
        first = [sample for sample in ctx.samples if sample["sample"] == 0]
        metrics["pairs"] = float(len(trained))
        metrics["prompts_without_pairs"] = sum(not sample["trained"] for sample in first) / max(1, len(first))
        metrics["duplicates"] = _duplicates(ctx.samples)
        rounds = [*ctx.state.get("rounds", []), trained]
        keep = len(rounds) if self.buffer == 0 else self.buffer - 1
        ctx.state["rounds"] = rounds[len(rounds) - keep :] if keep else []
        if ctx.rank == 0 and ctx.output is not None:
            line = {"step": ctx.step, "policy": ctx.state["policy"], **metrics}
            write_line(ctx.output / ROUNDS, line)
        return metrics


def _duplicates(samples: Sequence[Mapping[str, Any]]) -> float:
    """Share of answers that another answer to the same prompt says too."""
    seen, again, place = set(), 0, -1
    for sample in samples:
        place += sample["sample"] == 0
        key = (place, json.dumps(sample["completion"], sort_keys=True))
        again += key in seen
        seen.add(key)
    return again / max(1, len(samples))


class IterativeDPO(_Rounds):
    """Preference pairs from the policy's own answers, in rounds: sample, judge, pair, train."""

    name: ClassVar[str] = "iterative-dpo"
    supplies: ClassVar[type] = ReferencedPairLogps
    card: ClassVar[Card] = Card(
        paper="RLHF Workflow (arXiv:2405.07863); Online AI Feedback (arXiv:2402.04792)",
        use_when="A reward model or verifier is at hand, and DPO's simplicity is wanted with answers of the policy's "
        "own. With small rounds and one update each it is online DPO.",
        data="10k-60k prompts, split over about 3 rounds; a reward model or a verifier.",
        memory="18 bytes per parameter in full; with lora the reference is free. Sampling, judging and training take "
        "turns.",
        volumes=(
            Volume("3 rounds", "prompts", 10_000, 60_000, source="arXiv:2405.07863", note="20k prompts a round there"),
        ),
        goals=("style", "safety", "reasoning"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-7, "batch_size": 256, "schedule": "constant"}
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-6}

    objective: AnyObjective = Field(default="sigmoid")  # type: ignore[assignment]
    """Loss: any that reads pairs."""
    pairing: Literal["best-worst", "best-random", "all"] = "best-worst"
    """Which answers to a prompt are compared. Answers of equal reward never are."""
    min_gap: float = Field(default=0.0, ge=0)
    """Difference of rewards that a pair must have at least."""
    max_pairs: int = Field(default=4, ge=1)
    """Pairs of a prompt at most, the widest gaps first."""

    def learned(self, step: StepSize) -> tuple[Texts, int]:
        """Pairs."""
        return replace(self.texts_of_step(step), answers=2), step.rows * self.max_pairs * max(1, self.buffer)

    def made_of(
        self, tree: Tree, rewards: Sequence[float | None], cut: Sequence[bool], chance: random.Random
    ) -> list[Tree]:
        """Pairs of different answers."""
        from tunesmith.rollout.pairs import choose_pairs, distinct, pair_trees

        may_win = [not (self.mask_truncated and was_cut) for was_cut in cut]
        pairs = choose_pairs(rewards, self.pairing, min_gap=self.min_gap, may_win=may_win, chance=chance)
        answers = [branch.ids.tolist() for branch in tree.branches]
        return pair_trees(tree, distinct(pairs, answers)[: self.max_pairs])

    def columns_of(self, batch: Batch, models: Models) -> Batch:
        """The reference's sums of both answers, ``[N, 2]``."""
        import torch

        if not self.needs_reference:
            return batch
        if not len(batch):
            return batch.with_columns(reference=torch.zeros(0, 2, device=models.policy.device))
        return batch.with_columns(reference=models.reference.branch_sums(batch))

    def forward(self, models: Models, batch: Batch) -> Any:
        """The policy's sums of both answers."""
        from tunesmith.scoring.supply import supply

        return supply(ReferencedPairLogps if self.needs_reference else PairLogps, models, batch)


class IterativeKTO(_Rounds):
    """Thumbs up and down on the policy's own answers, in rounds: sample, judge, label, train."""

    name: ClassVar[str] = "iterative-kto"
    supplies: ClassVar[type] = UnpairedLogps
    card: ClassVar[Card] = Card(
        paper="KTO (arXiv:2402.01306), on answers of the policy's own as in RLHF Workflow (arXiv:2405.07863)",
        use_when="As iterative-dpo where a reward says good or bad rather than better or worse.",
        data="10k-60k prompts, split over about 3 rounds; a reward model or a verifier.",
        memory="18 bytes per parameter in full; with lora the reference is free.",
        volumes=(
            Volume("3 rounds", "prompts", 10_000, 60_000, source="arXiv:2405.07863", note="20k prompts a round there"),
        ),
        goals=("style", "safety", "reasoning"),
    )
    defaults: ClassVar[Mapping[str, Any]] = IterativeDPO.defaults
    adapter_defaults: ClassVar[Mapping[str, Any]] = IterativeDPO.adapter_defaults

    objective: AnyObjective = Field(default="kto")  # type: ignore[assignment]
    """Loss: any that reads single answers."""
    good_from: float | None = None
    """An answer of at least this reward is good, any other bad; by default, better or worse than its group's mean."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of good answers."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of bad answers."""

    @property
    def needs_reference(self) -> bool:
        """Always."""
        return True

    def noted(self) -> Mapping[str, Role]:
        """With what the policy says, for the baseline."""
        return {**super().noted(), "the policy's own": "policy"}

    def made_of(
        self, tree: Tree, rewards: Sequence[float | None], cut: Sequence[bool], chance: random.Random
    ) -> list[Tree]:
        """Every answer that is good or bad."""
        from tunesmith.rollout.pairs import label_trees

        known = [reward for reward in rewards if reward is not None]
        if not known:
            return []
        border = sum(known) / len(known) if self.good_from is None else self.good_from
        labels: dict[int, bool] = {}
        for i, reward in enumerate(rewards):
            even = self.good_from is None and (reward == border or max(known) == min(known))
            if reward is not None and not even:
                good = reward >= border
                if not (good and cut[i] and self.mask_truncated):
                    labels[i] = good
        return label_trees(tree, labels)

    def columns_of(self, batch: Batch, models: Models) -> Batch:
        """The reference's sum, label and weight of every answer, and the policy's log-ratio to it."""
        import torch

        empty = torch.zeros(0, 1, device=models.policy.device)
        reference = models.reference.branch_sums(batch) if len(batch) else empty
        policy = models.policy.branch_sums(batch) if len(batch) else empty
        good = [bool(tree.branches[0].value) for tree in batch.trees]
        desirable = torch.tensor(good, dtype=torch.bool, device=reference.device)
        return batch.with_columns(
            reference=reference[:, 0],
            desirable=desirable,
            weights=torch.where(desirable, self.desirable_weight, self.undesirable_weight),
            gaps=(policy - reference)[:, 0],
        )

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """With the log-ratios: answers are the policy's own, so their mean estimates the KL that is KTO's baseline."""
        gaps: Tensor = batch.columns["gaps"]
        return {**super().totals(batch), "mismatched": float(gaps.sum()), "rows": len(gaps)}

    def totals_with(self, totals: Mapping[str, float], earlier: Sequence[Tree]) -> Mapping[str, float]:
        """The baseline is that of the present answers alone: only those are the policy's own. Without any it is 0."""
        return {"rows": max(1.0, totals["rows"])}

    def forward(self, models: Models, batch: Batch) -> Any:
        """The policy's sum of every answer."""
        from tunesmith.scoring.supply import supply

        return supply(UnpairedLogps, models, batch)


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the methods."""
    return [IterativeDPO, IterativeKTO]
