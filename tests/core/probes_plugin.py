"""A method that trains on texts and measures on texts and on demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

import tunesmith


class Prober(tunesmith.OfflineMethod):
    """Measures."""

    name: ClassVar[str] = "prober"
    consumes: ClassVar[type] = tunesmith.Text
    supplies: ClassVar[type] = tunesmith.TokenLogps
    adaptable: ClassVar[bool] = False
    card: ClassVar[tunesmith.Card] = tunesmith.Card("-", "-", "-", "-")

    objective: tunesmith.AnyObjective = Field(default="nll")  # type: ignore[assignment]
    """Loss."""
    texts: tunesmith.SomeData = ()
    """Texts to measure on."""
    demos: tunesmith.SomeData = ()
    """Demonstrations to measure on."""

    def probes(self) -> Mapping[str, Sequence[tunesmith.DataSpec]]:
        groups = {"texts": self.texts, "demos": self.demos}
        return {name: specs for name, specs in groups.items() if specs}

    def takes(self, group: str) -> type[tunesmith.Example]:
        return tunesmith.Demonstration if group == "demos" else tunesmith.Text

    def check(self, example: Any, tree: Any) -> str | None:
        return None if isinstance(example, tunesmith.Text) else "asked about a row that it does not train on"

    def prepare(self, policy: Any, ctx: Any) -> Any:
        ctx.state["trees"] = {name: [len(corpus) for corpus in own] for name, own in ctx.corpora.items()}
        return policy

    def after_step(self, ctx: Any) -> Mapping[str, float]:
        return {f"trees/{name}": float(sum(sizes)) for name, sizes in ctx.state["trees"].items()}


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[tunesmith.Method]]:
    return [Prober]
