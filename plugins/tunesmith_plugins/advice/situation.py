"""The case that the command line and the files make together, with what had to be assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import ConfigError
from tunesmith_plugins.advice import reading
from tunesmith_plugins.advice.case import LONGEST, Case, Machine, count

if TYPE_CHECKING:
    from tunesmith import DataSpec
    from tunesmith.commands import Registry
    from tunesmith.data.encoding import Encoder
    from tunesmith_plugins.advice.reading import Seen

SIZES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
USUAL_GOAL = {"text": "domain", "demonstration": "task", "pair": "style", "label": "style", "prompt": "reasoning"}
"""What such data is mostly for."""


def number(text: str, what: str) -> float:
    """``7B``, ``20e9`` or ``1,000``. Raises `ConfigError` for anything else."""
    match = re.fullmatch(r"\s*([\d.,_]+(?:e\+?\d+)?)\s*([kmbt])?\s*", text, re.IGNORECASE)
    try:
        value = float(match[1].replace(",", "").replace("_", "")) if match else 0.0
    except ValueError:
        value = 0.0
    if match is None or value <= 0:
        raise ConfigError(f"{what}: {text!r} is no number", fix="write it like 7B, 300M or 2e10")
    return value * SIZES.get((match[2] or "").lower(), 1.0)


@dataclass(slots=True)
class Situation:
    """What is known.

    Attributes:
        case: without a goal where none was named and the data tells none.
        goals: to advise on.
        seen: the sources that were read.
        specs: of the same sources.
        model: as it was named.
        real_model: True where it is a folder, a file or a hub name, and not a size.
        assumed: what was not said, as sentences.
        checker: the reward that fits the prompts, as the user would write it.
        general: text to mix in, and ``gpu`` the card, as they were named.
    """

    case: Case
    goals: tuple[str, ...]
    seen: list[Seen] = field(default_factory=list)
    specs: list[DataSpec] = field(default_factory=list)
    model: str | None = None
    real_model: bool = False
    assumed: list[str] = field(default_factory=list)
    checker: str | None = None
    general: str | None = None
    gpu: str | None = None


def look(registry: Registry, goals: Sequence[str], options: Mapping[str, Any]) -> Situation:
    """Read the model's config and the data. No weights are loaded.

    Raises:
        ConfigError: an option makes no sense.
        DataError: rows cannot be read, or fit no format.
        ResourceError: there is no such model.
    """
    from tunesmith.commands import data_spec, reward_named

    found = Situation(Case(goal=""), tuple(goals), model=options["model"])
    found.general, found.gpu = options["general"], options["gpu"]
    if found.general:
        data_spec(registry, found.general)  # refused here rather than in the run
    parameters = _parameters(found, options["model"])
    encoder = _encoder(found) if options["words"] else None
    for word in options["words"]:
        spec = data_spec(registry, word, options["columns"], options["format"])
        found.specs.append(spec)
        found.seen.append(reading.read(registry, word, spec, encoder))
    if options["verifier"]:
        reward_named(registry, options["verifier"])  # refused here rather than in the run
    found.checker = options["verifier"] or next((name for one in found.seen for name in one.checkers), None)
    found.case = Case(
        goal="",
        parameters=parameters,
        start=options["start"] or _start(found, encoder),
        adapter=options["adapter"],
        machine=_machine(found, options),
        have=frozenset([*options["have"], *(["general"] if options["general"] else [])]),
        must=frozenset(options["must"]),
        verifier=options["verifier"],
        pass_rate=options["pass_rate"],
        overlap=_overlap(registry, found, options),
        **_amounts(found.seen),
    )
    _assume(found)
    if not found.goals:
        found.goals = (_usual(found),)
    return found


def _parameters(found: Situation, model: str | None) -> float | None:
    if model is None:
        return None
    if re.fullmatch(r"[\d.]+\s*[kmbtKMBT]", model.strip()) and not Path(model).exists():
        return number(model, "--model")
    from tunesmith.plan.model import find, parameters_of

    found.real_model = True
    return float(parameters_of(find(model)))


def _encoder(found: Situation) -> Encoder | None:
    from tunesmith.commands import encoder

    if not found.real_model or found.model is None:
        return None
    try:
        return encoder(found.model)
    except ConfigError as error:  # a config alone, from which a model is to be made
        found.assumed.append(f"{CHARACTERS}: {error}".splitlines()[0])
        return None


CHARACTERS = f"{reading.CHARACTERS_PER_TOKEN:g} characters make a token"


def _start(found: Situation, encoder: Encoder | None) -> str | None:
    """A chat template mostly means that somebody fine-tuned the model."""
    if encoder is None or encoder.tokenizer.chat_template is None:
        return None
    found.assumed.append("the model was fine-tuned, as it has a chat template (--start base if not)")
    return "tuned"


def _machine(found: Situation, options: Mapping[str, Any]) -> Machine:
    if options["gpu"] is None:
        return Machine(options["gpus"], hours=options["hours"])
    from tunesmith.plan.hardware import find

    device = find(options["gpu"])
    if "assumed" in device.name:
        found.assumed.append(device.name)
    return Machine(options["gpus"], device.memory / 1e9, device.flops, options["hours"])


def _overlap(registry: Registry, found: Situation, options: Mapping[str, Any]) -> float | None:
    from tunesmith.commands import data_spec

    if not options["eval_data"] or not found.specs:
        return None
    held_out = data_spec(registry, options["eval_data"], options["columns"], options["format"])
    return reading.overlapping(registry, found.specs, held_out)


def _amounts(seen: Sequence[Seen]) -> dict[str, Any]:
    """Rows and tokens by shape, and shares of what is wrong with them."""
    by: dict[str, list[Seen]] = {}
    for one in seen:
        by.setdefault(one.shape, []).append(one)
    audits = [one.audit for one in seen]
    rows = max(1, sum(audit.rows for audit in audits))
    pairs, labels, prompts = by.get("pair", []), by.get("label", []), by.get("prompt", [])
    compared = sum(one.audit.balance.compared for one in pairs)
    same = sum(audit.balance.same for audit in audits)
    texts = by.get("text", [])
    fertilities = [one.fertility for one in texts if one.fertility is not None]
    return {
        "text_tokens": sum(one.tokens for one in texts) if texts else None,
        "demos": _rows(by.get("demonstration")),
        "traces": _mean(by.get("demonstration", []), "traces"),
        "pairs": _rows(pairs),
        "longer": sum(one.audit.balance.longer for one in pairs) / compared if compared else None,
        "good": sum(one.audit.balance.good for one in labels) if labels else None,
        "bad": sum(one.audit.balance.bad for one in labels) if labels else None,
        "prompts": _rows(prompts),
        "checkable": reading.share(bool(one.checkers) for one in prompts) if prompts else 0.0,
        "others": {shape: _rows(some) or 0 for shape, some in by.items() if shape not in reading.SHAPES},
        "duplicates": sum(audit.duplicates for audit in audits) / rows,
        "empty": sum(audit.empty for audit in audits) / rows,
        "overlong": sum(
            one.audit.unit == "tokens" and size > LONGEST
            for one in seen
            if one.shape != "text"
            for size in one.audit.lengths
        )
        / rows,
        "identical": same / max(1, compared + same),
        "refused": sum(audit.problems.count for audit in audits),
        "conflicts": sum(audit.balance.conflicts for audit in audits),
        "fertility": max(fertilities, default=None),
        "unended": any(one.unended for one in seen),
        "train_tokens": sum(one.tokens for one in seen if one.shape != "prompt") or None,
    }


def _rows(seen: Sequence[Seen] | None) -> int | None:
    return sum(one.audit.usable for one in seen) if seen else None


def _mean(seen: Sequence[Seen], name: str) -> float:
    rows = sum(one.audit.usable for one in seen)
    return sum(getattr(one, name) * one.audit.usable for one in seen) / max(1, rows)


def _assume(found: Situation) -> None:
    case = found.case
    if found.seen and any(one.audit.unit == "characters" for one in found.seen):
        found.assumed.append(f"{CHARACTERS}; with --model FOLDER its tokenizer counts them")
    if not found.seen:
        found.assumed.append("no data was named (--data): what follows says what to look for")
    if case.parameters is None:
        found.assumed.append("a model of 7B to 70B parameters, which the volumes of the cards are meant for (--model)")
    elif case.parameters < 7e9:
        told = count(case.parameters)
        found.assumed.append(f"volumes are those of models of 7B to 70B parameters; for {told} they were not verified")
    if case.machine.gigabytes is None:
        found.assumed.append("memory and time will do (--gpu, --gpus, --hours)")
    if case.prompts is not None and case.verifier is None and found.checker:
        found.assumed.append(f"answers are judged by {found.checker}, whose columns the rows have (--verifier)")


def _usual(found: Situation) -> str:
    if not found.seen:
        raise ConfigError("say what training is for, or what data there is", fix="--goal GOAL or --data DATA")
    shape = found.seen[0].shape
    goal = USUAL_GOAL.get(shape)
    if goal is None:
        raise ConfigError(f"say what training on {found.seen[0].example.__name__} is for", fix="--goal GOAL")
    found.assumed.append(f"the goal is {goal}, which such data is mostly for (--goal)")
    return goal
