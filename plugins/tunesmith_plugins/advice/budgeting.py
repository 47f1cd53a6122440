"""``tunesmith budget``: size, tokens, FLOPs and hours of pre-training, or of going on with a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import ConfigError
from tunesmith.scaling import (
    FREE_EPOCHS,
    REFIT,
    TOKENS_PER_PARAMETER,
    USEFUL_EPOCHS,
    UTILISATION,
    Budget,
    by_law,
    by_ratio,
    effective_tokens,
    epochs_for,
    for_service,
    hours,
    inference_flops,
    tokens_by_law,
)
from tunesmith_plugins.advice.case import count, span
from tunesmith_plugins.advice.engine import Facts, Methods
from tunesmith_plugins.advice.reading import facts_of
from tunesmith_plugins.advice.rules.knowledge import LEAST, WHAT
from tunesmith_plugins.advice.situation import number

LIKELY = 1
"""Place of the likely value in what is low, likely and high."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is fixed; ``None``: not said.

    Attributes:
        parameters, tokens, flops: of the model and its training.
        unique: different tokens that there are.
        served: tokens in service.
        devices: that train, and ``peak`` the FLOPs per second of each.
        hours: that may be spent.
    """

    parameters: float | None = None
    tokens: float | None = None
    flops: float | None = None
    unique: float | None = None
    served: float = 0.0
    devices: int = 1
    peak: float | None = None
    hours: float | None = None

    @property
    def compute(self) -> float | None:
        """FLOPs that are fixed, or that the hours give at the likely utilisation."""
        if self.flops is not None or self.hours is None or self.peak is None:
            return self.flops
        return self.hours * 3600 * self.devices * self.peak * UTILISATION[LIKELY]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to spend compute: a rule, what follows from it, and what it costs with service."""

    name: str
    source: str
    budget: Budget
    served: float

    @property
    def total(self) -> float:
        """FLOPs of training and of service."""
        return self.budget.flops + inference_flops(self.budget.parameters, self.served)


def ways(given: Given) -> list[Way]:
    """Sizes and tokens by both laws for what is fixed; with service, the cheapest model of the same loss as well.

    Raises:
        ConfigError: nothing is fixed.
    """
    if given.parameters is not None and given.tokens is not None:
        fixed = Budget(given.parameters, given.tokens)
        found = [Way("as given", "C = 6 N D", fixed, given.served)]
        law = by_law(fixed.flops)
        found.append(Way("least loss for these FLOPs", "law, arXiv:2404.10102", law, given.served))
    elif given.parameters is not None:
        size = given.parameters
        law = Budget(size, tokens_by_law(size))
        ratio = Budget(size, TOKENS_PER_PARAMETER * size)
        found = _both(law, ratio, given.served)
    elif given.tokens is not None:
        ratio = Budget(given.tokens / TOKENS_PER_PARAMETER, given.tokens)
        found = _both(_size_for(given.tokens), ratio, given.served)
    elif given.compute is not None:
        found = _both(by_law(given.compute), by_ratio(given.compute), given.served)
    else:
        raise ConfigError(
            "say what is fixed", fix="--model 1B, --tokens 20B, --flops 1e21, or --gpu h100 --gpus 8 --hours 100"
        )
    if given.served:
        loss = REFIT.loss(found[0].budget.parameters, found[0].budget.tokens)
        cheapest = for_service(loss, given.served)
        found.append(Way("same loss, least with service", "arXiv:2401.00448", cheapest, given.served))
    return found


def _both(law: Budget, ratio: Budget, served: float) -> list[Way]:
    return [
        Way("20 tokens per parameter", "arXiv:2203.15556", ratio, served),
        Way("law, fitted again", "arXiv:2404.10102", law, served),
    ]


def _size_for(tokens: float) -> Budget:
    """The size for which so many tokens are the best use of its compute; `tokens_by_law` grows with the size."""
    low, high = 1e3, 1e15
    while high / low > 1 + 1e-12:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if tokens_by_law(middle) < tokens else (low, middle)
    return Budget(low, tokens)


def repetition(given: Given, wanted: float) -> list[str]:
    """What repeated text is worth, where there is less than wanted."""
    if given.unique is None or given.unique >= wanted:
        return []
    passes = wanted / given.unique
    worth = effective_tokens(given.unique, passes)
    told = [f"{count(wanted)} tokens are {passes:.1f} passes over {count(given.unique)}, worth {count(worth)} new ones"]
    equal = epochs_for(given.unique, wanted)
    if passes > USEFUL_EPOCHS:
        told.append(
            "warning: beyond 16 passes there is hardly anything left to gain: take a smaller model or more text"
        )
    elif passes > FREE_EPOCHS:
        told.append("warning: beyond 4 passes repeated tokens are worth clearly less than new ones")
    if math.isfinite(equal):
        told.append(f"to be worth {count(wanted)} it takes {equal:.1f} passes")
    return told


# ------------------------------------------------------------------------------------------------ the command
def budget(options: Mapping[str, Any]) -> None:
    """Run the command. Raises `ConfigError` for numbers that make no sense, or where nothing is fixed."""
    from tunesmith import commands

    given = _given(options)
    methods = facts_of(commands.load_registry())
    if options["method"] == "cpt":
        lines, plain = _going_on(given, options["goal"], methods)
    else:
        lines, plain = _from_scratch(given)
    if options["as_json"]:
        commands.print_json({"schema": 1, "method": options["method"], **plain})
    else:
        commands.echo(lines)


def _given(options: Mapping[str, Any]) -> Given:
    def read(name: str) -> float | None:
        return None if options[name] is None else number(options[name], f"--{name}")

    peak = None
    if options["gpu"] is not None:
        from tunesmith.plan.hardware import find

        peak = find(options["gpu"]).flops
    parameters = None
    if options["model"] is not None and Path(options["model"]).exists():
        from tunesmith.plan.model import find as model_named
        from tunesmith.plan.model import parameters_of

        parameters = float(parameters_of(model_named(options["model"])))
    elif options["model"] is not None:
        parameters = number(options["model"], "--model")
    return Given(
        parameters=parameters,
        tokens=read("tokens"),
        flops=read("flops"),
        unique=read("unique"),
        served=read("serve") or 0.0,
        devices=options["gpus"],
        peak=peak,
        hours=options["hours"],
    )


def _from_scratch(given: Given) -> tuple[list[str], dict[str, Any]]:
    from tunesmith.commands import paragraph, table

    found = ways(given)
    rows, plain = [], []
    for way in found:
        time = _hours(way.budget.flops, given)
        loss = REFIT.loss(way.budget.parameters, way.budget.tokens)
        cells = [way.name, count(way.budget.parameters), count(way.budget.tokens), f"{way.budget.ratio:,.0f}"]
        cells += [f"{way.budget.flops:.2g}", f"{loss:.3f}"] + ([f"{way.total:.2g}"] if given.served else [])
        rows.append(cells)
        plain.append({
            "way": way.name,
            "source": way.source,
            "parameters": way.budget.parameters,
            "tokens": way.budget.tokens,
            "flops": way.budget.flops,
            "flops_with_service": way.total,
            "loss": loss,
            "hours": time,
        })  # fmt: skip
    header = ("way", "model", "tokens", "per param.", "FLOPs", "loss") + (("with service",) if given.served else ())
    lines = [*table(rows, header=header, wrap=0), ""]
    lines += _time_lines({way.name: way.budget.flops for way in found}, given)
    meant = found[0] if given.tokens and not given.served else found[-1]
    repeated = repetition(given, meant.budget.tokens)
    lines += [paragraph(text) for text in repeated] + ([""] if repeated else [])
    return [*lines, *_notes(found)], {"ways": plain, "repetition": repeated}


def _notes(found: list[Way]) -> list[str]:
    from tunesmith.commands import paragraph

    sources = "; ".join(dict.fromkeys(f"{way.name}: {way.source}" for way in found))
    notes = [
        f"Sources: {sources}.",
        "The loss is the law's, in nats per token of its own data; only differences mean something. For long service "
        "models are trained far beyond the least compute: Llama 3 8B on about 1,900 tokens per parameter.",
    ]
    return [paragraph(note) for note in notes]


def _hours(flops: float, given: Given) -> dict[str, float] | None:
    if given.peak is None:
        return None
    low, likely, high = hours(flops, given.devices, given.peak)
    return {"low": low, "likely": likely, "high": high}


def _time_lines(flops: Mapping[str, float], given: Given) -> list[str]:
    from tunesmith.commands import table

    if given.peak is None:
        return ["Time: say --gpu and --gpus", ""]
    rows = []
    for name, amount in flops.items():
        low, likely, high = hours(amount, given.devices, given.peak)
        rows.append(
            (
                name,
                span(low),
                span(likely),
                span(high),
                f"{likely * given.devices:,.0f}" if likely * given.devices >= 10 else f"{likely * given.devices:.2g}",
            )
        )
    return [*table(rows, header=("way", "low", "likely", "high", "GPU hours"), wrap=0), ""]


def _going_on(given: Given, goal: str, methods: Methods) -> tuple[list[str], dict[str, Any]]:
    from tunesmith.commands import paragraph, table

    if given.parameters is None:
        raise ConfigError("say which model goes on", fix="--model 7B, or its folder")
    facts: Facts | None = methods.get("cpt")
    volume = facts.volume(goal) if facts else None
    low, high = (float(volume.low), float(volume.high)) if volume else (LEAST[goal], 5 * LEAST[goal])
    amounts = {"as given": given.tokens} if given.tokens else {"least that is usual": low, "most that is usual": high}
    replay = 0.25 if goal == "language" else 0.15
    rows, plain, flops = [], [], {}
    for name, amount in amounts.items():
        assert amount is not None
        total = Budget(given.parameters, amount)
        flops[name] = total.flops
        text = (1 - replay) * amount
        rows.append((name, count(amount), count(text), count(replay * amount), f"{total.flops:.2g}"))
        plain.append({
            "way": name,
            "tokens": amount,
            "domain_tokens": text,
            "replay_tokens": replay * amount,
            "flops": total.flops,
            "hours": _hours(total.flops, given),
            "repetition": repetition(given, text),
        })  # fmt: skip
    header = ("tokens", "in all", "of yours", "replay", "FLOPs")
    lines = [f"{count(given.parameters)} parameters go on with {WHAT[goal]}", ""]
    lines += [*table(rows, header=header, wrap=0), "", *_time_lines(flops, given)]
    for row in plain:
        lines += [paragraph(f"{row['way']}: {text}") for text in row["repetition"]]
    share = "25-50% replay for a new language" if goal == "language" else "10-20% replay"
    note = f"All weights, 6 N D; {share} (rule K3); volumes from the card of cpt. Repetition: arXiv:2305.16264."
    return [*lines, paragraph(note)], {"parameters": given.parameters, "ways": plain}
