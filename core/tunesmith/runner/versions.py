"""The plugins of a run are the same in all its processes, and what changed since it was started is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from tunesmith.errors import ConfigError
from tunesmith.plugin_versions import changed, versions
from tunesmith.plugins import Registry
from tunesmith.runner.processes import Processes
from tunesmith.runner.records import MANIFEST

log = logging.getLogger(__name__)


def check_same_plugins(processes: Processes, registry: Registry) -> None:
    """Raises `ConfigError`, on every process, where one has other plugins or other versions than the first."""
    first, *others = processes.gather(versions(registry))
    for rank, listed in enumerate(others, start=1):
        if lines := changed(first, listed):
            raise ConfigError(
                f"process {rank} has other plugins than process 0",
                why="; ".join(lines),
                fix="install the same packages for every process, or leave the plugin out with --no-plugin NAME",
            )


def say_changed_plugins(output: Path, registry: Registry) -> None:
    """Warn where a run goes on with other plugins, or other versions, than it was started with."""
    path = output / MANIFEST
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8")).get("plugins", [])
    if lines := changed(before, versions(registry)):
        log.warning("plugins have changed since this run was started: %s", "; ".join(lines))
