"""Checkpoints that a crash cannot spoil: written aside, flushed, renamed, and checked before they are trusted.

A checkpoint is a Hugging Face model folder with a ``trainer/`` folder beside the weights (optimizer states and
random states in safetensors, everything else in JSON; no pickles) and a ``manifest.json`` of sizes and checksums
that is written last.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.runner.randomness import RandomState, restore, snapshot

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d+)")


class Damaged(Exception):
    """A checkpoint whose files are not those of its manifest."""


# ---------------------------------------------------------------------------------------------- folders
def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder aside, add the manifest, flush everything to disk, and rename it into place."""
    aside = target.with_name(f".writing-{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        entries = {str(p.relative_to(aside)): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
        (aside / MANIFEST).write_text(json.dumps({"files": entries}, indent=1), encoding="utf-8")
        for path in [*files, aside / MANIFEST, *(p for p in aside.rglob("*") if p.is_dir()), aside]:
            _flush(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    aside.rename(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> None:
    """Raises `Damaged` with the first file that is missing, cut short or changed."""
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise Damaged(f"its manifest cannot be read ({type(error).__name__})") from None
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{name} is missing")
        if path.stat().st_size != entry["bytes"]:
            raise Damaged(f"{name} has {path.stat().st_size:,} of {entry['bytes']:,} bytes")
        if sha256(path) != entry["sha256"]:
            raise Damaged(f"{name} has changed (checksum)")


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint folder."""
    match = NAME.fullmatch(folder.name)
    assert match is not None, folder
    return int(match[1])


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, the newest first; complete or not."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; says which ones it passes over."""
    for path in checkpoints(folder):
        try:
            verify(path)
        except Damaged as damage:
            log.warning("%s is damaged: %s; looking for the one before", path.name, damage)
            continue
        return path
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints. Call it only after a new one is complete."""
    for path in checkpoints(folder)[keep:]:
        shutil.rmtree(path)


# ---------------------------------------------------------------------------------------------- contents
def save_state(folder: Path, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Write optimizer, random states and ``state`` (JSON values, and tensors at its top level) to ``folder``."""
    folder.mkdir(parents=True)
    tensors, values = _flatten(optimizer)
    save_file(tensors, folder / "optimizer.safetensors")
    chance = snapshot()
    save_file(dict(chance.tensors), folder / "random.safetensors")
    extra = {key: value.contiguous() for key, value in state["method"].items() if isinstance(value, Tensor)}
    save_file(extra, folder / "method.safetensors")
    plain = {key: value for key, value in state["method"].items() if key not in extra}
    content = {**state, "method": plain, "optimizer": values, "random": chance.values}
    (folder / "state.json").write_text(json.dumps(content), encoding="utf-8")


def load_state(folder: Path, optimizer: torch.optim.Optimizer, device: torch.device) -> dict[str, Any]:
    """Restore optimizer and random states from `save_state`'s folder; return the rest."""
    content: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    _unflatten(optimizer, load_file(folder / "optimizer.safetensors"), content.pop("optimizer"))
    content["method"] |= load_file(folder / "method.safetensors", device=str(device))
    restore(RandomState(content.pop("random"), load_file(folder / "random.safetensors")))
    return content


def _flatten(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by ``parameter/name`` (and deeper, for quantised states), and the values that are no tensors."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                walk(f"{prefix}/{name}", item)
        elif isinstance(value, Tensor):
            tensors[prefix] = value.detach().cpu().contiguous().clone()
        else:
            values[prefix] = value

    for index, entries in optimizer.state_dict()["state"].items():
        walk(str(index), entries)
    return tensors, values


def _unflatten(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values}.items():
        index, *path, name = key.split("/")
        place = state.setdefault(int(index), {})
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
