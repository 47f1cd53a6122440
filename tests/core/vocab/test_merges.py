"""Pieces that go on where a tokenizer's merges stopped."""

import random
from itertools import pairwise

import pytest

from tunesmith.vocab.kinds import Rule, byte_signs, content, is_fragment
from tunesmith.vocab.merges import Learner, Piece, joined, pairs_of


def words(**times):
    """Words of single letters."""
    return {tuple(word): count for word, count in times.items()}


def learned(found):
    return [(piece.text, piece.parts, piece.saved) for piece in found]


def test_the_most_frequent_pair_is_joined_first():
    """ab stands in abc (3 times) and ab (2): 5. Then ab and c are neighbours 3 times. xy once is too rare."""
    learner = Learner(words(abc=3, ab=2, xy=1), taken="abcxy")
    assert learned(learner.learn(9)) == [("ab", ("a", "b"), 5), ("abc", ("ab", "c"), 3)]
    assert learner.words == [["abc"], ["ab"], ["x", "y"]]


def test_no_more_than_asked_for_and_a_pair_that_lost_its_places_counts_as_often_as_is_left():
    """bc stands 4 times, but 3 of them go to ab, which is joined first: 1 is left, and that is too rare."""
    assert learned(Learner(words(abc=3, ab=2, bc=1), taken="abc").learn(1)) == [("ab", ("a", "b"), 5)]
    assert [piece.text for piece in Learner(words(abc=3, ab=2, bc=1), taken="abc").learn(9)] == ["ab", "abc"]


def test_equal_counts_are_joined_in_the_order_of_their_letters():
    assert [piece.text for piece in Learner(words(cd=2, ab=2), taken="abcd").learn(2)] == ["ab", "cd"]


def test_repeated_letters_are_joined_from_the_left():
    """aaa has two pairs but room for one merge; what is left are aa and a."""
    learner = Learner({("a", "a", "a"): 2}, taken="a")
    assert learned(learner.learn(1)) == [("aa", ("a", "a"), 4)]
    assert learner.words == [["aa", "a"]]
    assert joined(list("aaaaa"), ("a", "a")) == ["aa", "aa", "a"]


def test_what_is_a_token_already_becomes_no_piece_and_neither_does_what_is_not_allowed():
    assert Learner(words(ab=9), taken=["a", "b", "ab"]).learn(5) == []
    assert Learner(words(ab=9), taken="ab", allowed=lambda text: text != "ab").learn(5) == []


def test_kept_pairs_are_never_joined():
    kept = pairs_of(words(xab=1))
    assert kept == {("x", "a"): 1, ("a", "b"): 1}
    assert [piece.text for piece in Learner(words(abc=3), taken="abc", kept=kept).learn(5)] == ["bc", "abc"]


def test_a_missing_character_comes_before_the_pairs_that_need_it():
    """Ж takes 2 tokens and stands 4 times, so a piece of its own saves 4; ab saves 5, Жa saves 4 afterwards."""
    learner = Learner(words(**{"Жa": 4, "ab": 5}), taken="ab", missing={"Ж": 2})
    assert learned(learner.learn(9)) == [("ab", ("a", "b"), 5), ("Ж", None, 4), ("Жa", ("Ж", "a"), 4)]


def test_a_character_that_takes_one_token_already_needs_no_piece():
    learner = Learner({("\x07", "a"): 9}, taken="a", missing={"\x07": 1})
    assert learner.learn(5) == []


def encoded(word, merges):
    """Byte-pair encoding as defined: join the neighbours whose merge is the earliest, until there is none."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    parts = list(word)
    while found := [(ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in ranks]:
        _, i = min(found)
        parts[i : i + 2] = ["".join(parts[i : i + 2])]
    return parts


@pytest.mark.parametrize("seed", range(5))
def test_encoding_with_old_and_new_merges_gives_what_was_learned(seed):
    chance = random.Random(seed)
    texts = {"".join(chance.choices("abcde", k=chance.randint(1, 9))): chance.randint(1, 5) for _ in range(60)}
    old = [piece.parts for piece in Learner(words(**texts), taken="abcde").learn(6)]
    cut = {tuple(encoded(word, old)): count for word, count in texts.items()}
    learner = Learner(cut, taken=["a", "b", "c", "d", "e", *("".join(pair) for pair in old)])
    pieces = learner.learn(15)
    assert len({piece.text for piece in pieces}) == len(pieces) == 15
    both = [*old, *(piece.parts for piece in pieces)]
    assert learner.words == [encoded("".join(word), both) for word in cut]


def test_the_count_of_a_piece_is_what_it_saves():
    texts = words(abcab=3, cabcab=2, bca=4)
    for piece in Learner(texts, taken="abc").learn(3):
        assert isinstance(piece, Piece)
        before = sum(len(word) * count for word, count in texts.items())
        texts = {tuple(joined(list(word), piece.parts)): count for word, count in texts.items()}
        assert before - sum(len(word) * count for word, count in texts.items()) == piece.saved


# ------------------------------------------------------------------------------------------------ what a piece is
def signs(text):
    """How byte-level pieces write a text."""
    by_byte = {byte: sign for sign, byte in byte_signs().items()}
    return "".join(by_byte[byte] for byte in (text if isinstance(text, bytes) else text.encode()))


def test_the_signs_of_bytes_are_those_of_the_library():
    from tokenizers import pre_tokenizers

    assert sorted(byte_signs()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for text in ("\x00\n ~é", "კ😀\x7f\xad"):
        [(written, _)] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        assert signs(text) == written and content(written, "bytes") == text.encode()


def test_content_and_fragments():
    assert content("<0xCE>", "characters") == b"\xce" and content("▁კაი", "characters") == " კაი".encode()
    assert is_fragment("<0xCE>", "characters") and not is_fragment("▁კ", "characters")
    assert is_fragment(signs(b"\xce"), "bytes") and not is_fragment(signs("კ"), "bytes")


@pytest.mark.parametrize(
    ("text", "in_bytes", "in_characters"),
    [
        ("კაი", True, True), (" კაი", True, True),
        ("კაი.", True, False), ("(კაი", True, False), ("。", True, True),
        ("e\u0301", True, True), ("2024", False, False), ("კ2", False, False), ("--", False, False),
        ("  ", False, False),
        ("კ\n", False, False), ("\u0967", False, False), ("კ" * 16, True, True), ("კ" * 17, False, False),
        ("  კაი", True, False), ("。。", True, False),
    ],
)  # fmt: skip
def test_which_texts_may_become_pieces(text, in_bytes, in_characters):
    assert Rule("bytes", 16)(signs(text)) is in_bytes
    assert Rule("characters", 16)(text.replace(" ", "▁")) is in_characters


def test_bytes_within_a_character_may_be_joined():
    assert Rule("bytes", 16)(signs("語".encode()[:2]))
