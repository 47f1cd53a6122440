"""The processes of a run as threads of this one: what they exchange is real, what they cost is not."""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from tunesmith.runner.processes import Processes

T = TypeVar("T")
PATIENCE_S = 60.0


class Meeting:
    """Where so many threads hand over what they have, each at the same time.

    Between two meetings one thread works after the other, as they share this process's random numbers.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.turn = threading.Lock()
        self.barrier = threading.Barrier(count, timeout=PATIENCE_S)
        self._given: list[Any] = [None] * count

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """What everyone has, by rank. Raises `threading.BrokenBarrierError` where another thread has ended."""
        self._given[rank] = value
        self.turn.release()
        try:
            self.barrier.wait()
            everyone = list(self._given)
            self.barrier.wait()
        finally:
            self.turn.acquire()
        return everyone


class ThreadProcesses(Processes):
    """A thread that takes itself for one of several processes.

    Args:
        meeting: of all of them.
        rank: number of this one.
    """

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.count, self.rank = meeting, meeting.count, rank
        self.device = torch.device("cpu")

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum."""
        everyone = self.meeting.exchange(self.rank, list(values))
        return [float(sum(column)) for column in zip(*everyone, strict=True)]

    def gather(self, value: Any) -> list[Any]:
        """Every thread's value, as a copy."""
        return [pickle.loads(own) for own in self.meeting.exchange(self.rank, pickle.dumps(value))]

    def sum_tensors(self, tensors: Iterable[Tensor]) -> None:
        """In place, like between processes."""
        mine = list(tensors)
        everyone = self.meeting.exchange(self.rank, [tensor.clone() for tensor in mine])
        for tensor, *parts in zip(mine, *everyone, strict=True):
            tensor.copy_(torch.stack(parts).sum(0))

    def same(self, module: torch.nn.Module) -> None:
        """Their models are made one by one from one seed."""

    def agree(self, value: Any) -> Any:
        """The first one's value."""
        return self.gather(value)[0]

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Nothing that they could disturb each other with lies on the disk."""
        yield

    def wait(self) -> None:
        """For all of them."""
        self.meeting.exchange(self.rank, None)


class OneProcess(Processes):
    """This process alone, however it was launched."""

    def __init__(self) -> None:
        self.count, self.rank, self.device = 1, 0, torch.device("cpu")

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """It is the first."""
        yield

    def wait(self) -> None:
        """For nobody."""


def together(meeting: Meeting, work: Callable[[int], T]) -> list[T]:
    """Do the work of every rank in a thread of its own; raises what the first that failed raised."""
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def one(rank: int) -> None:
        try:
            with meeting.turn:
                results[rank] = work(rank)
        except BaseException as error:  # handed on to the caller, below
            errors.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(meeting.count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if errors:
        raise (told or errors)[0]
    return [results[rank] for rank in range(meeting.count)]
