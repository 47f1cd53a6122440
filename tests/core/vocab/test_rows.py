"""Rows for new pieces: by hand, and what they do to a model's predictions of old text."""

import math

import pytest
import torch

from tunesmith.errors import ConfigError
from tunesmith.models.expanded import Expansion, embedding_parameters, expansion_of, keep_old_rows, mark_trained
from tunesmith.vocab import initialise
from tunesmith.vocab.rows import Start, grow

OLD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 2.0]])
MADE_OF = [[0, 1], [2], [0, 0, 1, 2], [1, 2]]
INITIALISERS = ("subtoken-mean", "global-mean", "frequency-weighted", "random")


# ------------------------------------------------------------------------------------------------ by hand
def test_mean_of_the_pieces():
    weights = initialise.subtoken_mean([[0, 1], [2], [0, 0, 1]], 3)
    third = 1 / 3
    wanted = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [2 * third, third, 0.0]])
    torch.testing.assert_close(weights.to_dense(), wanted)
    torch.testing.assert_close(initialise.mixed(weights, OLD), wanted @ OLD)


def test_a_piece_of_one_old_token_is_an_exact_copy():
    torch.manual_seed(0)
    old = torch.randn(50, 17)
    for weights in (
        initialise.subtoken_mean([[7], [1, 2]], 50),
        initialise.frequency_weighted([[7], [1, 2]], {7: 3, 1: 1}, 50),
    ):
        rows = initialise.mixed(weights, old)
        assert torch.equal(rows[0], old[7])
        raised = initialise.raised_to_median(rows, old, torch.tensor([False, True]))
        assert torch.equal(raised[0], old[7])


def test_frequent_pieces_count_less():
    """p = 999/1000 and 1/1000; with a = 1/1000 the weights are 1/1000 and 1/2, to be divided by their sum."""
    weights = initialise.frequency_weighted([[0, 1]], {0: 999, 1: 1}, 3).to_dense()[0]
    a, b = 0.001 / (0.001 + 0.999), 0.001 / (0.001 + 0.001)
    torch.testing.assert_close(weights, torch.tensor([a / (a + b), b / (a + b), 0.0]))


def test_a_piece_that_does_not_occur_weighs_most():
    weights = initialise.frequency_weighted([[0, 2]], {0: 1000}, 3).to_dense()[0]
    assert weights[2] / weights[0] == pytest.approx((1 + 0.001) / 0.001)


def test_the_mean_of_all_rows_gives_the_mean_logit():
    torch.manual_seed(0)
    old, hidden = torch.randn(40, 8), torch.randn(5, 8)
    rows = initialise.global_mean(old, 3)
    torch.testing.assert_close(hidden @ rows.t(), (hidden @ old.t()).mean(1, keepdim=True).expand(-1, 3))


def test_noise_has_the_covariance_that_was_asked_for():
    torch.manual_seed(0)
    old = torch.randn(400, 3) @ torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.1]])
    rows = initialise.global_mean(old, 40_000, noise=0.25, generator=torch.Generator().manual_seed(1))
    wanted = 0.25 * torch.cov(old.t(), correction=0)
    torch.testing.assert_close(torch.cov(rows.t()), wanted, atol=0.03, rtol=0.03)
    torch.testing.assert_close(rows.mean(0), old.mean(0), atol=0.02, rtol=0)


def test_random_rows_follow_their_seed():
    one, two = (
        initialise.random_rows(2000, 4, std=0.5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1)
    )
    assert torch.equal(one, two)
    assert one.std().item() == pytest.approx(0.5, rel=0.05)


def test_shrunken_rows_are_raised_to_the_median_norm():
    """Norms of the old rows are 1, 1 and sqrt(20), so the median is 1."""
    rows = torch.tensor([[0.3, 0.4], [3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    raised = initialise.raised_to_median(rows, OLD, torch.tensor([True, True, False, True]))
    torch.testing.assert_close(raised, torch.tensor([[0.6, 0.8], [3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))


def test_the_bound_is_that_of_the_token_with_the_largest_share():
    weights = initialise.subtoken_mean(MADE_OF, 3)
    shares = [0.5 + 0.5, 0.5 + 0.25 + 0.5, 1 + 0.25 + 0.5]
    assert initialise.log_z_bound(weights, 0, 3) == pytest.approx(math.log(1 + max(shares)))
    assert initialise.log_z_bound(None, 10, 100) == pytest.approx(0.0953, abs=5e-5)
    assert initialise.log_z_bound(None, 0, 100) == 0.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_no_hidden_state_exceeds_the_bound(seed, scale):
    torch.manual_seed(seed)
    old, hidden = torch.randn(60, 9, dtype=torch.float64), torch.randn(500, 9, dtype=torch.float64) * scale
    made_of = [torch.randint(0, 12, (n,)).tolist() for n in (1, 2, 3, 5, 2, 2)]
    weights = initialise.subtoken_mean(made_of, 60)
    rows = torch.cat([weights.double().to_dense() @ old, old.mean(0, keepdim=True).expand(4, -1)])
    before, after = (hidden @ old.t()).logsumexp(1), (hidden @ torch.cat([old, rows]).t()).logsumexp(1)
    bound = initialise.log_z_bound(weights, 4, 60)
    assert 0 < (after - before).max().item() <= bound


# ------------------------------------------------------------------------------------------------ in a model
def tiny(tied, *, rows=20, family="llama", **config):
    """A model with 20 rows for 18 tokens."""
    from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

    common = {
        "vocab_size": rows, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": tied,
        "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None,
    }  # fmt: skip
    families = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),
        "phi": (PhiConfig, PhiForCausalLM),
    }
    made, model = families[family]
    torch.manual_seed(0)
    built = model(made(**{**common, **config})).eval()
    if family == "phi":
        torch.nn.init.normal_(built.lm_head.bias)
    return built


def logits(model, seed=1):
    ids = torch.randint(0, 18, (3, 12), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(ids).logits


FIRST = 18
PIECES = [[0, 1], [2], [3, 3, 4], [5, 6, 7, 8], [17, 0]]


@pytest.mark.parametrize("initialiser", INITIALISERS)
@pytest.mark.parametrize(("tied", "family"), [(False, "llama"), (True, "llama"), (True, "gemma2"), (False, "phi")])
def test_logits_of_old_tokens_do_not_change(tied, family, initialiser):
    model = tiny(tied, family=family)
    before = logits(model)
    grown = grow(model, FIRST, PIECES, Start(initialiser, pad_to=8))
    after = logits(model)
    assert (grown.rows_before, grown.rows, grown.first, grown.pieces, grown.tied) == (20, 24, 18, 5, tied)
    assert model.config.vocab_size == after.shape[-1] == 24
    torch.testing.assert_close(after[..., :FIRST], before[..., :FIRST], atol=2e-6, rtol=0)
    odds = [x[..., :FIRST].log_softmax(-1) for x in (before, after)]
    torch.testing.assert_close(odds[0], odds[1], atol=2e-6, rtol=0)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embeddings.weight) is tied


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("initialiser", INITIALISERS)
def test_old_rows_stay_to_the_bit_and_new_ones_are_where_their_ids_are(tied, initialiser):
    model = tiny(tied)
    matrices = [m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())]
    before = [matrix.detach().clone() for matrix in matrices]
    grow(model, FIRST, PIECES, Start(initialiser, norm="keep", pad_to=8))
    for old, module in zip(before, (model.get_input_embeddings(), model.get_output_embeddings()), strict=True):
        new = module.weight.detach()
        assert torch.equal(new[:FIRST], old[:FIRST])
        torch.testing.assert_close(new[23], old[:FIRST].mean(0))  # padding
        if initialiser == "subtoken-mean":
            assert torch.equal(new[19], old[2])
            torch.testing.assert_close(new[20], (2 * old[3] + old[4]) / 3)
        elif initialiser == "global-mean":
            torch.testing.assert_close(new[18], old[:FIRST].mean(0))


def test_rows_that_padded_the_base_are_used_and_the_rest_of_them_stays():
    model = tiny(False, rows=32)
    before = model.get_input_embeddings().weight.detach().clone()
    grown = grow(model, FIRST, PIECES, Start(norm="keep", pad_to=8))
    after = model.get_input_embeddings().weight.detach()
    assert (grown.rows_before, grown.rows) == (32, 32)
    assert torch.equal(after[:FIRST], before[:FIRST]) and torch.equal(after[23:], before[23:])
    assert torch.equal(after[19], before[2])


def test_the_head_keeps_its_means_where_input_rows_are_raised():
    model = tiny(False)
    old_in, old_out = (m.weight.detach().clone() for m in (model.get_input_embeddings(), model.get_output_embeddings()))
    grow(model, FIRST, PIECES, Start(norm="auto"))
    new_in, new_out = (m.weight.detach() for m in (model.get_input_embeddings(), model.get_output_embeddings()))
    median = old_in[:FIRST].norm(dim=1).median()
    means = torch.stack([old_in[ids].mean(0) for ids in PIECES])
    assert (means.norm(dim=1) < median).any()
    for i, ids in enumerate(PIECES):
        wanted = means[i].norm() if len(ids) == 1 else torch.maximum(means[i].norm(), median)
        torch.testing.assert_close(new_in[FIRST + i].norm(), wanted)
        torch.testing.assert_close(new_out[FIRST + i], old_out[ids].mean(0))


def test_the_bias_of_a_head_is_a_mean_as_well():
    model = tiny(False, family="phi")
    bias = model.lm_head.bias.detach().clone()
    grow(model, FIRST, PIECES, Start(pad_to=8))
    after = model.lm_head.bias.detach()
    assert torch.equal(after[:FIRST], bias[:FIRST])
    torch.testing.assert_close(after[FIRST : FIRST + 5], torch.stack([bias[ids].mean() for ids in PIECES]))


@pytest.mark.parametrize("initialiser", ["subtoken-mean", "global-mean", "frequency-weighted"])
@pytest.mark.parametrize(("tied", "family"), [(False, "llama"), (True, "llama"), (False, "phi")])
def test_the_loss_on_old_text_grows_by_log_z_alone_and_not_beyond_the_bound(tied, family, initialiser):
    model = tiny(tied, rows=FIRST, family=family)
    before = logits(model)
    grown = grow(model, FIRST, PIECES, Start(initialiser, pad_to=8), {0: 9, 1: 3})
    after = logits(model)
    growth = after.logsumexp(-1) - before.logsumexp(-1)
    assert 0 < growth.max().item() <= grown.bound
    lost = before.log_softmax(-1) - after.log_softmax(-1)[..., :FIRST]
    torch.testing.assert_close(lost, growth[..., None].expand_as(lost), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("start", "family", "why"),
    [
        (Start("random"), "llama", "no means"),
        (Start("global-mean", noise=0.1), "llama", "noise"),
        (Start(norm="median"), "llama", "scaled"),
        (Start(), "gemma2", "caps its logits"),
    ],
)
def test_where_nothing_is_promised_the_reason_is_said(start, family, why):
    grown = grow(tiny(True, family=family), FIRST, PIECES, start)
    assert grown.bound is None and why in grown.why_no_bound


def test_random_rows_have_the_models_own_spread():
    model = tiny(False)
    grow(model, FIRST, [[0, 1]] * 400, Start("random"))
    assert model.get_input_embeddings().weight[FIRST : FIRST + 400].std().item() == pytest.approx(0.3, rel=0.05)


def test_weights_keep_their_dtype():
    model = tiny(False).to(torch.bfloat16)
    row = model.get_input_embeddings().weight[2].detach().clone()
    grow(model, FIRST, PIECES, Start())
    after = model.get_input_embeddings().weight
    assert after.dtype == torch.bfloat16 and torch.equal(after[19], row)


def test_a_model_without_a_plain_head_is_refused():
    model = tiny(False)
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(ConfigError, match="no plain embeddings and head"):
        grow(model, FIRST, PIECES, Start())


def test_a_config_that_says_tied_of_weights_that_are_not_is_refused():
    """Resizing would tie them, and the head would be lost."""
    model = tiny(False)
    model.config.tie_word_embeddings = True
    with pytest.raises(ConfigError, match="cannot be given more rows") as error:
        grow(model, FIRST, PIECES, Start())
    assert "tie_word_embeddings" in str(error.value.fix)


# ------------------------------------------------------------------------------------------------ what the config says
def test_the_config_says_which_rows_are_new_until_they_are_trained():
    model = tiny(False)
    assert expansion_of(model.config) is None
    grow(model, FIRST, PIECES, Start(pad_to=1))
    assert expansion_of(model.config) == Expansion(18, 5, False)
    model.get_input_embeddings().weight.requires_grad_(False)
    mark_trained(model)
    assert expansion_of(model.config) == Expansion(18, 5, False)
    grow(model, 23, [[0, 1]], Start(pad_to=1))
    assert expansion_of(model.config) == Expansion(18, 6, False), "those that nobody trained are still new"
    model.get_input_embeddings().weight.requires_grad_(True)
    mark_trained(model)
    assert expansion_of(model.config) == Expansion(18, 6, True)
    grow(model, 24, [[0, 1]], Start(pad_to=1))
    assert expansion_of(model.config) == Expansion(24, 1, False)


def test_gradients_of_old_rows_are_dropped_in_both_matrices():
    model = tiny(False)
    parameters = embedding_parameters(model)
    assert len(parameters) == 2 and len(embedding_parameters(tiny(True))) == 1
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    keep_old_rows(parameters, Expansion(5, 3, False))
    for parameter in parameters:
        assert parameter.grad.sum(1).nonzero().flatten().tolist() == [5, 6, 7]
