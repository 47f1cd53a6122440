"""Two languages, tokenizers of every kind that know the first one, and tiny models with them."""

import json
import random

import pytest

WORDS = (
    *("the", "a", "model", "reads", "text", "and", "learns", "which", "token", "comes", "next", "so", "it", "writes"),
    *("code", "or", "prose", "about", "12", "things", "in", "2024"),
)
SYLLABLES = ("კა", "ლო", "მე", "რა", "ტი", "ნო", "სე", "პო", "ლუ", "თე", "აზ", "ვნ", "ხზ", "ქრღ")
KINDS = ("plain", "gpt2", "qwen2", "llama3", "llama", "gemma")
BYTES = KINDS[:4]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def english_texts(number=120):
    chance = random.Random(1)
    return [" ".join(chance.choices(WORDS, k=12)).capitalize() + f". It ends, {i}!" for i in range(number)]


def georgian_texts(number=120):
    chance = random.Random(2)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(60)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return [" ".join(chance.choices(words, weights, k=10)) + f" {i}." for i in range(number)]


@pytest.fixture(scope="session")
def english():
    return english_texts()


@pytest.fixture(scope="session")
def georgian():
    return georgian_texts()


def merges_of(texts, words, size, special=()):
    """Vocabulary and merges of BPE on texts, trained by the library."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = words
    alphabet = pre_tokenizers.ByteLevel.alphabet() if isinstance(words, pre_tokenizers.ByteLevel) else []
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    model = json.loads(core.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def build(kind):
    """A tokenizer of transformers; every one has an id beyond its vocabulary for a turn mark."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import GemmaTokenizer, GPT2Tokenizer, LlamaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

    from tunesmith.data.encoding import train_tokenizer

    if kind == "plain":
        made = train_tokenizer(english_texts(), 330)
    elif kind in BYTES:
        vocab, merges = merges_of(english_texts(), pre_tokenizers.ByteLevel(), 330, ["<|endoftext|>"])
        if kind == "gpt2":
            made = GPT2Tokenizer(vocab=vocab, merges=merges, unk_token="<|endoftext|>")
        elif kind == "qwen2":
            made = Qwen2Tokenizer(vocab=vocab, merges=merges)
        else:
            core = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
            cut = pre_tokenizers.Split(Regex(SPLIT), "isolated")
            core.pre_tokenizer = pre_tokenizers.Sequence(
                [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
            )
            core.decoder = decoders.ByteLevel()
            core.add_special_tokens(["<|begin|>"])
            core.post_processor = processors.TemplateProcessing(
                single="<|begin|> $A", special_tokens=[("<|begin|>", core.token_to_id("<|begin|>"))]
            )
            made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|begin|>", eos_token="<|endoftext|>")
    else:
        marks = ["<unk>", "<s>", "</s>"] if kind == "llama" else ["<pad>", "<eos>", "<bos>", "<unk>"]
        own, merges = merges_of(english_texts(), pre_tokenizers.Metaspace(), 120)
        tokens = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(own, key=own.__getitem__)]
        vocab = {token: i for i, token in enumerate(tokens)}
        made = (LlamaTokenizer if kind == "llama" else GemmaTokenizer)(vocab=vocab, merges=merges)
    made.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    return made


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """``bases(kind)``: the tokenizer as it loads from a folder."""
    from transformers import AutoTokenizer

    made = {}

    def base(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            build(kind).save_pretrained(folder)
            made[kind] = AutoTokenizer.from_pretrained(folder)
        return made[kind]

    return base


@pytest.fixture(scope="session")
def expanded(bases, georgian, tmp_path_factory):
    """``expanded(kind)``: old tokenizer, new tokenizer, pieces and learner of 60 pieces for the second language."""
    from tunesmith.vocab.kinds import Rule, cut_words, kind_of
    from tunesmith.vocab.merges import Learner
    from tunesmith.vocab.tokenizer import save_expanded

    made = {}

    def expand(kind):
        if kind not in made:
            base = bases(kind)
            written = kind_of(base)
            cut = cut_words(georgian, base.backend_tokenizer, written)
            learner = Learner(cut.words, taken=base.get_vocab(), missing=cut.missing, allowed=Rule(written, 16))
            pieces = learner.learn(60)
            new = save_expanded(base, pieces, tmp_path_factory.mktemp(f"new-{kind}"))
            made[kind] = base, new, pieces, learner
        return made[kind]

    return expand


@pytest.fixture(scope="session")
def model_folder(bases, tmp_path_factory):
    """``model_folder(kind, **config)``: a two-layer Llama of random weights with 7 rows more than tokens."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    def make(kind="plain", *, dtype=torch.float32, **config):
        folder = tmp_path_factory.mktemp("model")
        tokenizer = bases(kind)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        settings = {
            "vocab_size": len(tokenizer) + 7,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "initializer_range": 0.2,
        }
        model = LlamaForCausalLM(LlamaConfig(**{**settings, **config})).to(dtype)
        ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|turn|>")]
        model.generation_config = GenerationConfig(eos_token_id=ends, do_sample=True, top_p=0.8)
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def rows_file(tmp_path):
    """``rows_file(name, texts)``: a JSONL file of documents."""

    def write(name, texts):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        return path

    return write
