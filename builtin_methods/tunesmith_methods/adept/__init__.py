"""Layer expansion for new knowledge: copies of the layers that general text needs least learn, the rest is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

import tunesmith
from tunesmith import (
    AnyObjective,
    Card,
    DataSpec,
    Demonstration,
    Example,
    Method,
    ParamGroup,
    Preset,
    ReplayMethod,
    SomeData,
    StepSize,
    Text,
    TokenLogps,
    Volume,
    Workload,
)

if TYPE_CHECKING:
    from pathlib import Path

    import click
    from torch import nn

    from tunesmith.data.trees import Tree
    from tunesmith.models.roles import Models
    from tunesmith.report.markup import Markup
    from tunesmith.runner.context import Context


class ADEPT(ReplayMethod):
    """Deepen the model with copies of the layers that general text needs least, and train those alone."""

    name: ClassVar[str] = "adept"
    consumes: ClassVar[type] = Text
    supplies: ClassVar[type] = TokenLogps
    adaptable: ClassVar[bool] = False
    card: ClassVar[Card] = Card(
        paper="ADEPT: Continual Pretraining via Adaptive Expansion and Dynamic Decoupled Tuning (arXiv:2510.10071); "
        "LLaMA Pro: Progressive LLaMA with Block Expansion (arXiv:2401.02415)",
        use_when="A domain must get into the weights, what the model knows must stay, and training all weights is too "
        "dear. The model grows by the copies, about 10% for 4 of 28-36 layers.",
        data="As for cpt, 1B-20B tokens of a domain; and 500-2,000 general texts to measure importance on, "
        "perhaps as many instructions with answers. Embeddings stay frozen, so new pieces of a vocabulary must have "
        "been trained before (cpt --warm-embeddings).",
        memory="4 bytes per parameter, and 12 more per parameter of the copies; activations and gradients from the "
        "first copy up only.",
        volumes=(
            Volume(
                "vertical domain",
                "tokens",
                5_000_000_000,
                20_000_000_000,
                source="strategy guide, section 5.1",
                goals=("domain",),
            ),
            Volume(
                "internal knowledge",
                "tokens",
                1_000_000_000,
                5_000_000_000,
                source="strategy guide, section 5.1",
                goals=("facts",),
            ),
        ),
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 2e-4,
        "schedule": {"name": "cosine", "warmup": 0.03},
        "weight_decay": 0.1,
        "batch_size": 64,
        "max_length": 1024,
        "overlong": "split",
        "holdout": 0.02,
    }
    presets: ClassVar[Mapping[str, Preset]] = {
        "llama-pro": Preset(
            "Copies at equal distances and one learning rate (arXiv:2401.02415, which has 8 in 32 layers).",
            {"selection": "uniform", "rates": "uniform"},
        ),
        "released-code": Preset(
            "As the authors' code: rates over the range of all tensors, equal ones until the first refresh.",
            {"calibration": "all", "initial_importance": "uniform"},
        ),
    }

    objective: AnyObjective = Field(default="nll")  # type: ignore[assignment]
    """Loss."""
    copies: int = Field(default=4, ge=1)
    """How many layers are copied."""
    selection: Literal["importance", "uniform", "top", "manual"] = "importance"
    """Which ones: those that general text needs least, the last of equal groups, the last of all, or `layers`."""
    layers: tuple[int, ...] = ()
    """The layers to copy with selection: manual, counted from 0."""
    exclude: tuple[int, ...] = ()
    """Layers never to copy, counted from 0; with selection: importance or top."""
    contiguous: bool = False
    """Copy consecutive layers, those that are least important together."""
    expand: bool = True
    """False trains the chosen layers themselves instead of copies: a control, and it forgets more."""
    on_expanded: Literal["refuse", "continue", "add"] = "refuse"
    """A model that has copies already: refuse it, train those on, or add new ones on top."""
    probe: SomeData = ()
    """General text that importance is measured on; nothing is trained on it. By default the replay rows."""
    probe_instructions: SomeData = ()
    """Demonstrations as the other half of the probe, which counts the same: what is measured is their answers."""
    probe_size: int = Field(default=512, ge=1)
    """Rows of each half to measure on, of max_length tokens at most, spread evenly over it."""
    rates: Literal["importance", "uniform"] = "importance"
    """Learning rate of every tensor of the copies: 2 * (1 - importance) times learning_rate, or the same for all."""
    refresh_every: int = Field(default=500, ge=1)
    """Steps after which importance is measured again: one forward and backward pass over the probe."""
    initial_importance: Literal["source-layer", "uniform"] = "source-layer"
    """Rates until the first refresh, as a copy that hands on its input has no importance: by its original, or equal."""
    floor: float = Field(default=0.0, ge=0, le=2)
    """Least multiplier of a learning rate; with 0 the most important tensor stands still until the next refresh."""
    calibration: Literal["all", "non-norm"] = "non-norm"
    """Scale matrices over the range of matrices, or over that of all tensors, which norms stretch."""
    renormalize: Literal["none", "numel-mean-one"] = "none"
    """Divide the multipliers by their mean over all trained numbers, so that learning_rate is the mean rate."""

    @model_validator(mode="after")
    def _consistent(self) -> ADEPT:
        if self.measures() and not (self.probe or self.replay or self.probe_instructions):
            raise ValueError(
                "importance is measured on general text, and there is none: give it with --probe PATH or --replay PATH "
                "(or do without: --preset llama-pro)"
            )
        if (self.selection == "manual") != bool(self.layers):
            raise ValueError("selection: manual and layers go together: --selection manual --layers 22,23,25,27")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError("layers: a layer is named twice")
        if self.exclude and self.selection not in ("importance", "top"):
            raise ValueError(f"exclude has no effect with selection: {self.selection}")
        if self.contiguous and self.selection != "importance":
            raise ValueError(f"contiguous has no effect with selection: {self.selection}")
        return self

    def measures(self) -> bool:
        """True when general text is needed."""
        return self.selection == "importance" or self.rates == "importance"

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """One copy, measured again in the middle of a few steps."""
        return {**super().settings_for_checks(folder), "copies": 1, "probe_size": 4, "refresh_every": 2}

    def probes(self) -> Mapping[str, Sequence[DataSpec]]:
        """General text and instructions."""
        groups = {"probe": self.probe, "probe_instructions": self.probe_instructions}
        return {name: specs for name, specs in groups.items() if specs and self.measures()}

    def takes(self, group: str) -> type[Example]:
        """Demonstrations as instructions, texts otherwise."""
        return Demonstration if group == "probe_instructions" else Text

    def workload(self, step: StepSize, layers: int) -> Workload:
        """The layers that train are the copies; which ones importance chooses is not known before it is measured."""
        from . import selection, surgery

        notes: tuple[str, ...] = ()
        if self.selection == "manual":
            chosen = sorted(self.layers)
        elif self.selection == "top":
            chosen = selection.top(layers, self.copies, self.exclude)
        else:
            chosen = selection.uniform(layers, self.copies)
        if self.selection == "importance":
            notes = ("copies stand at equal distances: importance is not measured yet, and lower layers cost more",)
        places = surgery.copy_places(layers, chosen) if self.expand else chosen
        usual, new = super().workload(step, layers), len(chosen) if self.expand else 0
        return replace(usual, new_layers=new, trained_layers=tuple(places), notes=(*usual.notes, *notes))

    def prepare(self, policy: nn.Module, ctx: Context) -> nn.Module:
        """Measure, deepen and freeze; a checkpoint is only frozen."""
        from . import stages

        stages.prepare(self, policy, ctx)
        return policy

    def param_groups(self, models: Models) -> list[ParamGroup]:
        """One group for every tensor, for each has a rate of its own; matrices decay, vectors do not."""
        from . import rates

        found = rates.trainable(models.policy.module)
        return [ParamGroup(name, [p], weight_decay=p.ndim >= 2) for name, p in found.items()]

    def started(self, ctx: Context, trees: Iterable[Tree]) -> None:
        """Set the rates that the run begins with."""
        from . import rates

        rates.begin(self, ctx)

    def resumed(self, ctx: Context) -> None:
        """Write the record as it was at the checkpoint; the rates are restored by the runner."""
        from . import rates

        rates.write(ctx)

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """Measure importance again when it is time."""
        from . import rates

        due = ctx.step % self.refresh_every == 0 and ctx.step < ctx.total
        if due and self.rates == "importance":
            rates.refresh(self, ctx)
        return {**super().after_step(ctx), **rates.metrics(ctx)}


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    """Register the method."""
    return [ADEPT]


@tunesmith.hookimpl
def tunesmith_register_commands(cli: click.Group) -> None:
    """Add the command that draws a run."""
    from .picture import picture

    cli.add_command(picture)


@tunesmith.hookimpl
def tunesmith_report_sections(folder: Path) -> Iterable[tuple[str, list[Markup]]]:
    """Add the layers to the page of a run."""
    from . import record

    if not (folder / record.FILE).is_file():
        return []
    from .picture.sections import sections

    return sections(folder)
