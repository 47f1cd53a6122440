"""What judges completions."""

# annotations are evaluated here, once: as strings they would be anew for every component there is (PEP 563)

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.components.base import Component, named, written_as

if TYPE_CHECKING:
    from tunesmith.scoring.scorer import Scorer

State = Literal["score", "abstained", "timeout", "error", "infrastructure"]
"""What became of judging one completion: a score; the reward cannot judge it; it took too long; the reward raised or
returned what is no score; what the reward relies on (a worker, an endpoint, a sandbox) failed."""


@dataclass(slots=True)
class Rollout:
    """A completion of a prompt, as a reward sees it.

    Attributes:
        prompt: text, or the messages before the answer.
        completion: text, or the messages of the answer.
        columns: the row that it came from, by column.
        ids: token ids of the completion, where it was sampled in this run.
        truncated: True where it was cut off at the longest length allowed.
    """

    prompt: str | Sequence[Mapping[str, Any]]
    completion: str | Sequence[Mapping[str, Any]]
    columns: Mapping[str, Any] = field(default_factory=dict)
    ids: Sequence[int] | None = None
    truncated: bool = False

    @property
    def text(self) -> str:
        """The completion as text: of messages, what the assistant says last."""
        if isinstance(self.completion, str):
            return self.completion
        said = [turn.get("content") for turn in self.completion if turn.get("role") == "assistant"]
        return said[-1] if said and isinstance(said[-1], str) else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """In the place of a score: why this completion got none. It is counted, and never taken for a low score."""

    state: Literal["timeout", "error", "infrastructure"]
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of judging one completion.

    Attributes:
        state: see `State`.
        score: a finite number where the state is ``score``, else ``None``.
        why: what is known of a state that is no score.
    """

    state: State
    score: float | None = None
    why: str = ""


class Reward(Component):
    """Judges completions. It runs in worker processes that can be killed, unless it says otherwise."""

    kind: ClassVar[str] = "reward"
    isolated: ClassVar[bool] = True
    """False for a reward that must judge in the trainer's own process, because it holds a model."""
    batched: ClassVar[bool] = False
    """True for a reward that wants all completions in one call, because it waits for many answers at once. Others are
    handed one completion at a time, in several workers, and each has the time limit to itself."""
    verifies: ClassVar[bool] = False
    """True for a reward that tells right answers from wrong ones. `tunesmith check reward` then asks that empty,
    copied and random answers score about zero."""
    best: ClassVar[float | None] = None
    """The score of a perfect completion, where there is one; `samples` must reach it."""

    weight: float = 1.0
    """Factor in the sum over rewards."""
    label: str | None = None
    """Name in metrics and tables; by default the reward's own."""
    timeout: float = Field(default=10.0, gt=0)
    """Seconds that judging one completion may take."""
    on_error: Literal["stop", "mask"] = "stop"
    """When the reward fails: stop the run, or leave the completion out of the loss and count it."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """The settings that a plain word such as a path stands for, or ``None`` when it is not for this reward."""
        return None

    def columns(self) -> Iterable[str]:
        """Columns that a row must have beside its prompt; missing ones are refused before a model is loaded."""
        return ()

    def models_held(self) -> Iterable[str]:
        """Folders of the models that it holds in the trainer's process, for `tunesmith plan`."""
        return ()

    def warm(self) -> None:
        """Load what judging needs; called once in every worker, and not part of any time limit."""

    def attach(self, policy: "Scorer") -> None:
        """The policy that is trained, before any judging: a reward in this process may compute on its frozen base.

        Only called where ``isolated`` is False. The policy must be left as it was: its active adapter, what of it
        trains, its mode.
        """

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A few rows to check the reward with: ``prompt``, the columns it needs, and a ``completion`` that is best."""
        return ()

    def stream(self, rollouts: Sequence[Rollout]) -> Iterator[tuple[int, float | Fault | None]]:
        """Positions and scores, each as soon as it is known; only a `batched` reward is asked.

        Where a reward overrides this, ``timeout`` is the longest wait for the next score; otherwise all of them
        together may take ``timeout`` times their number.
        """
        yield from enumerate(self(rollouts))

    @abstractmethod
    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float | Fault | None]:
        """One score per rollout, in order; ``None`` where it cannot judge, a `Fault` where judging failed."""


AnyReward = Annotated[Reward, named("reward"), written_as("reward")]
