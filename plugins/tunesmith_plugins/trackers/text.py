"""Numbers, durations, metric lines and sparklines as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

BLOCKS = "".join(map(chr, range(0x2581, 0x2589)))
"""Eight blocks of rising height."""
ASCII_BLOCKS = "_.,-=+*#"
NOT_FINITE = "!"


def number(value: float) -> str:
    """Three decimals where that is readable, else three digits; 0, nan and inf as what they are."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3f}" if 0.1 <= abs(value) < 10_000 else f"{value:.3g}"


def digits(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def whole(value: float) -> str:
    """A whole number with thousands separated."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """A count in a few characters: 9,500, 12.5k, 3.1M."""
    if value < 10_000:
        return whole(value)
    size, unit = next((size, unit) for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")) if value >= size)
    return f"{value / size:.1f}{unit}"


def duration(seconds: float) -> str:
    """Two units at most: 45s, 1m20s, 2h05m, 3d04h."""
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{secs:02}s" if minutes else f"{secs}s"


SHOWN: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "loss": ("loss", number),
    "grad_norm": ("grad_norm", digits),
    "learning_rate": ("lr", digits),
    "tokens_per_s": ("tokens/s", whole),
}
"""Metrics of a training step in the order they are shown: name, short name, format."""
COUNTERS = frozenset({"epoch", "num_tokens", "num_trained_tokens", "step_s", "policy_loss", "approx_kl"})
REWARD = "reward"
"""Metric of runs that sample: of them `SAMPLED` are shown, most telling first, and those that a method adds."""
SAMPLED = {
    "reward": "reward",
    "reward_std": "std",
    "frac_reward_zero_std": "equal_groups",
    "pass_at_k": "pass@k",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "cut_off",
    "entropy": "entropy",
}
UNTOLD = frozenset({"pass_at_1", "kl_per_answer", "value_clip_ratio", "returns/mean"})
"""Those that say again what another says."""


def is_training(metrics: Mapping[str, float]) -> bool:
    """True for the metrics of an optimizer step, False for those of an evaluation."""
    return "loss" in metrics


HEADLINES = ("rewards/accuracies", "rewards/margins")
"""Metrics with a slash that say whether a run works."""


def extras(metrics: Mapping[str, float]) -> dict[str, float]:
    """The method's own headline metrics. Other names with a slash are details, which the run's metrics.jsonl keeps."""
    own = [key for key in metrics if key not in SHOWN and key not in COUNTERS and "/" not in key]
    if REWARD in metrics:
        first = {label: metrics[key] for key, label in SAMPLED.items() if key in metrics}
        return first | {key: metrics[key] for key in own if key not in SAMPLED and key not in UNTOLD}
    return {key: metrics[key] for key in [*own, *HEADLINES] if key in metrics}


def fields(metrics: Mapping[str, float]) -> list[str]:
    """``name value`` of the metrics that are worth a place in a line."""
    if not is_training(metrics):
        return [f"{name} {number(value)}" for name, value in metrics.items()]
    known = [f"{label} {show(metrics[key])}" for key, (label, show) in SHOWN.items() if key in metrics]
    return known + [f"{name} {number(value)}" for name, value in extras(metrics).items()]


def line(step: int, total: int, metrics: Mapping[str, float], left: float | None = None) -> str:
    """One line for one step (or for an evaluation at that step); ``left`` is the time left in seconds."""
    tail = [] if left is None else [f"left {duration(left)}"]
    return "  ".join([f"step {step}/{total}", *fields(metrics), *tail])


def all_finite(metrics: Mapping[str, float]) -> bool:
    """False when any of the metrics is nan or infinite."""
    return all(math.isfinite(value) for value in metrics.values())


class Sparkline:
    """The course of a value over a whole run in a fixed number of cells; each cell is a mean of equally many steps.

    Args:
        cells: even; when all are full, neighbours are merged.
    """

    def __init__(self, cells: int = 40) -> None:
        self._cells = cells
        self._steps_per_bin = 1
        self._bins: list[tuple[float, int]] = []

    def add(self, value: float) -> None:
        """Take the next step's value."""
        if self._bins and self._bins[-1][1] < self._steps_per_bin:
            total, count = self._bins[-1]
            self._bins[-1] = (total + value, count + 1)
            return
        if len(self._bins) == self._cells:
            pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
            self._bins = [(a + c, b + d) for (a, b), (c, d) in pairs]
            self._steps_per_bin *= 2
        self._bins.append((value, 1))

    def text(self, blocks: str = BLOCKS) -> str:
        """Cells scaled between the smallest and the largest; a cell with a value that is not finite is ``!``."""
        means = [total / count for total, count in self._bins]
        finite = [mean for mean in means if math.isfinite(mean)]
        low, high = min(finite, default=0.0), max(finite, default=0.0)
        scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
        return "".join(blocks[round((mean - low) * scale)] if math.isfinite(mean) else NOT_FINITE for mean in means)


class Pace:
    """Time left, from the mean time per step since the first step of this start (evaluations included)."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._first: tuple[int, float] | None = None

    def left(self, step: int, now: float, step_s: float | None) -> float | None:
        """Seconds left after a step that ended at ``now``; ``step_s`` stands in before there is anything to average.

        ``None`` when that is unknown, and after the last step.
        """
        self._first = self._first or (step, now)
        first_step, start = self._first
        per_step = (now - start) / (step - first_step) if step > first_step else step_s
        return None if per_step is None or step >= self._total else per_step * (self._total - step)
