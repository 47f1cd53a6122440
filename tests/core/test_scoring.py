"""The hot path against the stock forward: same log-probabilities, same gradients, nothing leaks."""

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tunesmith.data.trees import Batch, Branch, Tree
from tunesmith.inputs import Loss
from tunesmith.models.loading import switch_off_dropout
from tunesmith.scoring import head as head_module
from tunesmith.scoring.attention import flex, segmented
from tunesmith.scoring.layout import pack
from tunesmith.scoring.probe import choose
from tunesmith.scoring.scorer import Scorer

VOCABULARY = 101
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
GPT2_SHAPE = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
OPT_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3-tied": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=True)),
    "gemma2-softcaps": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SHAPE, head_dim=8, sliding_window=8, attn_logit_softcapping=2.0, final_logit_softcapping=5.0)
    ),
    "gemma3-window-softcap": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **SHAPE,
            head_dim=8,
            sliding_window=8,
            final_logit_softcapping=5.0,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SHAPE, **TOKENS)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**OPT_SHAPE, **TOKENS)),
    "granite-scaled-logits": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0)),
}


class Doubled(LlamaForCausalLM):
    """A model that does something to its logits that nobody knows of."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = 2 * output.logits
        return output


FALLBACKS = {
    "mamba": (
        lambda: MambaForCausalLM(
            MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8, **TOKENS)
        ),
        "padded",
    ),
    "unknown-logits": (lambda: Doubled(LlamaConfig(**SHAPE)), "stock"),
}


def make(build):
    torch.manual_seed(0)
    model = build().train()
    switch_off_dropout(model)
    return model


def branch(random, size, share=1.0):
    return Branch(random.integers(3, VOCABULARY, size, dtype=np.int32), random.random(size) < share)


def batch():
    """Documents, conversations with masked turns, and trees with several branches."""
    random = np.random.default_rng(1)
    trunk = lambda size: random.integers(3, VOCABULARY, size, dtype=np.int32)  # noqa: E731
    return Batch(
        [
            Tree(trunk(0), (branch(random, 20),)),
            Tree(trunk(6), (branch(random, 14, 0.5),)),
            Tree(trunk(9), (branch(random, 5), branch(random, 8), branch(random, 1))),
            Tree(trunk(1), (branch(random, 1),)),
            Tree(trunk(0), (branch(random, 3), branch(random, 4))),
        ]
    )


def stock_gradients(model, trees, count):
    """Every branch alone through the unmodified model: the definition of right."""
    total = 0.0
    model.zero_grad()
    for tree in trees.trees:
        for one in tree.branches:
            ids = torch.from_numpy(np.concatenate([tree.trunk, one.ids]).astype(np.int64))[None]
            logps = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            mask = np.concatenate([np.zeros(len(tree.trunk), bool), one.mask])[1:]
            loss = -logps.gather(1, ids[0, 1:, None]).squeeze(1)[torch.from_numpy(mask)].sum()
            total += loss.item()
            if loss.requires_grad:
                (loss / count).backward()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def nll(scorer):
    return lambda part: Loss(-scorer.token_logps(part).logps.sum())


def relative_error(model, wanted):
    """The largest difference in any tensor relative to that tensor's largest gradient.

    Tensors whose gradient is rounding noise (a key bias without rotary positions: exactly zero in theory) are
    measured against a thousandth of the largest gradient of the model.
    """
    least = 1e-3 * max(gradient.abs().max().item() for gradient in wanted.values())
    return max(
        (p.grad - wanted[name]).abs().max().item() / max(wanted[name].abs().max().item(), least)
        for name, p in model.named_parameters()
        if name in wanted
    )


@pytest.mark.parametrize("name", MODELS)
def test_packed_gradients_equal_the_stock_forward(name):
    model, trees = make(MODELS[name]), batch()
    total, wanted = stock_gradients(model, trees, 7.0)
    scorer = Scorer(model)
    choose(scorer)
    assert scorer.path == "packed", scorer.why
    model.zero_grad()
    loss = scorer.backward(trees, nll(scorer), 7.0)
    assert loss.total.item() == pytest.approx(total, rel=1e-5)
    assert relative_error(model, wanted) < 2e-6


@pytest.mark.parametrize("name", FALLBACKS)
def test_models_that_cannot_be_packed_fall_back_and_stay_exact(name):
    build, path = FALLBACKS[name]
    model, trees = make(build), batch()
    _, wanted = stock_gradients(model, trees, 7.0)
    scorer = Scorer(model)
    choose(scorer)
    assert scorer.path == path
    assert "packed:" in scorer.why
    model.zero_grad()
    scorer.backward(trees, nll(scorer), 7.0)
    assert relative_error(model, wanted) < 1e-5


@pytest.mark.parametrize("name", ["llama", "gemma2-softcaps"])
@pytest.mark.parametrize("rows", [16, 48])
def test_small_chunks_of_the_head_change_nothing(monkeypatch, name, rows):
    """Chunks of trees, and trees larger than a chunk, whose logits are recomputed."""
    model, trees = make(MODELS[name]), batch()
    _, wanted = stock_gradients(model, trees, 3.0)
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 4 * VOCABULARY * rows)
    scorer = Scorer(model)
    choose(scorer)
    assert scorer.head.rows == rows
    model.zero_grad()
    scorer.backward(trees, nll(scorer), 3.0)
    assert relative_error(model, wanted) < 2e-6


def test_scoring_outside_a_stage_has_the_same_gradient():
    model, trees = make(MODELS["qwen3-tied"]), batch()
    _, wanted = stock_gradients(model, trees, 1.0)
    scorer = Scorer(model)
    choose(scorer)
    model.zero_grad()
    (-scorer.token_logps(trees).logps.sum()).backward()
    assert relative_error(model, wanted) < 2e-6


def test_scoring_other_trees_while_staged_does_not_disturb_the_gradient():
    """A method may score something else in between; the shared buffer is then recomputed, not trusted."""
    model, trees = make(MODELS["llama"]), batch()
    _, wanted = stock_gradients(model, trees, 1.0)
    scorer = Scorer(model)
    choose(scorer)
    other = batch()

    def loss_of(part):
        logps = scorer.token_logps(part).logps
        with torch.no_grad():
            scorer.token_logps(other)
        return Loss(-logps.sum())

    model.zero_grad()
    scorer.backward(trees, loss_of, 1.0)
    assert relative_error(model, wanted) < 2e-6


def test_any_objective_of_the_log_probabilities_gets_its_exact_gradient():
    """A loss that is not linear in the log-probabilities: the chunked route equals plain autograd."""
    model, trees = make(MODELS["llama"]), batch()
    scorer = Scorer(model)
    choose(scorer)

    def loss_of(part):
        x = scorer.token_logps(part)
        sums = torch.zeros(x.num_branches).index_add(0, x.branches, x.logps)
        return Loss((sums**2).sum())

    model.zero_grad()
    loss_of(trees).total.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    scorer.backward(trees, loss_of, 1.0)
    assert relative_error(model, wanted) < 5e-6


def test_a_neighbour_cannot_be_seen():
    model = make(MODELS["llama"])
    scorer = Scorer(model)
    choose(scorer)
    trees = batch()
    with torch.no_grad():
        before = scorer.token_logps(trees)
        for tree in (trees.trees[0], trees.trees[3]):
            tree.branches[0].ids[:] = 5
        trees.trees[2].branches[0].ids[:] = 7
        after = scorer.token_logps(trees)
    untouched = (before.branches != 0) & (before.branches != 2) & (before.branches != 5)
    assert untouched.sum() > 10
    assert torch.equal(before.logps[untouched], after.logps[untouched])


def test_masked_tokens_get_no_gradient():
    """The logit gradient of a masked target is zero: changing it moves the loss only through what follows."""
    model = make(MODELS["llama"])
    scorer = Scorer(model)
    choose(scorer)
    random = np.random.default_rng(0)
    ids = random.integers(3, VOCABULARY, 12, dtype=np.int32)
    mask = np.zeros(12, bool)
    mask[:6] = True
    loss = []
    for last in (5, 9):
        ids[-1] = last
        one = Batch([Tree(ids[:0], (Branch(ids.copy(), mask),))])
        model.zero_grad()
        loss.append(scorer.backward(one, nll(scorer), 1.0).total.item())
        gradient = model.get_input_embeddings().weight.grad
        assert gradient[last].abs().max() == 0
    assert loss[0] == loss[1]


def test_token_statistics_match_the_full_distribution():
    model = make(MODELS["gemma3-window-softcap"])
    scorer = Scorer(model)
    choose(scorer)
    random = np.random.default_rng(0)
    ids = random.integers(3, VOCABULARY, 12, dtype=np.int32)
    stats = {"correct": torch.zeros(()), "entropy": torch.zeros(())}
    scorer.backward(Batch([Tree(ids[:0], (Branch(ids, np.ones(12, bool)),))]), nll(scorer), 1.0, stats)
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        logps = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0, :-1].log_softmax(-1)
    assert stats["entropy"].item() == pytest.approx(-(logps.exp() * logps).sum().item(), rel=1e-4)
    assert stats["correct"].item() == (logps.argmax(-1).numpy() == ids[1:]).sum()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (5, 2.0)])
def test_flex_attention_computes_what_the_segments_compute(window, softcap):
    """The CUDA path's mask and score, run uncompiled on the CPU (its forward is all that the CPU has)."""
    layout = pack(batch().trees, torch.device("cpu"))
    tokens = layout.input_ids.shape[1]
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, tokens, 16, generator=generator) for heads in (4, 2, 2))
    wanted = segmented(q, k, v, layout, 0.25, window, softcap)
    with torch.no_grad():
        found = flex(q, k, v, layout, 0.25, window, softcap)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_improbable_tokens_keep_their_log_probability():
    """A target 200 nats below the top underflows in the exponential; its log-probability must not."""
    linear = torch.nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[200.0, 0], [0, 0], [0, 1.0]]))
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)
    logps = head_module.Head(linear).logps(hidden, torch.tensor([1]))
    assert logps.item() == pytest.approx(-200.0)
    logps.sum().backward()
    assert hidden.grad[0].tolist() == pytest.approx([-200.0, 0.0])


@pytest.mark.parametrize("vocabulary", [300, 512])
def test_padding_among_the_tokens_of_a_probe_makes_no_score_model_slow(vocabulary):
    """transformers reads a score at the last token that is not padding, whatever the length is."""
    import numpy as np
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from tunesmith.scoring.probe import choose, probe_batch
    from tunesmith.scoring.scores import ScoreScorer

    torch.manual_seed(0)
    last = int(np.random.default_rng(0).integers(0, vocabulary, 24, dtype=np.int32)[-1])  # drawn last in the first tree
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_labels=1, pad_token_id=last, initializer_range=0.2, max_position_embeddings=128,
    )  # fmt: skip
    model = LlamaForSequenceClassification(config)
    assert not any((branch.ids == last).any() for tree in probe_batch(model).trees for branch in tree.branches)
    scorer = ScoreScorer(model, pad_id=last)
    choose(scorer)
    assert (scorer.path, scorer.why) == ("packed", "")
