"""``tunesmith chat``: talk to a model, or to two side by side."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import plugin_options
from tunesmith.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from tunesmith.chat.conversation import Conversation

WORDS = {
    "/reset": "forget what was said",
    "/exit": "leave (so does Ctrl-D)",
    "/help": "these lines",
}
"""What can be typed instead of a prompt."""


@click.command("chat")
@click.argument("model", metavar="MODEL")
@click.argument("other", metavar="[MODEL2]", required=False)
@click.option("--before", metavar="MODEL|base", help="Answer with this one as well, on the left; base: see above.")
@click.option("--prompt", metavar="TEXT", help="Answer this once and end. So does text on stdin.")
@click.option("--system", metavar="TEXT", help="System message in front of the conversation.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0: most probable.")
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Draw from the most probable tokens that together have this probability.",
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="Of an answer.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same answers.")
@click.option("--chat-template", metavar="NAME", help="Chat template for a tokenizer without one.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model. Read it first.")
@click.option("--json", "as_json", is_flag=True, help="With a prompt: the answers for programs, nothing escaped away.")
@plugin_options
def chat(model: str, other: str | None, before: str | None, as_json: bool, **options: Any) -> None:
    """Talk to a model: the folder of a run, a model or an adapter, or a hub name.

    With two models both answer the same prompts side by side. `--before base` compares with what MODEL was trained
    from: for an adapter that is its own base with the adapter off, in one model's memory. Ctrl-C stops an answer.
    """
    if other is not None and before is not None:
        raise ConfigError("two models are given, and --before as well", fix="leave one of them out")
    prompt = _prompt(options["prompt"])
    if as_json and prompt is None:
        raise ConfigError("--json needs a prompt", fix="add --prompt TEXT, or send it to stdin")
    talks = _conversations(*((model, before) if other is None else (other, model)), options)
    if prompt is None:
        _talk(talks)
    elif as_json:
        _answer_quietly(talks, prompt)
        terminal.print_json({"schema": 1, "prompt": prompt, "answers": [_as_dict(talk) for talk in talks]})
    else:
        _answer(talks, prompt)


def _prompt(given: str | None) -> str | None:
    """What is asked where nobody sits at a terminal."""
    if given is not None:
        return given
    if sys.stdin.isatty():
        return None
    text = sys.stdin.read().removesuffix("\n")
    if not text:
        raise ConfigError("there is no prompt on stdin", fix="add --prompt TEXT, or start it on a terminal")
    return text


def _conversations(model: str, before: str | None, options: dict[str, Any]) -> list[Conversation]:
    from tunesmith.chat.conversation import Conversation
    from tunesmith.chat.speaker import load_speakers
    from tunesmith.components import Sampling

    settings = {name: options[name] for name in ("device", "chat_template", "trust_remote_code")}
    sampling = Sampling(**{name: options[name] for name in ("max_new_tokens", "temperature", "top_p")})
    speakers = load_speakers(model, before, settings)
    for speaker in speakers:
        if not speaker.chats:
            note = "has no chat template: it goes on from your text, and every prompt stands alone"
            click.echo(f"note: {speaker.name} {note} (--chat-template tulu)", err=True)
    return [Conversation(speaker, sampling, options["seed"], options["system"]) for speaker in speakers]


# ---------------------------------------------------------------------------------------------- a terminal
def _talk(talks: Sequence[Conversation]) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # lines can be edited and called back
    click.secho(f"{' | '.join(talk.speaker.name for talk in talks)}; /help", dim=True)
    for line in _lines():
        word = line.strip()
        if word == "/exit":
            return
        if word == "/reset":
            for talk in talks:
                talk.reset()
            click.secho("forgotten", dim=True)
        elif word.startswith("/") and " " not in word:
            click.secho(_words(word), dim=True)
        elif word:
            try:
                _answer(talks, line)
            except DataError as error:
                click.secho(str(error), fg="red", err=True)


def _lines() -> Iterator[str]:
    """What is typed. Ctrl-C drops the line, and a second one in an empty line ends."""
    empty = 0
    while empty < 2:
        try:
            line = input("> ")
        except KeyboardInterrupt:
            empty += 1
            click.secho("\nagain, or /exit, to leave" if empty < 2 else "", dim=True)
        except EOFError:
            click.echo()
            return
        else:
            empty = 0
            yield line


def _words(word: str) -> str:
    lines = [f"{name:<8} {what}" for name, what in WORDS.items()]
    if word not in WORDS:
        lines.insert(0, f"there is no {word}{did_you_mean(word, WORDS)}; begin with a blank to send it")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------- answers
def _answer(talks: Sequence[Conversation], text: str) -> None:
    """Ask all, print what they say while they say it, and how it ended where that is worth a line."""
    streams = [talk.ask(text) for talk in talks]
    if len(talks) == 1:
        _one(streams[0])
    elif sys.stdout.isatty():
        _beside(talks, streams)
    else:
        _below(talks, streams)
    for talk in talks:
        _say_end(talk, alone=len(talks) == 1)


def _one(stream: Iterator[str]) -> None:
    from tunesmith.chat.columns import safe

    with _stopped_by_hand(stream):
        for piece in stream:
            _write(safe(piece))
    _write("\n")


def _beside(talks: Sequence[Conversation], streams: Sequence[Iterator[str]]) -> None:
    """A piece of each in turn."""
    from tunesmith.chat.columns import Columns

    names = [talk.speaker.name for talk in talks]
    columns = Columns(names, shutil.get_terminal_size().columns, _write)
    with _stopped_by_hand(*streams):
        open_ = dict(enumerate(streams))
        while open_:
            for column, stream in list(open_.items()):
                piece = next(stream, None)
                if piece is None:
                    columns.end(column)
                    del open_[column]
                else:
                    columns.add(column, piece)
    for column in range(len(talks)):
        columns.end(column)


def _below(talks: Sequence[Conversation], streams: Sequence[Iterator[str]]) -> None:
    for talk, stream in zip(talks, streams, strict=True):
        _write(f"== {talk.speaker.name}\n")
        _one(stream)


@contextlib.contextmanager
def _stopped_by_hand(*streams: Iterator[str]) -> Iterator[None]:
    """Ctrl-C ends the answers; what they said counts. Where nobody types, it ends the command as everywhere."""
    try:
        yield
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    finally:
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]  # all of them are generators


def _write(text: str) -> None:
    click.echo(text, nl=False)  # flushes


def _say_end(talk: Conversation, *, alone: bool) -> None:
    answer = talk.answer
    if answer is None or answer.stop == "eos":
        return
    name = "" if alone else f"{talk.speaker.name}: "
    why = "stopped" if answer.stop == "interrupted" else "cut off; --max-new-tokens allows more"
    click.secho(f"[{name}{answer.tokens:,} tokens, {why}]", dim=True, err=True)


def _answer_quietly(talks: Sequence[Conversation], text: str) -> None:
    for talk in talks:
        for _ in talk.ask(text):
            pass


def _as_dict(talk: Conversation) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": talk.speaker.name,
        "chat_template": talk.speaker.chats,
        **(asdict(talk.answer) if talk.answer else {}),
    }
