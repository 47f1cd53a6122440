"""How fast every tensor of the copies learns, measured again and again on a live run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from tunesmith import ConfigError

from . import record
from .importance import mean_multiplier, multipliers
from .probe import Probe, unit_importance, units_of

if TYPE_CHECKING:
    from tunesmith.runner.context import Context

    from . import ADEPT

log = logging.getLogger(__name__)
STATE = "adept"
"""The key of what a run has found, in its checkpointed state."""


def general_text(method: ADEPT, ctx: Context) -> Probe | None:
    """General text, where it is needed. Raises `ConfigError` when there are no rows to read it from."""
    if not method.measures():
        return None
    if "adept/probe" not in ctx.services:
        groups = ["probe" if method.probe else "replay", "probe_instructions"]
        ctx.services["adept/probe"] = Probe.of(ctx, groups, method.probe_size)
    probe: Probe = ctx.services["adept/probe"]
    if not len(probe):
        raise ConfigError("replay is streamed, so nothing of it can be measured on", fix="give a probe with a limit")
    return probe


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def refresh(method: ADEPT, ctx: Context) -> None:
    """Measure the importance of every trained tensor again and set the rates by it."""
    probe, model = general_text(method, ctx), ctx.models.policy.module
    assert probe is not None
    found, losses = unit_importance(ctx.models.policy, trainable(model), probe)
    keep(method, model, ctx, ctx.step, found, losses)
    apply(ctx)


def keep(
    method: ADEPT, model: nn.Module, ctx: Context, step: int, found: Mapping[str, float], losses: Sequence[float]
) -> None:
    """Turn importances into multipliers, and remember both with the loss on each half of the probe."""
    units = units_of(model, {name: model.get_parameter(name) for name in found})
    scales = multipliers(
        found, units, calibration=method.calibration, floor=method.floor, renormalize=method.renormalize
    )
    ctx.state[STATE]["refreshes"].append(
        {
            "step": step,
            "general_loss": list(losses),
            "mean_multiplier": mean_multiplier(scales, units),
            "importance": dict(found),
            "multiplier": scales,
        }
    )


def begin(method: ADEPT, ctx: Context) -> None:
    """Set the rates of the first step; say so where importance will never decide them."""
    apply(ctx)
    if method.rates == "importance" and not ctx.state[STATE]["refreshes"] and ctx.total <= method.refresh_every:
        log.warning(
            "all tensors learn at one rate: importance is first measured after step %d, and the run has %d steps",
            method.refresh_every,
            ctx.total,
        )


def apply(ctx: Context) -> None:
    """Give every parameter group the multiplier that was last found for it, and write everything down."""
    state = ctx.state[STATE]
    if state["refreshes"]:
        for group in ctx.groups:
            group.lr_scale = state["refreshes"][-1]["multiplier"][group.name]
    write(ctx)


def write(ctx: Context) -> None:
    """Write ``adept.json``."""
    if ctx.rank == 0 and ctx.output is not None:
        record.write(ctx.output, ctx.state[STATE])


def metrics(ctx: Context) -> dict[str, float]:
    """What the rates are, and the general loss where it was just measured."""
    refreshes = ctx.state[STATE]["refreshes"]
    if not refreshes:
        return {}
    last = refreshes[-1]
    values = {"adept/mean_multiplier": last["mean_multiplier"]}
    if last["step"] == ctx.step:
        scales = last["multiplier"].values()
        values |= {"adept/min_multiplier": min(scales), "adept/max_multiplier": max(scales)}
        values["adept/general_loss"] = sum(last["general_loss"]) / len(last["general_loss"])
    return values
