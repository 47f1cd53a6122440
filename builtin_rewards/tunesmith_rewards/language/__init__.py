"""The share of words in the language that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

import tunesmith
from tunesmith import Reward, Rollout, did_you_mean

LANGUAGES: Mapping[str, str] = {
    "Latn": "af an az br bs ca crh cs cy da de en eo es et eu fi fo fr fy ga gd gl ha hr ht hu id ig is it jv ku la lb "
    "ln lt lv mg ms mt nl nn no nso oc om pl pt qu ro rw se sk sl sn so sq sr st sv sw tk tl tr uz vi vo wa xh yo zu",
    "Cyrl": "ba be bg kk ky mk mn ru sr tg tt uk",
    "Arab": "ar ary arz fa ps sdh ug ur",
    "Deva": "gom hi mr ne sa",
    "Beng": "as bn",
    "Kana": "ja",
    "Hani": "ja zh",
    **{"Grek": "el", "Hebr": "he", "Ethi": "am", "Armn": "hy", "Geor": "ka", "Gujr": "gu", "Guru": "pa", "Orya": "or"},
    **{"Taml": "ta", "Telu": "te", "Knda": "kn", "Mlym": "ml", "Sinh": "si", "Hang": "ko", "Thai": "th", "Laoo": "lo"},
    **{"Mymr": "my", "Khmr": "km", "Tibt": "dz"},
}
"""The languages that can be asked for by script, with their ISO 639 codes."""
KNOWN = frozenset(" ".join(LANGUAGES.values()).split())


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Language(Reward):
    """Words in the target language divided by all words; code, maths, tags and addresses are no words."""

    name: ClassVar[str] = "language"
    needs: ClassVar[tuple[str, ...]] = ("py3langid",)
    best: ClassVar[float | None] = 1.0
    language: Annotated[
        tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ]
    """Code of the language, such as de (ISO 639). Of several, all count: no,nn,da where they are hard to tell apart."""
    part: Literal["whole", "answer"] = "whole"
    """whole: the reasoning too. answer: only what follows it."""
    min_words: int = Field(default=8, ge=1)
    """A text of fewer words is not judged; in scripts without spaces, a character is a word."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Some language."""
        return {"language": "en"}

    @model_validator(mode="after")
    def _known(self) -> Self:
        for code in self.language:
            if code not in KNOWN:
                known = " ".join(sorted(KNOWN))
                raise ValueError(f"no language {code!r} is known{did_you_mean(code, KNOWN)}; known: {known}")
        return self

    def warm(self) -> None:
        """Load what tells languages of the same script apart, where that takes more than a look at the letters."""
        if any(
            _candidates(script) - {*self.language} for script in LANGUAGES if _candidates(script) & {*self.language}
        ):
            _identifier()

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A sentence or two in each of the languages that there is one for."""
        from .samples import SAMPLES

        for code in self.language:
            if code in SAMPLES:
                yield {"prompt": "17 + 25?", "completion": SAMPLES[code]}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """Score every completion; ``None`` where it holds too few words to tell."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float | None:
        from tunesmith.passages import after_thinking

        from .words import prose, segments

        text = rollout.text if self.part == "whole" else after_thinking(rollout.text)
        right = total = 0
        for words in segments(prose(text or "")):
            total += sum(len(found) for found in words.values())
            right += self._count(words)
        return right / total if total >= self.min_words else None

    def _count(self, words: Mapping[str, list[str]]) -> int:
        """The words of a segment that are in the target language."""
        right = 0
        for script, found in words.items():
            candidates = _candidates(script)
            if script == "Hani":  # Han is Japanese beside kana, and Chinese without
                candidates = frozenset({"ja" if "Kana" in words else "zh"})
            targets = candidates & {*self.language}
            if targets and (targets == candidates or _language_of(" ".join(found), candidates) in targets):
                right += len(found)
        return right


@lru_cache(maxsize=64)
def _candidates(script: str) -> frozenset[str]:
    """The languages that are written in a script."""
    return frozenset(LANGUAGES.get(script, "").split())


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def _language_of(text: str, candidates: frozenset[str]) -> str:
    """The likeliest of some languages."""
    return next(code for code, _ in _identifier().rank(text) if code in candidates)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Language]
