"""``tunesmith data convert``: rows of one format as rows of another, in a file of JSON lines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.common import load_registry, plugin_flags
from tunesmith.cli.options import SettingOption, given
from tunesmith.cli.show import setting
from tunesmith.cli.sources import data_spec
from tunesmith.errors import ConfigError, ResourceError
from tunesmith.fieldtypes import field_type

if TYPE_CHECKING:
    from tunesmith.plugins import Registry

STDOUT = "-"
ENDINGS = (".jsonl", ".ndjson")


class ConvertCommand(click.Command):
    """Its flags include the settings of the formats that ``--to`` brings in."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the name of the format first, and the plugins that it may come from."""
        scan = click.Command("convert", params=[click.Option(["--to"]), *plugin_flags()], add_help_option=False)
        loose = {"ignore_unknown_options": True, "allow_extra_args": True, "resilient_parsing": True}
        to = scan.make_context("convert", list(args), parent=ctx, **loose).params.get("to")
        self.params = [option for option in self.params if not isinstance(option, SettingOption)]
        if to:
            self.params += _setting_options(load_registry(), to)
        return super().parse_args(ctx, args)


def _setting_options(registry: Registry, to: str) -> list[SettingOption]:
    from tunesmith.data.convertible import settings_of, written_by

    found = settings_of(registry, written_by(registry, to))
    return [
        SettingOption(setting(cls, name), field_type(cls.model_fields[name].annotation), "own", [])
        for name, cls in found.items()
    ]


@click.command(cls=ConvertCommand)
@click.argument("word", metavar="DATA")
@click.option("--to", required=True, metavar="FORMAT", help="Format of the rows to write; its settings become flags.")
@click.option("--out", required=True, metavar="FILE", help="File to write, ending in .jsonl; - for standard output.")
@click.option("--format", metavar="NAME", help="Format of DATA; found by looking at the rows when not given.")
@click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read at most this many rows.")
@click.option("--on-bad-row", type=click.Choice(["error", "skip"]), default="error", help="Stop, or leave it out.")
@click.option("--overwrite", is_flag=True, help="Replace FILE where it exists.")
def convert(word: str, to: str, out: str, on_bad_row: str, overwrite: bool, **options: Any) -> None:
    """Write the rows of DATA in another format, and say what became of each.

    Exit code 3 and no file when rows are bad, or when nothing could be converted.
    `tunesmith data convert --to FORMAT --help` lists the settings of a format.
    """
    target = _checked(out, overwrite=overwrite)
    registry = load_registry()
    from tunesmith.data.convert import plan

    spec = data_spec(registry, word, options["columns"], options["format"], options["limit"])
    chosen = plan(spec, to, registry, given(click.get_current_context()))
    account = chosen.account()
    _write(chosen.rows(account, skip_bad=on_bad_row == "skip"), target)
    click.echo("\n".join(account.lines()), err=target is None)


convert.params += plugin_flags()


# ---------------------------------------------------------------------------------------------- writing
def _checked(out: str, *, overwrite: bool) -> Path | None:
    """The file to write, or ``None`` for standard output. Raises `ConfigError` where it must not be written."""
    if out == STDOUT:
        return None
    path = Path(os.path.expanduser(out))
    if path.suffix not in ENDINGS:
        raise ConfigError(f"--out {out}: rows are written as JSON lines", fix="give a name that ends in .jsonl")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigError(f"--out {out}: {what}")
    if path.exists() and not overwrite:
        raise ConfigError(f"--out {out}: the file exists", fix="choose another name, or add --overwrite")
    return path


def _write(lines: Iterable[str], target: Path | None) -> None:
    """Everything or nothing: the rows go to a file beside, which gets its name when the last one is written."""
    aside = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=target.parent if target else None, prefix=".convert-", encoding="utf-8", delete=False
        ) as stream:
            aside = Path(stream.name)
            stream.writelines(f"{line}\n" for line in lines)
        if target is not None:
            aside.chmod(0o666 & ~_umask())
            os.replace(aside, target)
            return
        with open(aside, encoding="utf-8") as written:
            for line in written:
                click.echo(line, nl=False)
    except BrokenPipeError:
        raise  # whoever reads has seen enough
    except OSError as error:
        raise ResourceError(
            f"cannot write {target or 'to a temporary file'}", why=error.strerror or str(error)
        ) from None
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def _umask() -> int:
    """A temporary file is readable by its owner only; the finished one is what any new file would be."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
