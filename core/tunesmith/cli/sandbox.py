"""``tunesmith doctor sandbox``, and the flag that does without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from tunesmith import unsandboxed
from tunesmith.cli import terminal
from tunesmith.errors import ResourceError

_F = TypeVar("_F", bound=Callable[..., Any])


@click.command("sandbox")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--attacks", is_flag=True, help="Also try to get out of every tier that works; takes about a minute.")
@click.pass_context
def sandbox(ctx: click.Context, as_json: bool, attacks: bool) -> None:
    """Which sandbox this machine has for model-written code; exit code 4 when it has none."""
    from tunesmith.sandbox.probes import probes

    found = probes()
    used = next((probe.tier for probe in found if probe.works), None)
    results = _attacks([probe.tier for probe in found if probe.works]) if attacks else []
    bad = used is None or any(result.result != "stopped" for result in results)
    if as_json:
        content: dict[str, Any] = {"schema": 1, "ok": not bad, "used": used, "tiers": [asdict(p) for p in found]}
        terminal.print_json(content | ({"attacks": [asdict(result) for result in results]} if attacks else {}))
    else:
        _print(found, used, results)
    if bad:
        ctx.exit(ResourceError.exit_code)


def _attacks(tiers: list[Any]) -> list[Any]:
    from tunesmith.sandbox.attacks import attempt_all

    return attempt_all(tiers)


def _print(found: list[Any], used: str | None, results: list[Any]) -> None:
    click.echo(click.style("Sandbox for model-written code, the strongest first", bold=True))
    cells = [
        ("ok" if probe.works else "broken", probe.tier, probe.detail + (f"; {probe.fix}" if probe.fix else ""))
        for probe in found
    ]
    colours = {"ok": "green", "broken": "yellow"}
    for line in terminal.table(cells, wrap=2, indent=2, styles={0: lambda status: {"fg": colours[status]}}):
        click.echo(line)
    none = f"none: model-written code is refused (or, on a machine that you can lose: {unsandboxed.FLAG})"
    click.echo(f"  used: {used or none}")
    if results:
        from tunesmith.sandbox.attacks.table import lines

        click.echo("")
        for line in lines(results):
            click.echo(line)


def unsandboxed_flag() -> click.Option:
    """``--allow-unsandboxed-code``: for the time of one command, and said in red."""
    return click.Option(
        [unsandboxed.FLAG],
        is_flag=True,
        expose_value=False,
        callback=_allow,
        help="Where no sandbox works, run model-written code without one. It can then do whatever you can.",
    )


def unsandboxed_option(command: _F) -> _F:
    """Add the flag to a command that may run model-written code."""
    if isinstance(command, click.Command):
        command.params.append(unsandboxed_flag())
    else:
        vars(command).setdefault("__click_params__", []).append(unsandboxed_flag())
    return command


def _allow(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    unsandboxed.allow()
    ctx.find_root().call_on_close(unsandboxed.withdraw)
    message = f"WARNING: {unsandboxed.FLAG}: where no sandbox works, model-written code runs WITHOUT ONE"
    click.secho(message, fg="red", bold=True, err=True)
