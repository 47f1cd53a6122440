"""What a model's layers hold while they compute: our own forward and backward pass, run on tensors without memory.

Fake tensors go through the very code that trains, so what is saved for the backward pass, copied to another precision
or held for a moment is found and not guessed, for every architecture that can run so. A pass through two depths gives
the pass through any: between them everything grows by the same amount with every layer.
"""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tunesmith.components import Texts
from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.errors import ConfigError
from tunesmith.models.loading import recompute_activations
from tunesmith.plan.model import Blueprint
from tunesmith.plan.states import Setup, skeleton
from tunesmith.scoring import attention
from tunesmith.scoring.scorer import Scorer
from tunesmith.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Pass:
    """Bytes beyond the model's states, while one part goes through its layers.

    Attributes:
        forward: the most in a pass without gradient.
        saved: after a forward pass with gradient: what the backward pass needs.
        rising: the most in that forward pass.
        falling: the most in the backward pass, with the gradients counted elsewhere.
        ending: the most in its last part, the backward pass of the embeddings; 0 where they are frozen.
    """

    forward: float = 0.0
    saved: float = 0.0
    rising: float = 0.0
    falling: float = 0.0
    ending: float = 0.0

    def times(self, factor: float) -> Pass:
        """All of it times a factor."""
        return Pass(*(getattr(self, name) * factor for name in self.__slots__))

    def at(self, deeper: Pass, step: int, layers: int) -> Pass:
        """The pass through so many layers more than this one, from one that is ``step`` layers deeper."""
        pairs = ((getattr(self, name), getattr(deeper, name)) for name in self.__slots__)
        return Pass(*(low + (high - low) / step * layers for low, high in pairs))


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its subclass hook untyped
    """Counts the bytes of the storages that are alive, and the most of them since the last `mark`.

    Args:
        module: whose parameters, buffers and gradients are there already and do not count.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.now = self.peak = 0
        held = [*module.parameters(), *module.buffers()]
        held += [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        self._known = {tensor.untyped_storage()._cdata: 0 for tensor in held}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and take in what it made."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return out

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is gone."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += self._known[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)

    def mark(self) -> int:
        """The most since the last mark; from now on it is counted anew."""
        peak, self.peak = self.peak, self.now
        return peak


def passed(
    blueprint: Blueprint,
    setup: Setup,
    settings: RunSettings,
    part: Sequence[Texts],
    *,
    gradient: bool = True,
    whole: bool = False,
) -> Pass:
    """What a part takes in a model of this kind.

    Args:
        part: the trees that go through together.
        gradient: also with gradient, and backward, where the model trains.
        whole: run all layers; otherwise two depths, unless single layers train.

    Raises:
        ConfigError: the architecture cannot run on tensors without memory.
    """
    layers = blueprint.layers + setup.new_layers
    step = _period(blueprint)
    if whole or setup.trained_layers is not None or layers <= 3 * step:
        return _traced(blueprint, setup, settings, part, layers, gradient)
    # not from one layer: only behind the first is there a layer before that hands on
    low = _traced(blueprint, setup, settings, part, 2 * step, gradient)
    high = _traced(blueprint, setup, settings, part, 3 * step, gradient)
    return low.at(high, step, layers - 2 * step)


def _period(blueprint: Blueprint) -> int:
    """After how many layers their kinds repeat, such as those with a window and those without."""
    kinds = getattr(blueprint.text, "layer_types", None) or [""]
    for period in range(1, len(kinds)):
        if all(kind == kinds[i % period] for i, kind in enumerate(kinds)):
            return period
    return len(kinds) if len(set(kinds)) > 1 else 1


def _traced(
    blueprint: Blueprint, setup: Setup, settings: RunSettings, part: Sequence[Texts], layers: int, gradient: bool
) -> Pass:
    with _faking():
        module = _filled(skeleton(blueprint, setup, settings, layers=layers))
        scorer = Scorer(module.train(), autocast=setup.autocast)
        scorer.path = "packed"
        attention.register()
        scorer.language_model.set_attn_implementation(attention.NAME)
        if setup.checkpointing and setup.trained:
            recompute_activations(scorer.module)
        try:
            return _both_ways(scorer, Batch([_tree(texts) for texts in part]), gradient and setup.trained)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, LookupError) as error:
            raise ConfigError(
                f"a model of type {blueprint.config.model_type!r} cannot be planned for",
                where=f"model {blueprint.name}",
                why=f"it does not run on tensors without memory: {str(error).splitlines()[0][:200]}",
            ) from error


@contextlib.contextmanager
def _faking() -> Iterator[None]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
        warnings.simplefilter("ignore")
        yield


def _filled(module: nn.Module) -> nn.Module:
    """The model with fake tensors in the places of those on the meta device, shared ones still shared."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                own = made.get(id(parameter))
                if own is None:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                    own = made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                part._parameters[name] = own
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return module


def _both_ways(scorer: Scorer, batch: Batch, gradient: bool) -> Pass:
    """Forward without gradient; then, where that is asked for, forward and backward beside gradients that are there."""
    live = Live(scorer.module)
    with live, torch.no_grad():
        scorer.scored_states(batch)
    found = Pass(forward=live.peak)
    if not gradient:
        return found
    marks: list[int] = []
    for parameter in scorer.module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    embeddings = scorer.language_model.get_input_embeddings()
    embeddings.register_forward_hook(lambda *call: _when_reached(call[2], lambda: marks.append(live.mark())))
    live = Live(scorer.module)
    with live:
        hidden = scorer.scored_states(batch)
        saved, rising = live.now, live.mark()
        hidden.backward(torch.ones_like(hidden))  # type: ignore[no-untyped-call]  # torch's own is untyped
    falling, ending = (marks[0], live.peak) if marks else (live.peak, 0)
    return replace(found, saved=saved, rising=rising, falling=falling, ending=ending)


def _when_reached(hidden: Tensor, note: Any) -> None:
    if hidden.requires_grad:
        hidden.register_hook(lambda gradient: note())  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _tree(texts: Texts) -> Tree:
    """A tree of zeros of this shape. Without a prompt the first token is not scored, as nothing predicts it."""

    def ids(size: int) -> Any:
        return np.zeros(size, dtype=np.int32)

    return Tree(
        ids(texts.prompt),
        tuple(Branch(ids(texts.answer), np.ones(texts.answer, dtype=np.bool_)) for _ in range(texts.answers)),
    )
