"""From a complete configuration to a finished run on disk."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tunesmith.components import Method
from tunesmith.config import Layers, Run, resolve
from tunesmith.data.corpus import Corpus, StreamCorpus
from tunesmith.data.encoding import load_tokenizer
from tunesmith.data.loading import LoadedData, iter_examples, load_data
from tunesmith.data.sampler import TRAIN, Sampler
from tunesmith.data.trees import Tree
from tunesmith.errors import FOLDER_NOTE, ConfigError, DataError, ResourceError, TunesmithError
from tunesmith.models.expanded import refuse_adapter, untrained
from tunesmith.models.loading import check_exists, load_model, pick_device, pick_dtype, quiet_transformers
from tunesmith.models.roles import Models
from tunesmith.plan.kinds import critic_kind, kind_of
from tunesmith.plugins import Registry
from tunesmith.report.run import REPORT
from tunesmith.runfile import read_run_file
from tunesmith.runner import checkpoint, records
from tunesmith.runner.context import Context
from tunesmith.runner.critics import make_critic
from tunesmith.runner.evaluate import arranged
from tunesmith.runner.loop import Trainer
from tunesmith.runner.processes import Processes
from tunesmith.runner.randomness import seed_everything
from tunesmith.runner.references import make_reference
from tunesmith.runner.signals import StopRequest
from tunesmith.runner.tracking import started, tracking
from tunesmith.runner.versions import check_same_plugins, say_changed_plugins
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith.scoring.scores import ScoreScorer

log = logging.getLogger(__name__)
CHECKPOINTS = "checkpoints"
LEFTOVERS = {"log.txt", "data_report.json", records.MANIFEST}
"""What a run that failed before its first step leaves behind; they do not make its folder a used one."""
MAY_DIFFER = {
    "output", "log_every", "save_every", "eval_every", "keep_checkpoints", "trackers", "micro_tokens", "plugins",
    "device",
}  # fmt: skip
"""Settings that may change when a run goes on: they change what is seen or how much memory is used."""


def start(run: Run, registry: Registry, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train a run from its beginning, or from its last checkpoint with ``resume``; return the final model folder.

    Raises:
        ConfigError: the folder is used already; settings changed since the run was started.
        StoppedError, DivergedError, DataError, ResourceError: see `Trainer.fit`.
    """
    processes = Processes(pick_device(run.settings))
    check_same_plugins(processes, registry)
    output = Path(processes.agree(str(run.settings.output or _free_name(Path("runs"), run.method.name))))
    error = processes.agree(_claim(output, run, resume, overwrite) if processes.main else None)
    if error is not None:
        raise error
    with _log_file(output, processes.main):
        if resume and processes.main:
            say_changed_plugins(output, registry)
        try:
            return _train(run, registry, processes, output, resume)
        except (ConfigError, DataError, ResourceError):
            if processes.main and not resume:
                _release(output)
            raise


def resume(folder: Path, registry: Registry) -> Path:
    """Continue a stopped run with the settings in its ``run.yaml``.

    Raises:
        ConfigError: not a run folder, or the run is finished.
    """
    path = folder / records.RUN_FILE
    if not path.is_file():
        raise ConfigError(f"{folder} is not the folder of a run", why=f"it holds no {records.RUN_FILE}")
    folder = folder.resolve()
    with contextlib.chdir(_started_in(folder)):
        content = {**read_run_file(folder / records.RUN_FILE), "output": str(folder)}
        run = resolve(registry, str(content["method"]), Layers(file=content, path=folder / records.RUN_FILE))
        return start(run, registry, resume=True)


def _started_in(folder: Path) -> Path:
    """The folder that the relative paths of a run start from, where it still exists; else the present one."""
    manifest = folder / records.MANIFEST
    if manifest.is_file():
        before = Path(json.loads(manifest.read_text(encoding="utf-8"))["folder"])
        if before.is_dir():
            return before
    return Path.cwd()


# ---------------------------------------------------------------------------------------------- the folder
def _free_name(parent: Path, method: str) -> Path:
    number = 1
    while (parent / f"{method}-{number:03d}").exists():
        number += 1
    return parent / f"{method}-{number:03d}"


def _claim(output: Path, run: Run, resume: bool, overwrite: bool) -> TunesmithError | None:
    """Make the folder ours, or say why not. An error is returned, so that every process can raise it."""
    used = output.is_dir() and any(entry.name not in LEFTOVERS for entry in output.iterdir())
    if output.exists() and not output.is_dir():
        return ConfigError(f"output: {output} is a file", fix="give the path of a folder")
    if used and resume:
        return _drift(output, run)
    if used and not overwrite:
        ours = (output / records.RUN_FILE).is_file()
        fix = "continue it with --resume, replace it with --overwrite, or choose" if ours else "choose"
        return ConfigError(f"output: {output} is used already", fix=f"{fix} another --output")
    if used and not (output / records.RUN_FILE).is_file():
        return ConfigError(
            f"output: {output} holds other files and no run; nothing was deleted", fix="choose another --output"
        )
    if used:
        shutil.rmtree(output)
    if resume and not used:
        return ConfigError(f"there is nothing to resume in {output}", fix="start without --resume")
    try:
        output.mkdir(parents=True, exist_ok=True)
        records.write_run_file(output, run)
    except OSError as error:
        return ConfigError(
            f"output: cannot write to {output}", why=error.strerror or str(error), fix="choose another --output"
        )
    return None


def _drift(output: Path, run: Run) -> ConfigError | None:
    """Why the run in the folder cannot go on with these settings, or ``None``."""
    path = output / records.RUN_FILE
    if not path.is_file():
        return ConfigError(f"{output} is not the folder of a run", why=f"it holds no {records.RUN_FILE}")
    if (output / "model" / checkpoint.MANIFEST).is_file():
        return ConfigError(
            f"the run in {output} is finished", fix=f"its model is {output / 'model'}; train on from there with --model"
        )
    before = {key: value for key, value in read_run_file(path).items() if key not in MAY_DIFFER}
    now = {key: value for key, value in json.loads(json.dumps(run.dump())).items() if key not in MAY_DIFFER}
    changed = records.differences(json.loads(json.dumps(before)), now)
    if not changed:
        return None
    return ConfigError(
        "the settings are not those that the run was started with",
        where=str(path),
        why="; ".join(changed[:4]) + ("; ..." if len(changed) > 4 else ""),
        fix=f"continue it as it was with `tunesmith resume {output}`, or start a new run",
    )


def _release(output: Path) -> None:
    """Let a corrected command have the folder of a run that took no step."""
    metrics = output / records.METRICS
    if (output / CHECKPOINTS).exists() or (metrics.exists() and metrics.stat().st_size):
        return
    for path in (metrics, output / records.RUN_FILE, output / "rejected.jsonl", output / REPORT):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _log_file(output: Path, main: bool) -> Iterator[None]:
    """Messages of the run also go to its ``log.txt``."""
    if not main:
        yield
        return
    handler = logging.FileHandler(output / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("tunesmith")
    logger.addHandler(handler)
    try:
        yield
    except Exception as error:
        error.add_note(f"{FOLDER_NOTE}{output}")
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()


# ---------------------------------------------------------------------------------------------- the run
def _train(run: Run, registry: Registry, processes: Processes, output: Path, resume: bool) -> Path:
    quiet_transformers()
    _check(run, processes)
    last = checkpoint.newest(output / CHECKPOINTS) if resume else None
    if resume and last is None:
        log.warning("no whole checkpoint in %s; the run starts from its first step", output / CHECKPOINTS)
    trainer, data = make_trainer(run, registry, processes, output, last)
    with StopRequest() as stop, trainer.context.closing:
        run.method.opened(trainer.context)
        if last is not None:
            trainer.restore(last)
        if processes.main:
            _describe(run, data, trainer, output)
        if last is None:
            run.method.started(trainer.context, training_trees(data))
        with tracking(trainer), _counting_streams(data, processes, output):
            trainer.fit(stop)
            return trainer.finish()


def make_trainer(
    run: Run, registry: Registry, processes: Processes, output: Path, last: Path | None
) -> tuple[Trainer, LoadedData]:
    """Load rows and models of a run, from a checkpoint where it goes on; nothing is opened or trained yet."""
    settings, method = run.settings, run.method
    tokenizer = _tokenizer(run, registry, last)
    with processes.main_first():
        data = load_data(run, registry, tokenizer, output=output if processes.main else None)
    sampler = _sampler(run, data)
    device, dtype = processes.device, pick_dtype(settings, processes.device)
    policy = _policy(run, tokenizer, device, dtype, last)
    context = Context(
        Models(policy),
        tokenizer,
        sampler.total_steps,
        seed=settings.seed,
        rank=processes.rank,
        processes=processes.count,
        output=output,
        corpora=data.by_group(),
        resumed=last is not None,
        sum_tensors=processes.sum_tensors,
    )
    policy.module = method.prepare(policy.module, context)
    if processes.main and (frozen := untrained(policy.language_model)):
        log.warning("%s new pieces of the vocabulary have rows that nothing trains in this run", f"{frozen.count:,}")
    choose(policy)
    processes.same(policy.module)
    reference = make_reference(
        method, settings, tokenizer, policy, dtype, processes, lambda: _all_trees(run, data), fresh=last is None
    )
    critic = make_critic(method, settings, tokenizer, policy, dtype, device, last)
    context.models = Models(policy, reference, critic)
    labels = [corpus.label for corpus in data.corpora]
    seed_everything(settings.seed)
    return Trainer(run, registry, context, sampler, data.eval_sets, labels, processes, output), data


def _check(run: Run, processes: Processes) -> None:
    """Refuse what cannot work before anything is loaded."""
    settings, method = run.settings, run.method
    if settings.batch_size < processes.count:
        raise ConfigError(f"batch_size {settings.batch_size} is less than the {processes.count} processes")
    check_exists(settings.model, "model")
    refuse_adapter(settings)
    kind_of(method, settings)
    if "value" in method.active_roles():
        critic_kind(method, settings)
    if idle := settings.without_effect():
        log.warning("%s: no effect without an adapter (--adapter lora)", ", ".join(idle))


def _policy(run: Run, tokenizer: Any, device: torch.device, dtype: torch.dtype, last: Path | None) -> Scorer:
    """The model that is trained, from the checkpoint where the run goes on."""
    module = load_model(run.settings, run.method, tokenizer, device, dtype, last)
    family = ScoreScorer if run.method.head == "score" else Scorer
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    policy = family(module, pad_id=pad_id, autocast=dtype == torch.bfloat16)
    policy.micro_tokens = run.settings.micro_tokens
    return policy


@contextlib.contextmanager
def _counting_streams(data: LoadedData, processes: Processes, output: Path) -> Iterator[None]:
    """Rows of streams are counted while training: write the counts down, and say them, when it ends."""
    try:
        yield
    finally:
        streams = [corpus.report for corpus in data.corpora if isinstance(corpus, StreamCorpus)]
        if processes.main and streams:
            records.write_data_report(output, data.report.as_dict())
            for report in streams:
                log.info("%s", report.line())


def _sampler(run: Run, data: LoadedData) -> Sampler:
    settings = run.settings
    return Sampler(
        data.corpora,
        batch_size=settings.batch_size,
        seed=settings.seed,
        shuffle=settings.shuffle,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        mixture=run.method.mixture,
    )


def training_trees(data: LoadedData) -> Iterator[Tree]:
    """Every training tree once, sources that are streamed left out."""
    for corpus in data.corpora:
        if isinstance(corpus, Corpus):
            for i in range(len(corpus)):
                yield corpus[i]


def _all_trees(run: Run, data: LoadedData) -> Iterator[Tree]:
    """Every tree that the run will score, as its method arranges them."""
    streams = [corpus.label for corpus in data.corpora if not isinstance(corpus, Corpus)]
    if streams:
        raise ConfigError(
            f"{streams[0]} is streamed, so the reference cannot be computed beforehand", fix="use --reference copy"
        )
    sampler = _sampler(run, data)
    for step in range(sampler.total_steps):
        yield from run.method.arrange(sampler.batch(step))
    for corpus in data.eval_sets.values():
        for trees in arranged(run.method, corpus):
            yield from trees


def _tokenizer(run: Run, registry: Registry, last: Path | None) -> Any:
    """The tokenizer: of the checkpoint, trained by the method, or of the model."""
    if last is not None:
        return load_tokenizer(run.settings.model_copy(update={"tokenizer": str(last), "chat_template": None}))
    texts = (text for example in iter_examples(run, registry, TRAIN) for text in _texts(example))
    own = run.method.build_tokenizer(texts)
    if own is not None:
        return own
    try:
        return load_tokenizer(run.settings)
    except ConfigError as error:
        if type(run.method).build_tokenizer is not Method.build_tokenizer:
            name = run.method.name
            error.fix = f"{error.fix}; or let {name} train one on the rows: see `tunesmith run {name} --help`"
        raise


def _texts(example: Any) -> list[str]:
    """Every string field of an example."""
    values = (getattr(example, name) for name in example.__dataclass_fields__)
    return [value for value in values if isinstance(value, str)]


def _describe(run: Run, data: LoadedData, trainer: Trainer, output: Path) -> None:
    """Say what is about to happen, and write it down."""
    processes, policy = trainer.processes, trainer.context.models.policy
    sources = [
        {"label": c.label, "group": c.group, "fingerprint": c.fingerprint} for c in [*data.corpora, *data.probes]
    ]
    records.write_manifest(output, trainer.registry, sources, processes.count, started(trainer))
    records.write_data_report(output, data.report.as_dict())
    for note in trainer.registry.untold():
        log.info("replaced %s", note)
    for line in data.report.lines():
        log.info("%s", line)
    parameters = list(policy.module.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    whole = sum(p.numel() for p in parameters)
    dtype = "bf16" if policy.autocast else "fp32"
    log.info("model    %s, %s of %s parameters trained", run.settings.model, f"{trained:,}", f"{whole:,}")
    log.info("compute  %s x %d, %s", processes.device, processes.count, dtype)
    if policy.path == "packed":
        log.info("path     packed: no padding, logits for trained tokens only")
    else:
        log.warning("path     %s, slower: this model cannot take the faster path (%s)", policy.path, policy.why)
    done, total = trainer.context.step, trainer.sampler.total_steps
    size = run.settings.batch_size
    log.info("run      %s: steps %d to %d of %d examples each", output, done + 1, total, size)
