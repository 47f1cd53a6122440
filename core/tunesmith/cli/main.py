"""The command line. Nothing is imported before it is needed: every command is a module of its own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from tunesmith import __version__, unsandboxed
from tunesmith.cli import failures, terminal
from tunesmith.cli.common import COMMANDS, DEBUG_VARIABLE, FIRST, Shared, is_main_process, load_registry, plugin_options
from tunesmith.errors import ConfigError, TunesmithError, did_you_mean
from tunesmith.plugins import GROUP


class Root(click.Group):
    """Imports a command when it is used, and asks plugins for theirs when it is none of ours."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our commands, then those of plugins."""
        return [*COMMANDS, *sorted(load_registry().commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or ``None``."""
        if cmd_name in COMMANDS:
            module, _, attribute = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        owned = load_registry().commands().get(cmd_name)
        return owned[1] if owned else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, except for what is said about an unknown command."""
        command = self.get_command(ctx, args[0].replace("_", "-"))
        if command is not None:
            return command.name, command, args[1:]
        raise _unknown_command(args[0], self.list_commands(ctx))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write our commands from the table, so that help imports none of them.

        A command of our own plugins has a line where it has a short help; the others are named below.
        """
        rows = [(name, COMMANDS[name][1]) for name in FIRST]
        more = [name for name in COMMANDS if name not in FIRST]
        strangers: list[tuple[str, str]] = []
        for name, (plugin, command) in sorted(load_registry().commands().items()):
            line = (name, command.get_short_help_str(limit=60))
            if plugin.distribution != GROUP:
                strangers.append(line)
            elif command.short_help:
                rows.append(line)
            else:
                more.append(name)
        for title, listed in (("Commands", rows), ("Commands of plugins", strangers)):
            if listed:
                with formatter.section(title):
                    formatter.write_dl(listed)
        with formatter.section("More, each with --help"):
            formatter.write_text(", ".join(more))


def _unknown_command(word: str, known: Sequence[str]) -> ConfigError:
    registry = load_registry()
    if word in registry.names("method") or word.endswith((".yaml", ".yml")):
        return ConfigError(f"unknown command {word!r}", fix=f"tunesmith run {word}")
    broken = [f"{plugin.name}: {plugin.cause}" for plugin in registry.plugins if plugin.status == "broken"]
    return ConfigError(
        f"unknown command {word!r}{did_you_mean(word, known)}",
        why=f"plugins that failed to load: {'; '.join(broken)}" if broken else None,
        fix="see `tunesmith --help`",
    )


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="tunesmith", message="%(prog)s %(version)s")
@plugin_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Train and align language models. `tunesmith list` shows the methods."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; an error is printed, never raised."""
    failures.configure_logging()
    options = Shared()
    try:
        return _run(sys.argv[1:] if args is None else list(args), options)
    except TunesmithError as error:
        return failures.report(error)
    except click.ClickException as error:
        return failures.report(failures.from_click(error))
    except (click.Abort, KeyboardInterrupt):
        if is_main_process():
            click.echo("interrupted", err=True)
        return failures.INTERRUPTED
    except BrokenPipeError:
        return _quiet_pipe()
    except (OSError, MemoryError) as error:
        refused = failures.from_system(error)
        return failures.report(refused) if refused else _bug(error, options)
    except Exception as error:  # what is left is a bug of ours, and is reported as one
        return _bug(error, options)


def _bug(error: Exception, options: Shared) -> int:
    debug = options.debug or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")
    return failures.report_bug(error, debug=debug)


def _run(args: list[str], options: Shared) -> int:
    """As ``cli.main()``, which would exit by itself where a pipe is closed."""
    completion = os.environ.get("_TUNESMITH_COMPLETE")
    if completion:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "tunesmith", "_TUNESMITH_COMPLETE", completion)
    unsandboxed.refuse_inherited()
    try:
        with cli.make_context("tunesmith", args, obj=options, color=terminal.colour()) as ctx:
            cli.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    finally:
        if is_main_process():
            for note in (note for registry in options.registries.values() for note in registry.untold()):
                click.echo(f"note: {note}", err=True)
    return 0


def _quiet_pipe() -> int:
    """The reader (``| head``) has gone: say nothing, also not when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return failures.BROKEN_PIPE
