"""Odds ratio preference optimisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import AnyObjective, Card, Method, OfflineMethod, PairLogps, Preference, Volume

if TYPE_CHECKING:
    from tunesmith.data.trees import Batch, Tree
    from tunesmith.models.roles import Models


class ORPO(OfflineMethod):
    """Odds ratio preference optimisation: fine-tuning and alignment in one, without a reference."""

    name: ClassVar[str] = "orpo"
    consumes: ClassVar[type] = Preference
    supplies: ClassVar[type] = PairLogps
    card: ClassVar[Card] = Card(
        paper="ORPO: Monolithic Preference Optimization without Reference Model (arXiv:2403.07691)",
        use_when="Pairs and a base model that was not fine-tuned yet, or too little memory for a reference.",
        data="10k-60k pairs.",
        memory="16 bytes per parameter in full: one model.",
        volumes=(
            Volume(
                "alignment",
                "pairs",
                10_000,
                60_000,
                source="strategy guide, section 5.3",
                note="a clear gap between the answers counts for more than scale",
            ),
        ),
        goals=("style", "safety"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 8e-6,
        "schedule": {"name": "inverse-sqrt", "warmup": 0.1},
        "batch_size": 64,
        "epochs": 3,
    }
    adapter_defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-5}

    objective: AnyObjective = Field(default="orpo")  # type: ignore[assignment]
    """Loss: any that reads pairs and no reference."""
    nll_scope: Literal["completion", "full"] = "completion"
    """Tokens of the likelihood term: the chosen answer's, or the prompt's as well (as the authors' code and TRL do);
    full computes every prompt three times."""

    def arrange(self, trees: Sequence[Tree]) -> Sequence[Tree]:
        """Give the prompt a branch of its own where its tokens are trained on."""
        return trees if self.nll_scope == "completion" else [_with_prompt(tree) for tree in trees]

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """Pairs, and the tokens that the likelihood term is averaged over."""
        totals = dict(super().totals(batch))
        if self.nll_scope == "full":
            totals["chosen_tokens"] += sum(len(tree.branches[2]) for tree in batch.trees)
        return totals

    def forward(self, models: Models, batch: Batch) -> Any:
        """The sums of both answers, and of the prompt where it is trained on."""
        if self.nll_scope == "completion":
            return super().forward(models, batch)
        from tunesmith.numerics import counts_by, sum_by

        x = models.policy.token_logps(batch)
        sums = sum_by(x.logps, x.branches, x.num_branches).view(-1, 3)
        counts = counts_by(x.branches, x.num_branches).view(-1, 3)
        per_pair = batch.totals["chosen_tokens"] / batch.totals["pairs"]
        return PairLogps(sums[:, 0], sums[:, 1], counts[:, 0], counts[:, 1], per_pair, prompt=sums[:, 2])


def _with_prompt(tree: Tree) -> Tree:
    """The prompt's first token as the trunk; its rest before each answer, not scored, and as a third branch, scored."""
    import numpy as np

    rest = tree.trunk[1:]
    unscored, scored = np.zeros(len(rest), dtype=np.bool_), np.ones(len(rest), dtype=np.bool_)
    answers = [
        replace(b, ids=np.concatenate([rest, b.ids]), mask=np.concatenate([unscored, b.mask])) for b in tree.branches
    ]
    prompt = replace(tree.branches[0], ids=rest, mask=scored)
    return replace(tree, trunk=tree.trunk[:1], branches=(*answers, prompt))


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [ORPO]
