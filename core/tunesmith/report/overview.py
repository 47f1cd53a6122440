"""What was asked for and what was done: outcome, settings and their effect, rows, memory, messages, versions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith.report import svg
from tunesmith.report.folder import RunFolder
from tunesmith.report.markup import Markup, tag
from tunesmith.report.page import Block, details, facts, grid, notice, table, verbatim
from tunesmith.report.svg.scales import several

LOST = ("skipped", "rejected", "dropped", "held_out", "truncated", "split", "duplicates")
"""What may become of a row beside being used, as data_report.json counts it."""
DESCRIBED = ("label", "group", "format")
"""What data_report.json says of a source, beside counts."""
SHOWN_MESSAGES = 40


def duration(seconds: float) -> str:
    """Two units at most.

    >>> duration(80), duration(7500)
    ('1m20s', '2h05m')
    """
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def wall_seconds(run: RunFolder) -> float:
    """Seconds between starts and ends as far as they were noted; else those of the steps."""
    spans = [
        float(start["ended"]["time"]) - float(start["time"])
        for start in run.starts
        if isinstance(start.get("ended"), Mapping) and "time" in start
    ]
    steps = sum(run.curve("step_s").finite())
    return max(sum(spans), steps)


def steps_done(run: RunFolder) -> int:
    """Steps that were trained."""
    return max(run.trained, default=0)


def total_steps(run: RunFolder) -> int | None:
    """Steps that the whole run has, where that was noted."""
    totals = [start.get("total_steps") for start in run.starts]
    return int(totals[-1]) if totals and isinstance(totals[-1], int) else None


# ---------------------------------------------------------------------------------------------- lead
def lead(run: RunFolder) -> list[Block]:
    """How the run ended, and what it was about."""
    return [_outcome(run), facts(_summary(run)), *(notice(problem, "warning") for problem in run.problems)]


def _outcome(run: RunFolder) -> Markup:
    done, total = steps_done(run), total_steps(run)
    steps = f"{done:,} of {several(total, 'step')}" if total else several(done, "step")
    said = str(run.ended.get("said", ""))
    outcome = run.ended.get("outcome")
    if outcome == "finished" or (not outcome and run.finished):
        return notice(f"Finished: {steps} in {duration(wall_seconds(run))}", "good")
    if outcome == "stopped":
        return notice(f"Stopped: {steps}. {said}", "warning")
    if outcome == "failed":
        return notice(f"Failed after {steps}: {said}", "error")
    return notice(f"No end was noted after {steps}: the run goes on, or it was killed", "warning")


def _summary(run: RunFolder) -> list[tuple[str, object]]:
    last = {name: run.curve(name).last() for name in ("loss", "reward", "rewards/accuracies") if name in run.curves}
    held_out = {name: curve.last() for name, curve in run.curves.items() if name.startswith("eval/")}
    shown = [*last.items(), *list(held_out.items())[:4]]
    rows: list[tuple[str, object]] = [("method", run.method), ("model", run.settings.get("model", "?"))]
    rows += [("data", ", ".join(str(source.get("label")) for source in _sources(run)) or "?")]
    if "num_tokens" in run.curves:
        rows.append(("tokens", svg.number(run.curve("num_tokens").last())))
    rows += [(f"{name}, last", svg.number(value)) for name, value in shown]
    times = [start["time"] for start in run.starts if isinstance(start.get("time"), (int, float))]
    return [*rows, ("started", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(times[0])))] if times else rows


def _sources(run: RunFolder) -> list[Mapping[str, Any]]:
    found = run.data.get("sources")
    return [source for source in found if isinstance(source, Mapping)] if isinstance(found, list) else []


# ---------------------------------------------------------------------------------------------- messages
def messages(run: RunFolder) -> list[Block]:
    """Warnings and what the run said of itself."""
    warned = [line for line in run.log if line.level in ("WARNING", "ERROR", "CRITICAL")]
    blocks: list[Block] = [notice(line.said, _level(line.level)) for line in warned[:SHOWN_MESSAGES]]
    if len(warned) > SHOWN_MESSAGES:
        blocks.append(f"{len(warned) - SHOWN_MESSAGES:,} more are in log.txt")
    reasons = [f"steps {first:,} to {last:,} are missing from metrics.jsonl" for first, last in run.gaps()[:10]]
    blocks += [notice(reason, "warning") for reason in reasons]
    faults = sorted(path.name for path in run.path.glob("error-*.log"))
    blocks += [notice(f"a traceback is in {name}", "error") for name in faults]
    if run.log:
        said = [line.said for line in run.log]
        shown = said if len(said) <= 300 else [*said[:150], f"... {len(said) - 300:,} lines ...", *said[-150:]]
        blocks.append(details(f"log.txt: {several(len(said), 'message')}", verbatim("\n".join(shown), 60_000)))
    return blocks


def _level(level: str) -> Any:
    return "warning" if level == "WARNING" else "error"


# ---------------------------------------------------------------------------------------------- asked and done
def asked_and_done(run: RunFolder) -> list[Block]:
    """Settings beside what came of them, and all settings folded away."""
    rows = [row for row in _effects(run) if row is not None]
    blocks: list[Block] = [table(("setting", "asked for", "what came of it"), rows)] if rows else []
    if run.settings:
        import yaml

        written = yaml.safe_dump(dict(run.settings), sort_keys=False, allow_unicode=True)
        blocks.append(details("every setting (run.yaml)", verbatim(written, 60_000)))
    return blocks


def _effects(run: RunFolder) -> list[tuple[str, object, object] | None]:
    asked, start = run.settings, (run.starts or [{}])[-1]
    rates = run.curve("learning_rate").finite()
    return [
        _effect("steps", _asked_steps(asked), f"{steps_done(run):,} of {total_steps(run) or '?'}"),
        _effect("device", asked.get("device"), start.get("device")),
        _effect("dtype", asked.get("dtype"), start.get("dtype")),
        _effect("micro_tokens", asked.get("micro_tokens"), _micro_tokens(run)),
        _effect("processes", "-", start.get("processes", run.manifest.get("processes"))),
        _effect("batch_size", asked.get("batch_size"), _batch(run)),
        _effect("learning_rate", asked.get("learning_rate"), f"highest {svg.number(max(rates))}" if rates else None),
        _effect("layout", "packed where the model can", _layout(start)),
        _effect("adapter", asked.get("adapter"), _parameters(start)),
        _effect("on_bad_row", asked.get("on_bad_row"), _rows(run)),
        _effect("went on", "-", ", ".join(f"at step {step:,}" for step in run.resumed_at()) or None),
        _effect("replaced", "-", "; ".join(map(str, run.manifest.get("replaced") or ())) or None),
    ]


def _effect(name: str, asked: object, done: object) -> tuple[str, object, object] | None:
    if done is None:
        return None
    return name, "-" if asked is None else asked, done


def _asked_steps(asked: Mapping[str, Any]) -> str:
    most = asked.get("max_steps")
    epochs = f"{asked.get('epochs', '?')} epochs"
    return f"{epochs}, {most:,} steps at most" if isinstance(most, int) else epochs


def _micro_tokens(run: RunFolder) -> str | None:
    asked, used = run.settings.get("micro_tokens"), run.ended.get("micro_tokens")
    if used is None:
        return None
    return f"{used:,}: memory ran out, and steps were cut into smaller parts" if used != asked else f"{used:,}"


def _batch(run: RunFolder) -> str | None:
    tokens = run.curve("num_tokens").last()
    steps = steps_done(run)
    return f"{svg.number(round(tokens / steps))} tokens a step on average" if steps and tokens == tokens else None


def _layout(start: Mapping[str, Any]) -> str | None:
    path, why = start.get("path"), start.get("why")
    return None if path is None else f"{path}{f' ({why})' if why else ''}"


def _parameters(start: Mapping[str, Any]) -> str | None:
    trained, whole = start.get("trained_parameters"), start.get("parameters")
    return f"{trained:,} of {whole:,} trained" if isinstance(trained, int) and isinstance(whole, int) else None


def _rows(run: RunFolder) -> str | None:
    sources = _sources(run)
    if not sources:
        return None
    counts = {name: sum(int(source.get(name) or 0) for source in sources) for name in ("rows", "used", *LOST)}
    lost = [f"{counts[name]:,} {name.replace('_', ' ')}" for name in LOST if counts[name]]
    return "; ".join([f"{counts['used']:,} of {counts['rows']:,} used", *lost])


# ---------------------------------------------------------------------------------------------- rows and memory
def data(run: RunFolder) -> list[Block]:
    """What became of the rows of every source."""
    sources = _sources(run)
    if not sources:
        return []
    known = [name for name in LOST if any(source.get(name) for source in sources)]
    head = ("source", *DESCRIBED[1:], "rows", "used", *(name.replace("_", " ") for name in known), "tokens",
            "trained", "longest", "note")  # fmt: skip
    rows = []
    for source in sources:
        counts = [
            svg.number(source.get(name) or 0) for name in ("rows", "used", *known, "tokens", "trained", "longest")
        ]
        note = "; ".join(str(source.get(name)) for name in ("why", "note") if source.get(name))
        rows.append((*(source.get(name) for name in DESCRIBED), *counts, note))
    blocks: list[Block] = [table(head, rows, numbers=range(3, len(head) - 1))]
    warned = run.data.get("warnings")
    blocks += [notice(warning, "warning") for warning in warned] if isinstance(warned, list) else []
    if len(sources) > 1 or known:
        blocks.append(grid(svg.rows("Rows", {_place(source): _fates(source) for source in sources})))
    return blocks


def _place(source: Mapping[str, Any]) -> str:
    """A source and the group that it belongs to: one may be in several."""
    return f"{source.get('label')} [{source.get('group')}]"


def _fates(source: Mapping[str, Any]) -> dict[str, float]:
    """What became of rows, each counted once."""
    names = ("used", "held_out", "skipped", "dropped", "rejected")
    return {name.replace("_", " "): float(source.get(name) or 0) for name in names if source.get(name)}


def memory(run: RunFolder) -> list[Block]:
    """Memory as it was planned, where that was noted, beside what was measured."""
    noted = run.manifest.get("memory")
    found: dict[str, Any] = dict(noted) if isinstance(noted, Mapping) else {}
    peaks = run.ended.get("peak_memory")
    if isinstance(peaks, Mapping) and "measured" not in found:
        found |= {f"measured: peak of the {place}": {"total": size} for place, size in peaks.items()}
    bars: dict[str, Mapping[str, float]] = {}
    for name, value in found.items():
        parts = value if isinstance(value, Mapping) else {str(name): value}
        sizes = {str(part): float(size) / 2**20 for part, size in parts.items() if _is_size(size)}
        if len(sizes) > 1:
            sizes.pop("total", None)  # the bar of its parts is as long
        if sizes:
            bars[str(name)] = sizes
    rest = [(name, value) for name, value in found.items() if str(name) not in bars]
    blocks: list[Block] = [grid(svg.rows("Memory", bars, unit="MiB"))] if bars else []
    return blocks + ([facts(rest)] if rest else [])


def _is_size(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# ---------------------------------------------------------------------------------------------- versions
def versions(run: RunFolder) -> list[Block]:
    """What the run was made with."""
    packages, plugins = run.manifest.get("packages"), run.manifest.get("plugins")
    rows: list[tuple[str, object]] = [
        (name, run.manifest[name]) for name in ("python", "platform") if name in run.manifest
    ]
    rows += list(packages.items()) if isinstance(packages, Mapping) else []
    git = run.manifest.get("git")
    if isinstance(git, Mapping):
        rows.append(("git", f"{git.get('commit', '?')}{'' if git.get('clean') else ', with changes'}"))
    blocks: list[Block] = [facts(rows)] if rows else []
    if isinstance(plugins, list):
        outside = _outside([plugin for plugin in plugins if isinstance(plugin, Mapping)])
        blocks += [table(("plugin", "package", "version", "status"), outside)] if outside else []
    command = run.manifest.get("command")
    if isinstance(command, list):
        blocks.append(details("command", tag("pre", " ".join(map(str, command)))))
    return blocks


def _outside(plugins: Iterable[Mapping[str, Any]]) -> Sequence[Sequence[object]]:
    """Plugins that are not our own, and those that did not load."""
    ours = "tunesmith"
    return [
        [plugin.get(key, "?") for key in ("name", "distribution", "version", "status")]
        for plugin in plugins
        if plugin.get("distribution") != ours or plugin.get("status") != "ok"
    ]
