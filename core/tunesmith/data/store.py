"""Trees in flat arrays on disk, read by memory map.

A folder holds one ``.npy`` file per array (no pickle) and ``meta.json``, which is written last. Folders are written
under another name and renamed, so a folder that exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from tunesmith.data.trees import Branch, Ids, Mask, Tree
from tunesmith.errors import ResourceError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
FLUSH = 1 << 20
"""Tokens that are kept in memory before they are written."""


@dataclass(frozen=True, slots=True)
class Store:
    """n trees with T tokens and b branches in all.

    Attributes:
        ids: ``[T]`` int32, the tokens of the trees one after another, each as its trunk and then its branches.
        mask: ``[T]`` True where a token is trained on.
        lengths: ``[n]`` int64, tokens of each tree.
        trunks: ``[n]`` int64, tokens of its trunk.
        counts: ``[n]`` int64, its branches.
        branches: ``[b]`` int64, tokens of each branch.
        scored: ``[n]`` int64, tokens of the tree that are trained on.
        rows: ``[n]`` int64, the row of the source that the tree was made of.
        keys: ``[n]`` uint64, the hash of what that row says.
        values: ``[b]`` float64, what the row says of each branch.
        margins: ``[n]`` float64, the margin of each tree.
        about: ``[B]`` uint8, `Tree.about` of the trees as JSON, one after another.
        notes: ``[n]`` int64, bytes of it of each tree.
    """

    ids: Ids
    mask: Mask
    lengths: Ints
    trunks: Ints
    counts: Ints
    branches: Ints
    scored: Ints
    rows: Ints
    keys: npt.NDArray[np.uint64]
    values: Floats
    margins: Floats
    about: npt.NDArray[np.uint8]
    notes: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, indices: Ints) -> Store:
        """The trees at these positions, copied into memory."""
        starts, firsts = ends(self.lengths) - self.lengths, ends(self.counts) - self.counts
        tokens = _ranges(starts[indices], self.lengths[indices])
        branches = _ranges(firsts[indices], self.counts[indices])
        notes = _ranges(ends(self.notes)[indices] - self.notes[indices], self.notes[indices])
        per_tree = ("lengths", "trunks", "counts", "scored", "rows", "keys", "margins", "notes")
        chosen = {name: np.array(getattr(self, name)[indices]) for name in per_tree}
        return Store(
            ids=np.array(self.ids[tokens]),
            mask=np.array(self.mask[tokens]),
            branches=np.array(self.branches[branches]),
            values=np.array(self.values[branches]),
            about=np.array(self.about[notes]),
            **chosen,
        )


class Reader:
    """Makes trees of a store's arrays."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._ends, self._branch_ends, self._note_ends = ends(store.lengths), ends(store.counts), ends(store.notes)

    def tree(self, i: int, source: int) -> Tree:
        """The tree at position ``i``; its arrays are copies that may be written to."""
        store = self.store
        stop, length = int(self._ends[i]), int(store.lengths[i])
        ids, mask = np.array(store.ids[stop - length : stop]), np.array(store.mask[stop - length : stop])
        last, count = int(self._branch_ends[i]), int(store.counts[i])
        at = int(store.trunks[i])
        trunk, branches = ids[:at], []
        own = slice(last - count, last)
        for size, value in zip(store.branches[own].tolist(), store.values[own].tolist(), strict=True):
            branches.append(Branch(ids[at : at + size], mask[at : at + size], value))
            at += size
        end, size = int(self._note_ends[i]), int(store.notes[i])
        about = json.loads(store.about[end - size : end].tobytes()) if size else None
        return Tree(trunk, tuple(branches), source, int(store.rows[i]), float(store.margins[i]), about)


def ends(lengths: Ints) -> Ints:
    """Where each of consecutive pieces ends."""
    return np.cumsum(lengths, dtype=np.int64)


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """``starts[0], starts[0]+1, ...`` for each piece, one after another."""
    total = int(lengths.sum())
    offsets = np.arange(total, dtype=np.int64) - np.repeat(ends(lengths) - lengths, lengths)
    return np.repeat(starts, lengths) + offsets


def concatenate(stores: Sequence[Store]) -> Store:
    """One store, in memory, of several."""
    names = [item.name for item in fields(Store)]
    return Store(**{name: np.concatenate([getattr(store, name) for store in stores]) for name in names})


# ---------------------------------------------------------------------------------------------- writing
OTHERS: Mapping[str, Any] = {
    "ids": np.int32,
    "mask": np.bool_,
    "keys": np.uint64,
    "values": np.float64,
    "margins": np.float64,
    "about": np.uint8,
}
DTYPES: Mapping[str, Any] = {item.name: OTHERS.get(item.name, np.int64) for item in fields(Store)}


class _Array:
    """A one-dimensional ``.npy`` file that grows; its header is written again when the length is known."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.dtype, self.count, self.digest = np.dtype(dtype), 0, hashlib.sha256()
        self.stream: BinaryIO = open(path, "wb")  # noqa: SIM115  (closed by `StoreWriter`)
        self._header()
        self._start = self.stream.tell()

    def _header(self) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(self.stream, header)  # pads, so that the shape may grow in place

    def append(self, values: npt.NDArray[Any]) -> None:
        data = np.ascontiguousarray(values, dtype=self.dtype).tobytes()
        self.stream.write(data)
        self.digest.update(data)
        self.count += len(values)

    def finish(self) -> None:
        self.stream.seek(0)
        self._header()
        assert self.stream.tell() == self._start, "the header has outgrown its padding"
        self.stream.flush()
        os.fsync(self.stream.fileno())


class StoreWriter:
    """Writes a store beside its final place; leaving the ``with`` block without `finish` removes what was written.

    Args:
        target: the folder to make, or ``None`` for a store that is only kept in memory.

    Raises:
        ResourceError: the disk refuses.
    """

    def __init__(self, target: Path | None) -> None:
        self.target = target
        self._pending: dict[str, list[Any]] = {name: [] for name in DTYPES}
        self._tokens = 0
        try:
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.parent if target else None
            self.folder = Path(tempfile.mkdtemp(prefix=".tokens-", dir=beside))
            self.arrays = {name: _Array(self.folder / f"{name}.npy", dtype) for name, dtype in DTYPES.items()}
        except OSError as error:
            raise _refused(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for array in self.arrays.values():
            array.stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, trees: Iterable[Tree], key: int) -> None:
        """Append the trees of one row whose content has this hash."""
        pending = self._pending
        for tree in trees:
            pending["ids"] += [tree.trunk, *(branch.ids for branch in tree.branches)]
            pending["mask"].append(np.zeros(len(tree.trunk), dtype=np.bool_))
            pending["mask"] += [branch.mask for branch in tree.branches]
            pending["lengths"].append(tree.num_tokens)
            pending["trunks"].append(len(tree.trunk))
            pending["counts"].append(len(tree.branches))
            pending["branches"] += [len(branch) for branch in tree.branches]
            pending["scored"].append(tree.num_scored)
            pending["rows"].append(tree.row)
            pending["keys"].append(key)
            pending["values"] += [branch.value for branch in tree.branches]
            pending["margins"].append(tree.margin)
            note = json.dumps(tree.about).encode() if tree.about is not None else b""
            pending["about"].append(np.frombuffer(note, dtype=np.uint8))
            pending["notes"].append(len(note))
            self._tokens += tree.num_tokens
        if self._tokens >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        try:
            for name, values in self._pending.items():
                if values:
                    arrays = name in ("ids", "mask", "about")
                    flat = np.concatenate(values) if arrays else np.array(values, dtype=DTYPES[name])
                    self.arrays[name].append(flat)
                    values.clear()
        except OSError as error:
            raise _refused(error) from None
        self._tokens = 0

    def finish(self, meta: Mapping[str, Any]) -> tuple[Store, str]:
        """Complete the folder and give it its name; return the store and a hash of its content."""
        self._flush()
        digest = hashlib.sha256()
        for name, array in self.arrays.items():
            digest.update(f"{name} {array.count} {array.digest.hexdigest()}\n".encode())
        sizes = {name: array.count for name, array in self.arrays.items()}
        whole = {**meta, "digest": digest.hexdigest(), "sizes": sizes}
        try:
            for array in self.arrays.values():
                array.finish()
                array.stream.close()
            (self.folder / "meta.json").write_text(json.dumps(whole, default=str), encoding="utf-8")
            if self.target is None:
                return _arrays(self.folder, mapped=False), digest.hexdigest()
            self._rename(self.target)
        except OSError as error:
            raise _refused(error) from None
        return _arrays(self.target, mapped=True), digest.hexdigest()

    def _rename(self, target: Path) -> None:
        try:
            os.replace(self.folder, target)
        except OSError:
            if open_store(target) is not None:  # another process was faster
                return
            shutil.rmtree(target, ignore_errors=True)
            os.replace(self.folder, target)


def _refused(error: OSError) -> ResourceError:
    return ResourceError(
        "cannot write the tokenised rows",
        where=error.filename,
        why=error.strerror or str(error),
        fix="free some space, or set TUNESMITH_CACHE to a folder on another disk",
    )


# ---------------------------------------------------------------------------------------------- reading
def open_store(folder: Path) -> tuple[Store, dict[str, Any]] | None:
    """The store in a folder and its ``meta.json``, or ``None`` when there is none or it is damaged."""
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        store = _arrays(folder, mapped=True)
    except (OSError, ValueError, EOFError):
        return None
    found = {name: len(getattr(store, name)) for name in DTYPES}
    return (store, meta) if meta.get("sizes") == found else None


def _arrays(folder: Path, *, mapped: bool) -> Store:
    return Store(**{name: _array(folder / f"{name}.npy", dtype, mapped) for name, dtype in DTYPES.items()})


def _array(path: Path, dtype: Any, mapped: bool) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = np.load(path, allow_pickle=False)[:0] if _empty(path) else _loaded(path, mapped)
    if values.dtype != np.dtype(dtype) or values.ndim != 1:
        raise ValueError(f"{path} holds {values.dtype}, not {np.dtype(dtype)}")
    return values


def _loaded(path: Path, mapped: bool) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    return values


def _empty(path: Path) -> bool:
    """An empty array cannot be mapped."""
    with open(path, "rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, _ = np.lib.format.read_array_header_1_0(stream)
    return shape == (0,)
