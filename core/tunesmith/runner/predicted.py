"""What a plan says of the memory of a run that is over, beside what it took."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tunesmith.config import Run
from tunesmith.errors import TunesmithError
from tunesmith.plan import hardware, page
from tunesmith.plan.account import COMPONENTS
from tunesmith.plan.memory import Estimate

log = logging.getLogger(__name__)
LEAST_SECONDS = 60.0
"""Runs shorter than this are not planned afterwards: that takes a second or two."""


def beside(run: Run, *, cuda: bool, processes: int, seconds: float, measured: int) -> Mapping[str, object] | None:
    """Predicted and measured bytes of this process, for the manifest; ``None`` for a short run or an unknown model."""
    if seconds < LEAST_SECONDS:
        return None
    device = hardware.here() if cuda else hardware.processor()
    try:
        memory = Estimate(device, processes).of(run)
    except TunesmithError as error:
        log.info("memory   measured %s GB; it cannot be predicted: %s", page.size(measured), error.what)
        return None
    parts = {name: round(memory.peak.of(name)) for name in COMPONENTS if memory.peak.of(name)}
    log.info("memory   predicted %s GB, measured %s GB", page.size(memory.total), page.size(measured))
    return {
        "predicted": {"total": round(memory.total), **parts},
        "measured": {"total": measured},
        "peak_phase": memory.peak.name,
    }
