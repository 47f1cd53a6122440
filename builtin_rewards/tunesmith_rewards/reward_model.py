"""The score of a trained reward model."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

import tunesmith
from tunesmith import ConfigError, Prompt, ResourceError, Reward, Rollout, Unpaired

ADAPTER = "adapter_config.json"


class RewardModel(Reward):
    """The score that a reward model gives the whole answer, with its own tokenizer and chat template."""

    name: ClassVar[str] = "reward-model"
    isolated: ClassVar[bool] = False
    model: str
    """Folder of a reward model or of an adapter with a score head, such as `tunesmith run rm` writes."""
    micro_tokens: int = Field(default=4096, ge=1)
    """Tokens in one forward pass."""
    _shared: Any = PrivateAttr(default=None)
    """Scorer and encoder, where the policy's base is that of the adapter."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A tiny model of random weights."""
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

        from tunesmith.testing.tiny import tiny_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = LlamaForSequenceClassification(LlamaConfig.from_pretrained(tiny_model(), num_labels=1))
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_model()).save_pretrained(folder)
        return {"model": str(folder)}

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """A folder with a config, of a model or an adapter, and weights; or the run that holds such a folder."""
        for path in (Path(word), Path(word) / "model"):
            described = any((path / name).is_file() for name in ("config.json", ADAPTER))
            if described and any(path.glob("*.safetensors")):
                return {"model": str(path)}
        return None

    def models_held(self) -> Iterable[str]:
        """The one."""
        return (self.model,)

    def attach(self, policy: Any) -> None:
        """Take the policy's base where this is an adapter on the same one: no second model in memory."""
        folder = Path(self.model)
        if (folder / ADAPTER).is_file():
            from tunesmith.models.adapters import AdapterScores, shares_base

            if shares_base(policy, folder):
                _check_head(folder, set(_stored(folder)))
                self._shared = (AdapterScores(policy, folder), _encoder(self.model)[0])

    def warm(self) -> None:
        """Load the model. Raises `ResourceError` for one without a trained score head."""
        if self._shared is None:
            _loaded(self.model)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """Score every answer; the same whatever else is in the list."""
        import torch

        from tunesmith.data.trees import Batch, best_fit

        scorer, encoder = self._shared or _loaded(self.model)
        trees = [_tree(encoder, rollout) for rollout in rollouts]
        scores: list[float | None] = [None] * len(trees)
        with torch.no_grad():
            for indices in best_fit([tree.num_tokens for tree in trees], self.micro_tokens):
                found = scorer.scores(Batch([trees[i] for i in indices])).tolist()
                for i, score in zip(indices, found, strict=True):
                    scores[i] = score
        return scores


def _tree(encoder: Any, rollout: Rollout) -> Any:
    """Prompt and answer in tokens. Rows to train on must not be blank, but a policy may well say nothing."""
    import numpy as np

    from tunesmith.data.trees import Branch, Tree

    text = rollout.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # as a tokenizer decodes
    if text.strip():
        answer = rollout.completion if text == rollout.text else _said(rollout, text)
        return Unpaired(rollout.prompt, answer, True).encode(encoder)  # type: ignore[arg-type]
    end = Branch(np.array([encoder.eos_id], np.int32), np.array([True]))
    return Tree(encoder.prompt(Prompt(rollout.prompt, {})).trunk, (end,))  # type: ignore[arg-type]


def _said(rollout: Rollout, text: str) -> Any:
    """The completion with another text in its last turn."""
    if isinstance(rollout.completion, str):
        return text
    return [*rollout.completion[:-1], {**rollout.completion[-1], "content": text}]


@lru_cache(maxsize=2)
def _loaded(folder: str) -> tuple[Any, Any]:
    """Scorer and encoder of a folder. Raises `ResourceError` for a model without a trained score head."""
    from tunesmith.models.loading import quiet_transformers
    from tunesmith.scoring.probe import choose
    from tunesmith.scoring.scores import ScoreScorer

    if not Path(folder).is_dir():
        raise ConfigError(f"there is no reward model {folder!r}", fix="give a folder that `tunesmith run rm` wrote")
    quiet_transformers()
    model, missing = _adapted(Path(folder)) if (Path(folder) / ADAPTER).is_file() else _whole(folder)
    if missing:
        raise _lacking(folder, missing)
    encoder, pad_id = _encoder(folder)
    scorer = ScoreScorer(model.eval().requires_grad_(False), pad_id=pad_id)
    choose(scorer)
    return scorer, encoder


def _lacking(folder: object, missing: Collection[str]) -> ResourceError:
    return ResourceError(
        f"{folder} is no reward model: its weights lack {', '.join(sorted(missing))}",
        why="a head of random numbers would score at random",
        fix="train one with `tunesmith run rm`",
    )


def _check_head(folder: Path, stored: Collection[str]) -> None:
    """Raises `ResourceError` where an adapter has no score head."""
    if "score.weight" not in stored:
        raise _lacking(folder, ["score.weight"])


def _encoder(folder: str) -> tuple[Any, int]:
    """The encoder of a folder, and the token that pads."""
    from transformers import AutoTokenizer

    from tunesmith.data.encoding import Encoder

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder = Encoder(tokenizer)
    return encoder, tokenizer.pad_token_id if tokenizer.pad_token_id is not None else encoder.eos_id


def _stored(folder: Path) -> list[str]:
    """Names of the weights of an adapter, as the model itself names them."""
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as stored:
        return [name.removeprefix("base_model.model.") for name in stored.keys()]  # noqa: SIM118, it is no mapping


def _whole(folder: str) -> tuple[Any, set[str]]:
    """A model with one score, and the weights that are not in its folder."""
    from transformers import AutoModelForSequenceClassification

    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, use_safetensors=True, output_loading_info=True, local_files_only=True
    )
    return model, set(report["missing_keys"])


def _adapted(folder: Path) -> tuple[Any, set[str]]:
    """The base with the adapter merged into it, and the weights that neither of the two has."""
    from peft import PeftModel

    base = str(json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"])
    try:
        model, missing = _whole(base)
    except OSError:
        raise ResourceError(
            f"the base of the adapter {folder} is not there: {base}",
            where=str(folder / ADAPTER),
            fix="run from the folder that the path starts from, or put it right in base_model_name_or_path",
        ) from None
    own = set(_stored(folder))
    if missing - own:
        return model, missing - own
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload(), set()


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [RewardModel]
