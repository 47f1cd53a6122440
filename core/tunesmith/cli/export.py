"""``tunesmith export``: a model folder for other programs, checked against what it was made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import plugin_options
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.export.compare import Compared
    from tunesmith.export.write import Report

SIZE = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B", re.IGNORECASE)
NEGLIGIBLE = 5e-7
"""Differences below this are written as none."""


@click.command("export")
@click.argument("model", metavar="RUN|MODEL")
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of the result.")
@click.option("--dtype", type=click.Choice(["bf16", "fp16", "fp32"]), help="Of the weights; by default as stored.")
@click.option("--max-shard-size", default="5GB", show_default=True, metavar="SIZE", help="Of a weight file at most.")
@click.option("--merge/--no-merge", default=True, show_default=True, help="Put an adapter into its base.")
@click.option("--gguf", type=click.Path(path_type=Path), metavar="FILE", help="Also one file for llama.cpp.")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="Compare on this; may be given again.")
@click.option("--check-tokens", type=click.IntRange(min=1), default=32, show_default=True, help="Compared per prompt.")
@click.option("--force", is_flag=True, help="Keep an export that does not say what its source says.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model. Read it first.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@plugin_options
def export(model: str, output: Path, max_shard_size: str, as_json: bool, **options: Any) -> None:
    """Write a model for other programs: adapters merged, weights in another dtype, tokenizer and card beside them.

    Before the folder gets its name it is loaded again and must complete a few prompts as its source does, token by
    token; in a lower dtype differences are counted. --gguf needs an installed converter ($LLAMA_CPP or on the PATH).
    """
    if not SIZE.fullmatch(max_shard_size.strip()):
        raise ConfigError(f"--max-shard-size: {max_shard_size!r} is no size", fix="write 500MB or 5GB")
    from tunesmith.export.write import Request, export

    request = Request(
        model,
        output,
        dtype=options["dtype"],
        shard_size=max_shard_size.replace(" ", ""),
        merge=options["merge"],
        gguf=options["gguf"],
        prompts=options["prompts"],
        tokens=options["check_tokens"],
        force=options["force"],
        trust_remote_code=options["trust_remote_code"],
    )
    report = export(request)
    if as_json:
        terminal.print_json(_as_dict(report))
    else:
        click.echo("\n".join(_lines(report)))


def _as_dict(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    said = asdict(report)
    for name in ("merging", "written"):
        one: Compared | None = getattr(report, name)
        if one is not None:
            said[name]["identical"] = one.identical
    return {"schema": 1, **said, "failures": report.failures()}


def _lines(report: Report) -> list[str]:
    size = sum(report.files.values()) / 1e6
    files = f"{len(report.files)} file{'s' * (len(report.files) != 1)}"
    rows = [("ok", "written", f"{report.output}: {report.kind} in {report.dtype}, {files}, {size:,.1f} MB")]
    rows += [_compared("merging", report.merging, exact=True)] if report.merging else []
    rows += [_compared("same words", report.written, exact=report.exact)] if report.written else []
    rows += [(one.status, one.name, one.detail) for one in report.findings]
    if report.gguf is not None:
        rows.append(("ok", "gguf file", str(report.gguf)))
    looks = {"ok": "green", "note": "yellow", "fixed": "yellow", "broken": "red"}
    lines = terminal.table(rows, wrap=2, styles={0: lambda status: {"fg": looks[status]}})
    serve = report.serve or f"vLLM does not: {report.not_served}; export again without --no-merge"
    return [*lines, "", "Serve it:", f"  {serve}"]


def _compared(name: str, found: Compared, *, exact: bool) -> tuple[str, str, str]:
    what, numbers = ("completions", "logits") if found.tokens else ("scores", "scores")
    tokens = f" ({found.tokens:,} tokens)" if found.tokens else ""
    differ = (
        f"{numbers} differ by {found.largest:.2g} at most, {found.mean:.2g} on average"
        if found.largest > NEGLIGIBLE
        else f"{numbers} are equal"
    )
    apart = f" (the source had the two best {found.gap:.2g} apart)" if found.gap is not None else ""
    first = f"; first difference: {found.first}{apart}" if found.first else ""
    status = "ok" if found.identical else "broken" if exact else "note"
    return status, name, f"{found.same} of {found.prompts} {what} are the same{tokens}; {differ}{first}"
