"""The run file that follows from advice, and the commands that come next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith import ConfigError
from tunesmith_plugins.advice.case import LONGEST
from tunesmith_plugins.advice.engine import STEPS, Advice, Facts, Methods, Option, Verdict
from tunesmith_plugins.advice.memory import forms, needed

if TYPE_CHECKING:
    from tunesmith.commands import Registry
    from tunesmith_plugins.advice.case import Case
    from tunesmith_plugins.advice.reading import Seen
    from tunesmith_plugins.advice.situation import Situation

MODEL, TEXT = "MODEL", "GENERAL_TEXT"
"""What stands in a command for what was not named."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A run file, or why there is none.

    Attributes:
        method: that it runs.
        settings: of the run file; empty where there is none.
        why_not: why there is none.
    """

    method: str = ""
    settings: Mapping[str, Any] | None = None
    why_not: str = ""


def trainable(advice: Advice) -> Option | None:
    """The first option that trains something and is not refused."""
    found = (o for o in advice.options if o.name not in STEPS and o.verdict >= Verdict.POSSIBLE)
    return next(found, None)


def recipe(registry: Registry, situation: Situation, case: Case, advice: Advice, methods: Methods) -> Recipe:
    """The run file of the first option that trains something; it is resolved, so that it is known to be complete."""
    from tunesmith.commands import resolve

    chosen = trainable(advice)
    if chosen is None:
        return Recipe(why_not="nothing should be trained yet")
    facts = methods[chosen.name]
    sources = [_source(one, situation.specs[i], facts) for i, one in enumerate(situation.seen)]
    data = [source for source in sources if source is not None]
    if not data:
        return Recipe(chosen.name, why_not=f"{chosen.name} needs data that is not there yet")
    settings: dict[str, Any] = {"method": chosen.name, "model": situation.model if situation.real_model else MODEL}
    settings["data"] = data[0] if len(data) == 1 else data
    settings |= _form(case, methods, facts) | _length(situation.seen, facts)
    if chosen.name == "cpt":
        if situation.general is None:
            return Recipe(chosen.name, why_not="cpt mixes general text in: name it with --general DATA")
        settings |= {"replay": situation.general, "replay_share": 0.25 if case.goal == "language" else 0.15}
    if facts.consumes == "prompt":
        if situation.checker is None and "rm" not in case.have:
            return Recipe(chosen.name, why_not=f"{chosen.name} needs a reward (--verifier)")
        settings["rewards"] = _reward(situation.checker)
    try:
        resolve(registry, settings)
    except ConfigError as error:
        return Recipe(chosen.name, why_not=f"a run of {chosen.name} takes more than is known: {error}".splitlines()[0])
    return Recipe(chosen.name, settings)


def _reward(checker: str | None) -> Any:
    """The reward as a run file names it; a reward model where no program checks."""
    from tunesmith.commands import parse_value

    if checker is None:
        return {"name": "reward-model", "model": "REWARD_MODEL"}
    return parse_value(checker) if checker.lstrip().startswith("{") else checker


def _source(seen: Seen, spec: Any, facts: Facts) -> Any:
    """The source as a run file names it, where the method takes its rows, or can be made to."""
    columns = dict(spec.map)
    said: dict[str, Any] = {}
    if seen.shape == facts.consumes or seen.example.__name__ == facts.consumes:
        said = {"map": columns} if columns else {}
    elif facts.consumes == "demonstration" and seen.shape == "pair" and seen.audit.format == "preference":
        return None if columns else _chosen(seen)
    else:
        return None
    if seen.word.lstrip().startswith("{"):
        from tunesmith.commands import parse_value

        return {**parse_value(seen.word), **said}
    return {"path": seen.word, **said} if said else seen.word


def _chosen(seen: Seen) -> Any:
    """Pairs of texts, read as prompts with their chosen answers."""
    return {"path": seen.word, "format": "prompt-completion", "map": {"completion": "chosen"}}


def _form(case: Case, methods: Methods, facts: Facts) -> dict[str, Any]:
    """An adapter where the method takes one, on 4 bits where nothing else fits."""
    open_forms = [form for form in forms(case, methods, facts.name) if case.adapter != "auto" or form != "none"]
    if not facts.adaptable or not open_forms or open_forms == ["none"]:
        return {}
    total = case.machine.total
    sizes = {form: needed(case, methods, facts.name, form) for form in open_forms}
    fitting = [form for form, size in sizes.items() if total is None or size is None or size <= total]
    form = (fitting or open_forms[-1:])[0]
    if form == "none":
        return {}
    return {"adapter": "lora", **({"quantize": "4bit"} if form == "4bit" else {})}


def _length(seen: Sequence[Seen], facts: Facts) -> dict[str, Any]:
    """Room for the longest row, where the usual limit would refuse it; texts are split."""
    if facts.consumes == "text":
        return {"overlong": "split"}
    longest = max((max(one.audit.lengths, default=0) for one in seen if one.audit.unit == "tokens"), default=0)
    return {"max_length": 64 * math.ceil(longest / 64)} if longest > LONGEST else {}


# ------------------------------------------------------------------------------------------------ what comes next
def commands(
    situation: Situation, case: Case, advice: Advice, made: Recipe, path: str, known: Sequence[str]
) -> list[str]:
    """What to type next, the first first. ``path``: of the run file; ``known``: commands that there are."""
    model = shlex.quote(situation.model) if situation.real_model and situation.model else MODEL
    words = [shlex.quote(one.word) for one in situation.seen]
    found = _vocabulary(situation, model) if advice.first.name == "vocabulary" else []
    if words and any(finding.stop for _, finding in advice.checks):
        found.append(f"tunesmith data check {' '.join(words)}")
    found += _baseline(situation, case, model)
    if made.settings is not None:
        file = shlex.quote(path)
        machine = f" --gpu {situation.gpu} --gpus {case.machine.devices}" if situation.gpu else ""
        found += [f"tunesmith plan {file}{machine}"] if "plan" in known and situation.real_model else []
        found += [f"tunesmith run {file} --dry-run", f"tunesmith run {file}"]
    elif made.method:
        found.append(f"tunesmith show {made.method}")
    if advice.first.then and advice.first.then not in STEPS:
        found.append(f"tunesmith show {advice.first.then}")
    if case.goal == "pretrain":
        size = shlex.quote(situation.model) if situation.model else "1B"
        found.append(f"tunesmith budget pt --model {size}")
    return found or [f"tunesmith data check {word}" for word in words]


def _vocabulary(situation: Situation, model: str) -> list[str]:
    texts = [shlex.quote(one.word) for one in situation.seen if one.shape == "text"]
    return [f"tunesmith vocab expand {model} --data {texts[0] if texts else 'TEXT'} --pieces 10000 --output expanded"]


def _baseline(situation: Situation, case: Case, model: str) -> list[str]:
    """What to measure before anything is trained."""
    prompts = [shlex.quote(one.word) for one in situation.seen if one.shape == "prompt"]
    if prompts and situation.checker:
        limit = "--limit 100 " if case.pass_rate is None else ""
        return [f"tunesmith eval {model} --data {prompts[0]} {limit}--reward {shlex.quote(situation.checker)}"]
    if case.goal in ("facts", "domain", "task", "format"):
        return [f"tunesmith eval {model} --data QUESTIONS --reward exact-match"]
    return []
