"""Advice on a terminal, and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tunesmith_plugins.advice.case import Case, count
from tunesmith_plugins.advice.engine import RULES, STEPS, Advice, Methods, Option, Verdict
from tunesmith_plugins.advice.planned import lines as lines_of_memory

if TYPE_CHECKING:
    from tunesmith_plugins.advice.planned import Planned
    from tunesmith_plugins.advice.reading import Seen
    from tunesmith_plugins.advice.recipe import Recipe
    from tunesmith_plugins.advice.situation import Situation

TITLES = {
    "retrieval": "retrieval (RAG), no training",
    "prompting": "a prompt with examples, no training",
    "collect": "collect data first",
    "vocabulary": "expand the vocabulary first",
}
COLOURS = {Verdict.GOOD: "green", Verdict.POSSIBLE: "yellow", Verdict.NOT_YET: "red", Verdict.NO: "red"}
BAR = 20
"""Characters of a bar."""


def listed(words: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def seen_line(one: Seen) -> str:
    """What was read, in a line."""
    about = "" if one.audit.unit == "tokens" else "about "
    parts = [f"{one.audit.rows:,} rows ({one.audit.format})", f"{about}{count(one.tokens)} tokens"]
    if one.audit.duplicates:
        parts.append(f"{one.audit.duplicates / one.audit.rows:.1%} duplicates")
    balance = one.audit.balance
    if balance.good or balance.bad:
        parts.append(f"{balance.good:,} good and {balance.bad:,} bad")
    if balance.compared:
        parts.append(f"chosen longer in {balance.longer / balance.compared:.0%}")
    if one.shape == "demonstration" and one.traces:
        parts.append(f"{one.traces:.0%} reason")
    if one.shape == "prompt":
        parts.append(
            f"answers that {listed(one.checkers)} can check" if one.checkers else "no answers that a reward can check"
        )
    parts += [f"language {one.language}"] if one.language else []
    if one.fertility and one.shape == "text":
        parts.append(f"{one.fertility:.1f} times the tokens per word of English")
    return f"Read {one.audit.label}: {', '.join(parts)}"


def lines(situation: Situation, case: Case, advice: Advice, methods: Methods) -> list[str]:
    """The options, checks and volumes for a goal."""
    from tunesmith.commands import paragraph

    machine = case.machine
    parts = [f"Goal: {case.goal}"] + ([f"model: {count(case.parameters)} parameters"] if case.parameters else [])
    parts += [f"{machine.devices} x {machine.gigabytes:g} GB"] if machine.gigabytes else []
    parts += [f"{machine.hours:g} hours"] if machine.hours else []
    shown = [click.style("; ".join(parts), bold=True), ""]
    for place, option in enumerate(advice.options, start=1):
        shown += _option(place, option)
    shown.append("")
    if advice.missing:
        missing = ", ".join(advice.missing)
        shown += [paragraph(f"Not installed, so not advised: {missing} (see `tunesmith plugins`)"), ""]
    shown += _checks(advice) + _volumes(case, advice, methods)
    both = [f"{RULES[id].both} [{id}]" for id in advice.rules if RULES[id].both]
    return shown + bullets("Where the guide and the papers differ", both)


def _option(place: int, option: Option) -> list[str]:
    from tunesmith.commands import paragraph

    verdict = option.verdict
    name = TITLES.get(option.name, option.name) + (f", then {option.then}" if option.then else "")
    said = click.style(verdict.words, fg=COLOURS[verdict], bold=verdict == Verdict.GOOD)
    head = f"{place:>2}. {click.style(name, bold=True)}: {said}  [{' '.join(option.rules)}]"
    refused = verdict <= Verdict.NOT_YET
    told = [f for _, f in option.findings if not refused or f.verdict is not None]  # notes are for what may be done
    return [head, *(paragraph(finding.text, indent=6, first="    - ") for finding in told)]


def _checks(advice: Advice) -> list[str]:
    from tunesmith.commands import paragraph

    shown = []
    for id, finding in sorted(advice.checks, key=lambda check: not check[1].stop):
        mark = click.style("first ", fg="red") if finding.stop else "note  "
        shown.append(paragraph(f"{finding.text} [{id}]", indent=8, first=f"  {mark}"))
    return [click.style("Before training", bold=True), *shown, ""]


def _volumes(case: Case, advice: Advice, methods: Methods) -> list[str]:
    """What there is against what the cards of the options ask for."""
    from tunesmith.commands import table

    rows = []
    for option in advice.options:
        facts = methods.get(option.name)
        for volume in facts.for_goal(case.goal) if facts and option.verdict > Verdict.NO else ():
            amount = case.amount(facts.consumes, volume.unit) if facts else None
            if amount is None and not case.nothing:
                continue
            filled = 0 if amount is None else min(BAR, round(BAR * amount / volume.low))
            have = "-" if amount is None else f"{count(amount)}"
            rows.append((option.name, volume.use_case, str(volume), have, "#" * filled + "-" * (BAR - filled)))
    if not rows:
        return []
    header = ("method", "use", "usual", "you have", "of the least")
    return [click.style("Data against the cards", bold=True), *table(rows, header=header, wrap=1, indent=2), ""]


def memory(
    advices: Sequence[tuple[Case, Advice]], methods: Methods, made: Recipe, planned: Planned | None
) -> list[str]:
    """Model states of the options against the memory there is, and the peak of the run file."""
    from tunesmith.commands import paragraph

    shown = lines_of_memory(*advices[0], methods)
    if not shown:
        return []
    if planned is not None:
        fits = "fits" if planned.fits else "does not fit; `tunesmith plan` looks for what does"
        text = (
            f"The run file at its peak ({planned.phase}): {planned.gigabytes:.3g} of {planned.there_are:g} GB: {fits}."
        )
        shown.append(paragraph(text, indent=2))
    else:
        shown.append(paragraph("Activations come on top: `tunesmith plan` computes them.", indent=2))
    return [click.style("Memory", bold=True), *shown, ""]


def bullets(title: str, texts: Sequence[str]) -> list[str]:
    """A list under a title; nothing where it is empty."""
    from tunesmith.commands import paragraph

    items = [paragraph(text, indent=4, first="  - ") for text in texts]
    return [click.style(title, bold=True), *items, ""] if items else []


def ending(
    situation: Situation, advices: Sequence[Advice], made: Recipe, written: str, told: str, next_commands: Sequence[str]
) -> list[str]:
    """Assumptions, what would change the advice, the run file and the next commands."""
    from tunesmith.commands import paragraph

    changes = list(dict.fromkeys(change for advice in advices for change in advice.changes()))
    shown = bullets("Assumed", situation.assumed) + bullets("What would change this advice", changes[:8])
    if made.settings is None:
        shown += [paragraph(f"Run file: none, as {made.why_not}."), ""]
    elif told:
        shown += [click.style(f"Run file (write it with --output {written})", bold=True)]
        shown += [*(f"  {line}" for line in told.splitlines()), ""]
    else:
        shown += [f"Run file: {written}", ""]
    if next_commands:
        shown += [click.style("Next", bold=True), *(f"  {command}" for command in next_commands), ""]
    fired = [id for id in RULES if any(id in advice.rules for advice in advices)]
    return [*shown, paragraph(f"Sources: tunesmith advise --explain {','.join(fired)}")]


def as_json(
    situation: Situation,
    advices: Sequence[tuple[Case, Advice]],
    made: Recipe,
    planned: Planned | None,
    next_commands: Sequence[str],
) -> Mapping[str, Any]:
    """The same for programs."""
    return {
        "schema": 1,
        "data": [
            {
                "source": one.word,
                "kind": one.shape,
                "traces": one.traces,
                "checkers": list(one.checkers),
                "language": one.language,
                "fertility": one.fertility,
                "tokens": round(one.tokens),
                **one.audit.as_dict(),
            }
            for one in situation.seen
        ],
        "advice": [
            {
                "goal": advice.goal,
                "case": {key: value for key, value in _plain(case).items() if value is not None},
                "options": [_option_json(option) for option in advice.options],
                "checks": [{"rule": id, "text": f.text, "stop": f.stop} for id, f in advice.checks],
                "changes": advice.changes(),
                "not_installed": advice.missing,
            }
            for case, advice in advices
        ],
        "assumed": situation.assumed,
        "run_file": made.settings,
        "plan": None if planned is None else asdict(planned),
        "no_run_file": made.why_not or None,
        "next": list(next_commands),
        "rules": {id: _rule(id) for id in RULES if any(id in advice.rules for _, advice in advices)},
    }


def _plain(case: Case) -> dict[str, Any]:
    said = asdict(case)
    return {**said, "have": sorted(case.have), "must": sorted(case.must)}


def _option_json(option: Option) -> dict[str, Any]:
    found = [{"rule": id, "text": f.text, "change": f.change or None} for id, f in option.findings]
    trains = option.name not in STEPS
    return {
        "name": option.name,
        "verdict": option.verdict.words,
        "trains": trains,
        "then": option.then or None,
        "rules": option.rules,
        "findings": found,
    }


def _rule(id: str) -> dict[str, str]:
    found = RULES[id]
    return {"when": found.condition, "then": found.conclusion, "both": found.both, "source": found.source}


def rule_lines(ids: Sequence[str]) -> list[str]:
    """Rules with their conditions and sources."""
    from tunesmith.commands import paragraph

    shown: list[str] = []
    for id in ids:
        found = RULES[id]
        shown.append(paragraph(f"When {found.condition}:", indent=5, first=f"{click.style(f'{id:<3}', bold=True)}  "))
        shown.append(paragraph(found.conclusion, indent=5))
        if found.both:
            shown.append(paragraph(f"Both sides: {found.both}", indent=5))
        shown.append(paragraph(f"Source: {found.source}", indent=5))
        shown.append("")
    return shown[:-1]
