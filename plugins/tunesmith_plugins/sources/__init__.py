"""Sources of rows: local files, hub data sets, generated tasks, answers of models, and text of every Python."""

from __future__ import annotations

from tunesmith import Source, hookimpl
from tunesmith_plugins.sources.arithmetic import Arithmetic
from tunesmith_plugins.sources.code_tasks import CodeTasks
from tunesmith_plugins.sources.countdown import Countdown
from tunesmith_plugins.sources.files import Files
from tunesmith_plugins.sources.huggingface import HuggingFace
from tunesmith_plugins.sources.puzzles import LogicPuzzles
from tunesmith_plugins.sources.python_docs import PythonDocs
from tunesmith_plugins.sources.python_source import PythonSource
from tunesmith_plugins.sources.samples import Samples
from tunesmith_plugins.sources.sorting import Sorting


@hookimpl
def tunesmith_register_sources() -> list[type[Source]]:
    """The sources of this package."""
    generated = [Arithmetic, CodeTasks, Countdown, LogicPuzzles, Sorting]
    return [*generated, Files, HuggingFace, PythonDocs, PythonSource, Samples]
