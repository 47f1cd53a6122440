"""Prompts in tokens: what training on an answer to them would put before it."""

import json

import numpy as np
import pytest

from tunesmith import Completion, Conversation, DataError, Prompt
from tunesmith.components import DataSpec, Reward
from tunesmith.config import build
from tunesmith.data.encoding import Encoder, train_tokenizer
from tunesmith.data.prompts import lacking_column, read_prompts

OPENS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}" + OPENS
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}" + OPENS
)
TOOLS = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}" + CHATML


def chat(*turns):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def byte_level(template=CHATML, *, bos=False):
    """Byte-level BPE, perhaps with a BOS that it puts in front by itself."""
    tokenizer = train_tokenizer(["How much is two and two? It is four, of course.\n"] * 3, 300)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|bos|>"]})
    tokenizer.chat_template = template
    if bos:
        from tokenizers.processors import TemplateProcessing

        number = tokenizer.convert_tokens_to_ids("<|bos|>")
        tokenizer.bos_token = "<|bos|>"
        post = TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", number)])
        tokenizer.backend_tokenizer.post_processor = post
    return tokenizer


TEMPLATES = {"bare": byte_level(), "marked": byte_level(MARKED), "bos": byte_level(bos=True)}
CALL = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("prompt", ["How much is two?", "", " spaces around ", "ends with a newline\n"])
def test_a_prompt_in_text_is_the_trunk_of_its_completion(kind, prompt):
    encoder = Encoder(TEMPLATES[kind])
    trunk = encoder.completion(prompt, "four").trunk
    if not prompt and not len(trunk):
        with pytest.raises(ValueError, match="prompt"):
            encoder.prompt(Prompt(prompt, {}))
        return
    tree = encoder.prompt(Prompt(prompt, {"answer": 4}))
    np.testing.assert_array_equal(tree.trunk, trunk)
    assert tree.branches == ()
    assert tree.about == {"prompt": prompt, "columns": {"answer": 4}}


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("turns", [("How much?",), ("How much?", "Four.", "And now?")])
def test_a_prompt_in_messages_is_the_trunk_of_its_last_answer(kind, turns):
    encoder = Encoder(TEMPLATES[kind], train_on="last")
    tree = encoder.prompt(Prompt(chat(*turns), {}))
    np.testing.assert_array_equal(tree.trunk, encoder.conversation(chat(*turns, "Five.")).trunk)
    assert tree.about["prompt"] == chat(*turns)


def test_tools_are_shown_to_the_model():
    encoder = Encoder(byte_level(TOOLS), train_on="last")
    with_tools = encoder.prompt(Prompt(chat("Add."), {}, CALL))
    np.testing.assert_array_equal(with_tools.trunk, encoder.conversation(chat("Add.", "Done."), CALL).trunk)
    assert len(with_tools.trunk) > len(encoder.prompt(Prompt(chat("Add."), {})).trunk)


@pytest.mark.parametrize(
    ("prompt", "tools", "message"),
    [
        ("", None, "nothing|empty|no token"),
        (chat("How?", "So."), None, "assistant"),
        ([], None, "no messages|empty"),
        ("Add.", CALL, "tools"),
    ],
)
def test_prompts_that_cannot_be_answered(prompt, tools, message):
    with pytest.raises(ValueError, match=message):
        Encoder(byte_level(CHATML)).prompt(Prompt(prompt, {}, tools))


def test_many_prompts_give_the_trees_of_each_alone():
    encoder = Encoder(byte_level())
    examples = [Prompt(f"p {i}", {"i": i}) for i in range(5)] + [Prompt(chat("a", "b"), {}), Prompt(chat("a"), {})]
    found = encoder.encode_all([*examples, Completion("p 1", "x"), Conversation(chat("a", "b"))])
    assert isinstance(found[5], ValueError)
    for i in (0, 1, 2, 3, 4, 6):
        alone = encoder.prompt(examples[i])
        np.testing.assert_array_equal(found[i].trunk, alone.trunk)
        assert found[i].about == alone.about
    assert found[7].about is None


# ------------------------------------------------------------------------------------------------ outside of a run
class Reads(Reward):
    """Reads two columns."""

    name = "reads"

    def columns(self):
        return ("answer", "unit")

    def __call__(self, rollouts):
        return [0.0] * len(rollouts)


def test_a_column_that_a_reward_lacks_is_named_with_those_there_are():
    assert lacking_column([Reads()], Prompt("p", {"answer": 1, "unit": "m"})) is None
    lacks = lacking_column([Reads()], Prompt("p", {"answer": 1}))
    assert "reads" in lacks and "'unit'" in lacks and "answer" in lacks
    assert "none beside the prompt" in lacking_column([Reads()], Prompt("p", {}))


@pytest.fixture
def spec(registry, tmp_path):
    def make(*rows, **settings):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return DataSpec(source=build(registry, "source", str(path)), **settings)

    return make


def test_prompts_are_read_with_their_columns_and_rows(spec, registry):
    trees = read_prompts(
        spec(*({"prompt": f"p {i}", "answer": i} for i in range(5))), registry, Encoder(byte_level()), limit=3
    )
    assert [(tree.row, tree.about["columns"]) for tree in trees] == [(i, {"answer": i}) for i in range(3)]


@pytest.mark.parametrize(
    ("row", "rewards", "message"),
    [
        ({"prompt": "", "answer": 1}, (), "prompt"),
        ({"prompt": "long " * 50, "answer": 1}, (), "20"),
        ({"prompt": "p", "answer": 1}, (Reads(),), "unit"),
    ],
)
def test_rows_that_cannot_be_answered_stop_with_their_number(spec, registry, row, rewards, message):
    rows = [{"prompt": "fine", "answer": 1, **({"unit": "m"} if rewards else {})}, row]
    with pytest.raises(DataError, match=message) as raised:
        read_prompts(spec(*rows), registry, Encoder(byte_level()), rewards, max_length=20)
    assert "2" in str(raised.value)


def test_no_rows_at_all(spec, registry):
    with pytest.raises(DataError, match=r"no prompts|no rows|empty"):
        read_prompts(spec(), registry, Encoder(byte_level()))
