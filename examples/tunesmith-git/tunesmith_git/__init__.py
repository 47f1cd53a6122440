"""A source and a format: the commits of a repository, and what to learn from them."""

import tunesmith

from tunesmith_git.format import Commit
from tunesmith_git.source import GitHistory


@tunesmith.hookimpl
def tunesmith_register_sources() -> list[type[tunesmith.Source]]:
    """Called once, when the plugin is loaded."""
    return [GitHistory]


@tunesmith.hookimpl
def tunesmith_register_data_formats() -> list[type[tunesmith.DataFormat]]:
    """Called once, when the plugin is loaded."""
    return [Commit]
