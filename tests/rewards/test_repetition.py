import time

import pytest

from tunesmith import Fault, Rollout
from tunesmith.config import build
from tunesmith_rewards.repetition import repeated

PROSE = (
    "A reward that looks at form alone is easy to please, so it should never weigh more than what tells right from "
    "wrong. Here every sentence says something new; words come back, as they do in any text, but rows of them do not."
)


@pytest.fixture
def score(registry):
    def judge(completion, ids=None, **settings):
        return build(registry, "reward", {"name": "repetition", **settings})([Rollout("Go.", completion, ids=ids)])[0]

    return judge


def test_the_share_of_repeated_sequences():
    assert repeated(["a", "b", "c", "a", "b", "c"], 3) == pytest.approx(1 / 4)  # abc bca cab abc
    assert repeated(["a", "a", "a", "a"], 1) == 0.75
    assert repeated(["a", "b"], 3) == 0.0


def test_ordinary_text_costs_next_to_nothing(score):
    assert score("") == score("Yes.") == score(PROSE) == 0.0
    assert score(PROSE.replace(". ", ".\n\n")) == 0.0
    assert str(score(PROSE)) == "0.0"  # -0.0 would look like a penalty
    numbers = " ".join(map(str, range(500)))
    assert score(numbers) == 0.0


@pytest.mark.parametrize(
    "loop",
    [
        "the same again and again ",
        "wait ",
        "Let me check this once more.\n",
        "ha",
        "a",
        "abc",
        "abcdefghijklmnopqrstu",
        ". ",
        "...",
        "\U0001f600",
        "\U0001f468\u200d\U0001f469",
        "\u54c8",
        "\u518d\u770b\u4e00\u6b21\u3002",
        "\u0e25\u0e2d\u0e07\u0e14\u0e39",
        "\u0939\u093e\u0901 ",
        "e\u0301",
        "}\n",
        "| --- ",
    ],
)
def test_loops_cost_all_there_is(score, loop):
    assert score(loop * 1000) < -0.9
    assert score(PROSE + loop * 1000) < -0.75


def test_small_changes_do_not_hide_a_loop(score):
    plain = "let me check this once more. "
    assert score((plain + plain.upper()) * 100) < -0.9
    assert score("".join(plain.replace("check", "che" + "\u200b" * (i % 7) + "ck") for i in range(200))) < -0.9
    # counting makes every second sequence new, but not every one
    assert score("".join(f"{i}. Let me check this once more, slowly and with care.\n" for i in range(200))) < -0.6


def test_sentences_and_lines_count_too(score):
    unique = [f"word{i} word{i + 1} word{i + 2} word{i + 3}." for i in range(0, 400, 7)]
    text = " ".join(f"{one} The very same sentence stands here." for one in unique)
    assert score(text, ngram=5) <= -0.4
    assert score(" ".join(unique), ngram=5) == 0.0


def test_settings(score):
    text = "one two three " * 50
    full = score(text)
    assert score(text, max_penalty=-0.5) == pytest.approx(full / 2)
    assert score(text, allowed=0.5) == pytest.approx(-(-full - 0.5) / 0.5)
    assert score(PROSE, max_penalty=0) == 0.0
    assert score("abababab", unit="characters") == pytest.approx(-4 / 6)
    assert score("", ids=[1, 2, 3, 1, 2, 3], unit="tokens") == pytest.approx(-0.25)
    fault = score("text", unit="tokens")
    assert isinstance(fault, Fault) and "unit: words" in fault.why


def test_samples_are_best(registry):
    reward = build(registry, "reward", "repetition")
    rows = list(reward.samples())
    assert reward([Rollout(r["prompt"], r["completion"]) for r in rows]) == [reward.best] * len(rows) and rows


@pytest.mark.parametrize("piece", ["a", ".", "e\u0301\u0316", "\u4e00", "\ud800", "the cat sat. "])
@pytest.mark.parametrize("unit", ["words", "characters"])
def test_a_megabyte_takes_seconds_at_most(score, piece, unit):
    start = time.perf_counter()
    assert -1.0 <= score(piece * (1_000_000 // len(piece)), unit=unit) <= 0.0
    assert time.perf_counter() - start < 5
