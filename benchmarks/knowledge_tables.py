"""The tables of `knowledge.py`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from knowledge_runs import Outcome


@dataclass(frozen=True, slots=True)
class Row:
    """What came of a side on a seed and a domain."""

    seed: int
    domain: str
    side: str
    outcome: Outcome

    def line(self) -> str:
        """In short, for those who wait."""
        found = self.outcome
        return (
            f"domain {found.domain_before:.3f} -> {found.domain_after:.3f}, forgetting {found.forgetting:+.3f}, "
            f"{found.cpu_seconds:.0f} s, {found.micros:.0f} us/token, {found.memory:.0f} MB"
        )


def all_tables(rows: Sequence[Row], timed: str) -> str:
    """A table of means and one of every seed for each domain.

    Args:
        rows: of all seeds.
        timed: the side that times of steps are compared with; it has no losses to show.
    """
    parts = []
    for domain in dict.fromkeys(row.domain for row in rows):
        own = [row for row in rows if row.domain == domain]
        parts += [f"{domain}: means over seeds", means(own, timed), f"{domain}: every seed", every_seed(own, timed)]
    return "\n\n".join(parts)


def means(rows: Sequence[Row], timed: str) -> str:
    """One line a side; step times relative to those of ``timed`` on the same seed, on any domain."""
    heads = ["side", "domain loss", "general loss", "forgetting", "trained", "tokens", "CPU s, whole run"]
    heads += ["time per token", "peak MB"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for side, outcomes in _by_side(rows).items():
        found = list(outcomes.values())
        losses = (
            ["", "", ""]
            if side == timed
            else [
                f"{_mean(found, lambda o: o.domain_after):.3f}",
                f"{_mean(found, lambda o: o.general_after):.3f}",
                f"{_mean(found, lambda o: o.forgetting):+.3f}",
            ]
        )
        cells = [
            side,
            *losses,
            f"{100 * _mean(found, lambda o: o.trained / o.parameters):.1f}%",
            f"{_mean(found, lambda o: o.tokens):,.0f}",
            f"{_mean(found, lambda o: o.cpu_seconds):.1f}",
            _relative(rows, side, timed),
            f"{_mean(found, lambda o: o.memory):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def every_seed(rows: Sequence[Row], timed: str) -> str:
    """Domain loss and forgetting of every seed; before: of the model that all start from."""
    seeds = sorted({row.seed for row in rows})
    heads = ["side", *(f"seed {seed}: domain loss, forgetting" for seed in seeds)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    sides = _by_side(rows)
    sides.pop(timed, None)
    start = next(iter(sides.values()))
    lines.append(f"| before | {' | '.join(f'{start[seed].domain_before:.3f}' for seed in seeds)} |")
    for side, outcomes in sides.items():
        cells = [f"{outcomes[seed].domain_after:.3f}, {outcomes[seed].forgetting:+.3f}" for seed in seeds]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


def times(rows: Sequence[Row], timed: str) -> str:
    """Time of the median step per token, and memory."""
    lines = ["| side | trained | us of CPU time per token | time per token | peak MB |", "|---|---|---|---|---|"]
    for side, outcomes in _by_side(rows).items():
        (found,) = outcomes.values()
        share = f"{100 * found.trained / found.parameters:.1f}%"
        ratio = found.micros / _by_side(rows)[timed][min(outcomes)].micros
        lines.append(f"| {side} | {share} | {found.micros:.0f} | {ratio:.2f} | {found.memory:.0f} |")
    return "\n".join(lines)


def _by_side(rows: Sequence[Row]) -> dict[str, dict[int, Outcome]]:
    found: dict[str, dict[int, Outcome]] = {}
    for row in rows:
        found.setdefault(row.side, {})[row.seed] = row.outcome
    return found


def _mean(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> float:
    return statistics.mean(map(value, outcomes))


def _relative(rows: Sequence[Row], side: str, timed: str) -> str:
    """Median (least to most) over the seeds of the time per token in relation to that of ``timed``."""
    sides = _by_side(rows)
    if timed not in sides:
        return ""
    ratios = [outcome.micros / sides[timed][seed].micros for seed, outcome in sides[side].items()]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
