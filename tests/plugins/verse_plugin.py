"""A method of another package, on examples of its own: what its card says is all that advice knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import tunesmith
from tunesmith import Card, DataFormat, Example, OfflineMethod, TokenLogps, Volume


@dataclass(frozen=True)
class Sonnet(Example):
    """Fourteen lines."""

    lines: tuple[str, ...]

    def encode(self, encoder: Any) -> Any:
        return encoder.document("\n".join(self.lines))


class Sonnets(DataFormat):
    """Lines of a poem."""

    name: ClassVar[str] = "sonnets"
    produces: ClassVar[type] = Sonnet
    columns: ClassVar[tuple[str, ...]] = ("verse",)

    def __call__(self, row: Mapping[str, Any]) -> Sonnet:
        return Sonnet(tuple(row["verse"]))


class Verse(OfflineMethod):
    """Learn to rhyme."""

    name: ClassVar[str] = "verse"
    consumes: ClassVar[type] = Sonnet
    supplies: ClassVar[type] = TokenLogps
    card: ClassVar[Card] = Card(
        "-",
        "Poems.",
        "A few sonnets.",
        "One model.",
        volumes=(
            Volume("one poet", "rows", 10, 154, source="The Sonnets, 1609", note="in order", goals=("poetry",)),
            Volume("an age", "rows", 1_000, 9_000, source="The Sonnets, 1609", open_ended=True),
        ),
        goals=("poetry", "style"),
    )

    objective: tunesmith.AnyObjective = "nll"


@tunesmith.hookimpl
def tunesmith_register_methods():
    return [Verse]


@tunesmith.hookimpl
def tunesmith_register_data_formats():
    return [Sonnets]
