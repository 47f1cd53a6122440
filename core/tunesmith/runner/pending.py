"""A batch whose updates were interrupted, in a checkpoint: what was sampled for it is not sampled again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays

from tunesmith.data.trees import Batch, Branch, Tree

ARRAYS, VALUES = "pending.safetensors", "pending.json"


def write_pending(folder: Path, shares: Sequence[Batch]) -> None:
    """Write the shares of all processes as one batch: several in the order of their column ``position``, one as is."""
    trees = [(int(position), tree) for share in shares for position, tree in _placed(share)]
    order = list(range(len(trees)))
    if len(shares) > 1:
        order.sort(key=lambda i: trees[i][0])
    columns = {name: torch.cat([share.columns[name].cpu() for share in shares])[order] for name in shares[0].columns}
    arrays = {f"batch/{name}": column.contiguous().numpy() for name, column in columns.items()}
    listed = []
    for number, i in enumerate(order):
        tree = trees[i][1]
        arrays[f"{number}/trunk"] = tree.trunk
        values = []
        for place, branch in enumerate(tree.branches):
            arrays[f"{number}/{place}/ids"], arrays[f"{number}/{place}/mask"] = branch.ids, branch.mask
            arrays |= {f"{number}/{place}/{name}": column for name, column in branch.columns.items()}
            values.append([branch.value, sorted(branch.columns)])
        listed.append([tree.source, tree.row, tree.margin, tree.about, values])
    save_arrays({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / ARRAYS)
    samples = [sample for share in shares for sample in share.samples]
    content = {"trees": listed, "totals": dict(shares[0].totals), "samples": samples}
    (folder / VALUES).write_text(json.dumps(content, default=str), encoding="utf-8")


def _placed(share: Batch) -> list[tuple[Any, Tree]]:
    return list(zip(share.columns["position"].tolist(), share.trees, strict=True))


def read_pending(folder: Path) -> Batch | None:
    """The whole batch that `write_pending` wrote, or ``None`` where no step was interrupted."""
    if not (folder / VALUES).exists():
        return None
    arrays = load_arrays(folder / ARRAYS)
    content = json.loads((folder / VALUES).read_text(encoding="utf-8"))
    trees = []
    for number, (source, row, margin, about, values) in enumerate(content["trees"]):
        branches = []
        for place, (value, names) in enumerate(values):
            at = f"{number}/{place}"
            own = {name: arrays[f"{at}/{name}"] for name in names}
            branches.append(Branch(arrays[f"{at}/ids"], arrays[f"{at}/mask"], value, own))
        trees.append(Tree(arrays[f"{number}/trunk"], tuple(branches), source, row, margin, about))
    columns = {
        name.removeprefix("batch/"): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith("batch/")
    }
    return Batch(trees, columns, content["totals"], content["samples"])
