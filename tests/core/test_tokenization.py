"""Loading and training tokenizers, and the chat templates that come with the package."""

import re
import subprocess
import sys

import pytest

from tunesmith import ConfigError, DataError, ResourceError
from tunesmith.data.encoding import Encoder, load_tokenizer, train_tokenizer
from tunesmith.data.tokenization import chat_template, shipped_templates, tokenizer_fingerprint
from tunesmith.settings import RunSettings

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.\n\nIt runs into the forest and back again.",
    "user asks: what is two plus two? assistant says: it is four, of course.",
]


def chat(*turns):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def chat_tokenizer(*, bos=False):
    """Byte-level BPE with the tokens of ChatML; with ``bos`` it puts a BOS in front by itself."""
    tokenizer = train_tokenizer(SENTENCES, 400)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    if bos:
        from tokenizers.processors import TemplateProcessing

        tokenizer.add_special_tokens({"bos_token": "<s>"})
        special = [("<s>", tokenizer.bos_token_id)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=special)
    return tokenizer


def plain(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def trained(encoder, messages):
    [branch] = encoder.conversation(messages).branches
    return branch.ids[branch.mask].tolist()


# ---------------------------------------------------------------------------------------------- shipped templates
def settings(**values):
    return RunSettings.model_construct(**{**{k: f.default for k, f in RunSettings.model_fields.items()}, **values})


@pytest.mark.parametrize("bos", [False, True], ids=["no bos", "bos"])
@pytest.mark.parametrize(("name", "end"), [("tulu", "<|endoftext|>"), ("chatml", "<|im_end|>")])
def test_shipped_templates_train_the_answers_and_what_ends_them(name, end, bos):
    tokenizer = chat_tokenizer(bos=bos)
    tokenizer.chat_template = chat_template(name, tokenizer)
    encoder = Encoder(tokenizer)
    stop = tokenizer.convert_tokens_to_ids(end)
    messages = [{"role": "system", "content": "Be brief."}, *chat("one", "two", "three", "four")]
    assert trained(encoder, messages) == [*plain(tokenizer, "two"), stop, *plain(tokenizer, "four"), stop]
    used = tokenizer.apply_chat_template(chat("one"), add_generation_prompt=True)["input_ids"]
    assert encoder.conversation(chat("one", "two")).trunk.tolist() == used
    assert stop in encoder.stop_ids


def test_every_shipped_template_is_in_the_package():
    assert set(shipped_templates()) == {"tulu", "chatml"}


def test_chatml_needs_its_tokens():
    tokenizer = train_tokenizer(SENTENCES, 300)
    with pytest.raises(ConfigError, match=re.escape("<|im_start|>, <|im_end|>")) as caught:
        chat_template("chatml", tokenizer)
    assert "--chat-template tulu" in str(caught.value)


def test_a_template_file_wins_over_a_name_and_an_unknown_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tulu").write_text("mine")
    assert chat_template("tulu", chat_tokenizer()) == "mine"
    with pytest.raises(ConfigError, match="did you mean 'chatml'"):
        chat_template("chat-ml", chat_tokenizer())


# ---------------------------------------------------------------------------------------------- loading
def test_a_path_wins_over_a_hub_name_and_a_config_file_stands_for_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = "own"
    tokenizer.save_pretrained(tmp_path / "gpt2")
    (tmp_path / "gpt2" / "config.json").write_text('{"model_type": "llama"}')
    for name in ("gpt2", "gpt2/config.json"):
        tokenizer = load_tokenizer(settings(model=name, chat_template="tulu"))
        assert plain(tokenizer, SENTENCES[0]) == plain(chat_tokenizer(), SENTENCES[0])
        assert tokenizer.chat_template == shipped_templates()["tulu"]
    other = load_tokenizer(settings(model="nowhere", tokenizer=str(tmp_path / "gpt2")))
    assert other.chat_template == "own"


def test_a_tokenizer_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    with pytest.raises(ConfigError, match="tiny holds no tokenizer"):
        load_tokenizer(settings(model="tiny"))
    with pytest.raises(ConfigError, match=r"there is no folder '\./tinny'; did you mean 'tiny'"):
        load_tokenizer(settings(model="./tinny"))


def test_a_tokenizer_without_offsets_can_read_documents_only():
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.chat_template = shipped_templates()["chatml"]
    encoder = Encoder(tokenizer)
    assert encoder.document("ab").branches[0].ids.tolist() == [100, 101, tokenizer.eos_token_id]
    assert tokenizer_fingerprint(tokenizer) is None
    with pytest.raises(ConfigError, match="turns cannot be told apart"):
        encoder.conversation(chat("one", "two"))


def test_a_tokenizer_without_eos_is_refused():
    tokenizer = chat_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no end-of-text token"):
        Encoder(tokenizer)


# ---------------------------------------------------------------------------------------------- training one
def test_a_trained_tokenizer_keeps_every_character_and_knows_its_special_tokens():
    tokenizer = train_tokenizer(SENTENCES, 320)
    assert len(tokenizer) == 320 and (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|pad|>")
    for text in ["  new\r\n\ttext ", "日本 \U0001f469\u200d\U0001f4bb é", SENTENCES[1]]:
        assert tokenizer.decode(plain(tokenizer, text)) == text
    assert len(plain(tokenizer, SENTENCES[0])) < len(SENTENCES[0].encode())


def test_training_a_tokenizer_gives_the_same_one_in_every_process():
    code = (
        "from tunesmith.data.encoding import train_tokenizer as t; from tunesmith.data.tokenization import"
        f" tokenizer_fingerprint as f; print(f(t({SENTENCES!r}, 340)))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == tokenizer_fingerprint(train_tokenizer(iter(SENTENCES), 340))
    assert other != tokenizer_fingerprint(train_tokenizer(iter(SENTENCES), 341))


def test_tokenizers_that_cannot_be_trained():
    with pytest.raises(ConfigError, match="vocab_size 257 is too small"):
        train_tokenizer(SENTENCES, 257)
    with pytest.raises(DataError, match="no texts"):
        train_tokenizer([], 300)


def test_a_hub_that_does_not_answer_is_no_wrong_name(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", unreachable)
    with pytest.raises(ResourceError, match="the hub does not answer"):
        load_tokenizer(settings(model="owner/name"))
