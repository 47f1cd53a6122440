"""The one training loop. It knows no method: offline and online ones differ only in what `collect` does."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tunesmith.components import RunInfo, TrackerSession
from tunesmith.config import Run
from tunesmith.data.loading import Corpus
from tunesmith.data.sampler import Sampler
from tunesmith.data.trees import Batch, joined
from tunesmith.errors import DivergedError, ResourceError, RewardError, StoppedError
from tunesmith.inputs import PolicyLogps, TokenLogps
from tunesmith.models.saving import save_model
from tunesmith.plugins import Registry
from tunesmith.runner import checkpoint, records
from tunesmith.runner.card import write_card
from tunesmith.runner.context import Context
from tunesmith.runner.critics import CRITIC
from tunesmith.runner.evaluate import evaluate
from tunesmith.runner.optimizer import make_optimizer, set_rates
from tunesmith.runner.pending import read_pending, write_pending
from tunesmith.runner.processes import Processes
from tunesmith.runner.randomness import restore, snapshot
from tunesmith.runner.signals import StopRequest
from tunesmith.runner.step import Stepper, StepSums, Stopped

log = logging.getLogger(__name__)
SAVE_SECONDS = 1800.0
REFERENCE = "reference/"
"""Prefix under which the weights of a reference that has moved are saved."""


@dataclass(slots=True)
class Sinks:
    """Where metrics go on the main process; empty on the others."""

    sessions: list[TrackerSession | Any] = field(default_factory=list)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand the metrics to every session."""
        for session in self.sessions:
            session.log(step, metrics)


@dataclass(slots=True)
class Updates:
    """The updates of a step: means of their metrics, and sums of their tokens."""

    parts: list[Mapping[str, float]] = field(default_factory=list)
    rate: float = 0.0
    tokens: float = 0.0
    trained: float = 0.0
    skipped: int = 0

    def add(self, metrics: Mapping[str, float], rate: float, tokens: float, trained: float) -> None:
        """Take what one update reports."""
        self.parts.append(metrics)
        self.rate = rate
        self.tokens, self.trained = self.tokens + tokens, self.trained + trained

    def metrics(self) -> dict[str, float]:
        """The mean of every metric over the updates that have it; updates without anything to learn are counted."""
        found: dict[str, list[float]] = {}
        for part in self.parts:
            for name, value in part.items():
                found.setdefault(name, []).append(value)
        means = {name: sum(values) / len(values) for name, values in found.items()}
        skipped = {"skipped_updates": float(self.skipped)} if self.skipped else {}
        return {"loss": 0.0, "grad_norm": 0.0, **means, **skipped}


class Trainer:
    """Trains the policy of a run to its last step, or until it is asked to stop.

    Args:
        run: the settings.
        registry: for notifications.
        context: models and method state.
        sampler: draws the batches.
        eval_sets: held-out sets by name.
        source_labels: name of every training source, by `Tree.source`.
        processes: this process and its peers.
        output: folder of the run.
    """

    def __init__(
        self,
        run: Run,
        registry: Registry,
        context: Context,
        sampler: Sampler,
        eval_sets: Mapping[str, Corpus],
        source_labels: list[str],
        processes: Processes,
        output: Path,
    ) -> None:
        self.run, self.settings, self.method, self.registry = run, run.settings, run.method, registry
        self.context, self.sampler, self.eval_sets = context, sampler, eval_sets
        self.labels, self.processes, self.output = source_labels, processes, output
        context.groups = self.method.param_groups(context.models)
        self.parameters = [p for group in context.groups for p in group.params]
        self.optimizer = make_optimizer(context.groups, self.settings)
        self.stepper = Stepper(
            self.method, context.models, processes, self.settings.micro_tokens, len(source_labels), self.parameters
        )
        self.tokens = self.trained = 0
        self.pending: Batch | None = None
        self.update, self.done = 0, Updates()
        self.last_save = time.monotonic()
        self.begun = time.time()
        self.last_eval = -1
        self.sinks = Sinks()
        self.samples = records.SamplesFile(output / records.SAMPLES)
        self.info = RunInfo(output, self.method.name, run.dump(), sampler.total_steps, context.step)

    # ------------------------------------------------------------------------------------------ resume
    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint folder whose weights the policy already has."""
        state = checkpoint.load_state(folder / "trainer", self.optimizer, self.processes.device)
        self.sampler.restore(state["sampler"])
        self.context.step, self.context.state = state["step"], state["method"]
        moved = [key for key in self.context.state if key.startswith(REFERENCE)]
        if moved:
            weights = {key.removeprefix(REFERENCE): self.context.state.pop(key) for key in moved}
            self.context.models.reference.restore(weights)
        self.method.resumed(self.context)
        self.tokens, self.trained, self.last_eval = state["tokens"], state["trained"], state["last_eval"]
        self.update, self.done = state["update"], Updates(**state["done"])
        whole = read_pending(folder / "trainer")
        if whole is not None:
            samples = whole.samples if self.processes.main else ()
            self.pending = replace(self._of_step(whole), samples=samples)
        self.stepper.micro_tokens = min(self.stepper.micro_tokens, state["micro_tokens"])
        for group, scale in zip(self.context.groups, state["lr_scales"], strict=True):
            group.lr_scale = scale
        self.info = RunInfo(self.output, self.method.name, self.info.settings, self.info.total_steps, self.context.step)

    def _state(self) -> dict[str, Any]:
        models, moved = self.context.models, {}
        if models.has_reference and models.reference.moved:
            moved = {f"{REFERENCE}{name}": tensor for name, tensor in models.reference.state().items()}
        return {
            "step": self.context.step,
            "method": {**self.context.state, **moved},
            "sampler": self.sampler.state(),
            "tokens": self.tokens,
            "trained": self.trained,
            "last_eval": self.last_eval,
            "update": self.update,
            "done": asdict(self.done),
            "micro_tokens": self.stepper.micro_tokens,
            "lr_scales": [group.lr_scale for group in self.context.groups],
        }

    # ------------------------------------------------------------------------------------------ the loop
    def fit(self, stop: StopRequest) -> None:
        """Train to the last step.

        Raises:
            StoppedError: a signal asked to stop; the run has saved itself.
            RewardError: rewards cannot go on; the run has saved itself where it is one process.
            DivergedError: a loss or gradient is not finite; nothing was saved since.
        """
        self._notify("tunesmith_run_started", run=self.info)
        if self.last_eval < 0:
            self._evaluate()
        while self.context.step < self.sampler.total_steps:
            if self.processes.sum([float(stop.code)])[0]:
                self._leave(stop)
            self._step_or_leave(stop)
            if self._due(self.settings.eval_every):
                self._evaluate()
            if self._save_due():
                self.save()
        if self.last_eval < self.context.step:
            self._evaluate()

    def _step_or_leave(self, stop: StopRequest) -> None:
        """A step; a checkpoint of what was before it where it cannot be finished."""
        here, chance = self.sampler.state(), snapshot()
        try:
            self._step(stop)
        except (Stopped, RewardError) as error:
            if self.pending is None:
                self.sampler.restore(here)
                restore(chance)
            if isinstance(error, Stopped):
                self._leave(stop)
            if self.processes.count == 1 and self.context.step:  # other processes would wait for this one in vain
                self.save()
            raise

    def _due(self, every: int | None) -> bool:
        return bool(every) and self.context.step % (every or 1) == 0

    def _save_due(self) -> bool:
        if self.settings.save_every is not None:
            return self._due(self.settings.save_every)
        late = self.processes.main and time.monotonic() - self.last_save > SAVE_SECONDS
        return self.processes.sum([float(late)])[0] > 0

    def _step(self, stop: StopRequest) -> None:
        """One batch and the updates on it. What was sampled for it outlives a stop, see `Trainer.pending`."""
        started = time.perf_counter()
        batch = self.pending if self.pending is not None else self._collected(stop)
        samples = [sample for own in self.processes.gather(list(batch.samples)) for sample in own]
        if self.pending is None and self.processes.main and samples:
            self.samples.write(self.context.step + 1, samples)
        self.pending = batch if samples else None
        while self.update < self.method.updates_per_step:
            self._update(self.method.minibatch(batch, self.update, self.context), self.done, stop)
            self.update += 1
        done, self.done = self.done, Updates()
        self.pending, self.update = None, 0
        self.context.step += 1
        self.tokens, self.trained = self.tokens + int(done.tokens), self.trained + int(done.trained)
        seconds = time.perf_counter() - started
        self.context.metrics = metrics = {
            **done.metrics(),
            "learning_rate": done.rate,
            "epoch": self.sampler.epoch,
            "num_tokens": self.tokens,
            "num_trained_tokens": self.trained,
            "tokens_per_s": done.tokens / seconds,
            "step_s": seconds,
        }
        self.context.samples = samples
        metrics.update(self.method.after_step(self.context))
        self._report(metrics)
        self._notify("tunesmith_step_ended", run=self.info, step=self.context.step, metrics=metrics)

    def _collected(self, stop: StopRequest) -> Batch:
        """This process's share of the batch of a step, ready to be trained on."""
        mine, draws = None, 0
        while mine is None or self.method.wants_more(mine, draws):
            draw = self.sampler.extra if draws else self.sampler.batch
            whole = Batch(self.method.arrange(draw(self.context.step)))
            drawn = self.stepper.collect(self._of_step(whole, draws * len(whole)), self.context, stop)
            mine, draws = drawn if mine is None else joined(mine, drawn), draws + 1
        return self.method.settle(mine, self.context)

    def _of_step(self, whole: Batch, before: int = 0) -> Batch:
        """This process's share of a batch; the column ``position`` says where its trees stand in the whole step."""
        chosen = self.processes.share(whole.trees)
        if "position" not in whole.columns:
            whole = whole.with_columns(position=torch.arange(before, before + len(whole)))
        return whole.take(chosen)

    def _update(self, mine: Batch, done: Updates, stop: StopRequest) -> None:
        """One gradient and one step of the optimizer; none where there is nothing to learn from."""
        unit = self.method.objective.unit
        count, tokens, trained = self.processes.sum([mine.count(unit), mine.num_tokens, mine.count("token")])
        if not count:
            done.skipped += 1
            done.rate = self._rate(self.context.step * self.method.updates_per_step + self.update)
            return
        detailed = (self.context.step + 1) % self.settings.log_every == 0
        sums = self.stepper.gradient(mine, count, stop, detailed)
        self.method.before_update(self.context)
        updates = self.method.updates_per_step
        rate = self._rate(self.context.step * updates + self.update)
        loss, norm = float(sums.total) / count, self._clip()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._diverged(loss, norm, mine)
        set_rates(self.optimizer, self.context.groups, rate)
        self.optimizer.step()
        self.stepper.clear()
        done.add({"loss": loss, "grad_norm": norm, **self._details(sums, count, trained)}, rate, tokens, trained)

    def _rate(self, update: int) -> float:
        schedule = self.settings.schedule
        total = self.sampler.total_steps * self.method.updates_per_step
        scale = schedule(update, total) if schedule is not None else 1.0
        return self.settings.learning_rate * scale

    def _clip(self) -> float:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        limit = self.settings.max_grad_norm
        if limit > 0 and bool(torch.isfinite(norm)):
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return float(norm)

    def _diverged(self, loss: float, norm: float, batch: Batch) -> DivergedError:
        rows = ", ".join(f"{self.labels[t.source]} row {t.row:,}" for t in batch.trees[:5])
        last = checkpoint.checkpoints(self.output / "checkpoints")
        saved = f"the last checkpoint is {last[0].name}" if last else "no checkpoint was saved before"
        return DivergedError(
            f"step {self.context.step + 1}: loss {loss:g}, gradient norm {norm:g}; the step was not applied",
            where=f"{len(batch)} examples, among them {rows}",
            why=f"nothing was saved since; {saved}",
            fix="lower learning_rate, look at these rows with `tunesmith data show`, or try dtype fp32",
        )

    def _details(self, sums: StepSums, count: float, trained: float) -> dict[str, float]:
        details = {name: float(value) / count for name, value in sums.metrics.items()}
        details |= {name: float(mean[0] / mean[1]) for name, mean in sums.means.items() if mean[1] > 0}
        details |= {name: float(value) for name, value in sums.maxima.items()}
        if len(self.labels) > 1:
            given = sum(share.given for share in self.sampler.shares)
            for i, (label, share) in enumerate(zip(self.labels, self.sampler.shares, strict=True)):
                details[f"mix/{label}"] = share.given / given
                if sums.sources[1, i] > 0:
                    details[f"loss/{label}"] = float(sums.sources[0, i] / sums.sources[1, i])
        scores_tokens = issubclass(self.method.supplies, (TokenLogps, PolicyLogps))
        if sums.tokens and scores_tokens and float(sums.tokens["entropy"]):
            details["entropy"] = float(sums.tokens["entropy"]) / trained
            if issubclass(self.method.supplies, TokenLogps):  # of sampled tokens it says nothing
                details["mean_token_accuracy"] = float(sums.tokens["correct"]) / trained
        return details

    # ------------------------------------------------------------------------------------------ around a step
    def _evaluate(self) -> None:
        self.last_eval = self.context.step
        if not self.eval_sets:
            return
        micro = self.stepper.micro_tokens
        results = evaluate(self.method, self.context, self.eval_sets, self.processes, micro)
        losses = {name: values["loss"] for name, values in results.items() if "loss" in values}
        metrics = {f"eval/{name}/{key}": value for name, values in results.items() for key, value in values.items()}
        self._report({**metrics, **self.method.after_eval(self.context, losses)})

    def _report(self, metrics: Mapping[str, float]) -> None:
        if self.processes.main:
            self.sinks.log(self.context.step, metrics)

    def _notify(self, hook: str, **arguments: Any) -> None:
        if self.processes.main:
            self.registry.notify(hook, **arguments)

    def _leave(self, stop: StopRequest) -> None:
        code = int(max(self.processes.agree(stop.code), stop.code)) or 75
        self.save(must=True)
        raise StoppedError(
            f"stopped on request after step {self.context.step} of {self.sampler.total_steps}; saved",
            exit_code=code,
            fix=f"tunesmith resume {self.output}",
        )

    def save(self, *, must: bool = False) -> None:
        """Write a checkpoint of the state after the last step.

        Raises:
            DivergedError: the weights are not finite.
            ResourceError: the disk refuses and ``must`` is set; otherwise that is a warning and training goes on.
        """
        folder = self.output / "checkpoints"
        target = folder / f"step-{self.context.step:06d}"
        problem = ""
        pending = [] if self.pending is None else self.processes.gather(self.pending)
        if self.processes.main:
            try:
                checkpoint.write_folder(target, partial(self._fill, pending=pending))
                checkpoint.prune(folder, self.settings.keep_checkpoints)
            except OSError as error:
                problem = f"{type(error).__name__}: {error}"
                log.warning("could not save %s (%s); the one before is kept", target.name, problem)
        problem = self.processes.agree(problem)
        self.last_save = time.monotonic()
        if problem and must:
            raise ResourceError(f"could not save {target}", why=problem, fix="free some space, then resume the run")
        if not problem:
            self._notify("tunesmith_checkpoint_saved", run=self.info, step=self.context.step, path=target)

    def _fill(self, folder: Path, pending: list[Batch]) -> None:
        self._save_models(folder, folder / CRITIC)
        checkpoint.save_state(folder / "trainer", self.optimizer, self._state())
        if pending:
            write_pending(folder / "trainer", pending)

    def _save_models(self, folder: Path, critic: Path) -> None:
        models = self.context.models
        save_model(models.policy.module, self.context.tokenizer, folder)
        if models.has_critic:
            models.critic.save(critic, self.context.tokenizer)

    def _fill_final(self, folder: Path) -> None:
        self._save_models(folder, self.output / CRITIC)
        write_card(folder, self.run, self.output, self.context.step)

    def finish(self) -> Path:
        """Write the final model folder."""
        target = self.output / "model"
        if self.processes.main:
            checkpoint.write_folder(target, self._fill_final)
        self.processes.wait()
        return target
