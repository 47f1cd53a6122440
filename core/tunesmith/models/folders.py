"""What a folder or hub name holds: a whole model or an adapter, one that writes or one that scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import ConfigError, ResourceError
from tunesmith.models.adapters import CONFIG as ADAPTER_CONFIG
from tunesmith.models.loading import check_exists

RUN_FILE, FINAL = "run.yaml", "model"
SCORES = "ForSequenceClassification"
"""End of the architecture's name of a model with one number as its output."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model before it is loaded.

    Attributes:
        name: folder or hub name.
        config: of transformers; the base's where it is an adapter.
        base: what an adapter was trained on, ``None`` for a whole model.
        adapter: what its adapter_config.json says.
        scores: True for a model that puts out a score and no text.
    """

    name: str
    config: Any
    base: str | None = None
    adapter: dict[str, Any] | None = None
    scores: bool = False

    @property
    def local(self) -> bool:
        """True for a folder."""
        return Path(self.name).exists()


def model_folder(word: str) -> str:
    """The model that a word means: the folder of a run stands for its final model.

    Raises:
        ResourceError: there is no such folder, or its run is not done.
    """
    check_exists(word, "model")
    path = Path(word).expanduser()
    if not (path / RUN_FILE).is_file():
        return str(path) if path.exists() else word
    if not (path / FINAL).is_dir():
        raise ResourceError(
            f"the run in {path} has no final model", fix=f"tunesmith resume {path}, or give a checkpoint"
        )
    return str(path / FINAL)


def find_model(word: str, *, trust_remote_code: bool = False) -> Found:
    """Look at a model without loading it.

    Raises:
        ResourceError: there is none, or an adapter's base is not there.
    """
    name = model_folder(word)
    written = Path(name) / ADAPTER_CONFIG
    if not written.is_file():
        config = _config(name, f"cannot read the model {name!r}", trust_remote_code)
        return Found(name, config, scores=_scores(config))
    adapter = json.loads(written.read_text(encoding="utf-8"))
    base = str(adapter["base_model_name_or_path"])
    check_exists(base, "base of the adapter: model")
    config = _config(base, f"cannot read the base {base!r} of the adapter {name!r}", trust_remote_code)
    return Found(name, config, base, adapter, scores=adapter.get("task_type") == "SEQ_CLS")


def _scores(config: Any) -> bool:
    return any(str(name).endswith(SCORES) for name in config.architectures or ())


def _config(name: str, what: str, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    local = Path(name).exists()
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code, local_files_only=local)
    except (OSError, ValueError) as error:
        raise ResourceError(
            what,
            why=str(error).strip().splitlines()[0][:300],
            fix="check the path; offline, give a local folder (see `tunesmith doctor --offline`)",
        ) from None


def refuse_scores(found: Found) -> None:
    """Raises `ConfigError` for a model that cannot write: its weights have no head for tokens."""
    if found.scores:
        raise ConfigError(
            f"{found.name} gives scores and writes no text",
            why="it ends in a head with one output",
            fix="give a model that writes; `tunesmith score` judges answers with one that scores",
        )
