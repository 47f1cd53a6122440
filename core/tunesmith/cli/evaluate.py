"""``tunesmith eval``: how often models are right on the same prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.sandbox import unsandboxed_option
from tunesmith.cli.score import reward_of
from tunesmith.cli.sources import data_spec
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.components import Generator
    from tunesmith.plugins import Registry
    from tunesmith.runner.measure import Estimate, Measured, Plan


@click.command("eval")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--data", metavar="DATA", help="Prompts that the models were not trained on.")
@click.option("--reward", "rewards", metavar="REWARD", multiple=True, help="What judges the answers.")
@click.option("--text", metavar="DATA", help="Held-out documents: report the loss per token on them.")
@click.option("--format", metavar="NAME", help="Row format; found by looking at the rows when not given.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Answer at most this many prompts.")
@click.option("--samples", type=click.IntRange(min=0), default=8, show_default=True, help="Sampled answers each.")
@click.option("--greedy/--no-greedy", default=True, show_default=True, help="Also the most probable answer.")
@click.option("--right", type=float, default=1.0, show_default=True, help="A reward of at least this is right.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens at most.")
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of the sampled answers."
)
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Of the sampled answers.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sampled answers.")
@click.option("--generator", default="native", show_default=True, metavar="NAME", help="Engine that samples.")
@click.option("--chat-template", metavar="NAME", help="Chat template for a tokenizer without one.")
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Tokens of a prompt, or of a piece of text, at most.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write every answer as a line.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@unsandboxed_option
@plugin_options
def evaluate(models: tuple[str, ...], as_json: bool, output: Path | None, **options: Any) -> None:
    """Answer the same prompts with one or several models and let rewards judge.

    MODEL is a folder, that of a run as well, or a hub name. Reported are pass@1 of the most probable answers, pass@k of
    sampled ones, and the mean reward, each with a 95% interval over prompts; and for every further model the change
    against the first one, prompt by prompt. With --text also the loss on documents: how well a model still knows what
    it once learned.
    """
    _check(options)
    models = tuple(_model_of(name) for name in models)
    registry = load_registry()
    settings = {"device": options["device"], "chat_template": options["chat_template"]}
    answers: list[dict[str, Any]] = []
    lines: list[str] = []
    if options["data"] is not None:
        answers, lines = _answered(models, registry, settings, options, output)
    if options["text"] is not None:
        losses, said = _scored(models, registry, settings, options)
        answers = [{**one, **other} for one, other in zip(answers or losses, losses, strict=True)]
        lines += ["", *said] if lines else said
    if as_json:
        terminal.print_json(answers)
    else:
        click.echo("\n".join(lines))


def _model_of(name: str) -> str:
    """The model of a run, where its folder is named; anything else stays as it is."""
    folder = Path(name).expanduser()
    return str(folder / "model") if (folder / "run.yaml").is_file() and (folder / "model").is_dir() else name


def _check(options: dict[str, Any]) -> None:
    if options["data"] is None and options["text"] is None:
        raise ConfigError("there is nothing to evaluate on", fix="give prompts with --data, documents with --text")
    if (options["data"] is None) != (not options["rewards"]):
        missing, given = ("--data", "--reward") if options["data"] is None else ("--reward", "--data")
        raise ConfigError(f"{given} needs {missing}", why="answers to prompts are judged by rewards")
    if not options["samples"] and not options["greedy"]:
        raise ConfigError("--samples 0 and --no-greedy leave nothing to answer", fix="leave one of them out")


def _answered(
    models: tuple[str, ...], registry: Registry, settings: dict[str, Any], options: dict[str, Any], output: Path | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """What rewards say of the answers, for programs and for people."""
    from tunesmith.components import Sampling
    from tunesmith.config import build
    from tunesmith.runner.measure import Plan, measure, write_samples

    names = {"max_new_tokens": options["max_new_tokens"], "temperature": options["temperature"]}
    plan = Plan(
        data_spec(registry, options["data"], options["columns"], options["format"]),
        [reward_of(registry, word) for word in options["rewards"]],
        cast("Generator", build(registry, "generator", options["generator"])),
        Sampling(**names, top_p=options["top_p"]),
        samples=options["samples"],
        greedy=options["greedy"],
        right=options["right"],
        limit=options["limit"],
        seed=options["seed"],
        max_length=options["max_length"],
    )
    found = measure(models, plan, registry, settings)
    if output is not None:
        write_samples(found, output)
    return _as_dict(found, plan), _lines(found, plan)


def _scored(
    models: tuple[str, ...], registry: Registry, settings: dict[str, Any], options: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The loss on documents, for programs and for people."""
    from dataclasses import asdict

    from tunesmith.runner.held_out import growth, text_losses

    found = text_losses(models, data_spec(registry, options["text"], (), None), registry, settings,
                        max_length=options["max_length"])  # fmt: skip
    grown = [growth(found[0], one) if i else None for i, one in enumerate(found)]
    known = [
        {
            "model": one.model,
            "text": {"loss": asdict(one.loss), "documents": len(one.tokens), "tokens": int(one.tokens.sum()),
                     "change": asdict(change) if change else None},
        }
        for one, change in zip(found, grown, strict=True)
    ]  # fmt: skip
    rows = [
        (
            one.model,
            _interval(one.loss),
            f"{int(one.tokens.sum()):,}",
            _signed(change) if change else "other tokens" * (i > 0),
        )
        for i, (one, change) in enumerate(zip(found, grown, strict=True))
    ]
    header = ("model", "nats per token", "tokens", "change against the first" if len(found) > 1 else "")
    title = f"{len(found[0].tokens):,} documents; 95% intervals over documents"
    return known, [title, "", *terminal.table(rows, header=header, wrap=0)]


def _as_dict(found: list[Measured], plan: Plan) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from tunesmith.runner.measure import changes, figures

    return [
        {
            "model": one.model,
            "prompts": len(one.greedy) or len(one.sampled),
            "samples": plan.samples,
            **{name: asdict(estimate) for name, estimate in figures(one, plan).items()},
            "mean_length": sum(one.lengths) / max(1, len(one.lengths)),
            "cut_off": one.cut,
            "change": {name: asdict(e) for name, e in changes(found[0], one, plan).items()} if i else None,
        }
        for i, one in enumerate(found)
    ]


def _lines(found: list[Measured], plan: Plan) -> list[str]:
    from tunesmith.runner.measure import changes, figures

    prompts = len(found[0].greedy) or len(found[0].sampled)
    each = f", {plan.samples} samples each" if plan.samples else ""
    lines = [f"{prompts:,} prompts{each}; 95% intervals over prompts", ""]
    header = ("measure", "value", "change against the first" if len(found) > 1 else "")
    rows = []
    for i, one in enumerate(found):
        grown = changes(found[0], one, plan) if i else {}
        for name, estimate in figures(one, plan).items():
            change = _signed(grown[name]) if name in grown else ""
            rows.append((name, _interval(estimate), change))
        cut = f", {one.cut:.1%} cut off" if one.cut else ""
        rows.append(("answers", f"{sum(one.lengths) / max(1, len(one.lengths)):.1f} tokens{cut}", ""))
    table = terminal.table(rows, header=header, wrap=0, indent=2)
    size = len(rows) // len(found)
    lines.append(table[0])
    for i, one in enumerate(found):  # a path may be longer than the terminal is wide, and has a line of its own
        lines += [one.model, *table[1 + i * size : 1 + (i + 1) * size]]
    return lines


def _interval(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _signed(found: Estimate) -> str:
    sure = "" if found.low <= 0 <= found.high else " *"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}){sure}"
