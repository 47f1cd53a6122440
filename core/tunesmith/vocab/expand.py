"""Give a model a larger vocabulary for a language that its tokenizer cuts too finely."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.components import DataSpec
from tunesmith.data.encoding import Encoder, load_tokenizer
from tunesmith.errors import ConfigError, DataError
from tunesmith.models.loading import check_exists, load_policy, pick_device, quiet_transformers
from tunesmith.runner.card import entry, write_lineage
from tunesmith.runner.checkpoint import write_folder
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer
from tunesmith.settings import RunSettings
from tunesmith.vocab.kinds import Kind, Rule, content, cut_words, kind_of
from tunesmith.vocab.measure import Fit, Scored, changed_share, documents, fit, growth, score
from tunesmith.vocab.merges import Learner, Piece, pairs_of
from tunesmith.vocab.rows import Grown, Start, grow
from tunesmith.vocab.texts import held_out, label_of, read_texts
from tunesmith.vocab.tokenizer import check_round_trip, encode_all, save_expanded

if TYPE_CHECKING:
    from tunesmith.plugins import Registry

log = logging.getLogger(__name__)
REPORT = "vocab_report.json"
FRACTION = 0.5
"""Pieces fewer than this share of what was asked for are worth a warning."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.

    Attributes:
        model: folder or hub name of the base.
        target: text of the language that gets pieces.
        general: text of what the model was trained on, to see what changes there.
        pieces: new pieces at most.
        output: folder of the result; it must be empty or not there.
        start: how the rows of new pieces start.
        keep_general: learn no piece that would change how ``general`` is cut.
        least: how often a pair must occur to be joined.
        longest: characters of a piece at most.
        holdout: share of both texts that is measured on and not learned from.
        limit: documents of each that are scored at most.
        max_length: tokens of a document that the model sees at once.
        device: of the model while it is measured.
    """

    model: str
    target: DataSpec
    pieces: int
    output: Path
    general: DataSpec | None = None
    start: Start = field(default_factory=Start)
    keep_general: bool = False
    least: int = 2
    longest: int = 16
    holdout: float = 0.1
    limit: int = 200
    max_length: int = 1024
    device: str = "auto"


@dataclass(slots=True)
class _Texts:
    """A language: texts to learn from, texts to measure on."""

    label: str
    learned: list[str]
    measured: list[str]


def expand(plan: Plan, registry: Registry) -> dict[str, Any]:
    """Write the expanded model to ``plan.output``; return the report that lies beside it.

    Raises:
        ConfigError: a tokenizer that cannot be expanded, an output that is used.
        DataError: no pieces are found; the result would not give texts back, or would move an id.
        ResourceError: there is no such model.
    """
    quiet_transformers()
    check_exists(plan.model, "model")
    _check_free(plan.output)
    settings = RunSettings.model_validate({"model": plan.model, "data": (plan.target,), "device": plan.device})
    tokenizer = load_tokenizer(settings)
    kind = kind_of(tokenizer)
    target = _Texts(label_of(plan.target), *held_out(read_texts(plan.target, registry), plan.holdout, "--data"))
    general = None
    if plan.general is not None:
        whole = read_texts(plan.general, registry)
        general = _Texts(label_of(plan.general), *held_out(whole, plan.holdout, "--general"))
    pieces = learn(tokenizer, kind, target.learned, general.learned if general else [], plan)
    device = pick_device(settings)
    model = load_policy(settings, tokenizer, device, torch.float32)
    return _Expansion(plan, tokenizer, kind, model, target, general, pieces).write()


def _check_free(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"--output: {output} is used already", fix="choose another folder")


def learn(tokenizer: Any, kind: Kind, target: Sequence[str], general: Sequence[str], plan: Plan) -> list[Piece]:
    """New pieces for the target text. Raises `DataError` when there is none."""
    backend = tokenizer.backend_tokenizer
    cut = cut_words(target, backend, kind)
    log.info("pieces   %s words of %s texts", f"{len(cut.words):,}", f"{len(target):,}")
    missing, kept = dict(cut.missing), set()
    if plan.keep_general:
        old = cut_words(general, backend, kind)
        kept = set(pairs_of(old.words))
        missing = {char: tokens for char, tokens in missing.items() if char not in old.missing}
    learner = Learner(
        cut.words,
        taken=tokenizer.get_vocab(),
        missing={**{char: 1 for char in cut.missing}, **missing},
        allowed=Rule(kind, plan.longest),
        kept=kept,
        least=plan.least,
    )
    pieces = learner.learn(plan.pieces)
    if not pieces:
        raise DataError(
            "no new pieces were found: no pair of the tokenizer's pieces occurs "
            f"{plan.least} times in a word of {label_of(plan.target)}",
            why="its words are whole pieces already, or too few" + (", or --keep-general keeps all" if kept else ""),
            fix="give more text, or train on the model as it is",
        )
    if len(pieces) < FRACTION * plan.pieces:
        log.warning("pieces   only %d of %d found; more text gives more", len(pieces), plan.pieces)
    return pieces


class _Expansion:
    """Measures, grows, writes and measures again."""

    def __init__(
        self,
        plan: Plan,
        tokenizer: Any,
        kind: Kind,
        model: Any,
        target: _Texts,
        general: _Texts | None,
        pieces: list[Piece],
    ) -> None:
        self.plan, self.tokenizer, self.kind, self.model, self.pieces = plan, tokenizer, kind, model, pieces
        self.target, self.general = target, general
        self.languages = {"target": target, **({"general": general} if general else {})}
        self.scorer = Scorer(model, pad_id=tokenizer.pad_token_id or 0)
        choose(self.scorer)
        self.dtype = stored_dtype(plan.model)

    def write(self) -> dict[str, Any]:
        """The report."""
        report: dict[str, Any] = {}
        write_folder(self.plan.output, partial(self._fill, report=report))
        return report

    def _fill(self, folder: Path, report: dict[str, Any]) -> None:
        expanded = save_expanded(self.tokenizer, self.pieces, folder)
        texts = [text for language in self.languages.values() for text in language.measured]
        round_trips = check_round_trip(self.tokenizer, expanded, texts)
        before = {name: self._measured(self.tokenizer, language) for name, language in self.languages.items()}
        grown = self._grow()
        after = {name: self._measured(expanded, language) for name, language in self.languages.items()}
        report |= self._about(grown, expanded, round_trips)
        for name, language in self.languages.items():
            report[name] = _compared(language, before[name], after[name])
        if self.general is not None:
            old_ids = self._scored(self.tokenizer, self.general)
            report["general"]["changed_documents"] = changed_share(self.tokenizer, expanded, self._all(self.general))
            report["general"]["log_z_growth"] = asdict(growth(before["general"][1], old_ids, grown.bound))
        self.model.to(self.dtype).save_pretrained(folder)  # as the base was stored; it was measured in fp32
        (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
        data = [{"label": language.label, "group": name} for name, language in self.languages.items()]
        write_lineage(folder, self.plan.model, entry("vocab expand", self.plan.model, data))

    def _grow(self) -> Grown:
        first = max(self.tokenizer.get_vocab().values()) + 1
        counts = Counter(i for ids in encode_all(self.tokenizer, self.target.learned) for i in ids)
        grown = grow(self.model, first, self._made_of(), self.plan.start, counts)
        path = self.scorer.path
        self.scorer = Scorer(self.model, pad_id=self.scorer.pad_id)  # one of its own for a head of another size
        self.scorer.path = path
        return grown

    def _made_of(self) -> list[list[int]]:
        """The old ids that every new piece consists of, following the merges down."""
        ids = self.tokenizer.get_vocab()
        made: dict[str, list[int]] = {}
        for piece in self.pieces:
            if piece.parts is None:
                made[piece.text] = [ids[f"<0x{byte:02X}>"] for byte in piece.text.encode()]
            else:
                made[piece.text] = [i for part in piece.parts for i in (made.get(part) or [ids[part]])]
        return list(made.values())

    @staticmethod
    def _all(language: _Texts) -> list[str]:
        return language.learned + language.measured

    def _measured(self, tokenizer: Any, language: _Texts) -> tuple[Fit, Scored]:
        return fit(tokenizer, language.measured, self.kind), self._scored(tokenizer, language)

    def _scored(self, tokenizer: Any, language: _Texts) -> Scored:
        texts = language.measured[: self.plan.limit]
        trees, size = documents(Encoder(tokenizer), texts, self.kind, self.plan.max_length)
        return score(self.scorer, trees, size)

    def _about(self, grown: Grown, expanded: Any, round_trips: int) -> dict[str, Any]:
        return {
            "schema": 1,
            "base": self.plan.model,
            "tokenizer": {"tokens_before": grown.first, "tokens": len(expanded), "round_trips": round_trips},
            "rows": asdict(grown),
            "start": asdict(self.plan.start),
            "keep_general": self.plan.keep_general,
            "pieces": [self._piece(piece) for piece in self.pieces],
        }

    def _piece(self, piece: Piece) -> dict[str, Any]:
        """A piece, and the text that it stands for; bytes that are no character are shown as such."""
        shown = content(piece.text, self.kind).decode(errors="backslashreplace")
        return {"piece": piece.text, "shown": shown, "parts": piece.parts, "saved": piece.saved}


def stored_dtype(model: str) -> torch.dtype:
    """The dtype that a model's weights are stored in, as its config says."""
    from transformers import AutoConfig

    said = AutoConfig.from_pretrained(model).dtype
    return said if isinstance(said, torch.dtype) else torch.float32


def _compared(language: _Texts, before: tuple[Fit, Scored], after: tuple[Fit, Scored]) -> dict[str, Any]:
    return {
        "label": language.label,
        "documents": len(language.learned) + len(language.measured),
        "held_out": len(language.measured),
        **{name: _figures(*pair) for name, pair in (("before", before), ("after", after))},
    }


def _figures(found: Fit, scored: Scored) -> Mapping[str, float]:
    return {**found.as_dict(), "bits_per_byte": scored.bits_per_byte}
