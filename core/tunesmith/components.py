"""What can be plugged in. A component *is* its own configuration: its fields are the settings, its methods the
behaviour. The docstring under a field is its help text; defaults are the recommended settings.

Declaring a component costs no torch: tensors appear here only as types.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.converters import Converter
    from tunesmith.data.trees import Batch, Tree
    from tunesmith.examples import Example
    from tunesmith.inputs import Loss
    from tunesmith.models.roles import Models
    from tunesmith.runner.context import Context

Role = Literal["policy", "reference", "reward", "value"]
Build = Callable[[str, Any], "Component"]
COMPONENT_MARK = "x-component"
"""In the JSON schema of settings: the kind of the component that stands there."""


class Settings(BaseModel):
    """Frozen settings; the docstring under a field is its help (`tunesmith.fieldtypes.help_texts`); no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, defer_build=True)


class Component(Settings):
    """Base of everything that a plugin registers."""

    kind: ClassVar[str]
    """What it is (method, objective, ...); set by the base classes below."""
    name: ClassVar[str]
    """What a run file writes; kebab-case."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Import names of extra packages, checked when the component is built."""
    _selector: str = ""

    @property
    def selector(self) -> str:
        """What to write in a run file to get this component again: its name, or ``plugin/name`` as it was asked for."""
        return self._selector or self.name

    def selected_by(self, selector: str) -> Self:
        """Remember how the component was asked for."""
        self._selector = selector
        return self


def _named(kind: str) -> Any:
    """Accept a component, its name, or a mapping of its name and settings."""

    def resolve(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Component) or value is None:
            return value
        build: Build | None = (info.context or {}).get("build")
        if build is None:
            raise ValueError(f"{value!r} names a {kind}, which only tunesmith.config.build can look up")
        return build(kind, value)

    return BeforeValidator(resolve)


def _written_as(kind: str) -> WithJsonSchema:
    """A name or a mapping; which names there are is known only when the plugins are loaded."""
    return WithJsonSchema({"type": ["string", "object"], COMPONENT_MARK: kind})


# ---------------------------------------------------------------------------------------------- rows in
@dataclass(frozen=True, slots=True)
class Row:
    """A record as the user wrote it, and where it stands.

    Attributes:
        data: column name to value.
        file: the file or data set it came from.
        line: 1-based line (or row) number in it.
        problem: why this record alone could not be read (a broken line); ``data`` is then empty, and the row is
            refused, or skipped and counted, like any other bad row.
    """

    data: Mapping[str, Any]
    file: str
    line: int
    problem: str = ""

    @property
    def where(self) -> str:
        """File and row, for messages."""
        return f"{self.file}, row {self.line:,}"


class Source(Component):
    """Yields rows: files, a hub, generated tasks."""

    kind: ClassVar[str] = "source"
    priority: ClassVar[int] = 0
    """Sources are asked in descending priority whether a plain ``--data`` word is theirs."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """The settings that a plain word such as a path stands for, or ``None`` when it is not for this source."""
        return None

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield rows, in the same order every time. Raises `DataError` for what cannot be read."""

    def fingerprint(self) -> str | None:
        """A hash of the content (never of a path or a date). ``None``: unknown, so nothing may be cached."""
        return None

    @property
    def streams(self) -> bool:
        """True when rows should be read while training instead of all of them before it."""
        return False

    def label(self) -> str:
        """A short name for messages and metrics."""
        return self.name


class DataFormat(Component):
    """Turns a row into an example."""

    kind: ClassVar[str] = "format"
    produces: ClassVar[type[Example]]
    columns: ClassVar[tuple[str, ...]]
    """Columns that a row must have."""
    optional_columns: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def matches(cls, row: Mapping[str, Any]) -> bool:
        """True when the row looks like this format; the format with the most `columns` wins a tie."""
        return all(column in row for column in cls.columns)

    @abstractmethod
    def __call__(self, row: Mapping[str, Any]) -> Example | None:
        """Return the example, or ``None`` to skip the row on purpose.

        Raises `BadField` (or any `ValueError`) for a row that is wrong.
        """

    converters: ClassVar[Sequence[type[Converter]]] = ()
    """What makes examples of this format out of others; the first that takes an example is used."""

    def to_row(self, example: Any) -> Mapping[str, Any]:
        """The row that stands for an example of `produces`; a format that has no such method is only read."""
        raise NotImplementedError(f"the format {self.name} is only read")

    def for_conversion(self) -> DataFormat:
        """The format to read rows with that are to be converted; it may take what must not be trained on as it is."""
        return self


class BadField(ValueError):
    """A field of a row is missing or wrong; the caller adds file and line."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"field {column!r} {problem}")
        self.column, self.problem = column, problem


class Scheduler(Component):
    """A pure function of the step: learning rate, mixing weight, KL weight alike."""

    kind: ClassVar[str] = "scheduler"
    warmup: float = Field(default=0.0, ge=0)
    """Linear warm-up from 0: a share of the run when below 1, a number of steps otherwise."""

    def warmup_steps(self, total: int) -> int:
        """The whole number of warm-up steps in a run of ``total`` steps."""
        return min(total, round(self.warmup * total) if self.warmup < 1 else int(self.warmup))

    def __call__(self, step: int, total: int) -> float:
        """The multiplier for 0-based ``step`` of ``total`` steps."""
        warm = self.warmup_steps(total)
        if step < warm:
            return (step + 1) / (warm + 1)
        return self.shape(step - warm, max(1, total - warm))

    @abstractmethod
    def shape(self, step: int, total: int) -> float:
        """The multiplier after the warm-up; ``step`` and ``total`` count from its end."""


AnySource = Annotated[Source, _named("source"), _written_as("source")]
AnyFormat = Annotated[DataFormat, _named("format"), _written_as("format")]
AnyScheduler = Annotated[Scheduler, _named("scheduler"), _written_as("scheduler")]


# ---------------------------------------------------------------------------------------------- what trains
class Objective(Component):
    """A loss: no model, no state, no collective. Reads `inputs`, returns a SUM over its units."""

    kind: ClassVar[str] = "objective"
    inputs: ClassVar[type]
    """The dataclass of tensors that it reads."""
    unit: ClassVar[Literal["token", "sequence", "pair"]] = "token"
    """What the loss is summed over; the runner divides by their global count."""

    @abstractmethod
    def __call__(self, x: Any) -> Loss:
        """Return the sum over units. Must be a sum over trees, so that it can be evaluated a few trees at a time."""


AnyObjective = Annotated[Objective, _named("objective"), _written_as("objective")]


@dataclass(frozen=True, slots=True)
class Card:
    """What ``show`` prints about a method."""

    paper: str
    """Where the method comes from: title and arXiv number, or ``-``."""
    use_when: str
    data: str
    """Typical volume of data."""
    memory: str
    """Models and optimizer states held, per parameter."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A named recipe: settings of the run and of the method that belong together."""

    summary: str
    settings: Mapping[str, Any]


@dataclass(slots=True)
class ParamGroup:
    """Parameters that share a learning rate. The runner reads ``lr_scale`` again at every step."""

    name: str
    params: list[nn.Parameter]
    lr_scale: float = 1.0
    weight_decay: bool = True


class DataSpec(Settings):
    """One source of rows in a run file."""

    source: AnySource
    """Where rows come from: a path, a glob, ``-``, a data set name, or {name: SOURCE, ...settings}."""
    label: str | None = None
    """Name in metrics and messages; by default the file or data set name."""
    weight: float | AnyScheduler | None = None
    """Share of tokens relative to the other sources, or a schedule of it; by default its number of tokens."""
    format: AnyFormat | None = None
    """Row format; found by looking at the rows when not given."""
    map: dict[str, str] = Field(default_factory=dict)
    """Column that the format expects: column that the rows have."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most this many rows."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """``path``, ``{path: ..., ...}`` or ``{name: ..., ...}``: keys that are not ours are settings of the source."""
        if isinstance(value, str):
            return {"source": value}
        if not isinstance(value, Mapping) or "source" in value or not {"path", "name"} & set(value):
            return value
        own = {key: item for key, item in value.items() if key in cls.model_fields}
        return {**own, "source": {key: item for key, item in value.items() if key not in own}}


class Method(Component):
    """What a run does. Only `forward` has no default."""

    kind: ClassVar[str] = "method"
    consumes: ClassVar[type[Example]]
    supplies: ClassVar[type]
    """What `forward` returns; must be what the objective reads."""
    roles: ClassVar[frozenset[Role]] = frozenset({"policy"})
    card: ClassVar[Card]
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Recommended settings of the run for full training."""
    adapter_defaults: ClassVar[Mapping[str, Any]] = {}
    """Recommended settings of the run where an adapter is trained; they win over `defaults`."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    starts_from_config: ClassVar[bool] = False
    """True when a model folder without weights is meant: the model is then initialised at random."""
    head: ClassVar[Literal["lm", "score"]] = "lm"
    """What the policy puts out: token probabilities, or one score of a whole answer."""

    objective: AnyObjective

    def data_groups(self) -> Mapping[str, Sequence[DataSpec]]:
        """Data beside the run's own ``data`` (which is the group ``"train"``): group name to sources."""
        return {}

    def mixture(self, step: int, total: int) -> Mapping[str, float] | None:
        """Share of tokens of each data group at a step, or ``None`` to follow the sources' own weights."""
        return None

    def encoder_options(self) -> Mapping[str, Any]:
        """Options for `tunesmith.data.encoding.Encoder`, such as which assistant turns are trained on."""
        return {}

    def build_tokenizer(self, texts: Iterable[str]) -> Any | None:
        """Train a tokenizer on the texts of the training rows, or ``None`` to use the model's."""
        return None

    def check(self, example: Example, tree: Tree) -> str | None:
        """A reason to refuse the example, or ``None``. Called once per row, before a model is loaded."""
        return None

    def prepare(self, policy: nn.Module, ctx: Context) -> nn.Module:
        """Change the model before training: surgery, freezing, heads."""
        return policy

    def param_groups(self, models: Models) -> list[ParamGroup]:
        """What trains, and at which rate. Default: everything trainable; matrices decay, vectors do not."""
        trainable = [p for p in models.policy.module.parameters() if p.requires_grad]
        return [
            ParamGroup("matrices", [p for p in trainable if p.ndim >= 2]),
            ParamGroup("vectors", [p for p in trainable if p.ndim < 2], weight_decay=False),
        ]

    def started(self, ctx: Context, trees: Iterable[Tree]) -> None:
        """Called before the first step of a new run with all training trees; what is found out goes to ``ctx.state``.

        Not called when a run goes on, nor for streamed sources.
        """

    def resumed(self, ctx: Context) -> None:
        """Called when ``ctx.state`` was restored from a checkpoint."""

    def arrange(self, trees: Sequence[Tree]) -> Sequence[Tree]:
        """Rebuild the trees of a step before they are shared among processes; a pure function of the whole batch."""
        return trees

    def collect(self, batch: Batch, ctx: Context) -> Batch:
        """Without gradient, once per optimizer step, on this process's share: references, rollouts, advantages.

        No collective may be called in it; what is needed of the other processes goes through `totals`.
        """
        return batch

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """Numbers of this process's share that `forward` needs of the whole step.

        They are summed over processes; `forward` finds the sums in ``batch.totals``. The names must be the same on
        every process.
        """
        return {}

    @abstractmethod
    def forward(self, models: Models, batch: Batch) -> Any:
        """With gradient: score a part of the batch and return `supplies`."""

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Adapt after an optimizer step; return metrics."""
        return {}

    def after_eval(self, ctx: Context, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Called with the held-out loss (nats per token) of every evaluation set; return metrics."""
        return {}


# ---------------------------------------------------------------------------------------------- around a run
@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a tracker or a listener may know about a run.

    Attributes:
        output: the run's folder.
        method: name of the method.
        settings: the resolved run file.
        total_steps: optimizer steps of the whole run.
        first_step: steps done before this start, when resumed.
    """

    output: Path
    method: str
    settings: Mapping[str, Any]
    total_steps: int
    first_step: int = 0


class TrackerSession(Protocol):
    """An open tracker."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of an optimizer step (or of an evaluation at that step)."""

    def close(self, error: BaseException | None) -> None:
        """Called once at the end of the run."""


class Tracker(Component):
    """Where metrics go, beside the run's own ``metrics.jsonl``. Opened on the main process only."""

    kind: ClassVar[str] = "tracker"
    always: ClassVar[bool] = False
    """True for a tracker that is opened without being asked for."""

    @abstractmethod
    def open(self, run: RunInfo) -> TrackerSession:
        """Start tracking; called once, before the first step."""


AnyTracker = Annotated[Tracker, _named("tracker"), _written_as("tracker")]


@dataclass(slots=True)
class Rollout:
    """A completion of a prompt, as a reward sees it.

    Attributes:
        prompt: text, or the messages before the answer.
        completion: text, or the messages of the answer.
        columns: the row that it came from, by column.
    """

    prompt: str | Sequence[Mapping[str, Any]]
    completion: str | Sequence[Mapping[str, Any]]
    columns: Mapping[str, Any] = field(default_factory=dict)


class Reward(Component):
    """Judges completions."""

    kind: ClassVar[str] = "reward"
    weight: float = 1.0
    """Factor in the sum over rewards."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """The settings that a plain word such as a path stands for, or ``None`` when it is not for this reward."""
        return None

    @abstractmethod
    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One score per rollout, in order; ``None`` where it cannot judge."""


class Generator(Component):
    """An engine that samples from the policy."""

    kind: ClassVar[str] = "generator"

    @abstractmethod
    def open(self, policy: nn.Module, tokenizer: Any) -> Any:
        """Make the engine ready to sample from the policy."""


KINDS: Mapping[str, type[Component]] = {
    base.kind: base for base in (Method, Objective, Reward, DataFormat, Source, Scheduler, Generator, Tracker)
}
