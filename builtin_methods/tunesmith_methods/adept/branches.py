"""What a transformer layer adds to the residual stream, and which of its tensors make that zero.

Nothing here knows an architecture. A layer is taken for what it does: its output is its input plus what some of its
modules put out. The last map of such a module is found by what it does as well: entry ``i`` of it reaches entry ``i``
of the output and no other. That holds for an output projection and its bias, for the down projections of all experts,
and for the gain of a norm behind a branch, where there is one.

Shape letters: T tokens, H hidden.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4
"""Relative difference that rounding explains."""


@dataclass(slots=True)
class Call:
    """The arguments and the output (its first tensor) of a module; ``order``: when it returned."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Tensor
    order: int


class Recorder:
    """Keeps the last call of every module it is put on."""

    def __init__(self) -> None:
        self.calls: dict[nn.Module, Call] = {}

    def watch(self, *modules: nn.Module) -> ExitStack:
        """Record calls of these modules until the stack is closed."""
        stack = ExitStack()
        for module in modules:
            stack.callback(module.register_forward_hook(self._keep, with_kwargs=True).remove)
        return stack

    def _keep(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        first = first_tensor(output)
        if first is not None:
            self.calls[module] = Call(args, kwargs, first.detach().clone(), len(self.calls))


def first_tensor(output: Any) -> Tensor | None:
    """The tensor itself, or the first one of a tuple."""
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def hidden_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden states that a layer was called with."""
    hidden = args[0] if args else kwargs["hidden_states"]
    assert isinstance(hidden, Tensor)
    return hidden


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Fill all parameters with numbers of which none is special: nothing cancels and no branch is dead."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 1 / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.3
            parameter.copy_(noise * scale)


def out_maps(layer: nn.Module, call: Call) -> dict[str, float]:
    """The tensors of a layer whose filling makes it the identity: name to the value to fill it with.

    Args:
        layer: it is called again, and its weights are lost.
        call: one of its calls.

    Raises:
        ValueError: the layer does something else than adding to its input, or what it adds cannot be made zero.
    """
    randomise(layer)
    recorder = Recorder()
    with torch.no_grad(), recorder.watch(*layer.modules()):
        layer(*call.args, **call.kwargs)
    branches = _branches(layer, hidden_input(call.args, call.kwargs), recorder.calls)
    names = {module: name for name, module in layer.named_modules()}
    found: dict[str, float] = {}
    for branch in branches:
        for name, value in _zeroed_by(branch, recorder.calls[branch], names[branch]).items():
            found[f"{names[branch]}.{name}"] = value
    return found


# ---------------------------------------------------------------------------------------------- what is added
def _branches(layer: nn.Module, before: Tensor, calls: Mapping[nn.Module, Call]) -> list[nn.Module]:
    """The innermost modules whose outputs are added to the residual stream, in the order of their calls."""
    kind = type(layer).__name__
    candidates: list[nn.Module] = []
    for child in sorted((c for c in layer.children() if c in calls), key=lambda c: calls[c].order):
        output = calls[child].output
        seen = any(_same(output, calls[other].output) for other in candidates)
        if output.numel() == before.numel() and not seen:  # dropout hands on what it was given
            candidates.append(child)
    columns = [before, *(calls[child].output for child in candidates)]
    system = torch.stack([column.reshape(-1).double().cpu() for column in columns], 1)
    wanted = calls[layer].output.reshape(-1).double().cpu()
    shares = torch.linalg.lstsq(system, wanted[:, None]).solution[:, 0]
    off = (system @ shares - wanted).abs().max() / wanted.abs().max()
    if not float(off) < TOLERANCE or abs(float(shares[0]) - 1) > 1e-3:
        raise ValueError(f"a {kind} does not put out its input plus what its modules put out")
    chosen = [child for child, share in zip(candidates, shares[1:].tolist(), strict=True) if abs(share) > 1e-3]
    if not chosen:
        raise ValueError(f"a {kind} adds nothing to its input")
    return [_innermost(child, calls) for child in chosen]


def _innermost(module: nn.Module, calls: Mapping[nn.Module, Call]) -> nn.Module:
    """The module inside that was the first to put out just this."""
    output = calls[module].output
    inside = [m for m in module.modules() if m in calls and _same(calls[m].output, output)]
    return min((m for m in inside if any(True for _ in m.parameters())), key=lambda m: calls[m].order, default=module)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(one.reshape(-1), other.reshape(-1))


# ---------------------------------------------------------------------------------------------- what makes it zero
def _zeroed_by(module: nn.Module, call: Call, name: str) -> dict[str, float]:
    """The parameters of a branch's last map, and what to fill them with so that it puts out zeros."""
    size = hidden_input_size(call)
    kinds: dict[str, list[str]] = {}
    for key, _ in module.named_parameters():
        kinds.setdefault(re.sub(r"\d+", "#", key), []).append(key)  # experts of which no token came by go along
    last = [
        key
        for keys in kinds.values()
        if any(_is_last(module, call, module.get_parameter(key), size) for key in keys)
        for key in keys
    ]
    vectors = [key for key in last if module.get_parameter(key).ndim == 1 and key.endswith("weight")]
    for gain in (0.0, -1.0):  # some norms multiply with 1 + weight
        values = {key: gain if key in vectors else 0.0 for key in last}
        with torch.no_grad():
            for key, value in values.items():
                module.get_parameter(key).fill_(value)
            if last and not bool(_run(module, call).any()):
                return values
    raise ValueError(f"what {name} ({type(module).__name__}) puts out cannot be made zero by its last map")


def hidden_input_size(call: Call) -> int:
    """H."""
    return int(call.output.shape[-1])


def _is_last(module: nn.Module, call: Call, parameter: nn.Parameter, size: int) -> bool:
    """True when along one dimension entry i of the parameter reaches entry i of the output and no other."""
    plain = _run(module, call)
    return any(
        all(_reaches_only(module, call, parameter, dim, i, plain) for i in (0, size - 1))
        for dim in range(parameter.ndim)
        if parameter.shape[dim] == size
    )


def _reaches_only(module: nn.Module, call: Call, parameter: nn.Parameter, dim: int, i: int, plain: Tensor) -> bool:
    with torch.no_grad():
        piece = parameter.select(dim, i)
        kept = piece.clone()
        piece.add_(1.0)
        moved = (_run(module, call) - plain).abs().amax(0)
        piece.copy_(kept)
    limit = TOLERANCE * float(plain.abs().max())
    reached = moved > limit
    return bool(reached[i]) and int(reached.sum()) == 1


def _run(module: nn.Module, call: Call) -> Tensor:
    """``[T, H]`` what the module puts out for the same input."""
    with torch.no_grad():
        output = first_tensor(module(*call.args, **call.kwargs))
    assert output is not None
    return output.reshape(-1, output.shape[-1])


def plain_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What tells layers of one class apart: numbers, words and flags that are set on their modules."""
    for name, inner in module.named_modules():
        for key, value in vars(inner).items():
            if isinstance(value, (bool, int, float, str, type(None))) and not _passing(key, inner):
                yield f"{name}.{key}", value


def _passing(key: str, module: nn.Module) -> bool:
    """True for what is set from outside: by training, by memory, by the place in the stack."""
    names = ("training", "gradient_checkpointing", "layer_idx")
    return key.startswith("_") or key in names or "dropout" in key or isinstance(module, nn.Dropout)
