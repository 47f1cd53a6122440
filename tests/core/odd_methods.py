"""Methods that are wrong in one way each, and one that is right. Tests load this file as a plugin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import tunesmith
from tunesmith import (
    AnyObjective,
    Card,
    Completion,
    Example,
    Method,
    OfflineMethod,
    Preference,
    ReferencedMethod,
    ReferencedPairLogps,
    TokenLogps,
)
from tunesmith.plugins import import_file

losses = import_file(Path(__file__).with_name("odd_losses.py"))


class Right(OfflineMethod):
    """Learns texts by heart."""

    name: ClassVar[str] = "odd-right"
    consumes: ClassVar[type] = Completion
    supplies: ClassVar[type] = TokenLogps
    card: ClassVar[Card] = Card(paper="-", use_when="never", data="-", memory="-")
    objective: AnyObjective = losses.Likelihood()
    """Loss."""


class Scaled(Right):
    """Gives every row a weight, in a column."""

    name: ClassVar[str] = "odd-scaled"

    def collect(self, batch, ctx):
        return batch.with_columns(weight=self.weights(batch, ctx))

    def weights(self, batch, ctx):
        raise NotImplementedError

    def forward(self, models, batch):
        x = models.policy.token_logps(batch)
        weights = batch.columns["weight"].to(x.logps)
        return replace(x, logps=x.logps * weights[x.branches])


class Idle(Right):
    """Declares a reference and never asks for it."""

    name: ClassVar[str] = "odd-idle-reference"
    roles: ClassVar[frozenset] = frozenset({"policy", "reference"})


class Undeclared(Right):
    """Asks for a reference that it did not declare."""

    name: ClassVar[str] = "odd-undeclared"

    def collect(self, batch, ctx):
        return batch.with_columns(reference=ctx.models.reference.branch_sums(batch))


class Moved(Right):
    """Changes what the model computes before the first step."""

    name: ClassVar[str] = "odd-moved"

    def prepare(self, policy, ctx):
        import torch

        if ctx.resumed:
            return policy
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                if "norm" in name:
                    parameter.mul_(1.01)
        return policy


class Unheld(ReferencedMethod):
    """Takes half of the reference for the reference."""

    name: ClassVar[str] = "odd-half-reference"
    consumes: ClassVar[type] = Preference
    supplies: ClassVar[type] = ReferencedPairLogps
    card: ClassVar[Card] = Right.card
    objective: AnyObjective = losses.PairLoss()
    """Loss."""

    def collect(self, batch, ctx):
        return batch.with_columns(reference=ctx.models.reference.branch_sums(batch) / 2)


class Bent(Right):
    """Trains with a gradient that is not that of its loss."""

    name: ClassVar[str] = "odd-bent"
    objective: AnyObjective = losses.BentLikelihood()
    """Loss."""


class PathDependent(Right):
    """Scores one way of computing differently."""

    name: ClassVar[str] = "odd-path"
    path: str = "packed"
    """Which."""

    def forward(self, models, batch):
        x = models.policy.token_logps(batch)
        return replace(x, logps=x.logps * (0.9 if models.policy.path == self.path else 1.0))


class PartMean(Scaled):
    """Weighs a part by its share of the rows of its process."""

    name: ClassVar[str] = "odd-part-mean"

    def weights(self, batch, ctx):
        import torch

        return torch.full((len(batch),), 1.0 / len(batch))

    def forward(self, models, batch):
        x = super().forward(models, batch)
        return replace(x, logps=x.logps * len(batch))


class OwnMean(Scaled):
    """Weighs rows by what its own process has of the step."""

    name: ClassVar[str] = "odd-own-mean"

    def weights(self, batch, ctx):
        import torch

        sizes = torch.tensor([float(tree.num_scored) for tree in batch.trees])
        return sizes / sizes.mean()


class FirstAlone(Right):
    """Changes the weights on the first process alone."""

    name: ClassVar[str] = "odd-first-alone"

    def after_step(self, ctx):
        import torch

        if ctx.rank == 0 and ctx.processes > 1:
            with torch.no_grad():
                ctx.groups[0].params[0].mul_(0.5)
        return {}


class Places(Right):
    """Weighs rows by their places."""

    name: ClassVar[str] = "odd-places"

    def arrange(self, trees):
        return [replace(tree, margin=1.0 + i) for i, tree in enumerate(trees)]

    def forward(self, models, batch):
        import torch

        x = models.policy.token_logps(batch)
        weights = torch.tensor([tree.margin for tree in batch.trees])
        return replace(x, logps=x.logps * weights[x.branches])


class WholeLength(Right):
    """Divides by the length of an answer, untrained tokens included."""

    name: ClassVar[str] = "odd-whole-length"

    def forward(self, models, batch):
        import torch

        x = models.policy.token_logps(batch)
        lengths = torch.tensor([float(len(branch)) for tree in batch.trees for branch in tree.branches])
        return replace(x, logps=x.logps / lengths[x.branches])


class Thawed(Right):
    """Trains everything, whatever was frozen."""

    name: ClassVar[str] = "odd-thawed"

    def prepare(self, policy, ctx):
        return policy.requires_grad_(True)


class Forgetful(Scaled):
    """Keeps a count where no checkpoint keeps it."""

    name: ClassVar[str] = "odd-forgetful"

    def weights(self, batch, ctx):
        import torch

        ctx.services["steps"] = ctx.services.get("steps", 0) + 1
        return torch.full((len(batch),), 1.0 + ctx.services["steps"])


class Backwards(Right):
    """Makes what it is shown less likely."""

    name: ClassVar[str] = "odd-backwards"
    objective: AnyObjective = losses.Likelihood(factor=1.0)
    """Loss."""


class Deaf(Right):
    """Learns nothing."""

    name: ClassVar[str] = "odd-deaf"

    def forward(self, models, batch):
        x = models.policy.token_logps(batch)
        return replace(x, logps=x.logps * 0.0)


class Endless(Right):
    """Has a gradient that is not finite."""

    name: ClassVar[str] = "odd-endless"

    def forward(self, models, batch):
        x = models.policy.token_logps(batch)
        return replace(x, logps=(x.logps - x.logps.detach()).sqrt())


class Mute(Right):
    """Names a metric that it does not report."""

    name: ClassVar[str] = "odd-mute"
    progress: ClassVar[str] = "cleverness"


@dataclass(frozen=True)
class Riddle(Example):
    """An example of nobody else's."""

    question: str

    def encode(self, encoder):
        return encoder.completion(self.question, "I give up.")


class Riddles(Right):
    """Learns to give up."""

    name: ClassVar[str] = "odd-riddles"
    consumes: ClassVar[type] = Riddle


class KnownRiddles(Riddles):
    """The same with riddles of its own."""

    name: ClassVar[str] = "odd-known-riddles"

    def examples_for_checks(self):
        return [Riddle("What am I? " + "And why? " * i) for i in range(5)]


@tunesmith.hookimpl
def tunesmith_register_methods() -> list[type[Method]]:
    return [Right, Idle, Moved]


@tunesmith.hookimpl
def tunesmith_register_objectives() -> list[type[tunesmith.Objective]]:
    return [losses.Likelihood]
