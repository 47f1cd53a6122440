"""Drawing tokens follows the distribution and its truncations; stop strings are found across tokens."""

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from tunesmith import Sampling
from tunesmith_plugins.generators.drawing import draw, invert, truncated, uniforms
from tunesmith_plugins.generators.stops import StopStrings

DRAWS = 20_000


def chi_square(tokens, probabilities):
    """Of the tokens that the distribution allows, with its degrees of freedom; the others must not occur."""
    counts = torch.bincount(tokens, minlength=len(probabilities)).double()
    allowed = probabilities > 0
    assert counts[~allowed].sum() == 0
    expected = len(tokens) * probabilities[allowed]
    return (((counts[allowed] - expected) ** 2) / expected).sum().item(), int(allowed.sum()) - 1


@pytest.mark.parametrize(
    "truncation", [{}, {"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.3}, {"top_k": 20, "top_p": 0.8, "min_p": 0.1}]
)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_follow_the_distribution(truncation, temperature) -> None:
    """One token of each of many seeds, against what transformers' own processors leave of the distribution."""
    logits = torch.randn(150, generator=torch.Generator().manual_seed(1)) * 1.5
    sampling = Sampling(temperature=temperature, **truncation)
    left = (logits / temperature)[None].clone()
    for name, warper in (("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)):
        if name in truncation:
            left = warper(truncation[name])(None, left)
    chances = torch.tensor([uniforms(seed, 1)[0] for seed in range(DRAWS)], dtype=torch.float64)
    tokens, logps = draw(logits.repeat(DRAWS, 1), chances, sampling)
    value, freedom = chi_square(tokens, left[0].double().softmax(-1))
    # mean and variance of the statistic are the degrees of freedom and twice them
    assert value < freedom + 4.5 * (2 * freedom) ** 0.5
    whole = (logits / temperature).log_softmax(-1)
    torch.testing.assert_close(logps, whole[tokens], atol=2e-6, rtol=0)


def test_the_test_would_see_a_wrong_distribution() -> None:
    chances = torch.tensor([uniforms(seed, 1)[0] for seed in range(DRAWS)], dtype=torch.float64)
    p = torch.full((100,), 0.01)
    tokens = invert(p.repeat(DRAWS, 1), chances)
    wrong = p.double().clone()
    wrong[:50] *= 1.2
    value, freedom = chi_square(tokens, wrong / wrong.sum())
    assert value > freedom + 4.5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("width", [2, 63, 64, 65, 4097])
def test_the_ends_of_the_interval_and_tokens_without_weight(width) -> None:
    weights = torch.zeros(3, width)
    weights[0, 0] = weights[1, -1] = 0.3
    weights[2, [0, width - 1]] = 0.5
    almost_one = np.nextafter(1.0, 0.0)
    for chance, third in ((0.0, 0), (0.499, 0), (0.501, width - 1), (almost_one, width - 1)):
        tokens = invert(weights, torch.full((3,), chance, dtype=torch.float64))
        assert tokens.tolist() == [0, width - 1, third]


def test_a_token_never_drawn_where_it_has_no_weight_whatever_the_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(500, 1000, generator=generator) ** 20 * (torch.rand(500, 1000, generator=generator) < 0.02)
    weights[:, 7] += 1e-30
    for chance in (torch.rand(500, generator=generator, dtype=torch.float64), torch.full((500,), 1 - 1e-16).double()):
        tokens = invert(weights, chance)
        assert (weights.gather(1, tokens[:, None]) > 0).all()


def test_a_row_is_drawn_the_same_alone_and_among_others() -> None:
    logits = torch.randn(40, 300, generator=torch.Generator().manual_seed(0))
    chances = torch.tensor([uniforms(seed, 3)[2] for seed in range(40)], dtype=torch.float64)
    sampling = Sampling(top_p=0.9, top_k=100)
    together, _ = draw(logits.clone(), chances, sampling)
    alone = [draw(logits[i : i + 1].clone(), chances[i : i + 1], sampling)[0].item() for i in range(40)]
    assert together.tolist() == alone


def test_a_flat_distribution_has_a_nucleus_larger_than_the_shortlist() -> None:
    p = torch.full((1, 1000), 1e-3)
    p[0, :600] *= 1.2
    p[0, 600:] *= 0.7
    kept = truncated(p, Sampling(top_p=0.7)) > 0
    assert kept[0, :600].all() and not kept[0, 600:].any()


def test_greedy_takes_the_largest_and_reports_temperature_one() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    tokens, logps = draw(logits.clone(), None, Sampling(temperature=0.0))
    assert tokens.tolist() == logits.argmax(1).tolist()
    torch.testing.assert_close(logps, logits.log_softmax(1).amax(1))


def test_uniform_numbers_depend_on_seed_and_position_only() -> None:
    assert uniforms(3, 5) == uniforms(3, 9)[:5]
    assert uniforms(3, 5) != uniforms(4, 5)
    assert uniforms(-1, 2) == uniforms((1 << 64) - 1, 2)
    numbers = np.array([uniforms(seed, 4) for seed in range(5000)])
    assert abs(numbers.mean() - 0.5) < 0.01 and abs(np.corrcoef(numbers.T)[0, 1]) < 0.05


# ---------------------------------------------------------------------------------------------- stop strings
@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def first_end(tokenizer, text, stops, ids=None):
    """How many tokens it takes until a text is complete."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] if ids is None else ids
    finder = StopStrings(tokenizer, stops)
    return next((n for n in range(1, len(ids) + 1) if finder.ended(ids[:n])), None), ids


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("numbers are words</answer> and more", "</answer>"),  # several tokens
        ("one two three\n\nfour", "\n\n"),
        ("A model that reads", "el th"),  # begins and ends inside tokens
        ("the answer: \u00e9t\u00e9 \U0001f600 done", "\U0001f600"),  # one character of several tokens
        ("x y", " "),
        ("ends here", "re"),
        ("jumps over<|im_end|>", "<|im_end|>"),
    ],
)
def test_a_stop_string_ends_with_the_token_that_completes_it(tokenizer, text, stop) -> None:
    count, ids = first_end(tokenizer, text, [stop, "never there"])
    assert stop in tokenizer.decode(ids[:count]) and stop not in tokenizer.decode(ids[: count - 1])


def test_no_stop_string_and_one_that_never_comes(tokenizer) -> None:
    assert first_end(tokenizer, "some words", ["else"])[0] is None
    assert first_end(tokenizer, "some words", [])[0] is None


def test_every_split_of_a_stop_string_into_tokens_is_found(tokenizer) -> None:
    text, stop = "say END of it", "END o"
    letters = [tokenizer(letter, add_special_tokens=False)["input_ids"] for letter in text]
    ids = [token for letter in letters for token in letter]
    count, _ = first_end(tokenizer, text, [stop], ids)
    assert tokenizer.decode(ids[:count]) == "say END o"


def test_the_engine_stops_there_and_keeps_the_text(tokenizer, tiny_model) -> None:
    from transformers import AutoModelForCausalLM

    from tunesmith.scoring.probe import choose
    from tunesmith.scoring.scorer import Scorer
    from tunesmith_plugins.generators import Native

    policy = Scorer(AutoModelForCausalLM.from_pretrained(tiny_model))
    choose(policy)
    engine = Native().open(policy, tokenizer, [])
    prompt = np.array(tokenizer("she sells")["input_ids"], dtype=np.int32)
    free = engine.generate([prompt], [range(20)], Sampling(max_new_tokens=12))[0]
    texts = [tokenizer.decode(sample.ids) for sample in free]
    stop = texts[0][3:6]  # wherever it lies in the tokens
    ended = engine.generate([prompt], [range(20)], Sampling(max_new_tokens=12, stop=(stop,)))[0]
    for sample, whole, text in zip(ended, free, texts, strict=True):
        assert sample.ids.tolist() == whole.ids[: len(sample.ids)].tolist()
        assert (sample.stop == "stop") == (stop in text)
        if sample.stop == "stop":
            assert stop in tokenizer.decode(sample.ids) and stop not in tokenizer.decode(sample.ids[:-1])
    assert ended[0].stop == "stop"
