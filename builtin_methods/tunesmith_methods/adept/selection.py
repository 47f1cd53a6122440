"""Which layers get a copy."""

from __future__ import annotations

from collections.abc import Sequence


def least_important(importance: Sequence[float], count: int, exclude: Sequence[int] = ()) -> list[int]:
    """The layers of lowest importance; of equal ones the deeper (arXiv:2510.10071).

    >>> least_important([3.0, 0.5, 0.1, 0.7], 2, exclude=[2])
    [1, 3]
    """
    free = [i for i in range(len(importance)) if i not in set(exclude)]
    _check(count, len(free))
    return sorted(sorted(free, key=lambda i: (importance[i], -i))[:count])


def least_important_run(importance: Sequence[float], count: int, exclude: Sequence[int] = ()) -> list[int]:
    """The consecutive layers that are least important together; of equal runs the deeper.

    >>> least_important_run([3.0, 0.1, 0.9, 0.2], 2)
    [2, 3]

    Raises:
        ValueError: so many consecutive layers are not left.
    """
    if count == 0:
        return []
    banned = set(exclude)
    runs = [range(start, start + count) for start in range(len(importance) - count + 1)]
    free = [run for run in runs if not banned.intersection(run)]
    if not free:
        raise ValueError(f"no {count} consecutive layers of {len(importance)} are left after exclude")
    return list(min(free, key=lambda run: (sum(importance[i] for i in run), -run[0])))


def uniform(layers: int, count: int) -> list[int]:
    """The last layer of each of ``count`` groups of equal size, as LLaMA-Pro places them (arXiv:2401.02415).

    >>> uniform(32, 8)
    [3, 7, 11, 15, 19, 23, 27, 31]
    >>> uniform(7, 2)
    [2, 6]
    """
    _check(count, layers)
    return [(group + 1) * layers // count - 1 for group in range(count)]


def top(layers: int, count: int, exclude: Sequence[int] = ()) -> list[int]:
    """The last layers."""
    free = [i for i in range(layers) if i not in set(exclude)]
    _check(count, len(free))
    return free[len(free) - count :]


def _check(count: int, free: int) -> None:
    if count > free:
        raise ValueError(f"{count} layers are to be copied, and there are {free} to choose from")
