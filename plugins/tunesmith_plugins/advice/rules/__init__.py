"""The rules of advice, by subject. Importing a module registers its rules."""

from __future__ import annotations

from importlib import import_module

SUBJECTS = ("knowledge", "reasoning", "preference", "demonstrations", "checks", "fit")


def load() -> None:
    """Register all rules, in the order of `SUBJECTS`."""
    for subject in SUBJECTS:
        import_module(f"{__name__}.{subject}")
