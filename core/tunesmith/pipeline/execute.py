"""Run the stages of a pipeline in their order: skip what is done and unchanged, go on where one was stopped."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunesmith.config import Layers, Run, resolve
from tunesmith.data.loading import iter_examples
from tunesmith.data.sampler import TRAIN
from tunesmith.errors import (
    ConfigError,
    GateError,
    ResourceError,
    StoppedError,
    TunesmithError,
    did_you_mean,
)
from tunesmith.pipeline import inputs
from tunesmith.pipeline.gates import Passage, measure_gate
from tunesmith.pipeline.measure import Options, data_of, plan_of
from tunesmith.pipeline.page import write_page
from tunesmith.pipeline.spec import Pipeline, Stage, filled, referenced, typed
from tunesmith.pipeline.state import Record, State
from tunesmith.plugins import Registry
from tunesmith.runfile import dump
from tunesmith.runner import launch
from tunesmith.runner.checkpoint import MANIFEST
from tunesmith.settings import RunSettings

log = logging.getLogger(__name__)
Command = Callable[[Sequence[str]], None]
"""Runs a command of tunesmith, given its words."""
Standing = Literal["done", "stopped", "changed", "stale", "new"]
MODEL_SETTINGS = ("device", "dtype", "chat_template", "trust_remote_code")


@dataclass(slots=True)
class Outcome:
    """A stage of a pipeline, for the table at the end.

    Attributes:
        stage: its name.
        what: its method or command.
        standing: what was found before: done stages were not run again.
        model: folder of its model.
        seconds: that it took, over all its starts.
        gates: what its gates found.
    """

    stage: str
    what: str
    standing: Standing
    model: Path
    seconds: float = 0.0
    gates: list[Passage] = field(default_factory=list)
    why: str = ""


class Execution:
    """One start of a pipeline.

    Args:
        pipeline: what to do.
        registry: where components are known.
        command: runs a command stage.
    """

    def __init__(self, pipeline: Pipeline, registry: Registry, command: Command) -> None:
        self.pipeline, self.registry, self.command = pipeline, registry, command
        self.folders = {stage.name: pipeline.output / stage.name for stage in pipeline.stages}
        self.models = {
            stage.name: self.folders[stage.name] / ("model" if stage.method else "") for stage in pipeline.stages
        }
        self.state = State(pipeline.output)
        self.options = Options(registry)

    # ------------------------------------------------------------------------------------------ before anything runs
    def check(self) -> None:
        """Raises an error for whatever is wrong in any stage, also in the last one, before the first is run."""
        known: set[str] = set()
        for stage in self.pipeline.stages:
            with self._stand_ins(stage) as standing_in, self._named(stage):
                if stage.method:
                    run = self._resolved(stage, standing_in)
                    known |= {*type(run.settings).model_fields, *type(run.method).model_fields}
                    if not standing_in:
                        self._check_rows(run)
                for gate in stage.gates:
                    said = filled(gate.said, self.models, {**self.folders, **standing_in})
                    if gate.kind == "answers":
                        plan_of(said, self.registry)
                    elif gate.kind == "forgetting":
                        data_of(said["data"], self.registry)
        for key in self.pipeline.defaults if known else ():
            if key not in known:
                raise ConfigError(
                    f"defaults: no stage has a setting {key!r}{did_you_mean(key, known)}", where=str(self.pipeline.path)
                )

    def runs(self) -> Iterator[tuple[str, Run]]:
        """The name and the settings of every stage that is a run, with stand-ins for files that are not made yet."""
        for stage in self.pipeline.stages:
            if stage.method:
                with self._stand_ins(stage) as standing_in, self._named(stage):
                    yield stage.name, self._resolved(stage, standing_in)

    @contextlib.contextmanager
    def _named(self, stage: Stage) -> Iterator[None]:
        """Errors say in which stage they are."""
        try:
            yield
        except TunesmithError as error:
            error.where = f"{self.pipeline.path}, stage {stage.name}" + (f": {error.where}" if error.where else "")
            raise

    def _check_rows(self, run: Run) -> None:
        """Read the rows, but for those of streams."""
        groups = {TRAIN: run.settings.data, **run.method.data_groups()}
        for group, specs in groups.items():
            if not any(spec.source.streams for spec in specs):
                deque(iter_examples(run, self.registry, group), maxlen=0)

    @contextlib.contextmanager
    def _stand_ins(self, stage: Stage) -> Iterator[dict[str, Path]]:
        """Folders with empty files in place of those that other stages will have made."""
        with tempfile.TemporaryDirectory() as name:
            found: dict[str, Path] = {}
            for text in _file_references([stage.settings, [gate.said for gate in stage.gates]]):
                other = str(referenced(text))
                if Path(filled(text, self.models, self.folders)).exists():
                    continue
                found[other] = Path(name) / other
                path = Path(filled(text, self.models, found))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            yield found

    def _resolved(self, stage: Stage, standing_in: Mapping[str, Path] | None = None) -> Run:
        """The settings of a stage that is a run, complete."""
        cls = self.registry.get("method", stage.method)
        known = {*RunSettings.model_fields, *cls.model_fields}
        shared = {key: value for key, value in self.pipeline.defaults.items() if key in known}
        folders = {**self.folders, **(standing_in or {})}
        said = filled({**shared, **stage.settings}, self.models, folders)
        content = {**said, "output": str(self.folders[stage.name])}
        if self.pipeline.plugins:
            content["plugins"] = self.pipeline.plugins
        return resolve(self.registry, stage.method, Layers(file=content))

    # ------------------------------------------------------------------------------------------ what there is to do
    def standing(self, stage: Stage) -> tuple[Standing, str]:
        """Whether a stage is done, and what of its inputs has changed, in words. What it reads must be there."""
        record = self.state.stages.get(stage.name)
        if record is None:
            return "new", ""
        if record.stale:
            return "stale", ""
        changed = inputs.changes(record.inputs, self._inputs(stage))
        if changed:
            return "changed", "; ".join(changed[:3]) + ("; ..." if len(changed) > 3 else "")
        if record.finished and self._there(stage):
            return "done", ""
        return "stopped", ""

    def _there(self, stage: Stage) -> bool:
        """Whether the result of a stage is in its folder."""
        return (self.folders[stage.name] / stage.writes).is_file() if stage.writes else self.models[stage.name].is_dir()

    def plan(self) -> list[Outcome]:
        """What would be done, without doing it; behind the first stage that is not done, all others follow it."""
        found: list[Outcome] = []
        certain = True
        for stage in self.pipeline.stages:
            standing, why = self.standing(stage) if certain else ("new", "")
            found.append(Outcome(stage.name, stage.what, standing, self.models[stage.name], why=why))
            certain = certain and standing == "done"
        return found

    def _inputs(self, stage: Stage) -> dict[str, Any]:
        made = {str(self.models[name]): record.result for name, record in self.state.stages.items() if record.result}
        if stage.method:
            return inputs.of_run(self._resolved(stage), self.registry, made)
        words = [*stage.command, *stage.arguments]
        return inputs.of_command(words, filled(words, self.models, self.folders), stage.writes, made)

    def _words(self, stage: Stage) -> list[str]:
        return [*stage.command, *typed(filled(list(stage.arguments), self.models, self.folders))]

    # ------------------------------------------------------------------------------------------ doing it
    def run(self, *, overwrite: bool = False, until: str | None = None) -> list[Outcome]:
        """Run what is not done.

        Args:
            overwrite: run stages anew whose inputs have changed, and delete their earlier results.
            until: the last stage to run.

        Raises:
            ConfigError: a stage has changed since it was run, and ``overwrite`` is not given.
            GateError: a gate was not passed.
            Whatever a stage raises; a stopped stage is gone on with at the next start.
        """
        self.pipeline.output.mkdir(parents=True, exist_ok=True)
        try:
            return self._run_all(overwrite, until)
        finally:
            log.info("report   %s", write_page(self.pipeline, self.state.stages, self.models))

    def _run_all(self, overwrite: bool, until: str | None) -> list[Outcome]:
        found: list[Outcome] = []
        for number, stage in enumerate(self.pipeline.stages, start=1):
            head = f"stage    {number} of {len(self.pipeline.stages)}, {stage.name} ({stage.what})"
            standing, why = self.standing(stage)
            if standing == "changed" and not overwrite:
                raise ConfigError(
                    f"the stage {stage.name} has changed since it was run",
                    why=why,
                    fix="run it and what follows anew with --overwrite, or choose another --output",
                )
            outcome = Outcome(stage.name, stage.what, standing, self.models[stage.name])
            if standing == "done":
                log.info("%s: done already, nothing has changed", head)
            else:
                log.info("%s%s", head, ": goes on" if standing == "stopped" else "")
                if standing == "changed":
                    self._outdate(stage.name)
                self._run(stage, standing)
            outcome.seconds = self.state.stages[stage.name].seconds
            found.append(outcome)
            self._pass(stage, outcome)
            if stage.name == until:
                break
        return found

    def _outdate(self, name: str) -> None:
        """What was made from a stage's earlier result may be made anew as well, also at a later start."""
        outdated = {name}
        for stage in self.pipeline.stages:
            if outdated & set(stage.references()) and stage.name in self.state.stages:
                outdated.add(stage.name)
                self.state.stages[stage.name].stale = True

    def _run(self, stage: Stage, standing: Standing) -> None:
        folder = self.folders[stage.name]
        if standing in ("new", "changed", "stale") and folder.exists():
            if standing == "new" and any(folder.iterdir()):
                raise ConfigError(
                    f"{folder} is used already, and not by this pipeline", fix="choose another --output, or remove it"
                )
            shutil.rmtree(folder)
        before = self.state.stages.get(stage.name) if standing == "stopped" else None
        record = Record(self._inputs(stage), seconds=before.seconds if before else 0.0)
        self.state.stages[stage.name] = record
        self.state.save()
        began = time.monotonic()
        try:
            if stage.method:
                self._train(stage, again=standing == "stopped" and folder.exists())
            else:
                shutil.rmtree(folder, ignore_errors=True)
                self.command([*self._words(stage), "--output", str(folder / stage.writes)])
        except StoppedError as error:
            error.fix = f"tunesmith resume {self.pipeline.output}"
            raise
        finally:
            record.seconds += time.monotonic() - began
            self.state.save()
        if not self._there(stage):
            what = f"no {stage.writes} in {folder}" if stage.writes else f"no model in {self.models[stage.name]}"
            raise ResourceError(f"the stage {stage.name} has made {what}")
        record.finished, record.result = True, inputs.of_path(str(self.models[stage.name]))
        self.state.save()

    def _train(self, stage: Stage, *, again: bool) -> None:
        run = self._resolved(stage)
        folder = self.folders[stage.name]
        if (folder / "model" / MANIFEST).is_file():
            return  # it was killed between its last file and the note that it is done
        if not self.pipeline.launcher:
            launch.start(run, self.registry, resume=again)
            return
        file = self.pipeline.output / f"{stage.name}.yaml"
        file.write_text(dump(run.dump()), encoding="utf-8")
        words = [*self.pipeline.launcher, "-m", "tunesmith", "run", str(file), *(["--resume"] if again else [])]
        if shutil.which(words[0]) is None:
            raise ResourceError(f"launcher: there is no program {words[0]!r}", where=str(self.pipeline.path))
        done = subprocess.run(words, check=False, stdout=sys.stderr)
        if done.returncode:
            raise StoppedError(
                f"the stage {stage.name} ended with exit code {done.returncode}", exit_code=done.returncode
            )

    def _pass(self, stage: Stage, outcome: Outcome) -> None:
        """Measure the gates of a stage, those that were measured on this very result left out."""
        record = self.state.stages[stage.name]
        start = None
        self.options.settings = {key: value for key, value in self.pipeline.defaults.items() if key in MODEL_SETTINGS}
        if stage.method:
            run = self._resolved(stage)
            start = run.settings.model
            self.options.settings = {key: getattr(run.settings, key) for key in MODEL_SETTINGS}
        for gate in stage.gates:
            said = filled(gate.said, self.models, self.folders)
            key = inputs.digest({"kind": gate.kind, "said": said, "last": gate.last, "result": record.result})
            if key in record.gates:
                value = record.gates[key]["value"]
                passage = Passage(gate.label, gate.window, value, gate.passes(value), record.gates[key]["note"])
            else:
                model, folder = self.models[stage.name], self.folders[stage.name]
                passage = measure_gate(gate, said, folder, model, start, self.options)
            record.gates[key] = asdict(passage)
            self.state.save()
            outcome.gates.append(passage)
            log.info("gate     %s", passage.line())
        failed = [passage for passage in outcome.gates if not passage.passed]
        if failed:
            raise GateError(
                f"the stage {stage.name} did not pass: {failed[0].gate} is "
                f"{failed[0].value:.4g}, not {failed[0].window}",
                where=str(self.folders[stage.name]),
                fix="change the stage and run it anew with --overwrite, or the gate: what is done is not run again",
            )


def _file_references(value: Any) -> Iterator[str]:
    """References to files in the folder of a stage."""
    if isinstance(value, str):
        if referenced(value) and "/" in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _file_references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _file_references(item)
