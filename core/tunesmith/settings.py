"""The settings of a run that do not belong to a method. Nothing here reads a file, a network or a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tunesmith.components import AnyScheduler, AnyTracker, DataSpec, Settings

REVISION = 1
"""Grows when the meaning of a run file changes."""
RESERVED_FIELDS = frozenset(
    {
        *("method", "preset", "set", "overrides", "resume", "resume_run", "overwrite", "dry_run"),
        *("help", "help_all", "plugin", "no_plugin", "debug"),
    }
)
"""Names that no setting of a method may have, beside those of `RunSettings`."""


def _listed(value: Any) -> Any:
    """One item where a list is expected; a string may hold several, separated by commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, dict) else value


def _one_or_more(value: Any) -> Any:
    """One source or a list of them. A path may hold a comma, so strings are not split."""
    return (value,) if isinstance(value, (str, dict)) else value


class PluginSettings(Settings):
    """Which plugins a run needs or leaves out."""

    require: tuple[str, ...] = ()
    """Requirements such as ``tunesmith-foo>=0.3``; the run is refused when one is not met."""
    block: tuple[str, ...] = ()
    """Plugins or packages to leave out."""
    files: tuple[Path, ...] = ()
    """Python files to load as plugins."""


Sources = Annotated[tuple[DataSpec, ...], BeforeValidator(_one_or_more)]


class RunSettings(Settings):
    """Settings of a run. Methods have recommended values for many of them: see ``tunesmith show METHOD``."""

    # -- what
    model: str = Field(json_schema_extra={"section": "common"})
    """Model folder or hub name. Where the method starts from scratch, also a config.json or its folder."""
    data: Sources = Field(json_schema_extra={"section": "common"}, min_length=1)
    """Training rows: a file, folder, glob, ``-``, data set name, or {path: ..., weight: ..., format: ...}."""
    output: Path | None = Field(default=None, json_schema_extra={"section": "common"})
    """Folder of the run; by default the next free runs/METHOD-NNN."""
    tokenizer: str | None = None
    """Tokenizer folder or hub name; by default the model's own."""
    chat_template: str | None = None
    """Chat template for a tokenizer without one (or to replace its own): a .jinja file, ``tulu`` or ``chatml``."""
    eval_data: Sources = Field(default=(), json_schema_extra={"section": "common"})
    """Held-out rows whose loss is reported; each source is a set of its own."""
    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of every training source's rows held out for evaluation, chosen by content."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models you have read."""
    revision: str | None = None
    """Revision of a hub model."""

    # -- how long
    epochs: float = Field(default=1.0, gt=0, json_schema_extra={"section": "common"})
    """Passes over the training rows."""
    max_steps: int | None = Field(default=None, ge=1, json_schema_extra={"section": "common"})
    """Optimizer steps; wins over epochs."""
    batch_size: int = Field(default=32, ge=1, json_schema_extra={"section": "common"})
    """Examples per optimizer step, over all processes."""
    seed: int = Field(default=0, ge=0, json_schema_extra={"section": "common"})
    """Seed of the order of rows and of every random number."""

    # -- rows
    max_length: int = Field(default=2048, ge=2, json_schema_extra={"section": "common"})
    """Tokens of an example at most."""
    overlong: Literal["error", "drop", "truncate", "split"] = "error"
    """A row longer than max_length: refuse it, drop it, cut its end, or split it (text only)."""
    on_bad_row: Literal["error", "skip"] = "error"
    """A row that cannot be trained on: stop, or skip it, count it and list it in rejected.jsonl."""
    shuffle: bool = True
    """Shuffle the rows of every epoch (rows of a stream keep their order)."""

    # -- optimisation
    learning_rate: float = Field(default=1e-5, gt=0, json_schema_extra={"section": "common"})
    """Peak learning rate."""
    schedule: AnyScheduler | None = Field(default=None, json_schema_extra={"section": "common"})
    """Schedule of the learning rate, as a name or {name: ..., warmup: ...}; constant when not given."""
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"] = "adamw"
    """AdamW with fp32 states, or with 8-bit states (bitsandbytes)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW decay rates of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW epsilon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay on matrices."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Clip the global gradient norm to this; 0 turns clipping off."""

    # -- memory and speed; none of these changes the result beyond rounding
    micro_tokens: int = Field(default=4096, ge=1, json_schema_extra={"section": "common"})
    """Tokens in one forward and backward pass: the memory knob."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the computation; trained weights stay fp32. auto: bf16 on a GPU that has it, else fp32."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto picks a GPU when there is one."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    # -- adapters
    adapter: Literal["none", "lora", "dora"] = Field(default="none", json_schema_extra={"section": "common"})
    """Train an adapter on a frozen base instead of all weights."""
    lora_r: int = Field(default=16, ge=1)
    """Rank of the adapter."""
    lora_alpha: int = Field(default=32, ge=1)
    """Scale of the adapter: its output is multiplied by alpha / r."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    lora_targets: Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...])] = (
        "all-linear",
    )
    """Modules that get an adapter: names, or all-linear."""
    quantize: Literal["none", "8bit", "4bit"] = "none"
    """Load the frozen base in 8 or 4 bits (bitsandbytes); needs an adapter."""

    # -- during the run
    log_every: int = Field(default=1, ge=1)
    """Steps between lines on the terminal; metrics.jsonl has every step."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations; they also run before the first and after the last step."""
    save_every: int | None = Field(default=None, ge=1, json_schema_extra={"section": "common"})
    """Steps between checkpoints; by default every half hour. A run that is stopped always saves one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Complete checkpoints to keep."""
    trackers: Annotated[tuple[AnyTracker, ...], BeforeValidator(_listed)] = ()
    """Trackers beside metrics.jsonl and the terminal."""
    plugins: PluginSettings = PluginSettings.model_construct()  # validating it here would build schemas at import
    """Plugins that this run requires, blocks or loads from files."""

    @model_validator(mode="after")
    def _consistent(self) -> RunSettings:
        if self.quantize != "none" and self.adapter == "none":
            raise ValueError(f"quantize: {self.quantize} freezes the base, so it needs adapter: lora or dora")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), not {self.betas}")
        return self

    def without_effect(self) -> list[str]:
        """Settings of an adapter that were changed while there is none."""
        fields = type(self).model_fields if self.adapter == "none" else {}
        return [n for n, f in fields.items() if n.startswith("lora_") and getattr(self, n) != f.default]
