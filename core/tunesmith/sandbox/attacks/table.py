"""The results of attacks as a table."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.sandbox.attacks import Result


def lines(results: Sequence[Result]) -> list[str]:
    """One line for each attack, with a column for each tier."""
    tiers = list(dict.fromkeys(result.tier for result in results))
    found = {(result.attack, result.tier): result for result in results}
    width = max((len(result.attack) for result in results), default=0)
    table = [f"{'attack':{width}}  " + "  ".join(f"{tier:10}" for tier in tiers)]
    for name in dict.fromkeys(result.attack for result in results):
        cells = [found[name, tier].result if (name, tier) in found else "-" for tier in tiers]
        table.append(f"{name:{width}}  " + "  ".join(f"{cell:10}" for cell in cells))
    table += [f"{r.result}: {r.attack} ({r.tier}): {r.detail}" for r in results if r.result != "stopped"]
    stopped = sum(result.result == "stopped" for result in results)
    return [line.rstrip() for line in [*table, f"{stopped} of {len(results)} attempts were stopped"]]
