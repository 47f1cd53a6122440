"""A method on a tiny model: a few steps of a real run, and what can be told of them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tunesmith.components import DataSpec, Method, Reward, Rollout
from tunesmith.config import Run, nested_context
from tunesmith.data.loading import LoadedData
from tunesmith.errors import StoppedError
from tunesmith.models.roles import Models
from tunesmith.online import OnlineMethod
from tunesmith.plugins import Registry
from tunesmith.runner import checkpoint
from tunesmith.runner.launch import CHECKPOINTS, make_trainer, training_trees
from tunesmith.runner.loop import Trainer
from tunesmith.runner.processes import Processes
from tunesmith.runner.signals import StopRequest
from tunesmith.runner.step import StepSums
from tunesmith.scoring.probe import only
from tunesmith.scoring.scorer import Path as ScorerPath
from tunesmith.settings import RunSettings
from tunesmith.testing.made_rows import handed_over, made_examples
from tunesmith.testing.ranks import Meeting, OneProcess, ThreadProcesses, together
from tunesmith.testing.report import Finding
from tunesmith.testing.suite import Unchecked
from tunesmith.testing.tiny import own_cache, tiny_model
from tunesmith.testing.toy_reward import even_share

ROWS = 8
Alter = Callable[[Trainer], Callable[[], None] | None]
"""Changes a run before its first step, and may say what is to be done after the last one."""
ADAPTED = ("lora_", "modules_to_save")
"""In the names of what peft adds to a model."""
TIMES = {"tokens_per_s", "step_s"}
"""Metrics that say how long something took."""
SETTINGS: Mapping[str, Any] = {
    "batch_size": 4,
    "learning_rate": 1e-2,
    "eps": 1e-2,
    "micro_tokens": 10_000,
    "max_length": 200,
    "device": "cpu",
    "dtype": "fp32",
}
"""Of every run. With so large an epsilon an update follows the gradient: AdamW's own turns rounding into whole steps
where a gradient is all but zero."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what a run says of itself: whoever asks for a check wants its findings."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


class EvenShare(Reward):
    """`even_share`, without processes that would have to be started for every run."""

    name: ClassVar[str] = "even-share"
    isolated: ClassVar[bool] = False

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float]:
        """The score of every answer."""
        return [even_share(rollout.text) for rollout in rollouts]


class SpiedModels(Models):
    """Notes which roles are asked for."""

    def __init__(self, models: Models) -> None:
        super().__init__(models.policy, models._reference, models._critic)
        self.asked: set[str] = set()

    @property
    def reference(self) -> Any:
        """See `Models.reference`."""
        self.asked.add("reference")
        return super().reference

    @property
    def critic(self) -> Any:
        """See `Models.critic`."""
        self.asked.add("value")
        return super().critic


@dataclass(slots=True)
class Outcome:
    """What a few steps did.

    Attributes:
        gradient: of the first update, all trained numbers in a row.
        metrics: of every step, without times.
        change: of all trained numbers over the steps.
        weights: all trained numbers in the end.
        state: what the method keeps.
        roles: beside the policy, that it asked for.
        base: largest change of a weight of the base that an adapter is trained on.
        path: how the policy was scored; ``why`` not faster.
        torn: by how much the weights of two processes differ in the end.
    """

    gradient: Tensor | None = None
    metrics: list[dict[str, float]] = field(default_factory=list)
    change: Tensor = field(default_factory=lambda: torch.zeros(0))
    weights: Tensor = field(default_factory=lambda: torch.zeros(0))
    state: dict[str, Any] = field(default_factory=dict)
    roles: set[str] = field(default_factory=set)
    base: float = 0.0
    path: str = ""
    why: str = ""
    torn: float = 0.0


class Trial:
    """A method, made ready for a few steps.

    Args:
        method: with the settings to check it with.
        registry: where components are looked up.
        folder: an empty one.
        examples: to train on; by default made up for what the method consumes.

    Raises:
        Unchecked: there are no examples of the kind that it consumes.
    """

    def __init__(self, method: Method, registry: Registry, folder: Path, examples: Sequence[Any] | None = None) -> None:
        self.registry, self.folder = registry, folder
        self.method = _small(method, registry, folder)
        rows = list(examples or method.examples_for_checks() or made_examples(method.consumes, ROWS))
        if not rows:
            raise Unchecked(
                Finding("rows", "skipped", f"no rows of {method.consumes.__name__} can be made up; define samples()")
            )
        self.data: DataSpec = handed_over(rows, method.consumes)
        self._numbers = itertools.count()
        self._known: dict[Any, Outcome] = {}

    # ------------------------------------------------------------------------------------------ runs
    def run(self, **settings: Any) -> Run:
        """The settings of a run, with these instead of the usual ones."""
        own = {**SETTINGS, "model": str(tiny_model()), **self.method.run_for_checks, **settings}
        made = RunSettings.model_validate({**own, "data": (self.data,)}, context=nested_context(self.registry))
        return Run(made, self.method, {})

    def output(self) -> Path:
        """A folder of its own for a run."""
        path = self.folder / f"run-{next(self._numbers)}"
        path.mkdir()
        return path

    @contextlib.contextmanager
    def trainer(
        self, run: Run, output: Path, *, processes: Processes | None = None, resume: bool = False
    ) -> Iterator[Trainer]:
        """A run before its first step, or where it was stopped."""
        last = checkpoint.newest(output / CHECKPOINTS) if resume else None
        trainer, data = make_trainer(run, self.registry, processes or OneProcess(), output, last)
        with trainer.context.closing:
            _begin(trainer, data, last)
            yield trainer

    def outcome(
        self,
        *,
        steps: int = 2,
        paths: tuple[ScorerPath, ...] | None = None,
        ranks: int = 1,
        alter: Alter | None = None,
        **settings: Any,
    ) -> Outcome:
        """What so many steps do; the same question is answered once.

        Args:
            steps: how many.
            paths: the only faster paths that the models may take.
            ranks: processes that share the work.
            alter: changes the run before its first step.
            settings: of the run.
        """
        key = (steps, paths, ranks, alter, *sorted(settings.items()))
        if key not in self._known:
            run, output = self.run(max_steps=steps, **settings), self.output()
            with quietly(), own_cache(), only(*paths) if paths is not None else contextlib.nullcontext():
                self._known[key] = self._steps(run, output, ranks, alter)
        return self._known[key]

    def _steps(self, run: Run, output: Path, ranks: int, alter: Alter | None) -> Outcome:
        if ranks == 1:
            with self.trainer(run, output) as trainer:
                return walked(trainer, alter)
        meeting = Meeting(ranks)
        everyone = [ThreadProcesses(meeting, rank) for rank in range(ranks)]

        def one(rank: int) -> Outcome:
            with self.trainer(run, output, processes=everyone[rank]) as trainer:
                return walked(trainer, alter)

        first, *others = together(meeting, one)
        first.torn = max(float((first.weights - other.weights).abs().max()) for other in others)
        return first

    def resumed(self, steps: int, before: int, **settings: Any) -> Outcome:
        """What a run does that was stopped before a certain gradient and went on from its checkpoint."""
        run, output = self.run(max_steps=steps, **settings), self.output()
        with quietly(), own_cache(), self.trainer(run, output) as trainer:
            first = Outcome()
            _watch(trainer, first)
            with contextlib.suppress(StoppedError):
                trainer.fit(_stopping(trainer, before))
                raise AssertionError(f"the run ended before gradient {before}")
        with quietly(), own_cache(), self.trainer(run, output, resume=True) as trainer:
            rest = walked(trainer, None)
        return replace(rest, metrics=[*first.metrics, *rest.metrics])


# ---------------------------------------------------------------------------------------------- making it small
def _small(method: Method, registry: Registry, folder: Path) -> Method:
    """The method with what was not set as it wants it for checks."""
    cls = type(method)
    own = {name: getattr(method, name) for name in method.model_fields_set}
    given = {**cls.settings_for_checks(folder), **own}
    if isinstance(method, OnlineMethod):
        given["rewards"] = (EvenShare(),)
    return cls.model_validate(given, context=nested_context(registry)).selected_by(method.selector)


def _begin(trainer: Trainer, data: LoadedData, last: Path | None) -> None:
    context, method = trainer.context, trainer.method
    method.opened(context)
    if last is not None:
        trainer.restore(last)
    else:
        method.started(context, training_trees(data))


# ---------------------------------------------------------------------------------------------- watching it
def walked(trainer: Trainer, alter: Alter | None) -> Outcome:
    """Train to the last step, and say what that did."""
    outcome, models = Outcome(), SpiedModels(trainer.context.models)
    trainer.context.models = trainer.stepper.models = models
    in_the_end = alter(trainer) if alter is not None else None
    _watch(trainer, outcome)
    before, base = flat(trainer.parameters), _base(trainer)
    trainer.fit(_stopping(trainer, 0))
    if in_the_end is not None:
        in_the_end()
    outcome.weights = flat(trainer.parameters)
    outcome.change = outcome.weights - before
    after = _base(trainer)
    outcome.base = max((float((after[name] - old).abs().max()) for name, old in base.items()), default=0.0)
    outcome.state, outcome.roles = dict(trainer.context.state), models.asked
    outcome.path, outcome.why = models.policy.path, models.policy.why
    return outcome


def flat(parameters: Sequence[Tensor]) -> Tensor:
    """All their numbers in a row."""
    return torch.cat([parameter.detach().reshape(-1).clone() for parameter in parameters])


def _base(trainer: Trainer) -> dict[str, Tensor]:
    """The weights that no update should reach, where an adapter is trained."""
    if trainer.settings.adapter == "none":
        return {}
    named = trainer.context.models.policy.module.named_parameters()
    return {name: p.detach().clone() for name, p in named if not any(part in name for part in ADAPTED)}


class _Session:
    """Keeps the metrics of a run."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take those of a step."""
        self.outcome.metrics.append({name: value for name, value in metrics.items() if name not in TIMES})


def _watch(trainer: Trainer, outcome: Outcome) -> None:
    """Keep the first gradient and all metrics."""
    gradient = trainer.stepper.gradient

    def kept(*args: Any) -> StepSums:
        sums = gradient(*args)
        if outcome.gradient is None:
            outcome.gradient = flat([_gradient_of(parameter) for parameter in trainer.parameters])
        return sums

    setattr(trainer.stepper, "gradient", kept)  # noqa: B010  (of this one run)
    trainer.sinks.sessions = [_Session(outcome)]
    # every process has metrics, though only the first one writes them down
    setattr(trainer, "_report", lambda metrics: trainer.sinks.log(trainer.context.step, metrics))  # noqa: B010


def _gradient_of(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _stopping(trainer: Trainer, before: int) -> StopRequest:
    """Asks to stop before a certain gradient (counted from 1); 0: never."""
    stop, gradient, calls = StopRequest(), trainer.stepper.gradient, itertools.count(1)

    def counted(*args: Any) -> StepSums:
        if next(calls) == before:
            stop.signal = signal.SIGTERM
        return gradient(*args)

    setattr(trainer.stepper, "gradient", counted)  # noqa: B010  (of this one run)
    return stop
