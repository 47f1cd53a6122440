"""The processes of a run, through accelerate: one on a laptop, many under torchrun.

Every process draws the same batch and takes its share of it; sums over processes are the only exchange.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.data.trees import Tree
from tunesmith.errors import ConfigError


class Processes:
    """This process and its peers."""

    def __init__(self, device: torch.device) -> None:
        from accelerate import PartialState
        from accelerate.utils import DistributedType

        self.state = PartialState(cpu=device.type == "cpu")
        plain = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
        if self.state.distributed_type not in plain:
            raise ConfigError(
                f"launched for {self.state.distributed_type}, which is not supported",
                fix="start with torchrun --nproc_per_node N -m tunesmith run ... (data parallel)",
            )
        self.device, self.count, self.rank = device, self.state.num_processes, self.state.process_index

    @property
    def main(self) -> bool:
        """True on the process that writes files and prints."""
        return bool(self.rank == 0)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over processes, in float64."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return tensor.tolist()

    def sum_named(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums by name over processes, each of which may have other names."""
        everyone = self.gather(dict(values))
        names = sorted({name for one in everyone for name in one})
        return {name: sum(one.get(name, 0.0) for one in everyone) for name in names}

    def max_named(self, values: Mapping[str, float]) -> dict[str, float]:
        """The largest of every name over processes, each of which may have other names."""
        everyone = self.gather(dict(values))
        names = sorted({name for one in everyone for name in one})
        return {name: max(one[name] for one in everyone if name in one) for name in names}

    def union(self, sets: Sequence[Iterable[str]]) -> list[list[str]]:
        """For every set, the names that it has on any process, in an order that all share."""
        everyone = self.gather([list(names) for names in sets])
        return [sorted({name for own in everyone for name in own[i]}) for i in range(len(sets))]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, on every process."""
        if self.count == 1:
            return [value]
        everyone: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(everyone, value)
        return everyone

    def sum_tensors(self, tensors: Iterable[Tensor]) -> None:
        """In place: sum of every tensor over processes, many small ones in one exchange."""
        if self.count == 1:
            return
        for bucket in _buckets(list(tensors)):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            torch.distributed.all_reduce(flat)
            for tensor, summed in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def share(self, trees: Sequence[Tree]) -> list[int]:
        """The trees of a batch that this process computes: longest first, each to the least loaded process.

        The same on every process; every process gets at least one tree when there are enough.
        """
        if self.count == 1:
            return list(range(len(trees)))
        load = [0] * self.count
        mine: list[int] = []
        for i in sorted(range(len(trees)), key=lambda i: (-trees[i].num_tokens, i)):
            rank = min(range(self.count), key=lambda r: (load[r], r))
            load[rank] += trees[i].num_tokens
            if rank == self.rank:
                mine.append(i)
        return sorted(mine)

    def same(self, module: nn.Module) -> None:
        """Raises `RuntimeError` unless all processes hold the same trained weights."""
        if self.count == 1:
            return
        parts = [p.detach().double().abs().sum() for p in module.parameters() if p.requires_grad]
        mine = torch.stack(parts)
        first = mine.clone()
        torch.distributed.broadcast(first, 0)
        if not torch.equal(mine, first):
            raise RuntimeError(f"process {self.rank} started from other weights than process 0")

    def agree(self, value: Any) -> Any:
        """The main process's value, on every process."""
        if self.count == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, 0)
        return box[0]

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process does the block before the others, which then find its files."""
        with self.state.main_process_first():
            yield

    def wait(self) -> None:
        """Wait for all processes."""
        self.state.wait_for_everyone()


def _buckets(tensors: list[Tensor], limit: int = 32 << 20) -> Iterator[list[Tensor]]:
    """Consecutive tensors of one dtype, up to ``limit`` bytes together."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        grows = tensor.numel() * tensor.element_size()
        if bucket and (size + grows > limit or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += grows
    if bucket:
        yield bucket
