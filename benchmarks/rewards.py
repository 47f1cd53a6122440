"""How fast rewards judge: answers or programs a second, on one core.

python benchmarks/rewards.py [--only math|sandbox] [--repeats 3]
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import click
from programs import run_sandbox

THINKING = "<think>" + "First the terms are put in order, then like ones are added up. " * 30 + "</think>"
"""About as long as the reasoning of a small model."""
KINDS = {
    "whole numbers": lambda draw: _pair(draw.randrange(10**6), str, str),
    "thousands apart": lambda draw: _pair(draw.randrange(10**6), str, "{:,}".format),
    "fractions": lambda draw: _pair(draw.randrange(1, 999), "{}/7".format, r"\frac{{{}}}{{7}}".format),
    "decimals": lambda draw: _pair(draw.randrange(10**6), lambda n: f"{n}/1000", lambda n: f"{n / 1000:.3f}"),
    "the same LaTeX": lambda draw: _pair(draw.randrange(10**6), r"{}\sqrt{{3}}".format, r"{}\sqrt{{3}}".format),
    "other LaTeX": lambda draw: _pair(
        draw.randrange(2, 10**4), r"{}\sqrt{{3}}".format, lambda n: rf"\sqrt{{{3 * n * n}}}"
    ),
    "polynomials": lambda draw: _pair(draw.randrange(2, 10**4), _expanded, "(x+{})^2".format),
}
Pair = tuple[str, str, bool]


def _expanded(a: int) -> str:
    return f"x^2+{2 * a}x+{a * a}"


def _pair(number: int, gold: Callable[[int], str], answer: Callable[[int], str]) -> Pair:
    """A gold answer and one that is right for even numbers."""
    right = number % 2 == 0
    return gold(number), answer(number if right else number + 1), right


def math_rows(count: int, repeats: int) -> list[Sequence[str]]:
    """CPU time of `math`, of math-verify as it comes, and what a panel of one worker does by the clock."""
    rows = []
    for kind, make in KINDS.items():
        size = count if kind not in ("the same LaTeX", "other LaTeX", "polynomials") else count // 10
        ours, theirs, wrong = [], [], 0
        for repeat in range(repeats):
            draw = random.Random(repeat)
            pairs = [make(draw) for _ in range(size)]
            seconds, missed = judged(pairs)
            ours.append(size / seconds)
            wrong += missed
            theirs.append(len(pairs[:100]) / verified(pairs[:100]))
        cells = [f"{statistics.median(each):,.0f}" for each in (ours, theirs)]
        rows.append((kind, *cells, f"{panelled(kind, size):,.0f}", str(wrong)))
    return rows


def judged(pairs: Sequence[Pair]) -> tuple[float, int]:
    """Seconds of CPU time of the reward, and how many verdicts are not what they should be."""
    from tunesmith_rewards.math import Math

    reward = Math()
    reward.warm()
    rollouts = [_rollout(pair) for pair in pairs]
    start = time.process_time()
    scores = reward(rollouts)
    seconds = time.process_time() - start
    return seconds, sum(score != float(right) for score, (_, _, right) in zip(scores, pairs, strict=True))


def verified(pairs: Sequence[Pair]) -> float:
    """Seconds of CPU time of math-verify on the same texts without the reasoning."""
    import math_verify

    start = time.process_time()
    for gold, answer, _ in pairs:
        parsed = [math_verify.parse(text, parsing_timeout=None) for text in (f"${gold}$", rf"$\boxed{{{answer}}}$")]
        math_verify.verify(*parsed, timeout_seconds=None)
    return time.process_time() - start


def panelled(kind: str, size: int) -> float:
    """Answers a second by the clock when one worker of a panel judges."""
    from tunesmith.rollout.panel import Panel
    from tunesmith_rewards.math import Math

    draw = random.Random(99)
    rollouts = [_rollout(KINDS[kind](draw)) for _ in range(size)]
    with Panel([Math()], workers=1) as panel:
        panel.judge([_rollout(KINDS[kind](random.Random(k))) for k in range(20)])
        start = time.perf_counter()
        panel.judge(rollouts)
        return size / (time.perf_counter() - start)


def _rollout(pair: Pair):
    from tunesmith import Rollout

    gold, answer, _ = pair
    return Rollout("What is it?", rf"{THINKING}So it is $\boxed{{{answer}}}$.", {"answer": gold})


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as Markdown."""
    click.echo(f"\n{title}\n")
    click.echo("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        click.echo("| " + " | ".join(row) + " |")


def run_math(repeats: int) -> None:
    """The table of `math`."""
    columns = (
        "answers",
        "math, a second of CPU time",
        "math-verify alone",
        "panel of one worker, by the clock",
        "wrong verdicts",
    )
    table("Answers a second", columns, math_rows(2000, repeats))


SECTIONS: Mapping[str, Callable[[int], None]] = {"math": run_math, "sandbox": run_sandbox}


@click.command()
@click.option("--only", type=click.Choice(list(SECTIONS)), help="One section instead of all.")
@click.option("--repeats", default=3, show_default=True, help="Medians are over so many.")
def main(only: str | None, repeats: int) -> None:
    """Measure how fast rewards judge."""
    for name in [only] if only else SECTIONS:
        SECTIONS[name](repeats)


if __name__ == "__main__":
    main()
