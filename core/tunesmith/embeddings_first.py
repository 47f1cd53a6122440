"""Methods that can train the embeddings before the rest. Declared without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from tunesmith.components import ParamGroup
from tunesmith.errors import ConfigError
from tunesmith.offline import OfflineMethod

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.data.trees import Tree
    from tunesmith.models.roles import Models
    from tunesmith.runner.context import Context

EMBEDDINGS = "embeddings"
"""Name of the group of parameters that trains first."""


class EmbeddingsFirstMethod(OfflineMethod):
    """Can train only the input embeddings and the head at first: for a model whose vocabulary was just expanded.

    No gradient is computed for what does not train yet, and it does not decay; nor do embeddings while this is used.
    """

    warm_embeddings: float = Field(default=0.0, ge=0)
    """Train only embeddings and head at first: a share of the run when below 1, a number of steps otherwise."""
    new_rows_only: bool = False
    """While only the embeddings train, train the rows of new pieces of an expanded vocabulary alone."""

    def warm_steps(self, total: int) -> int:
        """Steps of ``total`` in which only the embeddings train; a share above 0 is one step at least."""
        if 0 < self.warm_embeddings < 1:
            return max(1, round(self.warm_embeddings * total))
        return min(total, int(self.warm_embeddings))

    def prepare(self, policy: nn.Module, ctx: Context) -> nn.Module:
        """Refuse new rows where there are none. Raises `ConfigError`."""
        from tunesmith.models.expanded import expansion_of
        from tunesmith.scoring.scorer import base_of

        policy = super().prepare(policy, ctx)
        if self.new_rows_only and not self.warm_embeddings:
            raise ConfigError("new_rows_only has no effect without warm_embeddings", fix="add --warm-embeddings 0.02")
        if self.new_rows_only and expansion_of(base_of(policy).config) is None:
            raise ConfigError(
                "new_rows_only: the vocabulary of this model was not expanded",
                fix="expand it with `tunesmith vocab expand`, or leave new_rows_only out",
            )
        return policy

    def param_groups(self, models: Models) -> list[ParamGroup]:
        """The groups of every method, and the embeddings in one of their own where they train first.

        Raises:
            ConfigError: the embeddings are frozen.
        """
        groups = super().param_groups(models)
        if not self.warm_embeddings:
            return groups
        from tunesmith.models.expanded import embedding_parameters

        first = {id(p): p for p in embedding_parameters(models.policy.language_model) if p.requires_grad}
        if not first:
            raise ConfigError(
                "warm_embeddings: the embeddings are frozen in this run, so they cannot train first",
                why="an adapter freezes them, or the method does",
                fix="leave warm_embeddings out, or train without an adapter",
            )
        for group in groups:
            group.params = [parameter for parameter in group.params if id(parameter) not in first]
        return [ParamGroup(EMBEDDINGS, list(first.values()), weight_decay=False), *groups]

    def started(self, ctx: Context, trees: Iterable[Tree]) -> None:
        """Freeze what trains later."""
        super().started(ctx, trees)
        self._choose_trained(ctx)

    def resumed(self, ctx: Context) -> None:
        """Freeze what trains later, where the run was stopped before that."""
        super().resumed(ctx)
        self._choose_trained(ctx)

    def before_update(self, ctx: Context) -> None:
        """Leave old rows as they are, where only new ones are to train."""
        super().before_update(ctx)
        if self.new_rows_only and ctx.step < self.warm_steps(ctx.total):
            from tunesmith.models.expanded import expansion_of, keep_old_rows

            new = expansion_of(ctx.models.policy.language_model.config)
            assert new is not None, "prepare has looked"
            keep_old_rows(self._first(ctx).params, new)

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Let the rest train when its time has come; ``warming_embeddings`` is 1 in the steps before that."""
        metrics = super().after_step(ctx)
        if not self.warm_embeddings:
            return metrics
        warm = self.warm_steps(ctx.total)
        if ctx.step == warm:
            self._choose_trained(ctx)
        return {**metrics, "warming_embeddings": float(ctx.step <= warm)}

    def _first(self, ctx: Context) -> ParamGroup:
        return next(group for group in ctx.groups if group.name == EMBEDDINGS)

    def _choose_trained(self, ctx: Context) -> None:
        if not self.warm_embeddings:
            return
        warm = ctx.step < self.warm_steps(ctx.total)
        for group in ctx.groups:
            for parameter in group.params:
                parameter.requires_grad_(group.name == EMBEDDINGS or not warm)
