"""New pieces in real tokenizers: no id moves, every text comes back, and the second language takes fewer tokens."""

import copy
import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.errors import ConfigError, DataError
from tunesmith.vocab import kinds, tokenizer
from tunesmith.vocab.kinds import Rule, cut_words, kind_of, kind_of_state
from tunesmith.vocab.measure import changed_share, fit
from tunesmith.vocab.merges import Learner, pairs_of

from .conftest import BYTES, KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_old_tokens_keep_their_ids_and_new_ones_follow(expanded, kind):
    base, new, pieces, _ = expanded(kind)
    old, grown = base.get_vocab(), new.get_vocab()
    assert {token: grown[token] for token in old} == old
    first = max(old.values()) + 1
    assert [grown[piece.text] for piece in pieces] == list(range(first, first + 60))
    assert len(new) == first + 60
    assert type(new) is type(base)
    assert (new.special_tokens_map, new.all_special_ids) == (base.special_tokens_map, base.all_special_ids)
    assert new.convert_tokens_to_ids("<|turn|>") == base.convert_tokens_to_ids("<|turn|>") == first - 1
    assert new("a<|turn|>b")["input_ids"] == base("a<|turn|>b")["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_gives_the_words_as_they_were_learned(expanded, georgian, kind):
    base, new, _, learner = expanded(kind)
    written = kind_of(base)
    again = cut_words(georgian, new.backend_tokenizer, written)
    learned: Counter = Counter()
    for word, times in zip(learner.words, learner.times, strict=True):
        learned[tuple(word)] += times
    assert again.words == learned


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_that_came_back_comes_back(expanded, english, georgian, kind):
    base, new, _, _ = expanded(kind)
    kept = tokenizer.check_round_trip(base, new, [*english, *georgian])
    assert kept > 240


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.sampled_from("კა ლორზ. 12\n\x00é語😀\u200d\u0301<|turn|>the"), max_size=40) | st.text(max_size=20)
)
def test_decoding_inverts_encoding_on_any_text(expanded, text):
    for kind in ("plain", "llama3", "gemma"):
        base, new, _, _ = expanded(kind)
        if tokenizer.round_trip(base, text) == text:
            assert tokenizer.round_trip(new, text) == text


@pytest.mark.parametrize("kind", KINDS)
def test_text_without_a_new_piece_has_the_ids_it_had(expanded, english, kind):
    base, new, pieces, _ = expanded(kind)
    written = kind_of(base)
    made = [kinds.content(piece.text, written) for piece in pieces]
    free = [text for text in [*english, *tokenizer.FUZZ] if not any(piece in text.encode() for piece in made)]
    assert len(free) > 120
    assert [base(text)["input_ids"] for text in free] == [new(text)["input_ids"] for text in free]
    assert changed_share(base, new, free) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_second_language_takes_fewer_tokens(expanded, georgian, english, kind):
    base, new, _, _ = expanded(kind)
    written = kind_of(base)
    before, after = fit(base, georgian, written), fit(new, georgian, written)
    assert (before.words, before.bytes, before.characters) == (after.words, after.bytes, after.characters)
    assert after.tokens < 0.5 * before.tokens
    assert before.fragments > 0.5 * before.tokens and after.fragments < 0.2 * after.tokens
    assert changed_share(base, new, georgian) == 1.0
    assert fit(new, english, written).tokens == fit(base, english, written).tokens


def test_keeping_general_text_leaves_all_its_ids(bases, english, tmp_path):
    """Target text in the same letters as the general one: without the rule some of the latter would change."""
    target = ["neuralization retokenised subtextual " * 3 + text for text in english[:40]]
    base = bases("plain")
    general = cut_words(english, base.backend_tokenizer, "bytes")
    shares = {}
    for keep in (False, True):
        cut = cut_words(target, base.backend_tokenizer, "bytes")
        kept = pairs_of(general.words) if keep else ()
        pieces = Learner(cut.words, taken=base.get_vocab(), allowed=Rule("bytes", 16), kept=kept).learn(40)
        assert len(pieces) > 10
        new = tokenizer.save_expanded(base, pieces, tmp_path / str(keep))
        shares[keep] = changed_share(base, new, english)
        assert fit(new, target, "bytes").tokens < fit(base, target, "bytes").tokens
    assert shares[True] == 0.0 < shares[False]


def test_a_state_is_not_changed_and_tokens_beside_the_vocabulary_are_written_into_it(expanded):
    base, _, pieces, _ = expanded("plain")
    state = tokenizer.state_of(base)
    before = copy.deepcopy(state)
    grown = tokenizer.expanded_state(state, pieces)
    assert state == before and "<|turn|>" not in state["model"]["vocab"]
    assert grown["model"]["vocab"]["<|turn|>"] == base.convert_tokens_to_ids("<|turn|>")
    assert grown["model"]["merges"][: len(before["model"]["merges"])] == before["model"]["merges"]
    assert {key: grown[key] for key in grown if key != "model"} == {
        key: before[key] for key in before if key != "model"
    }


def test_a_tokenizer_that_does_not_give_a_text_back_is_refused(expanded, bases):
    base, _, _, _ = expanded("plain")

    class Forgetful:
        """Loses one sign, as a piece that is merged wrongly would."""

        def __call__(self, text, **options):
            return base(text.replace("კ", ""), **options)

        def decode(self, ids, **options):
            return base.decode(ids, **options)

    assert tokenizer.check_round_trip(base, base, ["კაი"]) > 0
    with pytest.raises(DataError, match="does not give back 'კაი', and the base did"):
        tokenizer.check_round_trip(base, Forgetful(), ["კაი"])
    assert tokenizer.check_round_trip(Forgetful(), Forgetful(), ["კაი"]) > 0, "the base lost it too"


def test_ids_that_move_and_special_tokens_that_change_are_refused(bases):
    base, other = bases("plain"), bases("llama")
    with pytest.raises(DataError, match="tokens would get another id"):
        tokenizer.check_kept(base, other)
    changed = copy.deepcopy(base)
    changed.chat_template = "{{ messages }}"
    with pytest.raises(DataError, match="chat_template of the tokenizer would change"):
        tokenizer.check_kept(base, changed)


# ------------------------------------------------------------------------------------------------ which kinds
@pytest.mark.parametrize("kind", KINDS)
def test_kinds(bases, kind):
    assert kind_of(bases(kind)) == ("bytes" if kind in BYTES else "characters")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"type": "Unigram", "vocab": []}, "is a Unigram tokenizer, which cannot be expanded"),
        ({"type": "WordPiece", "vocab": {}}, "is a WordPiece tokenizer, which cannot be expanded"),
        ({"type": "WordLevel", "vocab": {}}, "is a WordLevel tokenizer, which cannot be expanded"),
        ({"type": "BPE", "end_of_word_suffix": "</w>"}, "marks pieces with '</w>'"),
        ({"type": "BPE"}, "knows neither bytes nor a fallback"),
    ],
)
def test_other_kinds_are_refused_by_name_with_the_reason(model, message):
    with pytest.raises(ConfigError, match=message) as error:
        kind_of_state({"model": model}, "SomeTokenizer")
    assert "SomeTokenizer" in str(error.value) and error.value.why


def test_a_real_unigram_tokenizer_is_refused(english):
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.Unigram())
    core.train_from_iterator(english, trainers.UnigramTrainer(vocab_size=80, show_progress=False))
    with pytest.raises(ConfigError, match="Unigram"):
        kind_of(PreTrainedTokenizerFast(tokenizer_object=core))


def test_words_without_a_tokenizers_own_cut_begin_at_spaces_and_line_breaks(bases):
    """The tokenizer takes a whole text for one word; pieces must not reach across words all the same."""
    cut = cut_words(["კა კა\n\nლო"], bases("gemma").backend_tokenizer, "characters")
    assert {"".join(word): count for word, count in cut.words.items()} == {"კა": 1, "▁კა": 1, "\n\n": 1, "ლო": 1}
    assert cut.missing == {**dict.fromkeys("კალო", 3), "\n": 1}


def test_the_contents_of_the_file_are_those_of_the_tokenizer(expanded):
    _, new, pieces, _ = expanded("gemma")
    written = json.loads(new.backend_tokenizer.to_str())["model"]
    merges = [list(piece.parts) for piece in pieces if piece.parts]
    assert written["merges"][-len(merges) :] == merges
    assert {piece.text for piece in pieces if piece.parts is None} == set("".join("კალომერტინსპუთზვხქღ"))
