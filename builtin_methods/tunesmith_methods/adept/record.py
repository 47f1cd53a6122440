"""``adept.json``: what was measured and what was made of it, for pictures and for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "adept.json"


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Replace the file in the folder of a run.

    The keys: ``selection``; ``layer_importance`` (nats per token of every layer of the base, ``null`` where it was not
    measured); ``chosen`` (layers of the base); ``copies`` (their places in the deeper model; empty where the layers
    themselves are trained); ``base_loss`` (on each half of the probe); ``refreshes``, a list of ``step``,
    ``general_loss`` (nats per token on each half of the probe), ``mean_multiplier``, and by unit ``importance`` and
    ``multiplier``.
    """
    aside = folder / f".writing-{FILE}"
    aside.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(aside, folder / FILE)
