"""A model that exists as its config alone: built on the meta device, without a byte of weights."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ConfigError, ResourceError
from tunesmith.models.loading import check_exists, switch_off_dropout

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([MBT])", re.IGNORECASE)
VOCABULARY = 151_936
"""Of a made-up model: what present models of any size have."""


@dataclass(frozen=True, eq=False)
class Blueprint:
    """A model by its config.

    Attributes:
        name: as it was asked for.
        config: of transformers.
        made_up: True where only a size was given.
    """

    name: str
    config: Any
    made_up: bool = False

    @property
    def text(self) -> Any:
        """The part of the config that describes the language model."""
        return self.config.get_text_config()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.text.num_hidden_layers)

    @property
    def hidden(self) -> int:
        """Width of the hidden states."""
        return int(self.text.hidden_size)

    @property
    def vocabulary(self) -> int:
        """Rows of the head."""
        return int(self.text.vocab_size)

    @property
    def key_width(self) -> int:
        """Numbers of the keys of a token in a layer; the values have as many."""
        heads = int(self.text.num_attention_heads)
        shared = int(getattr(self.text, "num_key_value_heads", None) or heads)
        width = int(getattr(self.text, "head_dim", None) or self.hidden // heads)
        return shared * width


def find(name: str, *, trust_remote_code: bool = False) -> Blueprint:
    """The model that a folder, a config.json, a hub name or a size such as ``7B`` means.

    Raises:
        ResourceError: no such folder, or no config in it; a hub name that cannot be reached.
    """
    size = SIZE.fullmatch(name.strip())
    if size is not None and not Path(name).exists():
        return Blueprint(name, made_up(float(size[1]) * {"M": 1e6, "B": 1e9, "T": 1e12}[size[2].upper()]), True)
    check_exists(name, "model")
    path = Path(name).expanduser()
    adapter = path / "adapter_config.json"
    if adapter.is_file():
        import json

        base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        return find(str(base), trust_remote_code=trust_remote_code)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code, local_files_only=path.exists())
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"cannot read the config of the model {name!r}",
            why=str(error).strip().splitlines()[0][:300],
            fix="give a folder or a config.json, or only the size of the model, such as 7B",
        ) from None
    return Blueprint(name, config)


def made_up(parameters: float) -> Any:
    """A Llama-like config of about so many parameters: grouped keys, a hidden layer of 3.5 times the width.

    Raises:
        ConfigError: too few for the vocabulary.
    """
    from transformers import LlamaConfig

    tied = parameters < 4e9
    rows = VOCABULARY if parameters > 3e8 else 32_000
    best: tuple[float, int, int] | None = None
    for width in range(256, 20_480 + 1, 256):
        left = parameters - (1 if tied else 2) * rows * width
        layers = round(left / (13 * width * width))
        if layers >= 4:
            distance = abs(width / layers - 128)
            best = min(best or (distance, width, layers), (distance, width, layers))
    if best is None:
        raise ConfigError(f"a model of {parameters:,.0f} parameters is too small to be made up", fix="give its config")
    _, width, layers = best
    heads = width // 128
    return LlamaConfig(
        vocab_size=rows,
        hidden_size=width,
        intermediate_size=int(3.5 * width),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=next(n for n in (max(1, heads // 4), heads // 3, heads // 2, heads) if n and not heads % n),
        max_position_embeddings=131_072,
        tie_word_embeddings=tied,
    )


def shell(config: Any, *, layers: int, score: bool, dtype: torch.dtype) -> nn.Module:
    """The model of a config on the meta device, with so many layers. Raises `ConfigError` where it cannot be built."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = _with_layers(config, layers)
    family: Any = AutoModelForCausalLM
    if score:
        family = AutoModelForSequenceClassification
        config.num_labels, config.pad_token_id = 1, config.pad_token_id or 0
    try:
        with torch.device("meta"):
            model: nn.Module = family.from_config(config, dtype=dtype)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"a model of type {config.model_type!r} cannot be planned for", why=str(error).splitlines()[0][:300]
        ) from None
    switch_off_dropout(model)
    return model


def _with_layers(config: Any, layers: int) -> Any:
    """A copy with another depth; lists with an entry for each layer are cut or go on from their beginning."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    before = int(text.num_hidden_layers)
    if layers == before:
        return config
    for key, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == before:
            setattr(text, key, [value[i % before] for i in range(layers)])
    text.num_hidden_layers = layers
    return config


def layer_list(model: nn.Module) -> nn.ModuleList:
    """The layers that hidden states pass one after the other. Raises `ConfigError` where there is no such list."""
    config: Any = model.config
    count = int(config.get_text_config().num_hidden_layers)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ConfigError(f"a {type(model).__name__} has no list of {count} layers, so it cannot be planned for")


@lru_cache(maxsize=32)
def parameters_of(blueprint: Blueprint) -> int:
    """How many parameters the model has."""
    model = shell(blueprint.config, layers=blueprint.layers, score=False, dtype=torch.float32)
    return sum(parameter.numel() for parameter in model.parameters())
