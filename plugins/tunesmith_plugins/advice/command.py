"""``tunesmith advise``: ask, read, apply the rules, and say what follows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith import GOALS, ConfigError, did_you_mean
from tunesmith_plugins.advice import engine, page, planned, recipe, rules, situation
from tunesmith_plugins.advice.reading import facts_of

if TYPE_CHECKING:
    from tunesmith_plugins.advice.case import Case
    from tunesmith_plugins.advice.engine import Advice, Methods
    from tunesmith_plugins.advice.recipe import Recipe


def advise(goals: tuple[str, ...], options: Mapping[str, Any]) -> None:
    """Run the command.

    Raises:
        ConfigError: an option makes no sense, or there is nothing to advise on.
        DataError: the data cannot be read.
    """
    from tunesmith import commands

    rules.load()
    if options["explained"]:
        commands.echo(page.rule_lines(_rules(options["explained"])))
        return
    registry = commands.load_registry()
    methods = facts_of(registry)
    goals = tuple(goal.strip() for word in goals for goal in word.split(",") if goal.strip())
    if not options["as_json"] and sys.stdin.isatty() and sys.stdout.isatty():
        goals, options = _ask(goals, options, methods)
    _check_goals(goals, methods)
    path: Path | None = options["output"]
    if path is not None and path.exists() and not options["overwrite"]:
        raise ConfigError(f"--output: {path} is there already", fix="replace it with --overwrite, or choose another")
    found = situation.look(registry, goals, options)
    advices = [(case, engine.advise(case, methods)) for case in _cases(registry, found, methods)]
    made = recipe.recipe(registry, found, *advices[0], methods)
    told_plan = None
    if options["planned"]:
        made, told_plan = planned.plan(registry, made, advices[0][0], options["gpu"], options["model"])
    if path is not None and made.settings is not None:
        commands.write_run_file(path, made.settings, _heading(made, *advices[0]))
    known = click.get_current_context().find_root().command.list_commands(click.get_current_context().find_root())
    written = str(path or "run.yaml")
    next_commands = recipe.commands(found, *advices[0], made, written, known)
    if options["as_json"]:
        commands.print_json(page.as_json(found, advices, made, told_plan, next_commands))
        return
    told = "" if path is not None or made.settings is None else commands.dumped(made.settings)
    shown = [commands.paragraph(page.seen_line(one), indent=2, first="") for one in found.seen]
    shown += [""] if shown else []
    for case, advice in advices:
        shown += page.lines(found, case, advice, methods)
    shown += page.memory(advices, methods, made, told_plan)
    shown += page.ending(found, [advice for _, advice in advices], made, written, told, next_commands)
    commands.echo(shown)


def _cases(registry: Any, found: situation.Situation, methods: Methods) -> Iterable[Case]:
    """A case for every goal."""
    for goal in found.goals:
        yield replace(found.case, goal=goal)


def _heading(made: Recipe, case: Case, advice: Advice) -> str:
    option = advice.option(made.method)
    fired = " ".join(option.rules) if option else ""
    lines = [f"{made.method} for the goal {case.goal}: rules {fired} of `tunesmith advise`"]
    if made.settings and recipe.MODEL in (made.settings["model"],):
        lines.append(f"put the folder or hub name of your model in the place of {recipe.MODEL}")
    return "\n".join(lines)


def _rules(word: str) -> list[str]:
    if word.strip().lower() == "all":
        return list(engine.RULES)
    ids = [id.strip().upper() for id in word.replace(" ", ",").split(",") if id.strip()]
    for id in ids:
        if id not in engine.RULES:
            raise ConfigError(
                f"there is no rule {id!r}{did_you_mean(id, engine.RULES)}",
                fix=f"rules: {', '.join(engine.RULES)}, or all",
            )
    return ids


def _check_goals(goals: Iterable[str], methods: Methods) -> None:
    known = dict.fromkeys([*GOALS, *(goal for facts in methods.values() for goal in facts.goals)])
    for goal in goals:
        if goal not in known:
            raise ConfigError(f"--goal: there is no goal {goal!r}{did_you_mean(goal, known)}", fix=", ".join(known))


def _ask(
    goals: tuple[str, ...], options: Mapping[str, Any], methods: Methods
) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """What was not said; an empty answer leaves it open."""
    asked = dict(options)
    if not goals:
        known = ", ".join(dict.fromkeys([*GOALS, *(goal for facts in methods.values() for goal in facts.goals)]))
        said = click.prompt(f"What for? ({known})", default="", show_default=False, err=True)
        goals = tuple(word.strip() for word in said.split(",") if word.strip())
    if not options["words"]:
        said = click.prompt("Which data is at hand? (a path; empty: none)", default="", show_default=False, err=True)
        asked["words"] = (said,) if said else ()
    for name, question in {"model": "Which model? (folder, or size)", "gpu": "Which GPU? (24GB, h100)"}.items():
        if options[name] is None:
            asked[name] = click.prompt(question, default="", show_default=False, err=True) or None
    return goals, asked
