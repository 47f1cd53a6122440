"""``tunesmith vocab`` as its users meet it, and what can be done with its result."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.data.tokenization import bos_prefix
from tunesmith.vocab.expand import REPORT


def expand(cli, model, data, output, *words, pieces=40):
    return cli("vocab", "expand", model, "--data", data, "--pieces", pieces, "--output", output, *words)


@pytest.fixture
def files(rows_file, georgian, english):
    """The two languages as files."""
    return rows_file("georgian", georgian), rows_file("english", english)


# ------------------------------------------------------------------------------------------------ measure
def test_measure_counts_by_hand(cli, bases, rows_file, tmp_path):
    """Every Georgian letter is three bytes, and the tokenizer knows none of them."""
    bases("gemma").save_pretrained(tmp_path / "model")
    path = rows_file("few", ["კა კა", "ლო"])
    [found] = json.loads(cli("vocab", "measure", tmp_path / "model", "--data", path, "--json").out)["measured"]
    spaces = 1
    assert {key: found[key] for key in ("documents", "words", "characters", "bytes", "tokens", "fragments")} == {
        "documents": 2, "words": 3, "characters": 7, "bytes": 19, "tokens": 18 + spaces, "fragments": 18,
    }  # fmt: skip
    assert found["tokens_per_word"] == pytest.approx(19 / 3) and found["bytes_per_token"] == pytest.approx(1.0)
    assert found["fragment_share"] == pytest.approx(18 / 19) and found["unknown_share"] == 0.0


def test_measure_compares_models_and_sources(cli, bases, files, tmp_path):
    for kind in ("plain", "llama"):
        bases(kind).save_pretrained(tmp_path / kind)
    words = [word for path in files for word in ("--data", path)]
    out = cli("vocab", "measure", tmp_path / "plain", tmp_path / "llama", *words).out.splitlines()
    assert len(out) == 5 and "tokens per word" in out[0]
    assert [line.split()[1] for line in out[1:]] == ["georgian", "english"] * 2


def test_measure_counts_unknown_tokens_of_a_kind_that_cannot_be_expanded(cli, rows_file, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]").save_pretrained(tmp_path / "model")
    path = rows_file("few", ["ab z"])
    [found] = json.loads(cli("vocab", "measure", tmp_path / "model", "--data", path, "--json").out)["measured"]
    assert (found["tokens"], found["unknown"], found["unknown_share"]) == (3, 1, pytest.approx(1 / 3))


# ------------------------------------------------------------------------------------------------ expand
@pytest.mark.parametrize(("kind", "tied"), [("plain", False), ("llama3", True), ("gemma", True), ("llama", False)])
def test_expand_reports_what_is_true_of_the_result(cli, model_folder, files, tmp_path, kind, tied):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, output = model_folder(kind, tie_word_embeddings=tied), tmp_path / "out"
    result = expand(cli, folder, files[0], output, "--general", files[1], "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report == {**json.loads((output / REPORT).read_text()), "output": str(output)}
    base, new = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(output)
    first = len(base)
    assert len(new) == first + len(report["pieces"]) == first + 40
    for piece in report["pieces"]:
        assert piece["piece"] not in base.get_vocab() and piece["piece"] in new.get_vocab()
    target, general = report["target"], report["general"]
    assert target["after"]["tokens_per_word"] < 0.5 * target["before"]["tokens_per_word"]
    assert general["changed_documents"] == 0.0 and general["after"]["tokens"] == general["before"]["tokens"]
    assert target["held_out"] == pytest.approx(0.1 * 120, abs=8)
    growth = general["log_z_growth"]
    assert 0 < growth["mean"] <= growth["largest"] <= growth["bound"] == report["rows"]["bound"]
    lost = general["after"]["bits_per_byte"] - general["before"]["bits_per_byte"]
    scored = math.log(2) * lost * general["before"]["bytes"] / growth["mean"]
    begun = general["held_out"] if bos_prefix(base) else 0  # the first token is predicted where another precedes it
    wanted = general["before"]["tokens"] + begun
    assert scored == pytest.approx(wanted, rel=0.03), "old text loses log Z and nothing else"
    model = AutoModelForCausalLM.from_pretrained(output)
    assert model.get_input_embeddings().weight.shape[0] % 64 == 0
    assert (
        (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied is report["rows"]["tied"]
    )
    out = model.generate(**new("ლო კა", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert out.shape[1] >= 4


def test_bits_per_byte_are_those_of_the_model(cli, model_folder, rows_file, georgian, tmp_path):
    """Computed again with transformers alone, document by document; the first token and its bytes are left out."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, output = model_folder("plain"), tmp_path / "out"
    report = json.loads(expand(cli, folder, rows_file("g", georgian), output, "--holdout", "0.5", "--json").out)
    from tunesmith.vocab.texts import held_out

    _, measured = held_out(georgian, 0.5, "")
    for place, side in ((folder, "before"), (output, "after")):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
        bits = size = 0.0
        for text in measured:
            ids = torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]])
            with torch.no_grad():
                logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
            bits -= logps.double().sum().item() / math.log(2)
            size += len(text.encode()) - len(tokenizer.convert_ids_to_tokens(ids[0, 0].item()))
        assert report["target"][side]["bits_per_byte"] == pytest.approx(bits / size, rel=1e-5)


def test_everything_beside_the_pieces_is_as_it_was(cli, model_folder, files, tmp_path):
    folder, output = model_folder("plain", dtype=torch.bfloat16), tmp_path / "out"
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    assert expand(cli, folder, files[0], output).code == 0
    read = [json.loads((place / "generation_config.json").read_text()) for place in (folder, output)]
    assert read[0] == read[1] and read[0]["top_p"] == 0.8
    assert (output / "chat_template.jinja").read_text() == (folder / "chat_template.jinja").read_text()
    configs = [json.loads((place / "config.json").read_text()) for place in (folder, output)]
    assert configs[1].pop("vocab_expansion") == {"first": 331, "count": 40, "trained": False}
    assert {key for key in configs[1] if configs[1][key] != configs[0].get(key)} == {"vocab_size"}
    before, after = (load_file(place / "model.safetensors") for place in (folder, output))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        kept = after[name][:331] if tensor.shape[0] == 338 else after[name]
        assert kept.dtype == torch.bfloat16 and torch.equal(kept, tensor[:331] if tensor.shape[0] == 338 else tensor)


def test_what_is_printed(cli, model_folder, files, tmp_path):
    out = expand(cli, model_folder("plain"), files[0], tmp_path / "out", "--general", files[1]).out
    assert "40 new, ids 331 to 370" in out and "338 before, 384 now, head untied" in out
    assert "no old id moved" in out and "0.0% of the general texts are cut in another way now" in out
    assert "bits per byte" in out and "tokens below a character" in out
    assert f"tunesmith run cpt --model {tmp_path / 'out'}" in out
    alone = expand(cli, model_folder("plain"), files[0], tmp_path / "alone").out
    assert "not measured: give some with --general" in alone and "general:" not in alone


def test_keeping_general_text_costs_pieces_and_changes_nothing(cli, model_folder, english, rows_file, tmp_path):
    target = rows_file("jargon", [f"Contextual writers retokenise prosethings {text}" for text in english])
    general = rows_file("english", english)
    shares = []
    for words in ((), ("--keep-general",)):
        output = tmp_path / f"out{len(words)}"
        result = expand(cli, model_folder("plain"), target, output, "--general", general, "--json", *words)
        shares.append(json.loads(result.out)["general"]["changed_documents"])
    assert shares[0] > 0.5 and shares[1] == 0.0


@pytest.mark.parametrize("initialiser", ["global-mean", "frequency-weighted", "random"])
def test_the_other_ways_to_start(cli, model_folder, files, tmp_path, initialiser):
    words = ("--general", files[1], "--init", initialiser, "--pad-to", "1", "--json")
    report = json.loads(expand(cli, model_folder("plain"), files[0], tmp_path / "out", *words).out)
    assert report["start"]["initialiser"] == initialiser and report["rows"]["rows"] == 331 + 40
    growth = report["general"]["log_z_growth"]
    if initialiser == "random":
        assert growth["bound"] is None and report["rows"]["why_no_bound"]
    else:
        assert growth["largest"] <= growth["bound"]
    if initialiser == "global-mean":
        assert growth["bound"] == pytest.approx(math.log(1 + 40 / 331))


def test_the_result_is_the_base_of_a_run(cli, model_folder, files, tmp_path):
    output = tmp_path / "out"
    assert expand(cli, model_folder("plain"), files[0], output, "--general", files[1]).code == 0
    base = ("run", "cpt", "--model", output, "--data", files[0], "--replay", files[1], "--replay-share", "0.4")
    small = ("--max-steps", "4", "--batch-size", "8", "--max-length", "64", "--learning-rate", "0.01")
    refused = cli(*base, *small, "--adapter", "lora", "--output", tmp_path / "lora")
    assert refused.code == 2 and "expanded by 40 pieces whose rows are not trained yet" in refused.err
    done = cli(*base, *small, "--warm-embeddings", "2", "--new-rows-only", "--output", tmp_path / "run")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["eval/train/loss"] for line in lines if "eval/train/loss" in line]
    assert losses[-1] < losses[0]
    after = ("run", "sft", "--model", tmp_path / "run" / "model", "--data", tmp_path / "chats.jsonl")
    (tmp_path / "chats.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    trained = cli(*after, "--adapter", "lora", "--max-steps", "1", "--batch-size", "1", "--output", tmp_path / "sft")
    assert trained.code == 0, trained.err


# ------------------------------------------------------------------------------------------------ errors
def test_numbers_that_mean_nothing_are_refused(cli, model_folder, files, tmp_path):
    for words in (("--pieces", "0"), ("--pieces", "-3"), ("--holdout", "0"), ("--holdout", "1"), ("--init", "magic")):
        result = expand(cli, "nowhere", files[0], tmp_path / "out", *words)
        assert result.code == 2 and words[0] in result.err, words


def test_wrong_input_is_refused_and_nothing_is_written(cli, model_folder, files, rows_file, english, tmp_path):
    folder = model_folder("plain")
    used = tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    out, numbers = tmp_path / "out", rows_file("numbers", [f"{i}{i}{i} ! {i}" for i in range(9)])
    cases = [
        (expand(cli, folder, files[0], used), 2, "is used already"),
        (expand(cli, "./nowhere", files[0], out), 4, "there is no model './nowhere'"),
        (expand(cli, folder, tmp_path / "none.jsonl", out), 2, "none.jsonl"),
        (expand(cli, folder, files[0], out, "--keep-general"), 2, "add --general DATA"),
        (expand(cli, folder, rows_file("one", ["კა ლო"]), out), 3, "has one text only"),
        (expand(cli, folder, numbers, out), 3, "no new pieces were found"),
    ]  # fmt: skip
    for result, code, message in cases:
        assert result.code == code and message in result.err, (message, result.err)
    assert not out.exists() and [path.name for path in used.iterdir()] == ["notes.txt"]


def test_an_unknown_kind_of_tokenizer_is_refused_by_name(cli, model_folder, files, english, tmp_path):
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    folder = model_folder("plain")
    core = Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=80, show_progress=False, special_tokens=["<unk>"], unk_token="<unk>")
    core.train_from_iterator(english, trainer)
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="e").save_pretrained(folder)
    result = expand(cli, folder, files[0], tmp_path / "out")
    assert result.code == 2 and "is a Unigram tokenizer, which cannot be expanded" in result.err
    assert cli("vocab", "measure", folder, "--data", files[0]).code == 0


def test_a_failure_on_the_way_leaves_nothing_behind(cli, model_folder, files, tmp_path, monkeypatch):
    from tunesmith.errors import DataError
    from tunesmith.vocab import expand as module

    def refuse(*args):
        raise DataError("the expanded tokenizer does not give back 'x', and the base did")

    monkeypatch.setattr(module, "check_round_trip", refuse)
    result = expand(cli, model_folder("plain"), files[0], tmp_path / "out")
    assert result.code == 3 and "does not give back" in result.err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".writing*"))
