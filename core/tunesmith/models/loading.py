"""From a folder, a hub name or a config to a model that is ready to train."""

from __future__ import annotations

import logging
import math
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import nn

from tunesmith.components import Method
from tunesmith.errors import ConfigError, ResourceError, nearest
from tunesmith.models.hub import check_reachable
from tunesmith.settings import RunSettings

log = logging.getLogger(__name__)
SCORE_HEAD = "score.weight"
MOST_PADDING_ROWS = 128
"""A config may round its vocabulary up by less than this; a larger surplus would be logits computed for nothing."""
DROPOUT_ATTRIBUTES = ("dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "layerdrop")


def quiet_transformers() -> None:
    """No progress bars and load reports of transformers: what is missing in a model is our error to raise.

    Nor what the libraries below it say on their own account, which no user can act on.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # optional kernels that are not installed
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # every attempt where there is no network
    # peft reads the old name of a property of transformers
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def pick_device(settings: RunSettings) -> torch.device:
    """The device of this process. Raises `ResourceError` when a device was asked for that is not there."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if settings.device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local % torch.cuda.device_count())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(settings.device)
    except RuntimeError:
        raise ConfigError(f"device: {settings.device!r} is no device", fix="write cpu, cuda, cuda:1 or mps") from None
    found = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= found.get(device.type, 0):
        raise ResourceError(
            f"device: {settings.device} is not there",
            why=f"found {found['cuda']} CUDA devices",
            fix="run `tunesmith doctor`, or set --device auto",
        )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", local % torch.cuda.device_count())
    return device


def pick_dtype(settings: RunSettings, device: torch.device) -> torch.dtype:
    """The dtype of the computation."""
    if settings.dtype == "auto":
        good = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if good else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[settings.dtype]


def load_model(
    settings: RunSettings,
    method: Method,
    tokenizer: Any,
    device: torch.device,
    dtype: torch.dtype,
    checkpoint: Path | None = None,
    *,
    head: Literal["lm", "score"] | None = None,
) -> nn.Module:
    """Load the policy (from ``checkpoint`` when a run goes on), put an adapter on it, freeze what is not trained.

    ``head``: what the model puts out, where that is not what the method says of its policy.

    Raises:
        ResourceError: no such model, or no weights for a method that does not start from a config.
        ConfigError: the tokenizer has ids that the model has no row for.
    """
    score = (head or method.head) == "score"
    model = _base(settings, method, tokenizer, device, dtype, checkpoint, score=score)
    if settings.quantize == "none":
        _own_memory(model, device)
    rows = model.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows:
        raise ConfigError(
            f"the tokenizer has token ids up to {highest}, but the model embeds only {rows}",
            where=f"tokenizer {settings.tokenizer or settings.model}, model {settings.model}",
            fix="use the tokenizer that belongs to the model",
        )
    switch_off_dropout(model)
    if settings.adapter != "none":
        model = with_adapter(model, settings, checkpoint, score=score)
    if settings.activation_checkpointing:
        recompute_activations(model)
    return cast(nn.Module, model.train())


def load_policy(settings: RunSettings, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A model to sample from: a folder of weights, or one of an adapter whose base it names.

    Raises:
        ResourceError: no such model, or no weights.
    """
    from transformers import AutoModelForCausalLM

    source = Path(settings.model)
    if source.exists() and not has_weights(source):
        raise ResourceError(
            f"{source} holds no model weights (*.safetensors)", fix="give the folder `model` of a finished run"
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            settings.model,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
            local_files_only=source.exists(),
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ResourceError(
            f"cannot load the model {settings.model!r}", why=str(error).strip().splitlines()[0][:300]
        ) from None
    return cast(nn.Module, model.to(device))


def _base(
    settings: RunSettings,
    method: Method,
    tokenizer: Any,
    device: torch.device,
    dtype: torch.dtype,
    checkpoint: Path | None,
    *,
    score: bool,
) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    source = str(checkpoint) if checkpoint is not None and settings.adapter == "none" else settings.model
    local = Path(source)
    if local.exists() and not has_weights(local):
        if not method.starts_from_config:
            raise ResourceError(
                f"{source} holds no model weights (*.safetensors)",
                why=f"the method {method.name!r} trains an existing model",
                fix="give a folder with weights, or pre-train one from its config first",
            )
        return from_config(local, tokenizer, settings.seed)
    check_exists(source, "model")
    if local.exists():
        source = str(local.resolve())  # an adapter writes down where its base is
    options: dict[str, Any] = {
        "dtype": dtype if settings.adapter != "none" else torch.float32,
        "use_safetensors": True,
        "trust_remote_code": settings.trust_remote_code,
        "local_files_only": local.exists(),
    }
    if settings.revision and not local.exists():
        options["revision"] = settings.revision
    if settings.quantize != "none":
        options |= {"quantization_config": _quantization(settings, dtype), "device_map": {"": device}}
    family, new = AutoModelForCausalLM, set[str]()
    if score:
        family = AutoModelForSequenceClassification
        options |= {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
        new = set() if checkpoint is not None and settings.adapter == "none" else {SCORE_HEAD}
    try:
        model, report = family.from_pretrained(source, output_loading_info=True, **options)
    except (OSError, ValueError, SafetensorError) as error:
        online = "check the name; offline, give a local folder (see `tunesmith doctor`)"
        raise ResourceError(
            f"cannot load the model {source!r}",
            why=str(error).strip().splitlines()[0][:300],
            fix="copy or download the folder again" if isinstance(error, SafetensorError) else online,
        ) from None
    missing = sorted(set(report["missing_keys"]) - new)
    if new & set(report["missing_keys"]):
        _start_score_head(model, settings.seed)
    if missing:
        raise ResourceError(
            f"the weights of {source!r} are not complete: {missing[0]} is missing",
            why=f"{len(missing)} tensors would start from random numbers",
            fix="give a folder whose weights belong to its config.json",
        )
    return model


def _start_score_head(model: Any, seed: int) -> None:
    """Normal with standard deviation ``1 / sqrt(hidden + 1)`` (arXiv:2009.01325, appendix C)."""
    weight = model.score.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(weight.shape[1] + 1))


def has_weights(path: Path) -> bool:
    """True for a model folder with safetensors weights."""
    return path.is_dir() and any(path.glob("*.safetensors"))


def check_exists(source: str, what: str, *, ask_hub: bool = True) -> None:
    """Raises `ResourceError` for a path that is not there, and for a name where neither a copy nor the hub is."""
    path = Path(source).expanduser()
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1 or path.suffix in (".json", ".yaml")
    if path.exists():
        return
    if not looks_local:
        if ask_hub:
            check_reachable(source, what)
        return
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    similar = nearest(path.name, siblings)
    raise ResourceError(
        f"there is no {what} {source!r}",
        fix=f"did you mean {path.parent / similar}?" if similar else "check the path",
    )


def from_config(path: Path, tokenizer: Any, seed: int) -> Any:
    """A model with random weights, sized to the tokenizer; the seed alone decides the weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ResourceError(f"cannot read the model config {path}", why=str(error).splitlines()[0][:300]) from None
    text = config.get_text_config()
    highest = max(tokenizer.get_vocab().values())
    if not 0 <= text.vocab_size - (highest + 1) < MOST_PADDING_ROWS:
        log.info("model    vocab_size %d of %s made %d to fit the tokenizer", text.vocab_size, path, highest + 1)
        text.vocab_size = highest + 1
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(text, name, getattr(tokenizer, name))
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _quantization(settings: RunSettings, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if settings.quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def with_adapter(model: Any, settings: RunSettings, checkpoint: Path | None, *, score: bool) -> Any:
    """Put an adapter on a model. Raises `ConfigError` for modules that cannot have one."""
    from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

    if settings.quantize != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if checkpoint is not None:
        return PeftModel.from_pretrained(model, checkpoint, is_trainable=True)
    targets: Any = settings.lora_targets
    torch.manual_seed(settings.seed)
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear" if targets == ("all-linear",) else list(targets),
        use_dora=settings.adapter == "dora",
        task_type="SEQ_CLS" if score else "CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(
            f"lora_targets: {', '.join(settings.lora_targets)} cannot be adapted",
            why=str(error).splitlines()[0][:300],
            fix="name linear modules of the model, or use all-linear",
        ) from None


def _own_memory(model: nn.Module, device: torch.device) -> None:
    """Move the weights to memory of their own.

    Weights read from a file lie where the file puts them; matrix products round differently there than in memory
    aligned by torch, and a run that goes on from a checkpoint would drift from one that never stopped.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = torch.empty_like(parameter, device=device).copy_(parameter)
    model.to(device)


def recompute_activations(model: nn.Module) -> None:
    """Keep only the inputs of every layer in the forward pass. Raises `ConfigError` for a model that cannot."""
    from torch.utils.checkpoint import checkpoint

    layers = recomputing(model)
    if not layers:
        raise ConfigError(f"activation_checkpointing: a {type(model).__name__} has no layers that support it")
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)


def recomputing(model: nn.Module) -> list[Any]:
    """The layers that can compute their activations again."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def switch_off_dropout(model: nn.Module) -> None:
    """No dropout inside the model: a result must not depend on how a batch is cut into parts."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in DROPOUT_ATTRIBUTES:
            if isinstance(module.__dict__.get(name), float):
                setattr(module, name, 0.0)
