"""Judged answers as trees: one prompt, a branch for every answer, and what is cut, kept on disk or refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tunesmith import (
    Completion,
    Conversation,
    DataError,
    Preference,
    Ranking,
    Text,
    Unpaired,
    plugins,
)
from tunesmith.config import Layers, resolve
from tunesmith.data.encoding import Encoder, train_tokenizer
from tunesmith.data.loading import load_data
from tunesmith.data.rows import truncate
from tunesmith.data.tokenization import chat_template
from tunesmith.data.trees import Branch, Tree

WORDS = "the quick brown fox jumps over the lazy dog and runs into the forest to sleep under an old tree"
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FORGETS = (  # drops what was thought in earlier turns, as reasoning models do
    "{% for m in messages %}{% set text = m.content %}{% if m.role == 'assistant' and not loop.last %}"
    "{% set text = m.content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LOOKS_AHEAD = (  # writes the length of the conversation into its first line
    "{{ messages | map(attribute='content') | join | length }}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)


def tokenizer_with(template):
    found = train_tokenizer([WORDS, "system user assistant tool says: yes, no."] * 3, 330)
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    found.chat_template = chat_template(template, found) if template in ("chatml", "tulu") else template
    return found


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_with("chatml")


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return Encoder(tokenizer)


@pytest.fixture(scope="module")
def toys():
    files = [Path(__file__).with_name(name) for name in ("data_plugin.py", "judged_plugin.py")]
    return plugins.load(files=files, block=["tunesmith"])


@pytest.fixture
def load(toys, tokenizer, tmp_path):
    """``load(rows, method, **settings)``: write the rows to a file and load them as a run would."""

    def run(rows, method="toy-judge", name="rows", **flags):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        layers = Layers(flags={"model": "-", "data": str(path), **flags})
        return load_data(resolve(toys, method, layers), toys, tokenizer, output=tmp_path / "run")

    return run


def said(role, content):
    return {"role": role, "content": content}


def parts(tree):
    return tree.trunk.tolist(), [branch.ids.tolist() for branch in tree.branches]


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False)


# ---------------------------------------------------------------------------------------------- one tree
def test_a_pair_in_text_is_two_completions_that_share_their_prompt(encoder):
    tree = encoder.encode_all([Preference("the fox", " jumps over", " sleeps", 0.5)])[0]
    chosen = encoder.completion("the fox", " jumps over")
    rejected = encoder.completion("the fox", " sleeps")
    assert parts(tree) == (chosen.trunk.tolist(), [chosen.branches[0].ids.tolist(), rejected.branches[0].ids.tolist()])
    assert rejected.trunk.tolist() == chosen.trunk.tolist()
    assert all(branch.mask.all() and branch.ids[-1] == encoder.eos_id for branch in tree.branches)
    assert [branch.value for branch in tree.branches] == [1.0, 0.0] and tree.margin == 0.5
    assert tree.branches[0].ids.dtype == np.int32 and tree.branches[0].mask.dtype == np.bool_


@pytest.mark.parametrize("template", ["chatml", "tulu", MARKED, FORGETS])
@pytest.mark.parametrize("train_on", ["all", "last"])
def test_a_pair_in_messages_shares_the_prompt_as_it_is_rendered_for_generation(template, train_on):
    tokenizer = tokenizer_with(template)
    encoder = Encoder(tokenizer, train_on=train_on)
    prompt = [said("user", "the fox"), said("assistant", "<think>x</think>yes"), said("user", "the dog")]
    good, bad = [said("assistant", "<think>jumps</think>over")], [said("assistant", "sleeps")]
    tree = Preference(prompt, good, bad).encode(encoder)
    rendered = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert tree.trunk.tolist() == tokenizer(rendered, add_special_tokens=False)["input_ids"]
    for branch, answer in zip(tree.branches, (good, bad), strict=True):
        last = Encoder(tokenizer, train_on="last").conversation([*prompt, *answer]).branches[0]
        assert branch.ids.tolist() == last.ids.tolist() and branch.mask.all()
        text = text_of(tokenizer, branch.ids)
        assert text.startswith(answer[0]["content"]) and branch.ids[-1] in encoder.stop_ids
        assert len(text) == len(answer[0]["content"]) + len(text_of(tokenizer, branch.ids[-1:]))


def test_an_answer_of_several_turns_trains_on_every_turn_that_the_assistant_writes(encoder, tokenizer):
    long = [said("assistant", "yes"), said("tool", "the dog"), said("assistant", "jumps")]
    tree = Preference([said("user", "the fox")], long, [said("assistant", "no")]).encode(encoder)
    branch = tree.branches[0]
    assert text_of(tokenizer, branch.ids[branch.mask]) == "yes<|im_end|>jumps<|im_end|>"
    assert "the dog" in text_of(tokenizer, branch.ids[~branch.mask])
    assert text_of(tokenizer, tree.trunk).endswith("<|im_start|>assistant\n")


def test_a_ranking_has_a_branch_for_every_answer_with_its_score(encoder):
    tree = Ranking("the fox", [" jumps", " sleeps", " runs"], [2, -1.5, 2]).encode(encoder)
    assert [branch.value for branch in tree.branches] == [2.0, -1.5, 2.0] and tree.margin == 0
    single = [encoder.completion("the fox", text).branches[0].ids.tolist() for text in (" jumps", " sleeps", " runs")]
    assert parts(tree)[1] == single


@pytest.mark.parametrize("label", [True, False])
def test_a_single_answer_carries_its_label(encoder, label):
    tree = Unpaired("the fox", " jumps", label).encode(encoder)
    assert parts(tree) == parts(encoder.completion("the fox", " jumps"))
    assert [branch.value for branch in tree.branches] == [float(label)]


def test_many_examples_together_give_what_each_gives_alone(encoder):
    chat = [said("user", "the fox")], [said("assistant", "yes")], [said("assistant", "no")]
    examples = [
        Preference("the fox", " jumps", " sleeps", 1.0),
        Text("the dog"),
        Preference("the fox", " same", " same"),
        Preference(*chat),
        Completion("the fox", " jumps"),
        Ranking("the fox", [" a", " b", " c"], [1, 2, 3]),
        Conversation([*chat[0], *chat[1]]),
        Unpaired("the fox", " jumps", True),
        Preference("the fox", "", " sleeps"),
    ]
    for example, result in zip(examples, encoder.encode_all(examples), strict=True):
        try:
            alone = example.encode(encoder)
        except ValueError as error:
            assert str(result) == str(error) and type(result) is type(error)
            continue
        assert parts(result) == parts(alone) and result.margin == alone.margin
        assert [b.value for b in result.branches] == [b.value for b in alone.branches]
        assert [b.mask.tolist() for b in result.branches] == [b.mask.tolist() for b in alone.branches]


def test_the_prompt_of_all_answers_is_tokenised_once(tokenizer, monkeypatch):
    encoder = Encoder(tokenizer)
    sent = []
    call = encoder._call
    monkeypatch.setattr(encoder, "_call", lambda texts, offsets: sent.extend(texts) or call(texts, offsets))
    encoder.encode_all([Preference("the fox", " jumps", " sleeps"), Preference("the fox", " runs", " sleeps")])
    assert sorted(sent) == [" jumps", " runs", " sleeps", "the fox"]


def test_a_subclass_may_encode_itself_in_a_way_of_its_own(encoder):
    @dataclass(frozen=True)
    class Backwards(Preference):
        def encode(self, encoder):
            return encoder.judged(Preference(self.prompt, self.rejected, self.chosen))

    [tree] = encoder.encode_all([Backwards("the fox", " jumps", " sleeps")])
    assert parts(tree)[1] == parts(Preference("the fox", " sleeps", " jumps").encode(encoder))[1]


USER = [said("user", "the fox")]
BAD = [
    (Preference("the fox", " a", " a"), r"chosen and rejected are the same \d tokens, so"),
    (Preference("the fox", " a", ""), "the rejected is empty"),
    (Preference("the fox", " \n", " a"), "the chosen is blank"),
    (Preference("", " a", " b"), "the prompt is empty, so nothing predicts the first token"),
    (Preference("the fox", " a", [said("assistant", "b")]), "prompt is text, chosen is text, rejected is messages"),
    (Preference("the fox", " a", " b", tools=[{}]), "only a prompt in messages"),
    (Preference(USER, [said("assistant", "a")], [said("assistant", "a")]), "the same 2 tokens"),
    (Preference(USER, [said("assistant", "a")], [said("assistant", " ")]), r"rejected: turn 2 \(assistant\) is empty"),
    (Preference(USER, [said("assistant", "a")], []), "rejected has no messages"),
    (Preference([], [said("assistant", "a")], [said("assistant", "b")]), "the prompt has no messages"),
    (Preference(USER, [said("user", "a")], [said("assistant", "b")]), "chosen begins with the role 'user'"),
    (
        Preference(USER, [said("assistant", "a"), said("user", "q")], [said("assistant", "b")]),
        "chosen ends with the role 'user'",
    ),
    (
        Preference(USER, [said("assistant", "a") | {"weight": 0}], [said("assistant", "b")]),
        "an answer is judged as a whole",
    ),
    (Ranking("the fox", [" a", " b", " a"], [1, 2, 3]), r"completions\[0\] and completions\[2\] are the same"),
    (Ranking("the fox", [" a", " b"], [1, 2, 3]), "there are 2 completions and 3 scores"),
    (Unpaired("the fox", "", True), "the completion is empty"),
]


@pytest.mark.parametrize(("example", "reason"), BAD)
def test_what_cannot_be_compared_is_refused_with_the_reason(encoder, example, reason):
    with pytest.raises(ValueError, match=reason):
        example.encode(encoder)


def test_equal_answers_of_equal_score_are_no_contradiction(encoder):
    assert len(Ranking("the fox", [" a", " b", " a"], [1, 2, 1]).encode(encoder).branches) == 3


def test_a_template_that_writes_the_prompt_differently_before_each_answer_is_refused():
    pair = Preference(USER, [said("assistant", "yes, yes")], [said("assistant", "no")])
    with pytest.raises(ValueError, match="writes the prompt differently before each of the answers"):
        pair.encode(Encoder(tokenizer_with(LOOKS_AHEAD)))


# ---------------------------------------------------------------------------------------------- on disk
def test_values_and_margins_survive_the_cache_and_being_held_out(load):
    rows = [{"q": f"the fox {i}", "good": f" jumps {i}", "bad": " no" * (1 + i % 3), "by": i / 4} for i in range(40)]
    rows += [{"q": f"dog {i}", "answers": [" a", " b", " c"][: 2 + i % 2], "scores": [i, 0.1, -2][: 2 + i % 2]}
             for i in range(1, 4)]  # fmt: skip
    pairs, ranks = rows[:40], rows[40:]
    for given, check in (
        (pairs, lambda tree, row: ([1.0, 0.0], row["by"])),
        (ranks, lambda tree, row: (row["scores"], 0.0)),
    ):
        seen = [load(given, holdout=0.2), load(given, holdout=0.2)]
        assert [data.report.sources[0].cached for data in seen] == [False, True]
        for data in seen:
            everything = [
                corpus[i] for corpus in (data.corpora[0], data.eval_sets["train"]) for i in range(len(corpus))
            ]
            assert len(everything) == len(given)
            for tree in everything:
                row = given[tree.row]
                assert ([branch.value for branch in tree.branches], tree.margin) == check(tree, row)


# ---------------------------------------------------------------------------------------------- over-long
def pair_of(trunk, chosen, rejected):
    def branch(ids, value):
        return Branch(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.bool_), value)

    return Tree(np.arange(trunk, dtype=np.int32), (branch(chosen, 1.0), branch(rejected, 0.0)), 3, 7, 0.5)


def test_cutting_a_pair_takes_the_ends_of_its_answers_and_nothing_else():
    cut = truncate(pair_of(4, [1, 2, 3, 4], [1, 5]), 6)
    assert parts(cut) == ([0, 1, 2, 3], [[1, 2], [1, 5]])
    assert [len(branch.mask) for branch in cut.branches] == [2, 2]
    assert ([b.value for b in cut.branches], cut.source, cut.row, cut.margin) == ([1.0, 0.0], 3, 7, 0.5)


LONG = {"q": "the fox", "good": " jumps over the lazy dog", "bad": " no"}
SAME = " over the lazy dog and runs into the forest to sleep"


def test_the_limit_is_about_the_prompt_and_one_answer_not_about_all_answers(load, encoder):
    tree = Preference(LONG["q"], LONG["good"], LONG["bad"]).encode(encoder)
    longest = len(tree.trunk) + len(tree.branches[0])
    assert tree.longest == longest < tree.num_tokens
    assert len(load([LONG], max_length=longest).corpora[0]) == 1
    with pytest.raises(DataError) as caught:
        load([LONG], max_length=longest - 1)
    assert f"prompt and longest answer have {longest} tokens, more than max_length {longest - 1}" in caught.value.why
    assert "--overlong drop or truncate" in caught.value.why


def test_long_pairs_are_dropped_or_cut_as_asked_and_counted(load, encoder):
    short = {"q": "the", "good": " fox", "bad": " dog"}
    size = Preference(LONG["q"], LONG["good"], LONG["bad"]).encode(encoder).longest
    dropped = load([LONG, short], max_length=size - 2, overlong="drop").report.sources[0]
    assert (dropped.used, dropped.dropped) == (1, 1)
    data = load([LONG, short], max_length=size - 2, overlong="truncate")
    report, tree = data.report.sources[0], data.corpora[0][0]
    assert (report.used, report.truncated, report.tokens_truncated) == (2, 1, 2)
    whole = Preference(LONG["q"], LONG["good"], LONG["bad"]).encode(encoder)
    assert parts(tree) == (parts(whole)[0], [parts(whole)[1][0][:-2], parts(whole)[1][1]])
    assert report.tokens_in == report.tokens + report.tokens_truncated
    with pytest.raises(DataError, match="cannot be trained on") as caught:
        load([LONG], max_length=size - 2, overlong="split")
    assert "it has a prompt, so it cannot be split" in caught.value.why


def test_a_cut_that_would_remove_what_tells_the_answers_apart_is_refused(load, encoder):
    row = {"q": "the fox", "good": SAME + " yes", "bad": SAME + " no"}
    tree = Preference(row["q"], row["good"], row["bad"]).encode(encoder)
    one, other = parts(tree)[1]
    differ = next(i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    apart = len(tree.trunk) + differ
    assert len(load([row], max_length=apart + 1, overlong="truncate").corpora[0]) == 1
    with pytest.raises(DataError) as caught:
        load([row], max_length=apart, overlong="truncate")
    assert "cutting the ends of its answers would remove the part in which they differ" in caught.value.why


def test_a_prompt_is_never_cut(load, encoder):
    row = {"q": WORDS, "good": " yes", "bad": " no"}
    size = len(encoder.completion(WORDS, " yes").trunk)
    for method, rows in (("toy-judge", [row]), ("toy-critic", [{"q": WORDS, "a": " yes", "ok": True}])):
        with pytest.raises(DataError) as caught:
            load(rows, method, max_length=size, overlong="truncate")
        assert f"its prompt has {size}, so nothing" in caught.value.why
