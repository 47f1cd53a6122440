"""From prompts to judged answers with everything that training on them needs.

Shape letters: N trees, G answers per tree, S scored tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.components import GeneratorSession, Rollout, Sample, Verdict
from tunesmith.data.encoding import Encoder
from tunesmith.data.trees import Batch, Branch, Tree, best_fit
from tunesmith.errors import ConfigError
from tunesmith.numerics import Groups, Moments, grouped, kl_estimate, moments
from tunesmith.rollout.panel import Panel
from tunesmith.scoring.scorer import Scorer, without_dropout

if TYPE_CHECKING:
    from tunesmith.online import OnlineMethod
    from tunesmith.runner.context import Context

GENERATOR, PANEL = "generator", "panel"


def open_services(method: OnlineMethod, ctx: Context) -> None:
    """Open the engine and the panel; every log-probability of the run is taken at the sampling temperature."""
    for scorer in ctx.models.scorers:
        scorer.temperature = method.temperature
    stop_ids = Encoder(ctx.tokenizer).stop_ids
    session = method.generator.open(ctx.models.policy, ctx.tokenizer, stop_ids)
    ctx.closing.callback(session.close)
    for reward in method.rewards:
        if not reward.isolated:
            reward.attach(ctx.models.policy)
    panel = Panel(method.rewards, max_infrastructure=method.max_reward_failures)
    ctx.closing.callback(panel.close)
    ctx.services |= {GENERATOR: session, PANEL: panel}


# ---------------------------------------------------------------------------------------------- sampling and judging
def grow(method: OnlineMethod, batch: Batch, ctx: Context, salt: str) -> Batch:
    """Give every prompt its group of answers, each with its reward as its value (NaN: none).

    Args:
        method: says how to sample and judge.
        batch: trees without branches.
        ctx: of the run.
        salt: what sets these answers apart from others to the same prompts.
    """
    check_room(method, max((len(tree.trunk) for tree in batch.trees), default=0), ctx.models.policy)
    session: GeneratorSession = ctx.services[GENERATOR]
    seeds = _seeds(method, batch, ctx.seed, salt)
    with without_dropout(ctx.models.policy.module):
        session.sync()
        groups = session.generate([tree.trunk for tree in batch.trees], seeds, method.sampling)
    rollouts = rollouts_of(batch.trees, groups, ctx.tokenizer)
    panel: Panel = ctx.services[PANEL]
    verdicts = panel.judge(rollouts)
    totals = panel.totals(verdicts)
    drawn = [sample for group in groups for sample in group]
    if method.truncated_score is not None:
        cut = method.truncated_score
        totals = [cut if sample.stop == "length" else total for sample, total in zip(drawn, totals, strict=True)]
    trees, records, start = [], [], 0
    for tree, group, own in zip(batch.trees, groups, seeds, strict=True):
        branches = []
        for j, sample in enumerate(group):
            at = start + j
            branches.append(_branch(sample, totals[at]))
            said = {label: verdicts[i][at] for i, label in enumerate(panel.labels)}
            records.append(_record(tree, j, sample, rollouts[at], said, totals[at], own[j]))
        trees.append(replace(tree, branches=tuple(branches)))
        start += len(group)
    return replace(batch, trees=trees, samples=[*batch.samples, *records])


def _seeds(method: OnlineMethod, batch: Batch, seed: int, salt: str) -> list[list[int]]:
    """One for every answer; where a row comes twice in a step, its answers differ by their positions."""
    places = batch.columns["position"].tolist() if "position" in batch.columns else [0] * len(batch)
    return [
        [seed_of(seed, salt, place, tree.source, tree.row, j) for j in range(method.group_size)]
        for place, tree in zip(places, batch.trees, strict=True)
    ]


def seed_of(*parts: Any) -> int:
    """63 bits of a hash: the same for the same parts on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def check_room(method: OnlineMethod, longest: int, policy: Scorer) -> None:
    """Raises `ConfigError` where the model has no positions for a prompt of so many tokens and its answer."""
    most = getattr(policy.language_model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and longest + method.max_new_tokens > most:
        raise ConfigError(
            f"the model has {most:,} positions: too few for a prompt of {longest:,} tokens and max_new_tokens "
            f"{method.max_new_tokens:,}",
            fix="lower max_new_tokens, or set max_length (of a prompt) with --overlong drop",
        )


def rollouts_of(trees: Sequence[Tree], groups: Sequence[Sequence[Sample]], tokenizer: Any) -> list[Rollout]:
    """The answers as rewards see them, in order: text to a prompt in text, a message to one in messages."""
    ids = [_said(sample) for group in groups for sample in group]
    texts = iter(tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    rollouts = []
    for tree, group in zip(trees, groups, strict=True):
        assert tree.about is not None, "prompts say what they are"
        prompt, columns = tree.about["prompt"], tree.about["columns"]
        for sample in group:
            text = next(texts)
            answer = text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
            rollouts.append(Rollout(prompt, answer, columns, sample.ids.tolist(), sample.stop == "length"))
    return rollouts


def _said(sample: Sample) -> list[int]:
    ids: list[int] = sample.ids.tolist()
    return ids[:-1] if sample.stop == "eos" else ids


def _branch(sample: Sample, total: float | None) -> Branch:
    value = math.nan if total is None else total
    return Branch(sample.ids, np.ones(len(sample.ids), dtype=np.bool_), value, {"sampler": sample.logps})


def _record(
    tree: Tree,
    number: int,
    sample: Sample,
    rollout: Rollout,
    said: Mapping[str, Verdict],
    total: float | None,
    seed: int,
) -> dict[str, Any]:
    """A line of samples.jsonl."""
    return {
        "source": tree.source,
        "row": tree.row,
        "sample": number,
        "prompt": rollout.prompt,
        "completion": rollout.completion,
        "columns": dict(rollout.columns),
        "rewards": {label: verdict.score for label, verdict in said.items()},
        "states": {label: verdict.state for label, verdict in said.items() if verdict.state != "score"},
        "reward": total,
        "advantage": None,
        "length": len(sample.ids),
        "stop": sample.stop,
        "seed": seed,
    }


# ---------------------------------------------------------------------------------------------- log-probabilities
def note_logps(method: OnlineMethod, batch: Batch, ctx: Context) -> Batch:
    """Note what the policy and its reference say of every token, where updates need it."""
    if method.needs_old:
        note(batch, "old", ctx.models.policy)
    if method.needs_reference:
        with ctx.models.reference.active() as scorer:
            note(batch, "reference", scorer)
    return batch


def note(batch: Batch, name: str, scorer: Scorer) -> None:
    """Write the log-probability of every token of every answer into the column ``name`` of its branch."""
    with torch.no_grad(), without_dropout(scorer.module):
        for rows in best_fit([tree.num_tokens for tree in batch.trees], scorer.micro_tokens):
            part = Batch([batch.trees[i] for i in rows])
            write_column(part, name, scorer.token_logps(part).logps)


def write_column(batch: Batch, name: str, values: Tensor) -> None:
    """Write ``values [S]`` into the column of the branches; tokens that are not scored get 0."""
    flat, start = values.detach().float().cpu().numpy(), 0
    for tree in batch.trees:
        for branch in tree.branches:
            mask = tree.scored(branch)
            own = np.zeros(len(branch), dtype=np.float32)
            own[mask] = flat[start : start + int(mask.sum())]
            branch.columns = {**branch.columns, name: own}
            start += int(mask.sum())
    assert start == len(flat), (start, len(flat))


def column(batch: Batch, name: str, device: torch.device | str) -> Tensor | None:
    """``[S]`` fp32: a column of the scored tokens, or ``None`` where the branches have no such column."""
    branches = [(tree, branch) for tree in batch.trees for branch in tree.branches]
    if not branches or name not in branches[0][1].columns:
        return None
    parts = [branch.columns[name][tree.scored(branch)] for tree, branch in branches]
    return torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(device)


def penalise(batch: Batch, kl_coef: float, estimator: str) -> Batch:
    """Take ``kl_coef`` times the estimated KL of policy and reference, summed over an answer, from its reward."""
    if not kl_coef:
        return batch
    samples = [dict(sample) for sample in batch.samples]
    following = iter(samples)
    trees = []
    for tree in batch.trees:
        branches = []
        for branch in tree.branches:
            mask = tree.scored(branch)
            gaps = torch.from_numpy((branch.columns["old"] - branch.columns["reference"])[mask])
            kl = float(kl_estimate(gaps.double(), estimator).sum())
            next(following)["kl"] = kl
            branches.append(replace(branch, value=branch.value - kl_coef * kl))
        trees.append(replace(tree, branches=tuple(branches)))
    return replace(batch, trees=trees, samples=samples)


# ---------------------------------------------------------------------------------------------- advantages
def rewards_of(batch: Batch) -> tuple[Tensor, Groups]:
    """``[R]`` fp64 rewards of the answers, and the groups that they form; answers without a reward are not valid."""
    values = [branch.value for tree in batch.trees for branch in tree.branches]
    rewards = torch.tensor(values, dtype=torch.float64)
    sizes = torch.tensor([len(tree.branches) for tree in batch.trees], dtype=torch.int64)
    index = torch.arange(len(batch)).repeat_interleave(sizes)
    return rewards, grouped(index, len(batch), rewards.isfinite())


def totals(batch: Batch) -> dict[str, float]:
    """Prompts, those whose answers differ in reward, and sums of the rewards and their squares."""
    rewards, groups = rewards_of(batch)
    found = moments(rewards, groups.valid)
    given = [sample["reward"] for sample in batch.samples]  # before a KL is taken off: that differs always
    raw = torch.tensor([math.nan if reward is None else reward for reward in given], dtype=torch.float64)
    varied = float(groups.spread(raw).sum())
    sums = {"reward": found.total, "reward_squares": found.squares, "answers": found.count}
    return {"prompts": len(batch), "varied": varied, **sums}


def reward_moments(batch: Batch) -> Moments:
    """Of the rewards of the whole step, over all processes."""
    return Moments(*(batch.totals[name] for name in ("reward", "reward_squares", "answers")))


def settle(method: OnlineMethod, batch: Batch) -> Batch:
    """Give every answer its advantage, in its tokens' column ``advantages`` and on record; keep what can be learned.

    Left out are answers without a reward, those that were cut off where they are masked, and groups whose rewards
    are all the same.
    """
    if not len(batch):
        return batch
    rewards, groups = rewards_of(batch)
    advantages = method.advantages(rewards, groups, batch)
    samples = [dict(sample) for sample in batch.samples]
    for sample, advantage, valid in zip(samples, advantages.tolist(), groups.valid.tolist(), strict=True):
        sample["advantage"] = advantage if valid else None
    cut = torch.tensor([sample["stop"] == "length" for sample in samples])
    keep = groups.valid & ~(cut & method.mask_truncated)
    if method.skip_equal_groups:
        keep &= groups.spread(rewards)[groups.index]
    pairs = iter(zip(advantages.tolist(), keep.tolist(), strict=True))
    trees = [_with_advantages(tree, [next(pairs) for _ in tree.branches]) for tree in batch.trees]
    return replace(with_answers(replace(batch, trees=trees)), samples=samples)


def _with_advantages(tree: Tree, found: Sequence[tuple[float, bool]]) -> Tree:
    branches = []
    for branch, (advantage, stays) in zip(tree.branches, found, strict=True):
        if stays:
            own = np.full(len(branch), advantage, dtype=np.float32)
            branches.append(replace(branch, columns={**branch.columns, "advantages": own}))
    return replace(tree, branches=tuple(branches))


def with_answers(batch: Batch) -> Batch:
    """Without the trees that have no branch left."""
    return batch.take([i for i, tree in enumerate(batch.trees) if tree.branches])


def part_of(batch: Batch, part: int, parts: int, seed: Sequence[int]) -> Batch:
    """The trees of one of ``parts`` equal parts of the whole step, after a shuffle that depends on the seed alone."""
    size = int(batch.totals["prompts"])
    place = np.random.default_rng(list(seed)).permutation(size)
    positions = batch.columns["position"].tolist()
    return batch.take([i for i, position in enumerate(positions) if place[position] * parts // size == part])
