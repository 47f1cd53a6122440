"""``report.html`` of a run: one page with everything that its folder knows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.report import curves, overview, samples
from tunesmith.report.folder import RunFolder, read
from tunesmith.report.page import Block, Page, grid

if TYPE_CHECKING:
    from tunesmith.plugins import Registry

log = logging.getLogger(__name__)
REPORT = "report.html"
HOOK = "tunesmith_report_sections"


def write_report(folder: Path, registry: Registry | None, output: Path | None = None) -> Path:
    """Write the page of a run, finished or not, and return its path.

    Args:
        folder: of the run.
        registry: whose plugins may add sections; ``None`` for none.
        output: where to; by default ``report.html`` in the folder.

    Raises:
        ConfigError: it is not the folder of a run.
        OSError: the page cannot be written.
    """
    return run_page(read(folder), registry).write(output or folder / REPORT)


def run_page(run: RunFolder, registry: Registry | None) -> Page:
    """The page of a run."""
    page = Page(f"{run.method}: {run.path.resolve().name}", *overview.lead(run))
    page.section("What the run says", *overview.messages(run))
    pictures = dict(curves.sections(run))
    spread, ways = samples.pictures(run), samples.paths(run)
    for heading in ("Loss", "Rewards", "Answers", "Preferences", "Policy"):
        drawn = pictures.pop(heading, [])
        if heading == "Rewards" and (drawn or spread):
            page.section(heading, grid(*drawn, *spread, *ways))
        elif drawn:
            page.section(heading, grid(*drawn))
    for heading, blocks in plugin_sections(run.path, registry):
        page.section(heading, *blocks)
    page.section("Samples", *samples.table(run))
    for heading, drawn in pictures.items():
        page.section(heading, grid(*drawn))
    page.section("Asked for and done", *overview.asked_and_done(run))
    page.section("Data", *overview.data(run))
    page.section("Memory", *overview.memory(run))
    return page.section("Versions", *overview.versions(run))


def plugin_sections(folder: Path, registry: Registry | None) -> list[tuple[str, Sequence[Block]]]:
    """What plugins add to the page; one that raises adds a line that says so."""
    if registry is None:
        return []
    found: list[tuple[str, Sequence[Block]]] = []
    for implementation in getattr(registry.manager.hook, HOOK).get_hookimpls():
        wanted: dict[str, Any] = {name: {"folder": folder}[name] for name in implementation.argnames}
        try:
            found += [(str(heading), list(blocks)) for heading, blocks in implementation.function(**wanted) or ()]
        except Exception as error:  # a page is worth more than one of its sections
            log.warning("plugin %s raised in %s: %r", implementation.plugin_name, HOOK, error)
            found.append(
                (f"Plugin {implementation.plugin_name}", [f"its section failed: {type(error).__name__}: {error}"])
            )
    return found
