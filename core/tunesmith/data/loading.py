"""From the sources of a run to corpora of token trees."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.components import DataSpec, Method, Row
from tunesmith.config import plain
from tunesmith.data.cache import cache_folder, cache_key
from tunesmith.data.corpus import EVAL, TRAIN, Corpus, DataSource, StreamCorpus, tally
from tunesmith.data.detect import SAMPLE, Taker, Verdict, choose_format
from tunesmith.data.encoding import Encoder
from tunesmith.data.report import DataReport, Problems, RejectLog, SourceReport, printable
from tunesmith.data.rows import Intake, Overlong, content_key
from tunesmith.data.store import Ints, Store, StoreWriter, concatenate, open_store
from tunesmith.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tunesmith.config import Run
    from tunesmith.examples import Example
    from tunesmith.plugins import Registry

__all__ = ["Corpus", "LoadedData", "StreamCorpus", "iter_examples", "load_data"]
LOG_SECONDS = 10.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class LoadedData:
    """The rows of a run.

    Attributes:
        corpora: what is trained on.
        eval_sets: what is evaluated on, by name.
        probes: what the method measures the model on.
        report: what became of every row.
    """

    corpora: list[Corpus | StreamCorpus]
    eval_sets: dict[str, Corpus]
    probes: list[Corpus]
    report: DataReport

    def by_group(self) -> dict[str, list[Corpus]]:
        """Whatever was read whole, evaluation sets left out."""
        groups: dict[str, list[Corpus]] = {}
        for corpus in [*self.corpora, *self.probes]:
            if isinstance(corpus, Corpus):
                groups.setdefault(corpus.group, []).append(corpus)
        return groups


@dataclass(slots=True)
class _Loaded:
    source: DataSource
    store: Store
    digest: str
    report: SourceReport


# ---------------------------------------------------------------------------------------------- a whole run
def load_data(run: Run, registry: Registry, tokenizer: Any, *, output: Path | None) -> LoadedData:
    """Read, judge and tokenise the rows of a run; tokens are cached by content under ``$TUNESMITH_CACHE``.

    Args:
        run: the settings.
        registry: where formats are known.
        tokenizer: of transformers.
        output: folder for ``rejected.jsonl``; ``None`` on every process but the main one.

    Raises:
        DataError: rows that are wrong, or none left.
        ConfigError: formats, chat templates or held-out shares that do not fit.
        ResourceError: the disk refuses.
    """
    return _Loader(run, registry, tokenizer, output).load()


class _Loader:
    def __init__(self, run: Run, registry: Registry, tokenizer: Any, output: Path | None) -> None:
        self.run, self.settings, self.registry = run, run.settings, registry
        self.encoder = Encoder(tokenizer, **run.method.encoder_options())
        self.skip = self.settings.on_bad_row == "skip"
        self.rejects = RejectLog(output)
        self.report = DataReport()

    def load(self) -> LoadedData:
        sources = _sources(self.run)
        self._check_streams(sources)
        loaded: list[_Loaded | DataSource] = [s if s.streams else self._read(s) for s in sources]
        held = self._held_out([item for item in loaded if isinstance(item, _Loaded)])
        corpora: list[Corpus | StreamCorpus] = []
        evals: dict[str, Corpus] = {}
        probes: list[Corpus] = []
        for index, item in enumerate(loaded):
            if isinstance(item, DataSource):
                corpora.append(self._stream(item, index))
                continue
            corpus = self._corpus(item, index, held)
            if item.source.group == EVAL:
                evals[item.source.label] = corpus
            elif item.source.measured:
                probes.append(corpus)
            else:
                corpora.append(corpus)
        eval_sets = {**self._held_out_sets(loaded, held), **evals}
        self._warn_of_overlap(loaded, held)
        return LoadedData(corpora, eval_sets, probes, self.report)

    def _check_streams(self, sources: Sequence[DataSource]) -> None:
        for source in sources:
            if source.streams and source.measured:
                rows = "evaluation rows" if source.group == EVAL else f"rows of {source.group}"
                raise ConfigError(
                    f"{printable(source.label)} is streamed, but {rows} are read whole before training",
                    fix="give it a limit, or do not stream it",
                )
            if source.streams and self.settings.holdout:
                raise ConfigError(
                    f"{printable(source.label)} is streamed, so no share of its rows can be held out",
                    fix="set holdout to 0 and give eval_data",
                )

    # ------------------------------------------------------------------------------------------ one source
    def _intake(self, source: DataSource, verdict: Verdict) -> Intake:
        return Intake(
            verdict.format,
            columns=source.spec.map,
            taker=taker_of(self.run.method, source.group),
            encoder=self.encoder,
            method=self.run.method if source.group == EVAL or not source.measured else None,
            max_length=self.settings.max_length,
            overlong=self._overlong(source),
        )

    def _overlong(self, source: DataSource) -> Overlong:
        """Rows of another kind than those trained on need not be splittable; where they only measure, long ones go."""
        other = source.measured and self.run.method.takes(source.group) is not self.run.method.consumes
        return "drop" if other and self.settings.overlong == "split" else self.settings.overlong

    def _read(self, source: DataSource) -> _Loaded:
        rows = source.rows()
        sample = list(islice(rows, SAMPLE))
        verdict = choose_format(source.spec, sample, self.registry, taker_of(self.run.method, source.group))
        report = SourceReport(source.label, source.group, verdict.format.name, verdict.why)
        key = cache_key(source, verdict.format, self.run, self.registry, self.encoder, self._overlong(source))
        folder = cache_folder() / key if key else None
        found = self._cached(folder, source, report) if folder else None
        if found is None:
            found = self._tokenised(source, chain(sample, rows), self._intake(source, verdict), folder, report)
        self.report.sources.append(found.report)
        if not len(found.store):
            raise _nothing_left(found.report)
        return found

    def _cached(self, folder: Path, source: DataSource, report: SourceReport) -> _Loaded | None:
        opened = open_store(folder)
        if opened is None:
            return None
        store, meta = opened
        if meta["rejects"] and not (self.skip and meta["source"] == _written(source)):
            return None  # which rows are bad must be said, and by their files
        for file, line, reason, data in meta["rejects"]:
            self.rejects.add(Row(data, file, line), reason)
        for name, value in meta["counts"].items():
            setattr(report, name, value)
        report.cached = True
        return _Loaded(source, store, meta["digest"], report)

    def _tokenised(
        self, source: DataSource, rows: Iterable[Row], intake: Intake, folder: Path | None, report: SourceReport
    ) -> _Loaded:
        problems, files, keys, rejects = Problems(), set(), set(), []
        said = time.monotonic()
        with StoreWriter(folder) as writer:
            for outcome in intake.outcomes(rows):
                files.add(outcome.row.file)
                tally(report, outcome)
                if outcome.status == "bad":
                    problems.add(outcome.reason, outcome.row)
                    if self.skip:
                        self.rejects.add(outcome.row, outcome.reason)
                        rejects.append([outcome.row.file, outcome.row.line, outcome.reason, dict(outcome.row.data)])
                elif outcome.trees and (self.skip or not problems.kinds):
                    key = content_key(outcome)
                    report.duplicates += key in keys
                    keys.add(key)
                    writer.add(outcome.trees, key)
                if time.monotonic() - said > LOG_SECONDS:
                    said = time.monotonic()
                    log.info("%s: %s rows tokenised", source.label, f"{report.rows:,}")
            if problems.kinds and not self.skip:
                raise problems.error(source.label, report.rows)
            report.files = len(files)
            about = {"counts": _constant_counts(report), "rejects": rejects, "source": _written(source)}
            store, digest = writer.finish(about)
        return _Loaded(source, store, digest, report)

    def _stream(self, source: DataSource, index: int) -> StreamCorpus:
        sample = list(islice(source.rows(), SAMPLE))
        verdict = choose_format(source.spec, sample, self.registry, taker_of(self.run.method, source.group))
        report = SourceReport(
            source.label, source.group, verdict.format.name, verdict.why, note="streamed, counted while training"
        )
        self.report.sources.append(report)
        return StreamCorpus(source, index, self._intake(source, verdict), report, self.rejects if self.skip else None)

    # ------------------------------------------------------------------------------------------ holding out
    def _held_out(self, loaded: Sequence[_Loaded]) -> npt.NDArray[np.uint64]:
        """Keys of held-out rows. A row held out of one group is trained on in none."""
        share = self.settings.holdout
        groups: dict[str, list[npt.NDArray[np.uint64]]] = {}
        for item in loaded:
            if share and not item.source.measured:
                groups.setdefault(item.source.group, []).append(np.asarray(item.store.keys))
        chosen = [held_out_keys(np.unique(np.concatenate(keys)), share) for keys in groups.values()]
        for group, keys in zip(groups, chosen, strict=True):
            if not len(keys):
                self.report.warnings.append(f"nothing is held out of {group}: all of its rows say the same")
        return np.unique(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.uint64)

    def _corpus(self, item: _Loaded, index: int, held: npt.NDArray[np.uint64]) -> Corpus:
        source, report = item.source, item.report
        chosen = np.arange(len(item.store), dtype=np.int64)
        if source.group != EVAL:
            chosen = chosen[~np.isin(item.store.keys, held)]
        kept, of_all = _tally(item.store, chosen), _tally(item.store, np.arange(len(item.store), dtype=np.int64))
        report.used, report.tokens, report.trained = kept
        report.held_out, report.tokens_held_out = of_all[0] - kept[0], of_all[1] - kept[1]
        if not len(chosen):
            raise _nothing_left(report)
        return Corpus(source.label, source.group, index, source.spec.weight, item.store, chosen, item.digest)

    def _held_out_sets(self, loaded: Sequence[_Loaded | DataSource], held: npt.NDArray[np.uint64]) -> dict[str, Corpus]:
        parts: dict[str, list[_Loaded]] = {}
        for item in loaded:
            if isinstance(item, _Loaded) and not item.source.measured and np.isin(item.store.keys, held).any():
                parts.setdefault(item.source.group, []).append(item)
        sets = {}
        for number, (group, items) in enumerate(parts.items(), start=len(loaded)):
            store = concatenate([i.store.take(np.flatnonzero(np.isin(i.store.keys, held))) for i in items])
            digest = ",".join(item.digest for item in items) + hashlib.sha256(held.tobytes()).hexdigest()
            everything = np.arange(len(store), dtype=np.int64)
            sets[group] = Corpus(group, group, number, None, store, everything, digest)
        return sets

    def _warn_of_overlap(self, loaded: Sequence[_Loaded | DataSource], held: npt.NDArray[np.uint64]) -> None:
        """Rows that are given for evaluation and trained on all the same."""
        whole = [item for item in loaded if isinstance(item, _Loaded)]
        for asked in (item for item in whole if item.source.group == EVAL):
            for trained in (item for item in whole if not item.source.measured):
                keys = np.setdiff1d(trained.store.keys, held)
                both = np.unique(asked.store.rows[np.isin(asked.store.keys, keys)])
                if len(both):
                    self.report.warnings.append(
                        f"{len(both):,} of the {asked.report.used:,} evaluation rows of "
                        f"{printable(asked.source.label)} are also trained on, in {printable(trained.source.label)}"
                    )


def held_out_keys(keys: npt.NDArray[np.uint64], share: float) -> npt.NDArray[np.uint64]:
    """The keys below ``share`` of their range: at least one where there are two, and never all of them.

    Args:
        keys: sorted, each once.
        share: in [0, 1).
    """
    if len(keys) < 2:
        return keys[:0]
    limit = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    return keys[: max(1, min(int(np.searchsorted(keys, limit)), len(keys) - 1))]


# ---------------------------------------------------------------------------------------------- typed rows only
def iter_examples(run: Run, registry: Registry, group: str = TRAIN) -> Iterator[Example]:
    """The examples of a data group before tokenisation.

    Raises:
        DataError: a bad row, unless bad rows are skipped.
    """
    for source in _sources(run):
        if source.group != group:
            continue
        rows = source.rows()
        sample = list(islice(rows, SAMPLE))
        taker = taker_of(run.method, group)
        verdict = choose_format(source.spec, sample, registry, taker)
        intake = Intake(verdict.format, columns=source.spec.map, taker=taker)
        for outcome in intake.outcomes(chain(sample, rows)):
            if outcome.status == "bad" and run.settings.on_bad_row == "error":
                problems = Problems()
                problems.add(outcome.reason, outcome.row)
                raise problems.error(source.label, outcome.index + 1)
            if outcome.status == "used" and outcome.example is not None:
                yield outcome.example


# ---------------------------------------------------------------------------------------------- parts
def _written(source: DataSource) -> Any:
    """The source as JSON keeps it."""
    return json.loads(json.dumps(plain(source.spec.source), default=str))


def taker_of(method: Method, group: str) -> Taker:
    """What a method takes in a data group."""
    return Taker(method.takes(group), method.name)


def _sources(run: Run) -> list[DataSource]:
    """Every source of a run under a name of its own; an evaluation set may not be called like a data group either."""
    probes = run.method.probes()
    groups: Mapping[str, Sequence[DataSpec]] = {
        TRAIN: run.settings.data,
        **run.method.data_groups(),
        EVAL: run.settings.eval_data,
        **probes,
    }
    sources: list[DataSource] = []
    for group, specs in groups.items():
        for spec in specs:
            taken = {source.label for source in sources} | (set(groups) - {EVAL} if group == EVAL else set())
            name = spec.label or spec.source.label()
            label = next(text for text in chain([name], (f"{name}-{i}" for i in count(2))) if text not in taken)
            sources.append(DataSource(spec, group, label, measured=group == EVAL or group in probes))
    return sources


def _constant_counts(report: SourceReport) -> dict[str, int]:
    """The counts that do not depend on what is held out."""
    changing = ("used", "held_out", "tokens", "tokens_held_out", "trained", "cached")
    names = [name for name in report.__slots__ if name not in changing]
    return {name: getattr(report, name) for name in names if isinstance(getattr(report, name), int)}


def _tally(store: Store, chosen: Ints) -> tuple[int, int, int]:
    """Rows, tokens (one that a split repeats counted once) and trained tokens of some trees."""
    rows = len(np.unique(store.rows[chosen]))
    return rows, int(store.lengths[chosen].sum()) - (len(chosen) - rows), int(store.scored[chosen].sum())


def _nothing_left(report: SourceReport) -> DataError:
    names = ("skipped", "rejected", "dropped", "held_out")
    gone = [f"{getattr(report, name):,} {name.replace('_', ' ')}" for name in names if getattr(report, name)]
    return DataError(
        f"no row of {printable(report.label)} is left: 0 of {report.rows:,} can be used",
        why=", ".join(gone) or None,
        fix="look at it with `tunesmith data check`",
    )
