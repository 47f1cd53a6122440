"""The page on hooks: names, arguments and sentences from the specifications, and what they cannot say."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from tunesmith import KINDS, hookspecs
from tunesmith.plugin_rules import REGISTER


class Hook(NamedTuple):
    """What a specification does not say of itself.

    Attributes:
        process: where it is called.
        returns: what it may return.
        body: the body of an example.
    """

    process: str
    returns: str
    body: str


EVERY = "every process, and every command that needs the registry"
MAIN = "the main process (rank 0) only"
EXAMPLES = {
    "tunesmith_register_methods": "return [MyMethod]",
    "tunesmith_register_objectives": "return [Focal, Margin]",
    "tunesmith_register_rewards": "return [LastNumber, right_and_short]",
    "tunesmith_register_data_formats": "return [Quiz]",
    "tunesmith_register_sources": "return [SQLite]",
    "tunesmith_register_schedulers": "return [Halving]",
    "tunesmith_register_generators": "return [MyEngine]",
    "tunesmith_register_trackers": "return [CSV]",
}
OTHERS = {
    "tunesmith_register_commands": Hook(
        "the process that reads the command line",
        "nothing: it adds click commands to `cli`",
        "cli.add_command(outcome)",
    ),
    "tunesmith_run_started": Hook(MAIN, "nothing", 'print(run.method, "has", run.total_steps, "steps")'),
    "tunesmith_step_ended": Hook(MAIN, "nothing", 'losses.append((step, metrics["loss"]))'),
    "tunesmith_checkpoint_saved": Hook(MAIN, "nothing", "shutil.copytree(path, backup / path.name)"),
    "tunesmith_run_ended": Hook(MAIN, "nothing", 'notify("failed" if error else "done")'),
    "tunesmith_report_sections": Hook(
        MAIN,
        "a list of pairs: a heading, and a list of blocks",
        'return [("Notes", [(folder / "notes.txt").read_text()])]',
    ),
}
ABOVE = """\
# Hooks

<!-- made by docs/generate.py -->

A plugin is a module with functions that carry `@tunesmith.hookimpl`. Name only the arguments that you use, in any
order. A hook may gain an argument in a later version, it never loses one. A function whose name begins with
`tunesmith_` and is no hook is a fault, which `tunesmith plugins` shows with the name that was probably meant.
"""
REGISTRATION = """\
## Registration

Called once for every plugin when it is loaded, before any model exists. They return a list of classes; what is wrong
with one of them becomes the cause in `tunesmith plugins`, and only runs that need the plugin stop.
"""
NOTIFICATION = """\
## Commands, runs and pages

A listener that raises is detached with one warning, and the run goes on. A command whose name is taken is refused with
the owner's name. A block of a page is a text, or what the functions of `tunesmith.report.page` (tables, facts) and
`tunesmith.report.svg` (curves, bars, histograms, maps) return; texts are escaped.
"""


def page() -> str:
    """The whole page. Raises `KeyError` for a hook that nothing is said of."""
    specs = {name: value for name, value in vars(hookspecs).items() if name.startswith("tunesmith_")}
    registering = [name for name in specs if name in REGISTER]
    others = [name for name in specs if name not in REGISTER]
    parts = [ABOVE, REGISTRATION, *(_section(name, specs[name], _registration(name)) for name in registering)]
    parts += [NOTIFICATION, *(_section(name, specs[name], OTHERS[name]) for name in others)]
    return "\n".join(parts)


def _registration(name: str) -> Hook:
    base = KINDS[REGISTER[name]].__name__
    return Hook(EVERY, f"a list of subclasses of `tunesmith.{base}`", EXAMPLES[name])


def _section(name: str, spec: object, hook: Hook) -> str:
    signature = inspect.signature(spec)  # type: ignore[arg-type]  # functions, all of them
    arguments = ", ".join(signature.parameters)
    typed = ", ".join(f"{p.name}: {p.annotation}" for p in signature.parameters.values())
    lines = [f"### `{name}({arguments})`", "", " ".join(inspect.getdoc(spec).split()), ""]  # type: ignore[union-attr]
    if typed:
        lines.append(f"- arguments: `{typed}`")
    lines += [f"- called on: {hook.process}", f"- may return: {hook.returns}", ""]
    lines += ["```py", "@tunesmith.hookimpl", f"def {name}({arguments}):", f"    {hook.body}", "```", ""]
    return "\n".join(lines)
