"""Examples made of other examples. A data format lists the converters that make its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.components import Settings

if TYPE_CHECKING:
    from tunesmith.examples import Example


@dataclass(frozen=True, slots=True)
class Conversion:
    """What became of some examples.

    Attributes:
        rows: the numbers of the examples that were looked at.
        examples: what was made of them; nothing where they are left over.
        note: what is lost, in words that follow a number, such as ``margins are left out``.
        lost: that number.
    """

    rows: tuple[int, ...]
    examples: tuple[Example, ...] = ()
    note: str = ""
    lost: int = 1


class Converter(Settings):
    """Makes examples of one type from those of another; its fields are flags of ``tunesmith data convert``."""

    takes: ClassVar[type[Any]]
    """The type of the examples that it is given."""

    @abstractmethod
    def __call__(self, examples: Iterable[tuple[int, Any]]) -> Iterator[Conversion]:
        """Turn numbered examples into conversions; every number must come up in one or more of these."""
