"""``--dry-run``: the complete run file, with the origin of every value as a comment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.runfile import dump, key_line

if TYPE_CHECKING:
    from tunesmith.config import Layers, Run

COMMENT_COLUMN = 40


def annotated(run: Run, layers: Layers) -> str:
    """YAML that is a run file itself: running it gives the same run."""
    lines: list[str] = []
    for key, value in run.dump().items():
        first, *rest = dump({key: value}).splitlines()
        lines += [f"{first:<{COMMENT_COLUMN}}  # {_origin(key, run, layers)}".rstrip(), *rest]
    return "\n".join(lines)


def _origin(key: str, run: Run, layers: Layers) -> str:
    if key == "method":
        return str(layers.path) if layers.path else "command line"
    origin = run.origins[key]
    if origin == "run file" and layers.path:
        return f"{layers.path}, line {key_line(layers.path, [key])}"
    words = {
        "method": f"recommended by {run.method.name}",
        "adapter": f"recommended by {run.method.name} with an adapter",
        "preset": f"preset {layers.preset or layers.file.get('preset')}",
        "environment": f"TUNESMITH_{key.upper()}",
        "flag": "--plugin, --no-plugin" if key == "plugins" else f"--{key.replace('_', '-')}",
    }
    return words.get(origin, origin)
