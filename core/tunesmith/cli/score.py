"""``tunesmith score``: what rewards say of completions, without training anything."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.sandbox import unsandboxed_option
from tunesmith.cli.sources import data_spec
from tunesmith.errors import ConfigError, RewardError

if TYPE_CHECKING:
    from tunesmith.components import Reward
    from tunesmith.plugins import Registry
    from tunesmith.rollout.completions import Candidate
    from tunesmith.rollout.summary import Agreement, Judged, Wins

FAILURES = ("timeout", "error", "infrastructure")
SHOWN_CHARACTERS = 400
"""Of a prompt and of a completion that ``--worst`` and ``--best`` print."""


@click.command()
@click.argument("words", metavar="REWARD...", nargs=-1, required=True)
@click.option("--data", "data", metavar="DATA", required=True, help="Rows with completions, or the folder of a run.")
@click.option("--format", metavar="NAME", help="Row format; found by looking at the rows when not given.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Judge at most this many rows.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes that judge.")
@click.option("--worst", type=click.IntRange(min=1), metavar="N", help="Show the N completions with the least reward.")
@click.option("--best", type=click.IntRange(min=1), metavar="N", help="Show the N completions with the most reward.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with every score and state.")
@unsandboxed_option
@plugin_options
def score(words: tuple[str, ...], data: str, as_json: bool, **options: Any) -> None:
    """Judge completions with rewards.

    REWARD is a name, {name: ..., settings}, the folder of a reward model, or file.py:function. A row has a prompt and
    a completion or several, a pair of a better and a worse answer, or messages; its other columns are what rewards
    compare with. The samples of a run are judged anew without generating anything.

    A completion on which a reward fails is counted, and the others are judged all the same. Exit code 6 when a reward
    could judge none of them.
    """
    from tunesmith.rollout.completions import candidates, samples_file
    from tunesmith.rollout.panel import missing_columns

    registry = load_registry()
    rewards = [reward_of(registry, word) for word in words]
    spec = data_spec(registry, samples_file(data), options["columns"], options["format"])
    found = candidates(spec, registry, options["limit"])
    missing_columns(rewards, list(dict.fromkeys(name for one in found for name in one.rollout.columns)))
    judged = _judge(rewards, found, options["workers"])
    report = _Report(found, judged)
    if as_json:
        terminal.print_json(report.as_dict())
    else:
        click.echo("\n".join(report.lines()))
        for title, count, sign in (("least", options["worst"], 1), ("most", options["best"], -1)):
            if count:
                click.echo("\n".join(["", *report.examples(title, count, sign, rewards)]))
    useless = [one.label for one in judged if not one.numbers and one.share("abstained") < 1]
    if useless:
        click.echo(f"no completion could be judged by: {', '.join(useless)}", err=True)
        click.get_current_context().exit(RewardError.exit_code)


def reward_of(registry: Registry, word: str) -> Reward:
    """The reward that a word of the command line means."""
    from tunesmith.config import build
    from tunesmith.runfile import parse_value

    written_out = word.lstrip().startswith("{")
    spec = parse_value(word) if written_out else word
    if written_out and not isinstance(spec, Mapping):
        raise ConfigError(f"{word!r} is not valid YAML", fix="write {name: REWARD, setting: value}, in quotes")
    return cast("Reward", build(registry, "reward", spec))


def _judge(rewards: Sequence[Reward], found: Sequence[Candidate], workers: int | None) -> list[Judged]:
    """One reward after the other, so that each one's time is its own; failures are counted and stop nothing."""
    from tunesmith.rollout.lenient import LenientPanel
    from tunesmith.rollout.panel import labels_of
    from tunesmith.rollout.summary import Judged

    rollouts = [one.rollout for one in found]
    shortest = min(rollouts, key=lambda rollout: len(rollout.text))
    judged = []
    for label, reward in zip(labels_of(rewards), rewards, strict=True):
        with LenientPanel(reward, workers) as panel:
            panel.judge([shortest])  # loads what it needs, which is not the time of a completion
            start = time.perf_counter()
            verdicts = panel.judge(rollouts)
            judged.append(Judged(label, verdicts, time.perf_counter() - start))
    return judged


# ---------------------------------------------------------------------------------------------- report
class _Report:
    """What is printed about completions and verdicts."""

    def __init__(self, found: Sequence[Candidate], judged: Sequence[Judged]) -> None:
        from tunesmith.rollout.summary import agreement, wins

        self.found, self.judged = found, judged
        groups, values = [one.group for one in found], [one.value for one in found]
        self.wins: dict[str, Wins] = {}
        for one in judged:
            known = wins(one.scores, values, groups)
            if known is not None:
                self.wins[one.label] = known
        self.agreements: list[Agreement] = [
            agreement(a.label, a.scores, b.label, b.scores, groups) for a, b in combinations(judged, 2)
        ]

    def as_dict(self) -> dict[str, Any]:
        from dataclasses import asdict

        return {
            "schema": 1,
            "where": [one.where for one in self.found],
            "rewards": [one.as_dict() for one in self.judged],
            "agreement": [asdict(one) for one in self.agreements],
            "preferences": {label: asdict(one) for label, one in self.wins.items()},
            "recorded": {label: {"same": same, "of": len(all_)} for label, all_, same, _ in self._recorded()},
        }

    def lines(self) -> list[str]:
        blocks = [self._table(), self._failures(), self._preferences(), self._agreement(), self._noted()]
        return "\n\n".join("\n".join(block) for block in blocks if block).splitlines()

    def _table(self) -> list[str]:
        from tunesmith.rollout.summary import histogram

        states = ["abstained", *(state for state in FAILURES if any(one.share(state) for one in self.judged))]
        header = ("reward", "completions", "mean", "std", "min", "max", *states, "ms each", "histogram")
        rows = []
        for one in self.judged:
            facts = one.as_dict()
            moments = [_number(facts[key]) for key in ("mean", "std", "min", "max")]
            shares = [_share(one.share(state)) for state in states]
            each = f"{facts['ms_per_completion']:.2f}"
            rows.append((one.label, f"{len(one.verdicts):,}", *moments, *shares, each, histogram(one.numbers)))
        return terminal.table(rows, header=header, wrap=0)

    def _failures(self) -> list[str]:
        """The first failure of each kind of each reward."""
        from tunesmith.data.report import printable

        lines = []
        for one in self.judged:
            for state in FAILURES:
                first = one.first(state)
                if first:
                    count = sum(verdict.state == state for verdict in one.verdicts)
                    index, why = first
                    many = "1 completion" if count == 1 else f"{count:,} completions, first"
                    text = f"{one.label}: {state} on {many} at {self.found[index].where}: {why or '-'}"
                    lines.append(click.style(printable(text, 400), fg="red"))
        return lines

    def _preferences(self) -> list[str]:
        rows = [(label, f"{one.pairs:,}", _share(one.right), _share(one.ties)) for label, one in self.wins.items()]
        return terminal.table(rows, header=("reward", "pairs", "prefers the better one", "ties"), wrap=0)

    def _agreement(self) -> list[str]:
        rows = [
            (
                f"{one.first}, {one.second}",
                f"{one.both:,}",
                _number(one.correlation),
                _share(one.equal),
                _share(one.same_order) + (f" of {one.pairs:,}" if one.pairs else ""),
            )
            for one in self.agreements
        ]
        header = ("rewards", "both scored", "correlation", "equal scores", "same order in pairs")
        return terminal.table(rows, header=header, wrap=0)

    def _noted(self) -> list[str]:
        lines = []
        for label, known, same, differs in self._recorded():
            text = f"{label}: {same:,} of {len(known):,} scores are those that the run recorded"
            lines.append(text + (f"; another one first at {differs}" if differs else ""))
        return lines

    def _recorded(self) -> Iterator[tuple[str, list[int], int, str]]:
        """Label, completions that both scored, how many alike, and where they first differ."""
        from math import isclose

        for one in self.judged:
            both = [
                (i, float(old), new)
                for i, (candidate, new) in enumerate(zip(self.found, one.scores, strict=True))
                if isinstance(old := candidate.recorded.get(one.label), (int, float)) and new is not None
            ]
            if both:
                other = [i for i, old, new in both if not isclose(old, new, abs_tol=1e-6)]
                yield one.label, [i for i, *_ in both], len(both) - len(other), self._where(other)

    def _where(self, indices: Sequence[int]) -> str:
        return self.found[indices[0]].where if indices else ""

    def examples(self, title: str, count: int, sign: int, rewards: Sequence[Reward]) -> list[str]:
        """The completions with the least or the most weighted sum of scores, of those that no reward failed on."""
        sums: list[tuple[float, int]] = []
        for i in range(len(self.found)):
            verdicts = [one.verdicts[i] for one in self.judged]
            known = [
                v.score * reward.weight for v, reward in zip(verdicts, rewards, strict=True) if v.score is not None
            ]
            if known and not any(verdict.state in FAILURES for verdict in verdicts):
                sums.append((sign * sum(known), i))
        chosen = [i for _, i in sorted(sums)[:count]]
        lines = [click.style(f"{title} reward", bold=True)]
        for i in chosen:
            lines += self._example(i)
        return lines

    def _example(self, index: int) -> list[str]:
        from tunesmith.data.report import printable

        one = self.found[index]
        scores = ", ".join(f"{judged.label} {_number(judged.scores[index])}" for judged in self.judged)
        prompt = (
            one.rollout.prompt if isinstance(one.rollout.prompt, str) else str(one.rollout.prompt[-1].get("content"))
        )
        parts = {"prompt": prompt[-SHOWN_CHARACTERS:], "answer": one.rollout.text[-SHOWN_CHARACTERS:]}
        lines = [f"  {click.style(printable(one.where), fg='cyan')}  {scores}"]
        lines += [
            terminal.paragraph(printable(text) or "(empty)", indent=12, first=f"    {name:<8}")
            for name, text in parts.items()
        ]
        return lines


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def _share(value: float | None) -> str:
    """A share in percent; ``<1%`` is not nothing, and ``>99%`` is not everything."""
    if value is None:
        return "-"
    if 0 < value < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= value < 1 else f"{value:.0%}"
