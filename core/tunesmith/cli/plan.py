"""``tunesmith plan``: memory and time of a run before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.aliases import given_aliases, translate
from tunesmith.cli.common import plugin_options
from tunesmith.cli.options import RunCommand, given
from tunesmith.cli.run import RunGroup, Target, load_plugins, target_of
from tunesmith.components import Method
from tunesmith.errors import ConfigError
from tunesmith.plugins import Registry

if TYPE_CHECKING:
    from tunesmith.config import Layers, Run
    from tunesmith.plan.account import Memory
    from tunesmith.plan.memory import Estimate

QLORA = {"qlora": "lora", "qdora": "dora"}


class PlanGroup(RunGroup):
    """Its commands are the registered methods, and every run file."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a method or of a run file. Raises `ConfigError` when there is no such method."""
        target = target_of(cmd_name)
        if target.stages:
            raise ConfigError(
                f"{cmd_name} is a file of several stages", fix="plan each of them: tunesmith plan METHOD ..."
            )
        registry = load_plugins(target)
        cls = cast(type[Method], registry.get("method", target.method))
        summary = f"Memory and time of {target.path or target.method}, before anything is loaded."
        usage = "[SETTINGS]" if target.path else "--model MODEL|config.json|SIZE [--gpu 24GB] [SETTINGS]"
        command = RunCommand(cmd_name, cls, usage=usage, summary=summary, callback=_callback(target, registry))
        return _with_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """``--adapter qlora`` is an adapter on a base of 4 bits."""
        return super().resolve_command(ctx, [args[0], *_spelled_out(args[1:])])


def _spelled_out(args: Sequence[str]) -> list[str]:
    words = list(args)
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--adapter" and value in QLORA:
            return [*words[:i], f"--adapter={QLORA[value]}", "--quantize=4bit", *words[i + 1 :]]
        if word == "--adapter" and not equals and i + 1 < len(words) and words[i + 1] in QLORA:
            return [*words[: i + 1], QLORA[words[i + 1]], "--quantize=4bit", *words[i + 2 :]]
    return words


def _with_options(command: RunCommand) -> RunCommand:
    """Add the options of a plan; those of a run that mean nothing here go, and so does what they would hide."""
    own = [
        click.Option(["--gpu"], metavar="24GB|NAME|cpu", help="The device; by default that of this machine."),
        click.Option(["--gpus"], type=click.IntRange(min=1), default=1, help="How many.  [default: 1]"),
        click.Option(["--prompt-tokens"], type=click.IntRange(min=0), default=0, help="Tokens of the longest prompt."),
        click.Option(["--rows"], type=click.IntRange(min=1), help="Rows of the data, for the time of the whole run."),
        click.Option(
            ["--reward-model", "judge"], metavar="MODEL", help="A reward model on the device; same: as --model."
        ),
        click.Option(["--against"], metavar="METHOD,...", help="Other methods, in a table beside this one."),
        click.Option(["--trace"], is_flag=True, help="Run all layers once on tensors without memory, and compare."),
        click.Option(["--probe", "--measure", "measure"], is_flag=True, help="Run a step for real here, and compare."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON for programs."),
    ]
    taken = {name for option in own for name in option.opts}
    gone = {"--dry-run", "--resume", "--overwrite"}
    kept = [p for p in command.params if not (set(p.opts) & (taken | gone))]
    command.params = [*kept, *own]
    return command


@click.group("plan", cls=PlanGroup, subcommand_metavar="METHOD|FILE [SETTINGS]...", invoke_without_command=True)
@plugin_options
@click.pass_context
def plan(ctx: click.Context) -> None:
    """Memory and time of a run, from the model's config alone: nothing is loaded or downloaded but that.

    \b
    tunesmith plan METHOD --model 7B --gpu 24GB --adapter qlora
    tunesmith plan FILE.yaml --gpu 80GB --gpus 8
    tunesmith plan METHOD --model MODEL --against METHOD,METHOD

    It takes the settings of `tunesmith run`; a method's setting called probe is given with --set probe=...
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _callback(target: Target, registry: Registry) -> Callable[..., None]:
    return lambda **params: _plan(click.get_current_context(), target, registry, params)


def _plan(ctx: click.Context, target: Target, registry: Registry, params: Mapping[str, Any]) -> None:
    from tunesmith.models.loading import quiet_transformers
    from tunesmith.plan import hardware
    from tunesmith.plan.assumed import resolved
    from tunesmith.plan.memory import Estimate

    quiet_transformers()
    method = cast(type[Method], registry.get("method", target.method))
    layers = _layers(target, translate(given_aliases(params), given(ctx), method).flags, params)
    device = hardware.find(params["gpu"]) if params["gpu"] else hardware.here()
    run, notes = resolved(registry, target.method, layers, params["judge"])
    others = [word.strip() for word in (params["against"] or "").split(",") if word.strip()]
    for name in others:
        registry.get("method", name)
    estimate = Estimate(device, params["gpus"], params["prompt_tokens"])
    memory = estimate.of(run)
    memory.notes[:0] = notes
    facts = _facts(run, memory, estimate, params)
    facts["against"] = _against(registry, layers, estimate, others, params["judge"])
    lost = facts["ladder"] and facts["ladder"][0]["bytes"] > facts["limit"]
    facts["instead"] = _instead(registry, layers, estimate, memory, run, params["judge"]) if lost else []
    if params["trace"]:
        whole = Estimate(device, params["gpus"], params["prompt_tokens"], whole=True)
        facts["traced"] = whole.of(run).total
    if params["measure"]:
        facts["measured"] = _measured(registry, target, layers)
    if params["as_json"]:
        terminal.print_json({"schema": 1, **facts})
        return
    click.echo("\n".join(_page(run, memory, estimate, facts)))


def _layers(target: Target, flags: Mapping[str, Any], params: Mapping[str, Any]) -> Layers:
    from tunesmith.config import Layers

    return Layers(
        preset=params["preset"], file=target.content, path=target.path, overrides=params["overrides"], flags=flags
    )


def _facts(run: Run, memory: Memory, estimate: Estimate, params: Mapping[str, Any]) -> dict[str, Any]:
    from dataclasses import asdict

    from tunesmith.plan import ladder, page
    from tunesmith.plan.duration import step_time

    device = estimate.device
    facts = page.as_dict(memory, device, run)
    limit = page.room(device)
    fits = facts["verdict"] == "fits"
    facts["limit"] = limit
    facts["ladder"] = (
        [] if fits else [{**asdict(rung), "flags": rung.flags} for rung in ladder.climb(run, estimate, limit)]
    )
    facts["sharded"] = {} if estimate.devices == 1 else ladder.sharded(memory, estimate.devices)
    step = step_time(memory, run, device, estimate.devices)
    steps = run.settings.max_steps or (
        params["rows"] * run.settings.epochs / run.settings.batch_size if params["rows"] else None
    )
    facts["seconds"] = {"step": asdict(step), "steps": steps}
    facts["notes"] = [*memory.notes, *_assumptions(run, memory, estimate)]
    return facts


def _assumptions(run: Run, memory: Memory, estimate: Estimate) -> list[str]:
    """What was taken for granted."""
    from tunesmith.plan.region import outside

    policy = memory.held[0]
    notes = []
    if policy.blueprint.made_up:
        text = policy.blueprint.text
        notes.append(
            f"{policy.blueprint.name}: a Llama-like model of {policy.blueprint.layers} layers of {text.hidden_size}, "
            f"{text.vocab_size:,} tokens in the vocabulary; --model config.json for your own"
        )
    tokens, longest = sum(texts.tokens for texts in memory.part), max(texts.tokens for texts in memory.part)
    notes.append(f"rows are as long as the settings let them: {tokens:,} tokens in a part of a step")
    if longest > run.settings.micro_tokens:
        notes.append(f"answers to one prompt are computed together: {longest:,} tokens, more than micro_tokens")
    dtype = "bf16" if policy.setup.autocast else "fp32"
    notes.append(f"computed in {dtype}; trained weights and their states, and copies of models, are kept in fp32")
    if policy.setup.quantize != "none":
        notes.append("quantised weights are made whole one at a time: there is room for the largest (working memory)")
    if estimate.devices > 1:
        notes.append("every device holds all models and a share of the rows: runs do not shard")
    unmeasured = outside(run, memory, estimate.device, estimate.devices)
    if unmeasured:
        notes.append(
            f"outside the validated region: {', '.join(unmeasured)}; predictions were held against runs of small "
            "models on a processor in fp32"
        )
    return notes


def _against(
    registry: Registry, layers: Layers, estimate: Estimate, names: Sequence[str], judge: str | None
) -> list[dict[str, Any]]:
    """The same run with other methods."""
    from tunesmith.plan import page
    from tunesmith.plan.assumed import resolved
    from tunesmith.plan.duration import step_time
    from tunesmith.settings import RunSettings

    rows = []
    for name in names:
        cls = cast(type[Method], registry.get("method", name))
        known = {*RunSettings.model_fields, *cls.model_fields}
        kept = {key: value for key, value in {**layers.file, **layers.flags}.items() if key in known}
        other, _ = resolved(registry, name, type(layers)(flags=kept), judge)
        memory = estimate.of(other)
        step = step_time(memory, other, estimate.device, estimate.devices)
        states = sum(h.states.weights + h.states.gradients + h.states.optimizer for h in memory.held)
        rows.append(
            {"method": name, "states": states, "total": memory.total, "peak_phase": memory.peak.name,
             "step": step.likely, "verdict": page.verdict(memory, estimate.device),
             "models": [held.role for held in memory.held]}
        )  # fmt: skip
    return rows


def _instead(
    registry: Registry, layers: Layers, estimate: Estimate, memory: Memory, run: Run, judge: str | None
) -> list[dict[str, Any]]:
    """Methods that learn from the same rows and need less, with the same settings; the smallest first."""
    from tunesmith.errors import TunesmithError

    found: list[dict[str, Any]] = []
    for name in registry.names("method"):
        cls = cast(type[Method], registry.get("method", name))
        if (
            name == run.method.name
            or cls.consumes is not run.method.consumes
            or not cls.model_fields.keys() >= ({"rewards"} & type(run.method).model_fields.keys())
        ):
            continue
        try:
            found += _against(registry, layers, estimate, [name], judge)
        except TunesmithError:  # it cannot be run with these settings
            continue
    return sorted((row for row in found if row["total"] < 0.95 * memory.total), key=lambda row: row["total"])[:3]


def _measured(registry: Registry, target: Target, layers: Layers) -> Mapping[str, Any]:
    """A step of the longest rows, for real."""
    from tunesmith.config import resolve
    from tunesmith.runner.first_step import measure

    return measure(resolve(registry, target.method, layers), registry)


# ---------------------------------------------------------------------------------------------- text
def _page(run: Run, memory: Memory, estimate: Estimate, facts: Mapping[str, Any]) -> list[str]:
    from tunesmith.plan import page
    from tunesmith.plan.duration import Range, said

    device = estimate.device
    many = f" x {estimate.devices}" if estimate.devices > 1 else ""
    lines = [
        f"{run.method.name} of {run.settings.model} on {device.name}{many}: peak in the phase {memory.peak.name!r}",
        "",
    ]
    lines += [*page.table(memory.peak, device), ""]
    lines.append(
        f"{facts['verdict']}: {page.size(memory.total)} of {page.size(device.memory)} GB "
        f"(range {page.size(facts['low'])} to {page.size(facts['high'])})"
    )
    lines.append(f"by phase, GB: {page.phases(memory)}")
    step = Range(**facts["seconds"]["step"])
    lines += [page.times(step, facts["seconds"]["steps"])]
    if facts["ladder"]:
        lines += ["", *_rungs(facts["ladder"], facts["limit"])]
    if facts["instead"]:
        lines += ["", "methods that learn from the same rows and need less:", *_comparison(facts["instead"])]
    for name, value in facts["sharded"].items():
        lines.append(f"{name} over {estimate.devices}: {page.size(value)} GB on each (computed; runs do not shard)")
    if facts["against"]:
        lines += ["", *_comparison(facts["against"])]
    if "traced" in facts:
        lines += [
            "",
            f"traced through all layers: {page.size(facts['traced'])} GB, predicted {page.size(memory.total)}",
        ]
    if "measured" in facts:
        own = facts["measured"]
        lines += ["", f"measured: {page.size(own['bytes'])} GB in a step of {said(own['seconds'])}, of {own['what']}"]
        lines.append(f"predicted: {page.size(memory.total)} GB ({memory.total / own['bytes'] - 1:+.1%})")
    lines += ["", "assumed"]
    lines += [terminal.paragraph(note, indent=4, first="  - ") for note in facts["notes"]]
    return lines


def _rungs(rungs: Sequence[Mapping[str, Any]], limit: float) -> list[str]:
    """The changes, what they bring and what they cost."""
    from tunesmith.plan.page import size

    fits = rungs[0]["bytes"] <= limit
    lines = ["smallest changes that fit:" if fits else "no set of up to four changes fits; the nearest:"]
    for rung in rungs:
        slower = f"; a step takes {rung['slower']:.2g}x the time" if abs(rung["slower"] - 1) >= 0.05 else ""
        lines.append(terminal.paragraph(rung["flags"], indent=12, first=f"  {size(rung['bytes']):>5} GB  "))
        lines.append(terminal.paragraph(f"{rung['cost']}{slower}", indent=12, first=" " * 12))
    return lines


def _comparison(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    from tunesmith.plan.duration import said
    from tunesmith.plan.page import size

    cells = [
        (
            row["method"],
            " ".join(row["models"]),
            size(row["states"]),
            size(row["total"]),
            said(row["step"]),
            row["verdict"],
        )
        for row in rows
    ]
    header = ("method", "models", "states GB", "peak GB", "step", "")
    return terminal.table(cells, header=header, wrap=1)
