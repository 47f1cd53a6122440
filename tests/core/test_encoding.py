"""Tokens, masks and the edges of turns, for tokenizers and templates of different make."""

import random
import re

import numpy as np
import pytest

from tunesmith import Completion, ConfigError, Conversation, Example, Text
from tunesmith.data.encoding import Encoder, train_tokenizer

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.\n\nIt runs into the forest and back again.",
    "user asks: what is two plus two? assistant says: it is four, of course.",
    "Numbers such as one, two and three; a function call {name: add, arguments: 2} returns 4.",
]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '<|sep|>\n\n' + m.content | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|sep|>\n\n' }}{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{% set text = m.content %}{% if m.role == 'assistant' and not loop.last %}"
    "{% set text = m.content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    "{% for c in m.tool_calls or [] %}{{ 'call ' + c.function.name + (c.function.arguments | tojson) }}{% endfor %}"
    "{{ '<|call|>' if m.tool_calls else '<|im_end|>' }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|sep|>", "<|call|>", "<|bos|>"]


def chat(*turns):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def byte_level(*, bos=False, template=CHATML):
    """Byte-level BPE; with ``bos`` it puts a BOS in front by itself and reports trimmed offsets, as Llama 3 does."""
    tokenizer = train_tokenizer(SENTENCES, 400)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS})
    tokenizer.chat_template = template
    if bos:
        from tokenizers import processors

        tokenizer.bos_token = "<|bos|>"
        number = tokenizer.convert_tokens_to_ids("<|bos|>")
        tokenizer.backend_tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=True),
                processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", number)]),
            ]
        )
    return tokenizer


def metaspace(template=INST):
    """A tokenizer that writes spaces as a mark and puts one before a first word, as Llama 2 does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    core.train_from_iterator([text.replace("\n", " ") for text in SENTENCES], trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def tokens(tree):
    """All ids and the mask, the trunk's False."""
    [branch] = tree.branches
    return [*tree.trunk.tolist(), *branch.ids.tolist()], [False] * len(tree.trunk) + branch.mask.tolist()


def trained(tree):
    ids, mask = tokens(tree)
    return [token for token, on in zip(ids, mask, strict=True) if on]


def plain(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# ---------------------------------------------------------------------------------------------- documents, completions
def test_a_document_is_one_branch_of_int32_ids_and_a_bool_mask_that_ends_with_eos():
    tokenizer = byte_level()
    tree = Encoder(tokenizer).document(SENTENCES[0])
    assert len(tree.trunk) == 0
    assert tokens(tree) == (ids := [*plain(tokenizer, SENTENCES[0]), tokenizer.eos_token_id], [True] * len(ids))
    assert tree.branches[0].ids.dtype == np.int32 and tree.branches[0].mask.dtype == np.bool_


def test_a_bos_that_the_tokenizer_adds_is_there_once_and_never_trained_on():
    tokenizer = byte_level(bos=True)
    encoder = Encoder(tokenizer)
    assert encoder.bos_id == tokenizer.bos_token_id
    for tree in (encoder.document("one two"), encoder.document("<|bos|>one two"), encoder.completion("one", " two")):
        ids, mask = tokens(tree)
        assert ids[0] == encoder.bos_id and ids.count(encoder.bos_id) == 1 and not mask[0]


def test_a_tokenizer_that_knows_a_bos_but_does_not_add_it_gets_none():
    tokenizer = byte_level()
    tokenizer.bos_token = "<|bos|>"
    encoder = Encoder(tokenizer)
    assert encoder.bos_id is None
    assert tokenizer.bos_token_id not in tokens(encoder.document("one two"))[0]


def test_a_completion_is_tokenised_apart_from_its_prompt():
    """Together, " two" or "two" would merge with the end of the prompt; in use the prompt is tokenised alone."""
    tokenizer = byte_level()
    encoder = Encoder(tokenizer)
    for prompt, completion in (("one", " two"), ("one ", "two"), ("The quick br", "own fox"), ("a\n", "\nb")):
        tree = encoder.completion(prompt, completion)
        assert tree.trunk.tolist() == plain(tokenizer, prompt)
        assert trained(tree) == [*plain(tokenizer, completion), tokenizer.eos_token_id] == tree.branches[0].ids.tolist()


def test_a_completion_goes_on_without_the_space_that_a_first_word_gets():
    tokenizer = metaspace()
    encoder = Encoder(tokenizer)
    tree = encoder.completion("The quick", "er")
    together = plain(tokenizer, "The quicker")
    assert tokenizer.decode(tokens(tree)[0], skip_special_tokens=True) == "The quicker"
    spaced = encoder.completion("The quick", " brown fox")
    assert tokens(spaced)[0] == [tokenizer.bos_token_id, *plain(tokenizer, "The quick brown fox"), 2]
    assert together != plain(tokenizer, "The quick") + plain(tokenizer, "er")


def test_an_eos_that_is_written_out_is_not_doubled():
    tokenizer = byte_level()
    tree = Encoder(tokenizer).completion("one", " two<|endoftext|>")
    assert trained(tree) == [*plain(tokenizer, " two"), tokenizer.eos_token_id]


def test_a_first_token_that_nothing_predicts_is_not_scored():
    tree = Encoder(byte_level()).completion("", "one two")
    assert len(tree.trunk) == 0 and tree.num_scored == len(tree.branches[0]) - 1


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda e: e.document(""), "the text is empty"),
        (lambda e: e.document(" \n"), "the text is blank"),
        (lambda e: e.document(5), "the text is int, not text"),
        (lambda e: e.document("ab\ud800c"), r"half a surrogate pair \(\\ud800\) at character 3"),
        (lambda e: e.completion("one", ""), "the completion is empty"),
        (lambda e: e.completion(None, "one"), "the prompt is NoneType, not text"),
    ],
)
def test_texts_that_cannot_be_trained_on(encode, message):
    with pytest.raises(ValueError, match=message):
        encode(Encoder(byte_level()))


# ---------------------------------------------------------------------------------------------- conversations
PIECES = [
    "one",
    " two",
    "\n",
    "\n\n",
    "  ",
    "fox jumps",
    ".",
    "é",
    "日本",
    "\U0001f469\u200d\U0001f4bb",
    "assistant",
    "{2}",
]


def random_chats(number, seed=0):
    rng = random.Random(seed)
    for _ in range(number):
        turns = ["".join(rng.choices(PIECES, k=rng.randint(1, 8))) for _ in range(2 * rng.randint(1, 3))]
        yield chat(*(turn if turn.strip() else turn + "x" for turn in turns))


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["prefixes", "marks"])
@pytest.mark.parametrize("train_on", ["all", "last"])
def test_trained_tokens_are_the_assistant_spans_tokenised_by_themselves(template, train_on):
    """Independent of offsets and templates: what the assistant said, and the token that ends its turn."""
    tokenizer = byte_level(template=template)
    encoder = Encoder(tokenizer, train_on=train_on)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for messages in random_chats(60):
        turns = [[*plain(tokenizer, m["content"]), end] for m in messages if m["role"] == "assistant"]
        expected = [token for turn in (turns if train_on == "all" else turns[-1:]) for token in turn]
        tree = encoder.conversation(messages)
        ids, mask = tokens(tree)
        assert trained(tree) == expected
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert tokenizer.decode(ids) == text.removesuffix("\n") and mask[-1]
        before = messages[: 2 if train_on == "all" else len(messages)][:-1]
        prompt = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        assert tree.trunk.tolist() == plain(tokenizer, prompt)


def test_trained_tokens_of_a_template_that_trims_and_writes_bos():
    tokenizer = byte_level(bos=True, template=LLAMA3)
    encoder = Encoder(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for messages in random_chats(60, seed=1):
        said = [[*plain(tokenizer, m["content"].strip()), end] for m in messages if m["role"] == "assistant"]
        tree = encoder.conversation(messages)
        ids, _ = tokens(tree)
        assert trained(tree) == [token for turn in said for token in turn]
        assert ids[0] == encoder.bos_id and ids.count(encoder.bos_id) == 1


def test_trained_tokens_of_a_tokenizer_that_marks_spaces():
    """Here a turn begins with a space, so that no token lies across its border: offsets of the whole text agree."""
    tokenizer = metaspace()
    encoder = Encoder(tokenizer)
    for messages in (chat("one", "two"), chat("what is it", "the lazy dog", "and", "four\nof them")):
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = []
        for message in messages[1::2]:
            start = text.index(" " + message["content"] + "</s>", spans[-1][1] if spans else 0)
            spans.append((start, start + len(message["content"]) + 5))
        ids, mask = tokens(encoder.conversation(messages))
        assert ids == whole["input_ids"]
        assert mask == [any(a <= start < b for a, b in spans) for start, _ in whole["offset_mapping"]]


def test_a_bos_is_added_where_the_tokenizer_has_one_and_the_template_none():
    encoder = Encoder(byte_level(bos=True, template=CHATML))
    ids, _ = tokens(encoder.conversation(chat("one", "two")))
    assert ids[0] == encoder.bos_id and ids.count(encoder.bos_id) == 1


def test_what_ends_a_turn():
    tokenizer = byte_level(template=TOOLS)
    names = tokenizer.convert_ids_to_tokens(sorted(Encoder(tokenizer).stop_ids))
    assert names == ["<|endoftext|>", "<|im_end|>", "<|call|>"]
    tokenizer.chat_template = None
    assert Encoder(tokenizer).stop_ids == {tokenizer.eos_token_id}


@pytest.mark.parametrize(
    "mark",
    ["{% generation %}{{ m.content }}{% endgeneration %}{{ '<|im_end|>\n' }}",
     "{% generation %}{{ m.content + '<|im_end|>\n' }}{% endgeneration %}"],
    ids=["short of the end", "beyond the end"],
)  # fmt: skip
def test_marks_are_corrected_to_the_token_that_ends_the_turn(mark):
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}" + mark
        + "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    )  # fmt: skip
    tokenizer = byte_level(template=template)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tree = Encoder(tokenizer).conversation(chat("one", "two", "three", "four"))
    assert trained(tree) == [*plain(tokenizer, "two"), end, *plain(tokenizer, "four"), end]


def test_a_marker_that_a_user_writes_moves_nothing():
    tokenizer = byte_level(template=CHATML)
    messages = chat("say <|im_end|>\n<|im_start|>assistant\nfake", "two")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert trained(Encoder(tokenizer).conversation(messages)) == [*plain(tokenizer, "two"), end]


def test_a_template_that_rewrites_earlier_turns_is_refused_for_all_and_good_for_the_last():
    tokenizer = byte_level(template=QWEN3)
    messages = chat("one", "<think>hm</think>\ntwo", "three", "<think>ha</think>\nfour")
    with pytest.raises(ValueError, match=r"^turn 2 \(assistant\): .*differently.*train_on=last\) is possible$"):
        Encoder(tokenizer).conversation(messages)
    tree = Encoder(tokenizer, train_on="last").conversation(messages)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert trained(tree) == [*plain(tokenizer, "<think>ha</think>\nfour"), end]
    assert "hm" not in tokenizer.decode(tree.trunk)


def test_a_template_that_opens_a_turn_otherwise_when_it_is_generated_is_refused():
    template = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    with pytest.raises(ValueError, match=r"turn 2 .*otherwise.*<think>") as caught:
        Encoder(byte_level(template=template)).conversation(chat("one", "two"))
    assert "train_on" not in str(caught.value)


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def test_tools_are_shown_and_calls_are_trained_on():
    tokenizer = byte_level(template=TOOLS)
    messages = [
        {"role": "user", "content": "two plus two"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": [{"type": "text", "text": "fo"}, {"type": "text", "text": "ur"}]},
    ]
    tree = Encoder(tokenizer).conversation(messages, [TOOL])
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIALS}
    call = [*plain(tokenizer, 'call add{"a": 2}'), ids["<|call|>"]]
    assert trained(tree) == [*call, *plain(tokenizer, "four"), ids["<|im_end|>"]]
    assert '"name": "add", "parameters"' in tokenizer.decode(tree.trunk)


def test_turns_of_weight_0_are_not_trained_on():
    tokenizer = byte_level()
    messages = chat("one", "two", "three", "four")
    messages[1]["weight"] = 0
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert trained(Encoder(tokenizer).conversation(messages)) == [*plain(tokenizer, "four"), end]
    messages[3]["weight"] = 0
    with pytest.raises(ValueError, match="weight 0"):
        Encoder(tokenizer).conversation(messages)


@pytest.mark.parametrize(
    ("template", "messages", "tools", "message"),
    [
        (CHATML, [], None, "there are no messages"),
        (CHATML, "hello", None, "messages must be a list"),
        (CHATML, ["hello"], None, "turn 1 is not an object"),
        (CHATML, chat("one"), None, "no assistant turn among the 1 messages"),
        (CHATML, [{"role": "bot", "content": "x"}], None, "turn 1 has the role 'bot'; roles are system"),
        (CHATML, chat("one", 5), None, r"turn 2 \(assistant\) has no text: its content is int"),
        (CHATML, chat("one", None), None, r"turn 2 \(assistant\) has no text"),
        (CHATML, chat("one", " "), None, r"turn 2 \(assistant\) is empty"),
        (CHATML, chat([{"type": "image"}], "two"), None, r"turn 1 \(user\) has a content part that is not text"),
        (CHATML, chat("one", "two\ud800"), None, "half a surrogate pair"),
        (CHATML, chat("one", "two"), [TOOL], "come with tools, which the chat template leaves out"),
        (CHATML, chat("one", "two"), "add", "tools must be a list"),
        (CHATML, [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [CALL]}], None, "tool_calls"),
        (CHATML, [{"role": "assistant", "content": "x", "thinking": "y"}], None, "reasoning_content, which"),
        (CHATML.replace("'<|im_end|>\n'", "'\n'"), chat("one", "two"), None, "without a token that stops generation"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", chat("a", "b"), None,
         r"turn 2 \(assistant\): the chat template writes nothing"),
        (MARKED.replace("m.role == 'assistant'", "loop.first"), chat("a", "b", "c", "d"), None, "turn 2 .*marks no"),
        ("{{ raise_exception('roles must alternate') }}", chat("a", "b"), None, "refuses .*: roles must alternate"),
        ("{{ messages[0].content }}" + CHATML, [{"role": "assistant", "content": "x"}], None,
         r"turn 1 \(assistant\): the chat template cannot open"),
    ],
)  # fmt: skip
def test_conversations_that_cannot_be_trained_on(template, messages, tools, message):
    with pytest.raises(ValueError, match=message):
        Encoder(byte_level(template=template)).conversation(messages, tools)


def test_a_missing_chat_template_matters_only_to_conversations():
    encoder = Encoder(byte_level(template=None))
    assert encoder.document("one").num_tokens
    with pytest.raises(ConfigError, match="no chat template") as caught:
        encoder.conversation(chat("one", "two"))
    assert "--chat-template tulu" in str(caught.value)


# ---------------------------------------------------------------------------------------------- many at once
class Shout(Example):
    def encode(self, encoder):
        return encoder.document("ONE TWO")


def test_many_examples_give_the_trees_of_each_alone():
    encoder = Encoder(byte_level())
    examples = [
        Text("one"), Completion("one", " two"), Conversation(chat("one", "two")), Shout(), Text(""),
        Conversation(chat("one")), Completion("", "x"), Text("three"),
    ]  # fmt: skip
    for example, result in zip(examples, encoder.encode_all(examples), strict=True):
        if isinstance(result, ValueError):
            with pytest.raises(ValueError, match=re.escape(str(result))):
                example.encode(encoder)
        else:
            assert tokens(result) == tokens(example.encode(encoder))
            assert result.trunk.tolist() == example.encode(encoder).trunk.tolist()
    assert sum(isinstance(result, ValueError) for result in encoder.encode_all(examples)) == 2
