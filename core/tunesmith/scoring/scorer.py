"""A model that scores batches of trees, by the fastest way that is exact for it.

``packed``: one stream without padding, the head on scored positions only. ``padded``: right-padded rows, the head on
scored positions only. ``stock``: right-padded rows and the model's own logits. `choose` compares each with the
model's stock forward on a probe, in this order, and keeps the first that agrees.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from tunesmith.data.trees import Batch, best_fit
from tunesmith.inputs import Loss, TokenLogps
from tunesmith.numerics import sum_by
from tunesmith.scoring import attention
from tunesmith.scoring.head import Head, Sink
from tunesmith.scoring.layout import Layout, Padded, pack, pad

Path = Literal["packed", "padded", "stock"]


@dataclass(slots=True)
class Staged:
    """Scored hidden states of a part whose objective is being evaluated a few trees at a time.

    Attributes:
        hidden: ``[S, H]``, cut off from the graph of the model's body.
        layout: of the whole part.
        places: index of each tree in the part, by identity.
        branch_starts: index of each tree's first branch, and the number of branches.
    """

    hidden: Tensor
    layout: Layout | Padded
    places: dict[int, int]
    branch_starts: list[int]
    sink: Sink

    def span(self, batch: Batch) -> range | None:
        """Where the batch's trees lie, or ``None`` unless they are consecutive trees of this part."""
        found = [self.places.get(id(tree)) for tree in batch.trees]
        if not found or found[0] is None:
            return None
        span = range(found[0], found[0] + len(found))
        return span if found == list(span) else None


class Scorer:
    """Log-probabilities of a model's tokens.

    Args:
        module: a causal language model of transformers, perhaps wrapped by peft.
        pad_id: token id for padding where rows are padded.
        autocast: run the model under bf16 autocast.

    Attributes:
        temperature: logits are divided by it, as they are where completions are sampled.
    """

    def __init__(self, module: nn.Module, *, pad_id: int = 0, autocast: bool = False) -> None:
        self.module, self.pad_id, self.autocast = module, pad_id, autocast
        self.path: Path = "stock"
        self.why = ""
        self.micro_tokens = 4096
        self.temperature = 1.0
        self._staged: Staged | None = None
        self._head: Head | None = None

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.module.parameters()).device

    @property
    def language_model(self) -> Any:
        """The transformers model itself, without an adapter's wrapper."""
        return base_of(self.module)

    @property
    def head(self) -> Head:
        """The LM head; made anew when the model's has been replaced."""
        linear = self.language_model.get_output_embeddings()
        if self._head is None or self._head.linear is not linear:
            self._head = Head(linear, softcap_of(self.language_model))
        self._head.temperature = self.temperature
        return self._head

    # ------------------------------------------------------------------------------------------ forward
    def token_logps(self, batch: Batch) -> TokenLogps:
        """Score the trained tokens of a batch, with gradient where gradients are enabled."""
        span = self._staged.span(batch) if self._staged is not None else None
        if span is not None:
            return self._from_stage(span)
        hidden, layout = self._hidden(batch)
        logps = hidden if self.path == "stock" else self.head.logps(hidden, layout.target_S)
        return TokenLogps(logps, layout.branch_S, layout.num_branches)

    def branch_sums(self, batch: Batch) -> Tensor:
        """Without gradient, part by part: ``[N, G]`` fp32 summed log-probabilities of every branch.

        All trees must have the same number of branches.
        """
        branches = len(batch.trees[0].branches)
        sums = torch.zeros(len(batch), branches, device=self.device)
        with torch.no_grad():
            for rows in best_fit([tree.num_tokens for tree in batch.trees], self.micro_tokens):
                x = self.token_logps(Batch([batch.trees[i] for i in rows]))
                sums[rows] = sum_by(x.logps, x.branches, x.num_branches).view(-1, branches)
        return sums

    def scored_states(self, batch: Batch) -> Tensor:
        """``[S, H]`` hidden states that predict the scored tokens. Not on the stock path, which has none to give."""
        assert self.path != "stock", "the stock path gives no hidden states"
        return self._hidden(batch)[0]

    def _hidden(self, batch: Batch) -> tuple[Tensor, Layout | Padded]:
        """``[S, H]`` hidden states that predict the scored tokens; on the stock path ``[S]`` log-probabilities."""
        with self._precision():
            if self.path == "packed":
                layout = pack(batch.trees, self.device)
                states = self._backbone(
                    input_ids=layout.input_ids, position_ids=layout.position_ids, **{attention.ARGUMENT: layout}
                )
                return self._scaled(states[0].index_select(0, layout.source_S)), layout
            padded = pad(batch.trees, self.pad_id, self.device)
            rows = {
                "input_ids": padded.input_ids,
                "attention_mask": padded.attention_mask,
                "position_ids": padded.position_ids,
            }
            if self.path == "padded":
                return self._scaled(self._backbone(**rows).flatten(0, 1).index_select(0, padded.source_S)), padded
            logits = self.module(**rows, use_cache=False).logits
            scored = logits.flatten(0, 1).index_select(0, padded.source_S).float() / self.temperature
            logps = scored.log_softmax(-1).gather(1, padded.target_S[:, None]).squeeze(1)
            return logps, padded

    def _backbone(self, **inputs: Any) -> Tensor:
        model = self.language_model
        body = getattr(model, model.base_model_prefix)
        return cast(Tensor, body(**inputs, use_cache=False).last_hidden_state)

    def _scaled(self, hidden: Tensor) -> Tensor:
        scale = logit_scale_of(self.language_model)
        return hidden if scale == 1.0 else hidden * scale

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if not self.autocast:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    # ------------------------------------------------------------------------------------------ staged
    def _from_stage(self, span: range) -> TokenLogps:
        staged = self._staged
        assert staged is not None
        layout, starts = staged.layout, staged.branch_starts
        lo, hi = layout.tree_bounds[span.start], layout.tree_bounds[span.stop]
        staged.sink.row = lo
        logps = self.head.logps(staged.hidden[lo:hi], layout.target_S[lo:hi], staged.sink)
        first, last = starts[span.start], starts[span.stop]
        return TokenLogps(logps, layout.branch_S[lo:hi] - first, last - first)

    def written_in_place(self) -> list[Tensor]:
        """Parameters whose gradient `backward` writes into ``.grad`` itself."""
        if self.path == "stock":
            return []
        linear = self.head.linear
        return [linear.weight] if linear.bias is None else [linear.weight, linear.bias]

    def backward(
        self, part: Batch, loss_of: Callable[[Batch], Loss], count: float, stats: dict[str, Tensor] | None = None
    ) -> Loss:
        """Add the gradient of ``loss_of(part).total / count`` to the parameters; return the summed loss, detached.

        The model's body runs once; the objective and the head run a few trees at a time on its hidden states, whose
        gradient then goes through the body in one backward. ``stats``: sums to fill, see `Sink`.
        """
        if self.path == "stock":
            loss = loss_of(part)
            (loss.total / count).backward()  # type: ignore[no-untyped-call]
            return Loss(loss.total.detach(), loss.metrics, loss.means, loss.maxima)
        hidden, layout = self._hidden(part)
        gradient = torch.zeros_like(hidden) if hidden.requires_grad else None
        rows = hidden.detach()
        sink = Sink(gradient, stats=stats if stats is not None else {})
        places = {id(tree): i for i, tree in enumerate(part.trees)}
        starts = list(accumulate((len(tree.branches) for tree in part.trees), initial=0))
        self._staged = Staged(rows, layout, places, starts, sink)
        total = Loss(torch.zeros((), device=rows.device))
        try:
            for indices in _chunks(layout.tree_bounds, self.head.rows):
                loss = loss_of(part.take(indices))
                (loss.total / count).backward()  # type: ignore[no-untyped-call]
                total.total += loss.total.detach()
                merge(total, loss)
        finally:
            self._staged = None
            self.head.release()
        if gradient is not None:
            hidden.backward(gradient)  # type: ignore[no-untyped-call]
        return total


def merge(total: Loss, part: Loss) -> None:
    """Add the metrics of a part to those of the whole."""
    for name, value in part.metrics.items():
        total.metrics[name] = total.metrics.get(name, 0) + value.detach()
    for name, (value, count) in part.means.items():
        before = total.means.get(name, (0, 0))
        total.means[name] = (before[0] + value.detach(), before[1] + count.detach())
    merge_maxima(total.maxima, part.maxima)


def merge_maxima(total: dict[str, Tensor], part: Mapping[str, Tensor]) -> None:
    """Keep the larger one under every name."""
    for name, value in part.items():
        total[name] = torch.maximum(total[name], value) if name in total else value.detach()


def _chunks(bounds: list[int], rows: int) -> Iterator[range]:
    """Consecutive trees of at most ``rows`` scored tokens together; a larger tree is alone."""
    start = 0
    for end in range(1, len(bounds)):
        if end == len(bounds) - 1 or bounds[end + 1] - bounds[start] > rows:
            yield range(start, end)
            start = end


# ---------------------------------------------------------------------------------------------- the model's parts
@contextlib.contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Switch off an adapter's dropout for a while.

    Not by ``eval()``: that makes bitsandbytes repack 4-bit weights on a CPU for inference in bf16, for good.
    """
    active = [m for m in module.modules() if isinstance(m, nn.Dropout) and m.training]
    for dropout in active:
        dropout.eval()
    try:
        yield
    finally:
        for dropout in active:
            dropout.train()


def base_of(module: nn.Module) -> Any:
    """The transformers model inside an adapter's wrapper, or the module itself."""
    peft = sys.modules.get("peft")  # importing it takes seconds, and where it was not imported nothing is wrapped
    return module.get_base_model() if peft is not None and isinstance(module, peft.PeftModel) else module


def softcap_of(model: Any) -> float | None:
    """The soft cap on the final logits, where the architecture has one."""
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def logit_scale_of(model: Any) -> float:
    """The constant factor on the logits, where the architecture has one."""
    config = model.config.get_text_config()
    return float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
