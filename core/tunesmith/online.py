"""Methods that train on what the policy samples. Declared without torch; the work is in `tunesmith.rollout`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from tunesmith.components import (
    AnyGenerator,
    AnyReward,
    Method,
    Phase,
    Role,
    Sampling,
    Settings,
    StepSize,
    Texts,
    Workload,
)
from tunesmith.examples import Prompt
from tunesmith.inputs import PolicyLogps
from tunesmith.offline import HasReference

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.data.trees import Batch, Tree
    from tunesmith.examples import Example
    from tunesmith.models.roles import Models
    from tunesmith.numerics import Groups
    from tunesmith.runner.context import Context

log = logging.getLogger(__name__)
TOY_REWARD = Path(__file__).with_name("testing") / "toy_reward.py"
"""A file of rewards for checks."""


def _one_or_more(value: Any) -> Any:
    """One reward or a list of them."""
    return (value,) if isinstance(value, (str, dict)) else value


Rewards = Annotated[tuple[AnyReward, ...], BeforeValidator(_one_or_more)]


class HasCritic(Settings):
    """Settings of a method with a critic."""

    critic: Literal["auto", "model", "adapter"] = "auto"
    """The critic: a model of its own, or an adapter and a head on the policy's base. auto: an adapter where one is
    trained, else a model."""
    critic_model: str | None = None
    """Model folder or hub name that the critic starts from, such as a reward model; by default the policy's."""
    critic_lr_scale: float = Field(default=5.0, gt=0)
    """Learning rate of the critic, as a multiple of the policy's."""
    critic_warmup: int = Field(default=0, ge=0)
    """Steps in which only the critic is trained."""


class OnlineMethod(Method, Sampling, HasReference):
    """Samples answers to prompts, has rewards judge them, and learns from how they compare.

    A step samples ``group_size`` answers to each of ``batch_size`` prompts and makes ``update_epochs * minibatches``
    updates on them. A new method of this kind is a name, a card, an objective and `advantages`.
    """

    consumes: ClassVar[type] = Prompt
    supplies: ClassVar[type] = PolicyLogps
    roles: ClassVar[frozenset[Role]] = frozenset({"policy", "reference"})
    progress: ClassVar[str] = "reward"

    rewards: Rewards = Field(min_length=1)
    """What judges the answers: names, {name: ..., settings}, or FILE.py:FUNCTION; their weighted sum counts."""
    group_size: int = Field(default=8, ge=1)
    """Answers to each prompt."""
    generator: AnyGenerator = Field(default="native")  # type: ignore[assignment]
    """Engine that samples."""
    update_epochs: int = Field(default=1, ge=1)
    """Passes over the answers of a step."""
    minibatches: int = Field(default=1, ge=1)
    """Updates in one pass, each on its part of the prompts."""
    kl_coef: float = Field(default=0.0, ge=0)
    """Beta: the reward is less by beta times the KL to the reference. Objectives may have a KL in the loss instead."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    """How the KL in the reward is estimated; only k1 has the gradient of the KL."""
    max_draws: int = Field(default=1, ge=1)
    """Sample for so many batches of prompts at most, until a step has enough groups whose rewards differ (DAPO's
    dynamic sampling); 1: never again."""
    skip_equal_groups: bool = True
    """Leave groups whose advantages are all zero out of the loss and its count (they are counted in the metrics)."""
    mask_truncated: bool = False
    """Leave answers that were cut off at max_new_tokens out of the loss (DAPO's overlong filtering)."""
    truncated_score: float | None = None
    """Reward of an answer that was cut off, in place of what the rewards say."""
    max_reward_failures: float = Field(default=0.1, ge=0, le=1)
    """Stop when the infrastructure of rewards fails on more than this share of a step's answers."""
    show_samples: int = Field(default=0, ge=0)
    """Steps between tables of samples on the terminal; 0: never. samples.jsonl has all of them."""

    probe: int = Field(default=32, ge=0)
    """Prompts that are answered before training, to see whether there is anything to learn; 0: none."""
    force: bool = False
    """Train also where that probe says that it is of no use."""

    @model_validator(mode="after")
    def _can_learn(self) -> OnlineMethod:
        if self.temperature == 0:
            raise ValueError("temperature 0 samples the same answer again and again, so there is nothing to compare")
        if self.kl_coef and getattr(self.objective, "kl_coef", 0.0):
            raise ValueError("kl_coef is given twice, in the reward and in the objective: keep one of them")
        if self.max_draws > 1 and self.group_size == 1:
            raise ValueError(
                "max_draws samples again until groups differ, and one answer is no group: raise group_size"
            )
        correction = getattr(self.objective, "correction", "none")
        if correction != "none" and not self.sampling.whole:
            raise ValueError(
                f"correction: {correction} compares probabilities of the whole vocabulary, but tokens are drawn from a "
                "part of it: leave top_p, top_k and min_p at their defaults"
            )
        return self

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Few and short answers, all of which count, judged by a function that a random model can learn to please."""
        return {
            "rewards": f"{TOY_REWARD}:even_share",
            "group_size": 4,
            "max_new_tokens": 6,
            "minibatches": 2,
            "mask_truncated": False,
            "probe": 0,
        }

    # ------------------------------------------------------------------------------------------ declared
    @property
    def sampling(self) -> Sampling:
        """How answers are sampled."""
        return Sampling(**{name: getattr(self, name) for name in Sampling.model_fields})

    @property
    def needs_reference(self) -> bool:
        """True where these settings compare the policy with its reference."""
        return self.kl_coef > 0 or bool(getattr(self.objective, "kl_coef", 0.0))

    @property
    def needs_old(self) -> bool:
        """True where the policy's own log-probabilities are noted before it is updated."""
        return self.updates_per_step > 1 or self.kl_coef > 0

    def active_roles(self) -> frozenset[Role]:
        """Without the reference where nothing is compared with it."""
        return self.roles if self.needs_reference else self.roles - {"reference"}

    @property
    def updates_per_step(self) -> int:
        """Passes times parts."""
        return self.update_epochs * self.minibatches

    def texts_of_step(self, step: StepSize) -> Texts:
        """A prompt and its group of answers, which are never parted."""
        return Texts(step.prompt or step.longest, self.max_new_tokens, self.group_size)

    def learned(self, step: StepSize) -> tuple[Texts, int]:
        """What updates are made on, and how many of those a step has; by default the groups of all prompts."""
        return self.texts_of_step(step), step.rows

    def noted(self) -> Mapping[str, Role]:
        """What `collect` notes of all tokens before the updates, and the model that says it."""
        active = self.active_roles()
        wanted: tuple[tuple[str, Role, bool], ...] = (
            ("old log-probabilities", "policy", self.needs_old),
            ("references", "reference", "reference" in active),
            ("values", "value", "value" in active),
        )
        return {name: role for name, role, needed in wanted if needed}

    def workload(self, step: StepSize, layers: int) -> Workload:
        """Sample, judge where a model judges, note what updates need, update."""
        grown, (trained, trees) = self.texts_of_step(step), self.learned(step)
        phases = [Phase("sample", "sample", ("policy",), grown, step.rows)]
        if any(True for reward in self.rewards for _ in reward.models_held()):
            judged = Texts(answer=grown.longest)
            phases.append(Phase("judge", "score", ("reward",), judged, step.rows * self.group_size))
        for name, role in self.noted().items():
            phases.append(Phase(f"score {name}", "score", (role,), trained, trees))
        roles: tuple[Role, ...] = ("policy", "value") if "value" in self.active_roles() else ("policy",)
        updates = self.updates_per_step
        phases.append(Phase("update", "train", roles, trained, trees, float(self.update_epochs), updates))
        again = f"a step samples once, though max_draws {self.max_draws} may sample again: more time, not more memory"
        return Workload(tuple(phases), notes=(again,) if self.max_draws > 1 else ())

    def check(self, example: Example, tree: Tree) -> str | None:
        """Refuse a prompt without the columns that the rewards read."""
        assert isinstance(example, Prompt)
        from tunesmith.data.prompts import lacking_column

        rewards = self.__dict__.get("rewards", ())  # rows can be looked at before it is known what judges
        return lacking_column(rewards, example)

    # ------------------------------------------------------------------------------------------ a run
    def opened(self, ctx: Context) -> None:
        """Open the engine and the workers of the rewards."""
        from tunesmith.rollout.collect import open_services

        open_services(self, ctx)

    def started(self, ctx: Context, trees: Iterable[Tree]) -> None:
        """Probe a few prompts. Raises `ConfigError` where nothing can be learned from them, or one is too long."""
        from tunesmith.rollout.readiness import probe

        probe(self, ctx, trees)
        if self.supplies is PolicyLogps:
            log.info("loss     is near zero by construction; watch reward")

    def collect(self, batch: Batch, ctx: Context) -> Batch:
        """Sample and judge answers; note the log-probabilities that updates and references need."""
        from tunesmith.rollout.collect import grow, note_logps

        return self.shaped(note_logps(self, grow(self, batch, ctx, f"step {ctx.step}"), ctx), ctx)

    def shaped(self, batch: Batch, ctx: Context) -> Batch:
        """Put what is beside the rewards into the values of the answers: here the KL of the whole answer."""
        from tunesmith.rollout.collect import penalise

        return penalise(batch, self.kl_coef, self.kl_estimator)

    def totals(self, batch: Batch) -> Mapping[str, float]:
        """Prompts, those whose answers differ in reward, and sums of the rewards and their squares."""
        from tunesmith.rollout.collect import totals

        return totals(batch)

    def wants_more(self, batch: Batch, draws: int) -> bool:
        """Until as many groups as a step has prompts can be learned from (DAPO's dynamic sampling)."""
        return draws < self.max_draws and batch.totals["varied"] < batch.totals["prompts"] / draws

    def advantages(self, rewards: Tensor, groups: Groups, batch: Batch) -> Tensor:
        """By how much each answer is better than expected.

        Args:
            rewards: ``[R]`` fp64, NaN where an answer has no reward.
            groups: which answers belong to the same prompt, and which of them have a reward.
            batch: its trees, and ``batch.totals`` over the whole step.

        Returns:
            ``[R]``; answers without a reward are left out whatever stands there.

        Raises:
            NotImplementedError: a method must define this, or a `settle` of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither advantages() nor settle()")

    def settle(self, batch: Batch, ctx: Context) -> Batch:
        """Give every answer its advantage; leave out those, and whole groups, that there is nothing to learn from."""
        from tunesmith.rollout.collect import settle

        return settle(self, batch)

    def minibatch(self, batch: Batch, update: int, ctx: Context) -> Batch:
        """One of `minibatches` parts, by a shuffle of the whole step's prompts that every process makes alike."""
        if self.minibatches == 1:
            return batch
        from tunesmith.rollout.collect import part_of

        epoch, part = divmod(update, self.minibatches)
        return part_of(batch, part, self.minibatches, seed=(ctx.seed, ctx.step, epoch))

    def forward(self, models: Models, batch: Batch) -> PolicyLogps:
        """Score the answers with what was noted of them."""
        from tunesmith.rollout.collect import column

        x = models.policy.token_logps(batch)
        device = x.logps.device
        noted = {name: column(batch, name, device) for name in ("old", "reference", "sampler")}
        advantages = column(batch, "advantages", device)
        assert advantages is not None, "settle() gives every answer its advantage"
        return PolicyLogps(
            x.logps,
            x.branches,
            x.num_branches,
            advantages=advantages,
            trees=_tree_of_branch(batch, device),
            longest=self.max_new_tokens,
            **noted,
        )

    def after_step(self, ctx: Context) -> Mapping[str, float]:
        """What the rewards said; move the reference where that is asked for."""
        from tunesmith.rollout.diagnosis import diagnose
        from tunesmith.rollout.metrics import rollout_metrics
        from tunesmith.rollout.show import show_samples

        if self.sync_every is not None and ctx.models.has_reference and ctx.step % self.sync_every == 0:
            ctx.models.reference.move_towards(ctx.models.policy, self.sync_weight)
        metrics = rollout_metrics(ctx.samples)
        if ctx.rank == 0 and self.show_samples and ctx.step % self.show_samples == 0:
            show_samples(ctx.samples)
        for sentence in diagnose({**ctx.metrics, **metrics}, ctx.state.setdefault("diagnosis", {}), ctx.step):
            if ctx.rank == 0:
                log.warning("step %d: %s", ctx.step, sentence)
        return metrics

    def measure(self, trees: Iterable[Tree], ctx: Context, name: str) -> list[Mapping[str, Any]]:
        """Sample answers to held-out prompts, with the same seeds every time, and say what the rewards say of them."""
        from tunesmith.data.trees import Batch
        from tunesmith.rollout.collect import grow

        return list(grow(self, Batch(list(trees)), ctx, f"eval {name}").samples)


def _tree_of_branch(batch: Batch, device: Any) -> Tensor:
    """``[R]`` int64: the tree of every branch."""
    import torch

    sizes = torch.tensor([len(tree.branches) for tree in batch.trees], device=device)
    return torch.arange(len(batch), device=device).repeat_interleave(sizes)
