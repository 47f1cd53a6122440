"""Loading a tokenizer, training one, and what a tokenizer does by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ConfigError, DataError, ResourceError, TunesmithError, did_you_mean

if TYPE_CHECKING:
    from tunesmith.settings import RunSettings

EOS, PAD = "<|endoftext|>", "<|pad|>"
BYTES = 256


def bos_prefix(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that a tokenizer puts in front of a text by itself; mostly none, or the BOS."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start])
    return ()


# ---------------------------------------------------------------------------------------------- loading
def load_tokenizer(settings: RunSettings) -> Any:
    """The tokenizer of a run, with the chat template that the settings name.

    A path that exists wins over a hub name; then nothing is looked up on a network.

    Raises:
        ConfigError: there is no tokenizer, or no such chat template, or it does not fit the vocabulary.
        ResourceError: the tokenizer needs a package that is missing, or the hub does not answer.
    """
    from transformers import AutoTokenizer

    name = settings.tokenizer or settings.model
    path = Path(name).expanduser()
    local = path.exists()
    if local:
        name = str(path.parent if path.is_file() else path)
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code, "local_files_only": local}
    if settings.revision and not local:
        options["revision"] = settings.revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_tokenizer(name, local, error) from None
    except ImportError as error:
        raise ResourceError(f"the tokenizer of {name} needs a package", why=_first_line(error)) from None
    if settings.chat_template is not None:
        tokenizer.chat_template = chat_template(settings.chat_template, tokenizer)
    return tokenizer


def _no_tokenizer(name: str, local: bool, error: Exception) -> TunesmithError:
    if local and Path(name, "run.yaml").is_file():
        model = Path(name, "model")
        return ConfigError(
            f"{name} is the folder of a run, not a model",
            fix=f"its model is {model}" if model.is_dir() else f"tunesmith resume {name}: it has made no model yet",
        )
    if local:
        return ConfigError(
            f"{name} holds no tokenizer that can be loaded",
            why=_first_line(error),
            fix="add --tokenizer PATH, or copy tokenizer.json and tokenizer_config.json there",
        )
    folder = Path(name).expanduser().parent
    beside = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    if "connect" in _first_line(error):
        return ResourceError(
            f"there is no folder {name!r}{did_you_mean(Path(name).name, beside)}, and the hub does not answer",
            why=_first_line(error),
            fix="check the path, or the network; offline, give a local folder (see `tunesmith doctor`)",
        )
    return ConfigError(
        f"there is no folder {name!r}{did_you_mean(Path(name).name, beside)}, and no tokenizer of that name on the hub",
        why=_first_line(error),
        fix="check the path; a hub name is written owner/name",
    )


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].strip()
    return line.removesuffix(" from one of:")


def shipped_templates() -> dict[str, str]:
    """The chat templates of this package: name to text."""
    folder = files("tunesmith.data") / "templates"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".jinja")]
    return {entry.name.removesuffix(".jinja"): entry.read_text(encoding="utf-8") for entry in found}


def chat_template(name: str, tokenizer: Any) -> str:
    """The text of a chat template: a file, or one of `shipped_templates`. Raises `ConfigError`."""
    path = Path(name).expanduser()
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the chat template {path}: {error}") from None
    known = shipped_templates()
    if name not in known:
        raise ConfigError(
            f"there is no chat template {name!r}{did_you_mean(name, known)}",
            why="it is neither a file nor one of: " + ", ".join(sorted(known)),
            fix="give a .jinja file or one of these names",
        )
    vocabulary = tokenizer.get_vocab()
    needed = [token for token in ("<|im_start|>", "<|im_end|>") if token in known[name]]
    missing = [token for token in needed if token not in vocabulary]
    if missing:
        raise ConfigError(
            f"the chat template {name!r} needs tokens that the tokenizer does not have: {', '.join(missing)}",
            why="they would be cut into pieces, and no single token would end a turn",
            fix="use --chat-template tulu, which works with any tokenizer",
        )
    return ("{{- bos_token -}}" if bos_prefix(tokenizer) and tokenizer.bos_token else "") + known[name]


# ---------------------------------------------------------------------------------------------- training
def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Train a byte-level BPE tokenizer; the same texts give the same tokenizer.

    Args:
        texts: documents. With few of them the vocabulary stays smaller than asked for.
        vocab_size: tokens, the 256 bytes, ``<|endoftext|>`` (end of text) and ``<|pad|>`` included.

    Raises:
        ConfigError: ``vocab_size`` has no room for the bytes.
        DataError: there are no texts.
    """
    if vocab_size < BYTES + 2:
        raise ConfigError(
            f"vocab_size {vocab_size} is too small",
            why=f"{BYTES} bytes and 2 special tokens need {BYTES + 2}",
            fix="a few thousand for a toy, 32,000 and more for a language model",
        )
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    counter = _Counted(texts)
    core.train_from_iterator(iter(counter), trainer)
    if not counter.seen:
        raise DataError("there are no texts to train a tokenizer on")
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=EOS, pad_token=PAD)


class _Counted:
    def __init__(self, texts: Iterable[str]) -> None:
        self.texts, self.seen = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.seen += 1
            yield text


# ---------------------------------------------------------------------------------------------- identity
def tokenizer_fingerprint(tokenizer: Any) -> str | None:
    """A hash of everything that decides how texts become tokens; ``None`` for a tokenizer that cannot be written out.

    Call it after the tokenizer was used without truncation or padding: both are part of what it writes out.
    """
    if not tokenizer.is_fast:
        return None
    parts = [
        tokenizer.backend_tokenizer.to_str(),
        json.dumps(tokenizer.chat_template, sort_keys=True),
        json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str),
        version("transformers"),
        version("tokenizers"),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
