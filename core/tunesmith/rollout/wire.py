"""What the trainer and the processes that judge say to each other.

Downwards (trusted): pickles of rewards and completions. Upwards (a reward is anybody's code): JSON, checked on arrival.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import pickle
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.components import Component, Reward, Rollout
from tunesmith.errors import ConfigError, DataError

LARGEST_REPORT = 1 << 20
"""Bytes of a message from a process that judges; whatever claims to be longer is not one of ours."""
_HEADER = struct.Struct("!I")


class BrokenWireError(Exception):
    """The bytes that arrived are no message."""


def pack(payload: bytes) -> bytes:
    """A message as it goes over the wire."""
    return _HEADER.pack(len(payload)) + payload


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self, largest: int | None = None) -> None:
        self._buffer, self._largest = bytearray(), largest

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with these bytes. Raises `BrokenWireError` for one that is too long."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if self._largest is not None and length > self._largest:
                raise BrokenWireError(f"a message of {length} bytes")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield message


def receive(channel: socket.socket) -> bytes | None:
    """Wait for one message; ``None`` where the other side is gone."""
    header = _exactly(channel, _HEADER.size)
    return None if header is None else _exactly(channel, _HEADER.unpack(header)[0])


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    buffer = bytearray(size)
    view, filled = memoryview(buffer), 0
    while filled < size:
        got = channel.recv_into(view[filled:])
        if not got:
            return None
        filled += got
    return bytes(buffer)


# ---------------------------------------------------------------------------------------------- rewards
@dataclass(frozen=True, slots=True)
class Parcel:
    """A reward on its way to another process.

    Attributes:
        modules: module name to file and source of everything that the pickle refers to. A file that is edited during a
            run changes nothing, whichever process is started later.
        content: pickle of class, settings and selector.
    """

    modules: Mapping[str, tuple[str, bytes] | None]
    content: bytes


class _Pickler(pickle.Pickler):
    """Remembers the modules that the pickle refers to."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.modules: dict[str, tuple[str, bytes] | None] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and issubclass(obj, Component):
            return self._component(obj)
        name = getattr(obj, "__module__", None) if isinstance(obj, type) or callable(obj) else type(obj).__module__
        if isinstance(name, str):
            self._refer(name)
        return NotImplemented

    def _refer(self, name: str) -> None:
        path = getattr(sys.modules.get(name), "__file__", None)
        if name not in self.modules:
            self.modules[name] = (path, Path(path).read_bytes()) if path and path.endswith(".py") else None

    def _component(self, cls: type[Component]) -> Any:
        """By name, since a plugin that is loaded twice has two classes of the same one."""
        origin = vars(cls).get("from_function")
        if origin is not None:
            self._refer(origin[1][0])
            return origin
        if _named(cls.__module__, cls.__qualname__) is None:
            raise pickle.PicklingError(f"it is not found as {cls.__module__}.{cls.__qualname__}")
        self._refer(cls.__module__)
        return _named, (cls.__module__, cls.__qualname__)


def _named(module: str, qualname: str) -> Any:
    """What a module holds under a name, or ``None``."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def parcel(reward: Reward) -> Parcel:
    """Make a reward ready to be sent; what it has loaded so far stays here.

    Raises `ConfigError` when another process could not find its class again, or a setting cannot be sent.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    settings = {name: getattr(reward, name) for name in type(reward).model_fields}
    try:
        if type(reward).__module__ == "__main__":
            raise pickle.PicklingError("it is defined in the script that is running")
        pickler.dump((type(reward), settings, reward.selector))
    except (pickle.PicklingError, AttributeError, TypeError, ImportError) as error:
        raise _cannot_be_sent(reward, str(error)) from None
    if "__main__" in pickler.modules:
        raise _cannot_be_sent(reward, "it is defined in the script that is running")
    return Parcel(pickler.modules, file.getvalue())


def _cannot_be_sent(reward: Reward, why: str) -> ConfigError:
    return ConfigError(
        f"the reward {reward.name!r} cannot be handed to the processes that judge",
        where=f"{type(reward).__module__}.{type(reward).__qualname__}",
        why=why,
        fix="define it at the top of a module or a plugin file, or set `isolated = False` to judge in this process",
    )


def unpack(sent: Parcel) -> Reward:
    """The reward of a parcel, with a fresh state. Raises whatever importing its module raises."""
    for name, written in sent.modules.items():
        if written is not None and name not in sys.modules and not _importable(name, written[0]):
            _execute(name, *written)
    cls, settings, selector = pickle.loads(sent.content)
    reward: Reward = cls.model_construct(**settings)
    return reward.selected_by(selector)


def _importable(name: str, path: str) -> bool:
    """True where a plain import finds this very file; not so for plugins that are files."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None and os.path.realpath(found.origin) == os.path.realpath(path)


def _execute(name: str, path: str, source: bytes) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(source, path, "exec"), module.__dict__)


def parcels(payload: bytes) -> Sequence[Parcel]:
    """What `pickle.dumps` made of a list of parcels."""
    found: Sequence[Parcel] = pickle.loads(payload)
    return found


def job(reward: int, rollouts: Sequence[Rollout]) -> bytes:
    """Completions for a reward. Raises `DataError` for a column that no other process can be given."""
    try:
        return pickle.dumps((reward, list(rollouts)))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise DataError(
            "a row cannot be handed to the processes that judge",
            where=f"columns {', '.join(rollouts[0].columns)}",
            why=str(error),
            fix="leave columns that are no plain values out of the rows",
        ) from None
