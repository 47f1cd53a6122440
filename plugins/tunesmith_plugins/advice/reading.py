"""From installed methods and files to what a case says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from tunesmith import (
    Comparison,
    Completion,
    Conversation,
    DataError,
    Demonstration,
    Prompt,
    Text,
    Unpaired,
)
from tunesmith_plugins.advice.engine import Facts

if TYPE_CHECKING:
    from tunesmith import DataSpec, Example, Method, Reward
    from tunesmith.commands import Registry
    from tunesmith.data.audit import Audit
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.rows import Outcome

SHAPES = {"text": Text, "demonstration": Demonstration, "pair": Comparison, "label": Unpaired, "prompt": Prompt}
SAMPLE = 200
"""Rows that are looked at closely."""
CHARACTERS_PER_TOKEN = 4.0
"""Of English; where no tokenizer is named. Ours, not verified."""
REASONS = re.compile(r"<(think|thinking|reason|reasoning|thought)>|\bstep \d|\b(therefore|hence|thus)\b", re.IGNORECASE)
REASONING_WORDS = 40
"""An answer reasons where it holds such a tag or word, and as many words. Ours, not verified."""
ENGLISH = (
    "Most people who live near a river learn early that the water is never the same for two days in a row. In spring "
    "it carries branches, mud and now and then a lost boat; in summer children walk across it without wetting their "
    "knees. The council has discussed a new bridge for thirty years, and every report says that it would be useful, "
    "that it would be expensive, and that somebody else should pay for it."
)
"""What a tokenizer is held against, to say how finely it cuts another language."""


def shape(example: type[Any]) -> str:
    """What examples are called in a case; a shape of another package keeps the name of its class."""
    return next((name for name, cls in SHAPES.items() if issubclass(example, cls)), example.__name__)


def facts_of(registry: Registry) -> dict[str, Facts]:
    """What the installed methods say about themselves."""
    found: dict[str, Facts] = {}
    for _, component in registry.entries("method"):
        cls = cast("type[Method]", component)
        card = cls.card
        volumes = tuple(replace(volume, goals=volume.goals or card.goals) for volume in card.volumes)
        found[cls.name] = Facts(cls.name, shape(cls.consumes), card.serves(), volumes, cls.roles, cls.adaptable)
    return found


@dataclass(slots=True)
class Seen:
    """What was found in a source.

    Attributes:
        word: as the user named it.
        audit: of all rows.
        shape: of its examples, see `SHAPES`.
        example: the class of its examples.
        traces: share of answers that reason before they end.
        checkers: rewards that tell right from wrong and find their columns here, the likeliest first.
        language: code of the language that most of it is in, where that could be told.
        fertility: tokens per word against English.
        unended: see `tunesmith_plugins.advice.case.Case`.
    """

    word: str
    audit: Audit
    shape: str
    example: type[Example]
    traces: float = 0.0
    checkers: tuple[str, ...] = ()
    language: str | None = None
    fertility: float | None = None
    unended: bool = False
    keys: frozenset[str] = field(default_factory=frozenset)

    @property
    def tokens(self) -> float:
        """Tokens of all rows, estimated where there was no tokenizer."""
        return self.audit.total / (1.0 if self.audit.unit == "tokens" else CHARACTERS_PER_TOKEN)


def read(registry: Registry, word: str, spec: DataSpec, encoder: Encoder | None) -> Seen:
    """Read a source. Raises `DataError` where its rows cannot be read, or fit no format."""
    from tunesmith.data.audit import audit
    from tunesmith.data.detect import Taker, choose_format, renamed
    from tunesmith.data.rows import Intake

    found = audit(spec, registry, taker=Taker(), encoder=encoder)
    if found.fault is not None:
        raise found.fault
    if not found.usable:
        first = next(iter(found.problems.kinds.values()), None)
        raise DataError(f"none of the {found.rows:,} rows of {found.label} can be used", why=first and first.reason)
    sample = list(islice(spec.source.rows(), SAMPLE))
    verdict = choose_format(spec, sample, registry, Taker())
    outcomes = list(Intake(verdict.format, columns=spec.map, taker=Taker()).outcomes(sample))
    examples = [outcome.example for outcome in outcomes if outcome.example is not None]
    rows = [renamed(row.data, spec.map) for row in sample if not row.problem]
    produces = verdict.format.produces
    kind = shape(produces)
    seen = Seen(word, found, kind, produces)
    seen.language = language([text for one in examples for text in texts(one)])
    if kind == "demonstration":
        seen.traces = share(reasons(answer(one)) for one in examples)
    if kind == "prompt":
        seen.checkers = checkers(registry, rows)
    if encoder is not None:
        seen.fertility = fertility(encoder, [text for one in examples for text in texts(one)])
        seen.unended = unended(encoder, examples)
    return seen


def share(found: Iterable[bool]) -> float:
    """Of true values."""
    values = list(found)
    return sum(values) / max(1, len(values))


# ------------------------------------------------------------------------------------------------ texts of examples
def texts(example: Example) -> Iterator[str]:
    """What an example says: documents, answers, prompts."""
    for name in ("text", "completion", "chosen", "prompt", "messages"):
        value = getattr(example, name, None)
        if value is not None:
            yield written(value)
            return


def written(passage: Any) -> str:
    """A passage as text."""
    if isinstance(passage, str):
        return passage
    return "\n".join(str(turn.get("content") or "") for turn in passage)


def answer(example: Example) -> str:
    """What is to be imitated, with the reasoning that some rows keep beside it."""
    if isinstance(example, Completion):
        return example.completion
    if isinstance(example, Conversation):
        turns = [turn for turn in example.messages if turn.get("role") == "assistant"]
        return "\n".join(f"{turn.get('reasoning_content') or ''} {turn.get('content') or ''}" for turn in turns)
    return ""


def reasons(text: str) -> bool:
    """True for an answer that works towards its end."""
    return bool(REASONS.search(text)) and len(text.split()) >= REASONING_WORDS


@lru_cache(maxsize=1)
def _identifier() -> Any | None:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE)


def language(found: Sequence[str]) -> str | None:
    """The language of most of some texts; ``None`` where py3langid is not installed or there are too few words."""
    long = [text[:500] for text in found if len(text) >= 40][:20]
    identifier = _identifier() if long else None
    if identifier is None:
        return None
    codes = [identifier.classify(text)[0] for text in long]
    return max(sorted(set(codes)), key=codes.count)


def fertility(encoder: Encoder, found: Sequence[str]) -> float | None:
    """Tokens per word against English; ``None`` for texts without blanks between words."""
    from tunesmith.vocab.measure import fit

    sample = [text[:2000] for text in found if text.strip()]
    words, characters = sum(len(text.split()) for text in sample), sum(map(len, sample))
    if not words or characters / words > 20:
        return None
    own, english = (fit(encoder.tokenizer, some, None).as_dict() for some in (sample, [ENGLISH]))
    return own["tokens_per_word"] / english["tokens_per_word"]


def unended(encoder: Encoder, examples: Sequence[Example]) -> bool:
    """True where answers of chats end with no token that the model can stop at."""
    chats = [one for one in examples if isinstance(one, Conversation)][:5]
    for tree in encoder.encode_all(chats):
        if not isinstance(tree, ValueError) and tree.branches:
            branch = tree.branches[-1]
            trained = branch.ids[branch.mask]
            if len(trained) and not encoder.stop_ids & {int(i) for i in trained}:
                return True
    return False


# ------------------------------------------------------------------------------------------------ rewards that fit
def checkers(registry: Registry, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Rewards that tell right from wrong and whose columns the rows have, the likeliest first."""
    from pydantic import ValidationError

    columns = {name for row in rows for name in row}
    found = []
    for _, component in registry.entries("reward"):
        cls = cast("type[Reward]", component)
        if not cls.verifies:
            continue
        try:
            needs = set(cls().columns())
        except ValidationError:  # it cannot be made without settings
            continue
        if needs and needs <= columns:
            found.append(cls.name)
    best = likeliest([str(row.get("answer", "")) for row in rows])
    return tuple(sorted(found, key=lambda name: (name not in best, best.index(name) if name in best else 0, name)))


def likeliest(answers: Sequence[str]) -> tuple[str, ...]:
    """Rewards by the look of the answers: letters, numbers, formulas, or words."""
    stated = [text.strip() for text in answers if text.strip()]
    if stated and all(re.fullmatch(r"\(?[A-Ja-j]\)?\.?", text) for text in stated):
        return ("multiple-choice", "exact-match")
    if stated and all(re.fullmatch(r"[-+]?[\d.,]+%?", text) for text in stated):
        return ("numeric", "math")
    if any(re.search(r"[\\^=]|\d/\d", text) for text in stated):
        return ("math",)
    return ("exact-match", "math")


def overlapping(registry: Registry, specs: Sequence[DataSpec], held_out: DataSpec) -> float:
    """Share of the held-out rows that stand in the training rows, as `tunesmith data check --against` finds them."""
    from tunesmith.data.quality.survey import read_leaks

    leaks = read_leaks(held_out, registry)
    for spec in specs:
        for outcome in _outcomes(registry, spec):
            if outcome.status == "used" and outcome.example is not None:
                leaks.add(spec.source.label(), outcome.row, outcome.example)
    return len(leaks.leaked()) / len(leaks.asked)


def _outcomes(registry: Registry, spec: DataSpec) -> Iterator[Outcome]:
    from tunesmith.data.audit import first_rows
    from tunesmith.data.detect import Taker, choose_format
    from tunesmith.data.rows import Intake

    verdict = choose_format(spec, first_rows(spec, 0, SAMPLE), registry, Taker())
    return Intake(verdict.format, columns=spec.map, taker=Taker()).outcomes(spec.source.rows())
