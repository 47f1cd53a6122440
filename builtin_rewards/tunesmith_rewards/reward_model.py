"""The score of a trained reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

import tunesmith
from tunesmith import ConfigError, ResourceError, Reward, Rollout, Unpaired


class RewardModel(Reward):
    """The score that a reward model gives the whole answer, with its own tokenizer and chat template."""

    name: ClassVar[str] = "reward-model"
    model: str
    """Folder of a reward model, such as `tunesmith run rm` writes."""
    micro_tokens: int = Field(default=4096, ge=1)
    """Tokens in one forward pass."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """A folder with a config and weights."""
        path = Path(word)
        return {"model": word} if (path / "config.json").is_file() and any(path.glob("*.safetensors")) else None

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """Score every answer; the same whatever else is in the list."""
        import torch

        from tunesmith.data.trees import Batch, best_fit

        scorer, encoder = _loaded(self.model)
        trees = [Unpaired(r.prompt, r.completion, True).encode(encoder) for r in rollouts]  # type: ignore[arg-type]
        scores: list[float | None] = [None] * len(trees)
        with torch.no_grad():
            for indices in best_fit([tree.num_tokens for tree in trees], self.micro_tokens):
                found = scorer.scores(Batch([trees[i] for i in indices])).tolist()
                for i, score in zip(indices, found, strict=True):
                    scores[i] = score
        return scores


@lru_cache(maxsize=2)
def _loaded(folder: str) -> tuple[Any, Any]:
    """Scorer and encoder of a folder. Raises `ResourceError` for a model without a trained score head."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tunesmith.data.encoding import Encoder
    from tunesmith.models.loading import quiet_transformers
    from tunesmith.scoring.probe import choose
    from tunesmith.scoring.scores import ScoreScorer

    if not Path(folder).is_dir():
        raise ConfigError(f"there is no reward model {folder!r}", fix="give a folder that `tunesmith run rm` wrote")
    quiet_transformers()
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, use_safetensors=True, output_loading_info=True, local_files_only=True
    )
    if report["missing_keys"]:
        raise ResourceError(
            f"{folder} is no reward model: its weights lack {', '.join(sorted(report['missing_keys']))}",
            why="a head of random numbers would score at random",
            fix="train one with `tunesmith run rm`",
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    scorer = ScoreScorer(model.eval().requires_grad_(False), pad_id=tokenizer.pad_token_id)
    choose(scorer)
    return scorer, Encoder(tokenizer)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [RewardModel]
