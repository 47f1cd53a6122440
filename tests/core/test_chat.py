"""Talking to models: what is sampled, what is printed, how it is stopped."""

import io
import json
import shutil

import pytest
import torch

from tunesmith.chat import speaker as speakers
from tunesmith.chat.columns import Columns, safe, wide, wrapped
from tunesmith.chat.conversation import Conversation
from tunesmith.chat.speaker import Spoken, draw, load_speakers
from tunesmith.cli import chat as command
from tunesmith.components import Sampling
from tunesmith.errors import ConfigError, DataError

GREEDY = Sampling(max_new_tokens=12, temperature=0.0)


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    """A folder of an adapter whose weights change what the model says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plain(tiny_model, tmp_path_factory):
    """The same model without a chat template."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture
def ask(cli):
    """``ask(model, ...)``: one answer, on the CPU."""
    return lambda *words: cli("chat", *map(str, words), "--device", "cpu", "--max-new-tokens", "12")


# ---------------------------------------------------------------------------------------------- what is sampled
def test_greedy_tokens_are_those_of_transformers(tiny_model):
    [one] = load_speakers(str(tiny_model), None, {"device": "cpu"})
    ids = one.prompt([{"role": "user", "content": "The quick"}])
    found = list(one.tokens(ids, GREEDY, 0))
    theirs = one.module.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0)[0, len(ids) :]
    assert found == theirs.tolist()


def test_an_adapter_and_its_base_share_a_module_and_answer_as_each_alone(tiny_model, adapter):
    before, after = load_speakers(str(adapter), "base", {"device": "cpu"})
    assert before.module is after.module
    [base], [own] = (load_speakers(str(path), None, {"device": "cpu"}) for path in (tiny_model, adapter))
    ids = own.prompt([{"role": "user", "content": "The quick"}])
    pairs = list(zip(before.tokens(ids, GREEDY, 0), after.tokens(ids, GREEDY, 0), strict=False))  # taking turns
    assert [a for a, _ in pairs] == list(base.tokens(ids, GREEDY, 0))[: len(pairs)]
    assert [b for _, b in pairs] == list(own.tokens(ids, GREEDY, 0))[: len(pairs)]
    assert len(pairs) > 3 and any(a != b for a, b in pairs)


def test_draws_follow_the_probabilities_and_the_nucleus():
    logits, chance = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])), torch.Generator().manual_seed(0)
    drawn = torch.tensor([draw(logits, Sampling(temperature=1.0), chance) for _ in range(4000)])
    assert torch.allclose(drawn.bincount(minlength=4) / 4000, logits.exp(), atol=0.03)
    some = {draw(logits, Sampling(temperature=1.0, top_p=0.75), chance) for _ in range(300)}
    assert some == {0, 1}
    assert draw(logits, Sampling(temperature=0.0), chance) == 0


def test_same_seed_same_answer_and_another_seed_another(ask, tiny_model):
    words = (tiny_model, "--prompt", "The quick", "--json", "--temperature", "1")
    one, two, other = (json.loads(ask(*words, "--seed", seed).out)["answers"][0]["text"] for seed in ("3", "3", "4"))
    assert one == two != other


def test_characters_of_several_tokens_come_whole(tiny_model):
    [one] = load_speakers(str(tiny_model), None, {"device": "cpu"})
    text = "a \u20ac sign, \U0001f600 and \u4e2d\u6587"
    tokenizer, spoken = one.encoder.tokenizer, Spoken(one.encoder.tokenizer)
    pieces = [spoken.add(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert "".join(pieces) + spoken.rest() == text and not any("\ufffd" in piece for piece in pieces)
    assert spoken.add(tokenizer("\u20ac", add_special_tokens=False)["input_ids"][0]) == ""
    assert spoken.rest() == "\ufffd"


# ---------------------------------------------------------------------------------------------- conversations
def test_answers_become_turns_and_reset_forgets_them(tiny_model):
    talk = Conversation(*load_speakers(str(tiny_model), None, {"device": "cpu"}), GREEDY, 0, system="Be brief.")
    said = "".join(talk.ask("One"))
    assert [turn["role"] for turn in talk.turns] == ["system", "user", "assistant"]
    assert talk.turns[-1]["content"] == said == talk.answer.text and talk.answer.stop == "length"
    talk.reset()
    assert talk.turns == [{"role": "system", "content": "Be brief."}] and "".join(talk.ask("One")) == said


def test_an_answer_that_is_stopped_counts_as_far_as_it_got(tiny_model):
    talk = Conversation(*load_speakers(str(tiny_model), None, {"device": "cpu"}), GREEDY, 0)
    stream = talk.ask("One")
    first = next(stream)
    stream.close()
    assert talk.answer.stop == "interrupted" and talk.turns[-1]["content"].startswith(first)


def test_a_conversation_longer_than_the_model_is_refused_and_not_kept(tiny_model):
    talk = Conversation(*load_speakers(str(tiny_model), None, {"device": "cpu"}), GREEDY, 0)
    with pytest.raises(DataError, match="256 positions"):
        talk.ask("x" * 400)
    assert talk.turns == []
    sampling = Sampling(max_new_tokens=10_000, temperature=0.0)
    [one] = load_speakers(str(tiny_model), None, {"device": "cpu"})
    assert len(list(one.tokens([5] * 250, sampling, 0))) <= 6


# ---------------------------------------------------------------------------------------------- the terminal
def test_text_of_a_model_cannot_move_the_cursor():
    assert safe("a\tb\n\x1b[2Jc\r\u202ed") == "a    b\n\\x1b[2Jc\\r\\u202ed"


def test_wrapping_keeps_words_and_earlier_lines(monkeypatch):
    text = "The quick brown fox jumps, \u4e2d\u6587\u4e2d\u6587\u4e2d\u6587 and_a_word_that_is_too_long_for_it\nnext"
    lines = wrapped(text, 12)
    assert all(wide(line) <= 12 for line in lines) and lines[-1] == "next" and lines[0] == "The quick"
    assert "".join("".join(lines).split()) == "".join(text.split())
    for end in range(len(text)):
        assert wrapped(text[:end], 12)[:-1] == lines[: len(wrapped(text[:end], 12)) - 1]


def test_two_texts_grow_side_by_side_and_no_line_is_lost():
    written = []
    columns = Columns(["left", "right"], 40, written.append)
    for piece in ("one two three ", "four five six ", "seven\neight"):
        columns.add(0, piece)
        columns.add(1, "R" + piece[:2])
    columns.end(1)
    columns.end(0)
    kept = "".join(written).split("\n")[:-1]
    rows = [row.rpartition("\r")[2].removesuffix("\x1b[K") for row in kept]
    assert rows[0].split(" | ") == ["left" + " " * (columns.size - 4), "right"]
    left, right = ([row.split("|")[side].strip() for row in rows[2:]] for side in (0, 1))
    assert " ".join(filter(None, left)) == "one two three four five six seven eight"
    assert "".join(right) == "RonRfoRse"


def test_one_answer_without_a_terminal(ask, tiny_model, monkeypatch):
    result = ask(tiny_model, "--prompt", "The quick", "--temperature", "0")
    assert result.code == 0 and result.out.endswith("\n") and "cut off; --max-new-tokens" in result.err
    monkeypatch.setattr("sys.stdin", io.StringIO("The quick\n"))
    assert ask(tiny_model, "--temperature", "0").out == result.out
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert ask(tiny_model).code == 2


def test_two_models_in_a_pipe_are_below_each_other(ask, tiny_model, adapter):
    result = ask(adapter, "--before", "base", "--prompt", "The quick", "--temperature", "0")
    heads = [line for line in result.out.splitlines() if line.startswith("== ")]
    assert heads == [f"== {tiny_model} (adapter off)", f"== {adapter}"]


def test_a_model_without_a_template_goes_on_from_the_text_and_says_so(ask, plain):
    result = ask(plain, "--prompt", "The quick", "--json", "--temperature", "0")
    [one] = load_speakers(str(plain), None, {"device": "cpu"})
    ids = one.encoder.tokenizer("The quick")["input_ids"]
    spoken = one.encoder.tokenizer.decode(list(one.tokens(ids, GREEDY, 0)), skip_special_tokens=True)
    answer = json.loads(result.out)["answers"][0]
    assert answer["text"] == spoken and not answer["chat_template"] and "every prompt stands alone" in result.err
    refused = ask(plain, "--prompt", "x", "--system", "s")
    assert refused.code == 2 and "--chat-template tulu" in refused.err


def test_commands_typed_and_ctrl_c(cli, tiny_model, monkeypatch):
    """The first answer is stopped by hand after two tokens; then the chat goes on."""
    typed = iter(["The quick", "/rest", "/reset", "x" * 400, "The", KeyboardInterrupt, KeyboardInterrupt])
    whole, asked = speakers.Speaker.tokens, []

    def tokens(self, ids, sampling, seed):
        asked.append(len(ids))
        for number, token in enumerate(whole(self, ids, sampling, seed)):
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            yield token

    def line(_):
        word = next(typed)
        if isinstance(word, str):
            return word
        raise word

    monkeypatch.setattr(speakers.Speaker, "tokens", tokens)
    monkeypatch.setattr("builtins.input", line)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(command, "_prompt", lambda given: None)
    result = cli("chat", str(tiny_model), "--device", "cpu", "--max-new-tokens", "4")
    assert result.code == 0 and len(asked) == 2 and asked[1] < asked[0]
    assert "2 tokens, stopped" in result.err and "did you mean '/reset'" in result.out and "forgotten" in result.out
    assert "256 positions" in result.err and "again, or /exit" in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{model}", "{model}", "--before", "base"), "--before as well"),
        (("{model}", "--before", "base", "--prompt", "x"), "is not known"),
        (("./nowhere", "--prompt", "x"), "there is no model"),
    ],
)
def test_mistakes_are_explained(ask, tiny_model, words, said):
    result = ask(*(word.format(model=tiny_model) for word in words))
    assert result.code in (2, 4) and said in result.err


def test_a_model_that_scores_cannot_be_talked_to(tiny_model, tmp_path):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    LlamaForSequenceClassification(LlamaConfig.from_pretrained(tiny_model, num_labels=1)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="gives scores"):
        load_speakers(str(tmp_path), None, {"device": "cpu"})
