"""The parts of ``tunesmith data check``: sketches of texts, n-grams, and tokens that no template would make."""

import random

import numpy as np
import pytest

from tunesmith import Completion, Conversation, Row, Text
from tunesmith.data.quality import similar
from tunesmith.data.quality.copies import Copies
from tunesmith.data.quality.findings import LEVELS, Finding, percent, worst
from tunesmith.data.quality.leaks import GRAM, Asked, Leaks, grams
from tunesmith.data.quality.similar import Sketches
from tunesmith.data.quality.templates import Templates
from tunesmith.data.quality.wording import normal, pieces, prompt_of
from tunesmith.data.rows import Outcome
from tunesmith.data.trees import Branch, Tree


@pytest.fixture
def say():
    source = random.Random(3)
    known = ["".join(source.choices("abcdefghilmnoprstu", k=source.randint(2, 9))) for _ in range(4000)]
    return lambda count: source.choices(known, k=count)


def windows(text):
    return {text.encode()[i : i + similar.WINDOW] for i in range(len(text) - similar.WINDOW + 1)}


@pytest.mark.parametrize("words", [20, 100, 800])
def test_equal_minima_estimate_the_jaccard_index(say, words):
    sketches, errors = Sketches(), []
    for changed in range(0, words // 4, max(1, words // 40)):
        one = say(words)
        other = [*one[changed:], *say(changed)]
        first, second = " ".join(one), " ".join(other)
        index = len(windows(first) & windows(second)) / len(windows(first) | windows(second))
        errors.append((sketches.minima(first) == sketches.minima(second)).mean() - index)
    assert abs(np.mean(errors)) < 0.05 and np.max(np.abs(errors)) < 0.2


def test_near_copies_are_paired_with_an_earlier_text_and_others_with_none(say):
    sketches, texts = Sketches(), [" ".join(say(40)) for _ in range(300)]
    for text in texts:
        sketches.add(text)
    for text in texts[10:20]:
        sketches.add(text + " too")
    sketches.add("short")
    later, earlier = sketches.near()
    assert later.tolist() == list(range(300, 310)) and earlier.tolist() == list(range(10, 20))


def test_sketches_are_bounded_and_what_was_left_out_is_said(say, monkeypatch):
    monkeypatch.setattr(similar, "MOST_TEXTS", 5)
    copies = Copies()
    ledger = copies.ledger("rows")
    for i in range(8):
        ledger.add(Row({}, "f", i + 1), Text(" ".join(say(30))), i, copies.sketches)
    assert len(copies.sketches) == 5 and not list(copies.findings(ledger))
    [finding] = copies.across()
    assert finding.level == "fine" and "among the first 5 rows, not among 3 more" in finding.text
    assert copies.numbers(ledger)["not_compared"] == 3


def test_grams_are_of_words_in_a_row_that_are_all_known():
    assert len(grams([1, 2, 3, 4], 2)) == 3 and len(grams([1, 0, 3, 4], 2)) == 1 and len(grams([1], 2)) == 0
    assert len(np.unique(np.concatenate([grams([1, 2, 3], 3), grams([3, 2, 1], 3), grams([2, 1, 3], 3)]))) == 3
    assert grams([7, 1, 2, 3], 3)[1] == grams([1, 2, 3, 9], 3)[0]


def test_grams_scattered_over_many_rows_are_no_leak(say):
    words = say(40)
    leaks = Leaks("eval", [Asked(Row({}, "e", 1), " ".join(words))])
    for i in range(0, 40 - GRAM):
        leaks.add("rows", Row({}, "f", i + 1), Text(" ".join([*say(5), *words[i : i + GRAM], *say(5)])))
    assert not leaks.leaked() and 0 < leaks.asked[0].share < 0.1
    leaks.add("rows", Row({}, "f", 99), Text(" ".join([*words[:36], *say(9)])))
    assert leaks.leaked()[0].where == "f, row 99" and leaks.leaked()[0].how.endswith("8-grams")


def test_texts_are_compared_without_case_commas_and_width():
    assert normal("\uff21b,  C_d!") == "ab c d" == normal("AB c-D")
    assert normal("\u4f60\u597d\u3002a") == "\u4f60 \u597d a"


def test_what_the_system_says_is_not_compared():
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}]
    chat = Conversation([*turns, {"role": "assistant", "content": "b"}])
    assert pieces(chat) == ["a", "b"] and prompt_of(chat) == "Be kind.\na"
    assert prompt_of(Text("x")) is None and prompt_of(Completion("p", "c")) == "p"


def test_shares_and_levels():
    assert [percent(n, 1000) for n in (0, 1, 15, 20, 500)] == ["0%", "0.1%", "1.5%", "2%", "50%"]
    assert percent(1, 10_000) == "under 0.1%"
    assert [worst(Finding("x", level, "") for level in LEVELS[i:]) for i in range(3)] == list(LEVELS)
    assert worst([]) == "fine"


# ---------------------------------------------------------------------------------------------- tokens
@pytest.fixture(scope="module")
def encoder():
    from tunesmith.data.encoding import Encoder, train_tokenizer

    tokenizer = train_tokenizer(["one two three"] * 3, 280)
    tokenizer.add_special_tokens({"unk_token": "<unk>", "bos_token": "<s>"})
    return Encoder(tokenizer)


def outcome(trunk, answer):
    ids = np.array(answer, dtype=np.int32)
    tree = Tree(np.array(trunk, dtype=np.int32), (Branch(ids, np.ones(len(ids), dtype=np.bool_)),))
    return Outcome(Row({}, "f", 1), 0, example=None, trees=(tree,))


@pytest.mark.parametrize(
    ("trunk", "answer", "wanted"),
    [
        (["<s>", 5], [6, "eos"], {}),
        (["<s>", "<s>", 5], [6, "eos"], {"bos": "warn"}),
        ([5], [6, 7], {"end": "stop"}),
        ([5], ["<unk>", "eos"], {"unknown-tokens": "warn"}),
    ],
)
def test_tokens_that_teach_what_is_not_meant(encoder, trunk, answer, wanted):
    known = {name: encoder.tokenizer.convert_tokens_to_ids(name) for name in ("<s>", "<unk>")}
    known["eos"] = encoder.eos_id
    templates = Templates(encoder)
    for _ in range(3):
        templates.add(outcome(*([known.get(i, i) for i in part] for part in (trunk, answer))))
    assert {finding.check: finding.level for finding in templates.findings()} == wanted


def test_the_end_of_a_row_that_was_cut_is_not_missed_twice(encoder):
    cut = outcome([5], [6, 7])
    cut.lost = 3
    templates = Templates(encoder)
    templates.add(cut)
    assert not list(templates.findings())
