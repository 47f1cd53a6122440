import time

import pytest

from tunesmith import ConfigError, Rollout
from tunesmith.config import build
from tunesmith_rewards.language import KNOWN, LANGUAGES
from tunesmith_rewards.language.samples import SAMPLES
from tunesmith_rewards.language.words import SCRIPTS, prose

ENGLISH = "Okay, so I have to add the two numbers. First come the units. Hmm, wait. Let me check that again, slowly."
GERMAN = "Gut, ich muss also die beiden Zahlen addieren. Zuerst kommen die Einer. Moment mal. Ich rechne lieber nach."


@pytest.fixture
def score(registry):
    def judge(completion, **settings):
        return build(registry, "reward", {"name": "language", **settings})([Rollout("17 + 25?", completion)])[0]

    return judge


@pytest.mark.parametrize("spoken", SAMPLES)
@pytest.mark.parametrize("wanted", SAMPLES)
def test_every_sample_is_in_its_language_and_in_no_other(score, spoken, wanted):
    assert score(SAMPLES[spoken], language=wanted) == float(spoken == wanted)


def test_the_share_is_one_of_words(score):
    english, german = len(ENGLISH.split()), len(GERMAN.split())
    assert score(f"{ENGLISH}\n{GERMAN}", language="en") == pytest.approx(english / (english + german), abs=0.1)
    assert score(f"{ENGLISH}\n{SAMPLES['zh']}", language="en") == pytest.approx(21 / (21 + 26), abs=0.05)
    assert score(f"{SAMPLES['zh']} Python", language="zh") > 0.9
    assert score(f"{ENGLISH}\n{GERMAN}", language="en,de") == 1.0


def test_scripts_that_languages_share(score):
    ukrainian = (
        "\u041c\u0438 \u0434\u043e\u0434\u0430\u0454\u043c\u043e \u0434\u0435\u0441\u044f\u0442\u043a\u0438, "
        "\u043f\u043e\u0442\u0456\u043c \u043e\u0434\u0438\u043d\u0438\u0446\u0456, \u0456 "
        "\u0446\u0435 \u0454 \u0432\u0456\u0434\u043f\u043e\u0432\u0456\u0434\u044c."
    )
    assert [score(ukrainian, language=code) for code in ("uk", "ru")] == [1.0, 0.0]
    # Chinese has no kana, and Japanese is not Chinese for its Han
    assert [score(SAMPLES[text], language=code) for text, code in (("ja", "zh"), ("zh", "ja"))] == [0.0, 0.0]
    decomposed = "On additionne d'abord les dizaines, puis les unite\u0301s: la re\u0301ponse est cinq."
    assert score(decomposed, language="fr") == 1.0


@pytest.mark.parametrize(
    "noise",
    [
        "```python\nfor the_word in these_english_words: print('hello there, how are you')\n```",
        "```\nnever closed, so all of this is code to us",
        "`let x equal the sum`",
        "$the\\ sum\\ of\\ all$ and"[:-4],
        "$$\\text{the sum of all the numbers}\n= 1$$",
        "\\(the sum of all\\)",
        "\\[ the sum \\over of all \\]",
        "<thinking attribute='these are words'>",
        "https://example.org/the/sum/of/all?these=words",
        "\\frac \\sqrt \\alpha \\mathbb",
        "1234567890 + - * / = \U0001f600\U0001f600",
    ],
)
def test_code_formulas_and_tags_are_in_no_language(score, noise):
    assert not any(word in prose(noise) for word in ("sum", "word", "frac", "closed"))
    assert score(f"{GERMAN}\n{noise}", language="de") == 1.0
    assert score(noise, language="de") is None


def test_money_is_no_formula():
    assert "and more" in prose("It costs $5 and more.\nOr $6.")


def test_too_few_words_are_not_judged(score):
    assert score("", language="en") is None
    assert score("42", language="en") is None
    assert score("Ja, 42.", language="en") is None
    assert score("Ja, 42.", language="zh", min_words=1) == 0.0


def test_the_part_that_is_judged(score):
    text = f"<think>{GERMAN}</think>{ENGLISH}"
    assert score(text, language="en", part="answer") == 1.0
    assert score(text, language="en") < 0.7
    assert score(f"<think>{ENGLISH}", language="en", part="answer") is None


def test_an_unknown_language_is_refused(registry):
    with pytest.raises(ConfigError, match="no language 'english' is known"):
        build(registry, "reward", {"name": "language", "language": "english"})
    with pytest.raises(ConfigError, match="language is missing"):
        build(registry, "reward", "language")


def test_languages_that_share_a_script_can_be_told_apart():
    """What is decided by more than its script must be known to the library that decides."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    labels = set(LanguageIdentifier.from_model_file(MODEL_FILE).labels)
    assert labels >= KNOWN
    assert set(LANGUAGES) <= set(SCRIPTS)


def test_samples_are_best(registry):
    reward = build(registry, "reward", {"name": "language", "language": "en,ja"})
    reward.warm()
    rows = list(reward.samples())
    assert len(rows) == 2 and reward([Rollout(r["prompt"], r["completion"]) for r in rows]) == [1.0, 1.0]


@pytest.mark.parametrize("piece", ["\\(", "$a", "<a", "e\u0301\u0316", "\u3042\u4e00", "\ud800", "a. "])
def test_a_megabyte_takes_seconds_at_most(score, piece):
    start = time.perf_counter()
    value = score(piece * (1_000_000 // len(piece)), language="en,ja")
    assert value is None or 0.0 <= value <= 1.0
    assert time.perf_counter() - start < 10
