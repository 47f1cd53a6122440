"""Find the answer in a completion: after the thinking, in a box, behind a phrase, in tags. Text in, text out."""

from __future__ import annotations

import re
from collections.abc import Sequence

THINKING_TAGS = ("think", "thinking")
_BOX = re.compile(r"\\(?:boxed|fbox)[ \t]*(?=[{\w-])")
_BARE_BOX = re.compile(r"[^\s{}$]+")
_PHRASE = re.compile(
    r"""
      (?<!\#)\#{4}[ \t]*(?P<hashes>[^\n\#]+)\s*\Z             # #### 42 at the end; elsewhere it is a heading
    | \b(?:the[ ]+)?(?:(?:final|correct)[ ]+)?(?:answer|option|choice)(?:[ ]+is|[ ]*:(?:[ ]*\*\*)?|[ ]*\*\*[ ]*:)
      [ \t]*:?[ \t]*(?P<said>[^\n]+)                             # the final answer is 42; **Answer:** 42
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_SENTENCE_END = re.compile(r"(?<=[^\s.])[.;](?:\s+[A-Z\"'(\\$]|\s*$)")
_WRAPS = (("**", "**"), ("__", "__"), ("`", "`"), ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


def after_thinking(text: str, tags: Sequence[str] = THINKING_TAGS) -> str | None:
    """What follows the last thinking block, or ``None`` where a block was opened and not closed.

    The closing tag alone ends a block too: chat templates may write the opening one into the prompt. Text without any
    of the tags is returned as it is.
    """
    names = "|".join(map(re.escape, tags))
    closed = list(re.finditer(rf"</(?:{names})\s*>", text, re.IGNORECASE)) if tags else []
    rest = text[closed[-1].end() :] if closed else text
    opened = bool(tags) and re.search(rf"<(?:{names})\s*>", rest, re.IGNORECASE) is not None
    return None if opened else rest


def boxed(text: str) -> list[str]:
    r"""The contents of every ``\boxed{...}`` and ``\fbox{...}``, outermost ones, with balanced braces, in order.

    ``\boxed 5`` without braces counts too; a box that is not closed does not.
    """
    found = []
    at = 0
    pairs = _braces(text)
    for box in _BOX.finditer(text):
        start = box.end()
        if start < at:
            continue
        if start in pairs:
            at = pairs[start] + 1
            found.append(text[start + 1 : at - 1].strip())
        elif bare := _BARE_BOX.match(text, start):
            at = bare.end()
            found.append(bare.group().rstrip(".,;"))
    return found


def last_boxed(text: str) -> str | None:
    """The content of the last box, or ``None`` without one."""
    found = boxed(text)
    return found[-1] if found else None


def final_answers(text: str) -> list[str]:
    """What is said to be the answer, in order: "Answer: 42", "the answer is 42", ``<answer>42</answer>``, "#### 42".

    Each is one line without its marks (``**``, ``$``) and without the sentences that follow; the content of the tags
    is as it is.
    """
    found = [(m.start(), _said(m["hashes"] or m["said"])) for m in _PHRASE.finditer(text)]
    found += [(at, inner) for at, inner in _tagged(text, "answer")]
    return [answer for _, answer in sorted(found) if answer]


def tagged(text: str, tag: str) -> list[str]:
    """The contents of every ``<tag>...</tag>``, in order."""
    return [inner for _, inner in _tagged(text, tag)]


def last_code_block(text: str, languages: Sequence[str] = ()) -> str | None:
    """The content of the last fenced block that is marked with one of the languages, or ``None``.

    Where no block is marked with one of them, the last block without a mark counts. A block that is not closed does
    not count, and what another block holds is no block.
    """
    marked: str | None = None
    unmarked: str | None = None
    for mark, code in _fenced(text):
        if mark.lower() in languages:
            marked = code
        elif not mark:
            unmarked = code
    return unmarked if marked is None else marked


def last_line(text: str) -> str:
    """The last line that is not blank, without its marks."""
    lines = text.strip().splitlines()
    return unwrapped(lines[-1]) if lines else ""


def unwrapped(text: str) -> str:
    """Text without the marks around it: ``**``, backticks, ``$``, ``\\( \\)``; nothing inside is changed."""
    text = text.strip()
    for left, right in _WRAPS * 2:
        inner = text[len(left) : -len(right)]
        if text.startswith(left) and text.endswith(right) and inner.strip() and left not in inner:
            text = inner.strip()
    return text


def _said(line: str) -> str:
    """The first sentence of what follows a phrase, without marks."""
    line = line.strip()
    stop = _SENTENCE_END.search(line)
    line = line[: stop.start()] if stop else line
    if line.count("**") % 2:
        line = line.replace("**", "")
    return unwrapped(line.rstrip(".,; "))


def _tagged(text: str, tag: str) -> list[tuple[int, str]]:
    name = re.escape(tag)
    pattern = rf"<{name}\s*>((?:(?!</?{name}\s*>).)*)</{name}\s*>"
    return [(m.start(), m[1].strip()) for m in re.finditer(pattern, text, re.IGNORECASE | re.DOTALL)]


def _braces(text: str) -> dict[int, int]:
    """Where each brace is closed, by where it opens; an escaped brace is no brace."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for mark in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if mark[0] == "{":
            opened.append(mark.start())
        elif mark[0] == "}" and opened:
            pairs[opened.pop()] = mark.start()
    return pairs


def _fenced(text: str) -> list[tuple[str, str]]:
    """Mark and content of every fenced block that is closed, in one pass over the lines."""
    found: list[tuple[str, str]] = []
    opened: tuple[str, str] | None = None
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        fence = _fence(line)
        if opened is None:
            opened, lines = fence, []
        elif fence and not fence[1] and fence[0].startswith(opened[0]):
            found.append((opened[1], "".join(lines)))
            opened = None
        else:
            lines.append(line)
    return found


def _fence(line: str) -> tuple[str, str] | None:
    """The signs of a fence and its mark, or ``None`` for any other line. No pattern: those take quadratic time here."""
    body = line.strip()
    rest = body.lstrip(body[:1])
    fence = body[: len(body) - len(rest)]
    if len(fence) < 3 or fence[0] not in "`~" or "`" in rest:
        return None
    words = rest.split(maxsplit=1)
    return fence, words[0].partition("{")[0] or "{" if words else ""
