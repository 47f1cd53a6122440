"""What a run does, and its loss."""

# annotations are evaluated here, once: as strings they would be anew for every component there is (PEP 563)

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tunesmith.components.base import Component, named, written_as
from tunesmith.components.cards import Card
from tunesmith.components.rows import DataSpec
from tunesmith.components.workload import Phase, StepSize, Texts, Workload

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.data.trees import Batch, Tree
    from tunesmith.examples import Example
    from tunesmith.inputs import Loss
    from tunesmith.models.roles import Models
    from tunesmith.runner.context import Context

Role = Literal["policy", "reference", "reward", "value"]


class Objective(Component):
    """A loss: no model, no state, no collective. Reads `inputs`, returns a SUM over its units."""

    kind: ClassVar[str] = "objective"
    inputs: ClassVar[type]
    """The dataclass of tensors that it reads."""
    unit: ClassVar[Literal["token", "sequence", "pair", "prompt"]] = "token"
    """What the loss is summed over; the runner divides by their global count. A property where settings decide."""

    @abstractmethod
    def __call__(self, x: Any) -> "Loss":
        """Return the sum over units. Must be a sum over trees, so that it can be evaluated a few trees at a time."""

    def at_start(self) -> Mapping[str, float]:
        """What is known of ``loss`` and metrics, as means, before anything was learned; checked where it is declared.

        The policy is its own reference and sampled the answers itself, all tokens are equally likely, all answers score
        the same, and classes weigh 1: DPO's loss is ln 2, say, and PPO's ratio 1.
        """
        return {}


AnyObjective = Annotated[Objective, named("objective"), written_as("objective")]


@dataclass(frozen=True, slots=True)
class Preset:
    """A named recipe: settings of the run and of the method that belong together."""

    summary: str
    settings: Mapping[str, Any]


@dataclass(slots=True)
class ParamGroup:
    """Parameters that share a learning rate. The runner reads ``lr_scale`` again at every step."""

    name: str
    params: "list[nn.Parameter]"
    lr_scale: float = 1.0
    weight_decay: bool = True


class Method(Component):
    """What a run does. Only `forward` has no default."""

    kind: ClassVar[str] = "method"
    consumes: "ClassVar[type[Example]]"
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
    adaptable: ClassVar[bool] = True
    """False where weights of the model itself are what is trained, so that an adapter is refused."""
    starts_as_base: ClassVar[bool] = True
    """False where `prepare` changes what the model computes; otherwise a check sees that it does not."""
    progress: ClassVar[str] = ""
    """A metric that rises where the method learns, for its check; by default what it supplies says what to look at."""
    run_for_checks: ClassVar[Mapping[str, Any]] = {}
    """Settings of the run with which its check trains a tiny model for a few steps, such as another learning_rate."""

    objective: AnyObjective

    @classmethod
    def fits(cls, objective: type[Objective]) -> bool:
        """True for a loss that fits: one that reads what the method supplies."""
        return issubclass(cls.supplies, objective.inputs)

    def active_roles(self) -> frozenset[Role]:
        """The roles that these settings need; by default all of `roles`."""
        return self.roles

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates on the batch of one step; the learning rate follows the updates."""
        return 1

    def texts_of_step(self, step: StepSize) -> Texts:
        """The largest tree that a step can hold; by default a row of one text."""
        return Texts(answer=max(1, step.longest - step.prompt), prompt=step.prompt)

    def workload(self, step: StepSize, layers: int) -> Workload:
        """What a step computes, for `tunesmith plan`. Nothing is loaded by then; ``layers``: of the policy as it is."""
        texts, active = self.texts_of_step(step), self.active_roles()
        phases = [Phase("score references", "score", ("reference",), texts, step.rows)] if "reference" in active else []
        trained: tuple[Role, ...] = ("policy", "value") if "value" in active else ("policy",)
        updates = self.updates_per_step
        return Workload((*phases, Phase("update", "train", trained, texts, step.rows, updates=updates)))

    def data_groups(self) -> Mapping[str, Sequence[DataSpec]]:
        """Data beside the run's own ``data`` (which is the group ``"train"``): group name to sources."""
        return {}

    def probes(self) -> Mapping[str, Sequence[DataSpec]]:
        """Data that the model is measured on and never trained: group name to sources; see `Context.corpora`."""
        return {}

    def takes(self, group: str) -> "type[Example]":
        """The examples that a data group is made of; by default `consumes`."""
        return self.consumes

    def examples_for_checks(self) -> "Sequence[Example]":
        """Examples to check the method on, four or more, where what it consumes is a kind of example of its own."""
        return ()

    def at_start(self) -> Mapping[str, float]:
        """What is known of the metrics of the first step before anything was learned; see `Objective.at_start`."""
        return self.objective.at_start()

    def mixture(self, step: int, total: int) -> Mapping[str, float] | None:
        """Share of tokens of each data group at a step, or ``None`` to follow the sources' own weights."""
        return None

    def encoder_options(self) -> Mapping[str, Any]:
        """Options for `tunesmith.data.encoding.Encoder`, such as which assistant turns are trained on."""
        return {}

    def build_tokenizer(self, texts: Iterable[str]) -> Any | None:
        """Train a tokenizer on the texts of the training rows, or ``None`` to use the model's."""
        return None

    def check(self, example: "Example", tree: "Tree") -> str | None:
        """A reason to refuse the example, or ``None``. Called once per row, before a model is loaded."""
        return None

    def label_weights(self, good: int, bad: int) -> tuple[float, float] | None:
        """The weights that so many good and bad single answers would get; ``None`` where labels are not weighed."""
        return None

    def prepare(self, policy: "nn.Module", ctx: "Context") -> "nn.Module":
        """Change the model before training: surgery, freezing, heads."""
        return policy

    def param_groups(self, models: "Models") -> "list[ParamGroup]":
        """What trains, and at which rate. Default: everything trainable; matrices decay, vectors do not."""
        trainable = [p for p in models.policy.module.parameters() if p.requires_grad]
        return [
            ParamGroup("matrices", [p for p in trainable if p.ndim >= 2]),
            ParamGroup("vectors", [p for p in trainable if p.ndim < 2], weight_decay=False),
        ]

    def started(self, ctx: "Context", trees: "Iterable[Tree]") -> None:
        """Called before the first step of a new run with all training trees; what is found out goes to ``ctx.state``.

        Not called when a run goes on, nor for streamed sources.
        """

    def resumed(self, ctx: "Context") -> None:
        """Called when ``ctx.state`` was restored from a checkpoint."""

    def opened(self, ctx: "Context") -> None:
        """Called before the first step of this start of the run, new or resumed, when all models are there.

        Open here what is closed by ``ctx.closing``, and keep it in ``ctx.services``.
        """

    def arrange(self, trees: "Sequence[Tree]") -> "Sequence[Tree]":
        """Rebuild the trees of a step before they are shared among processes; a pure function of the whole batch."""
        return trees

    def collect(self, batch: "Batch", ctx: "Context") -> "Batch":
        """Without gradient, once per optimizer step, on this process's share: references, rollouts, advantages.

        No collective may be called in it; what is needed of the other processes goes through `totals`.
        """
        return batch

    def totals(self, batch: "Batch") -> Mapping[str, float]:
        """Numbers of this process's share that `forward` needs of the whole step.

        They are summed over processes; `forward` finds the sums in ``batch.totals``. The names must be the same on
        every process.
        """
        return {}

    def wants_more(self, batch: "Batch", draws: int) -> bool:
        """True to draw another batch and collect it before training on all; ``draws``: how many there were so far.

        It must depend on ``batch.totals`` alone, which are the same on every process.
        """
        return False

    def settle(self, batch: "Batch", ctx: "Context") -> "Batch":
        """Without gradient, when ``batch.totals`` are known: what needs the whole step, such as advantages."""
        return batch

    def minibatch(self, batch: "Batch", update: int, ctx: "Context") -> "Batch":
        """The part of a settled batch that an update (0-based, of `updates_per_step`) trains on.

        A pure function of the batch, whose column ``position`` ``[N]`` says where its trees stand in the whole step.
        """
        return batch

    @abstractmethod
    def forward(self, models: "Models", batch: "Batch") -> Any:
        """With gradient: score a part of the batch and return `supplies`."""

    def before_update(self, ctx: "Context") -> None:
        """Called when the gradient of an update is complete, over all processes, before it is clipped."""

    def after_step(self, ctx: "Context") -> Mapping[str, float]:
        """Adapt after an optimizer step; return metrics."""
        return {}

    def after_eval(self, ctx: "Context", losses: Mapping[str, float]) -> Mapping[str, float]:
        """Called with the held-out loss (nats per token) of every evaluation set; return metrics."""
        return {}
