"""The loop: the same weights however the work is cut, stopped or resumed; nothing broken is saved."""

import json
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tunesmith.errors import ConfigError, DataError, DivergedError, ResourceError, StoppedError
from tunesmith.runner import checkpoint, launch
from tunesmith.runner.step import Stepper
from tunesmith.scoring.scorer import Scorer


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def identical(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def stop_at(monkeypatch):
    """``stop_at(step, signal)``: send this process a signal in the middle of a step (0-based)."""

    def arrange(step, number=signal.SIGTERM, part=0):
        calls = {"parts": 0, "sent": False}
        backward = Scorer.backward

        def spy(self, *args, **kwargs):
            if calls["parts"] == step + part and not calls["sent"]:
                calls["sent"] = True
                os.kill(os.getpid(), number)
            calls["parts"] += 1
            return backward(self, *args, **kwargs)

        monkeypatch.setattr(Scorer, "backward", spy)

    return arrange


# ------------------------------------------------------------------------------------------------ the same mathematics
SFT = {"max_steps": 4, "batch_size": 6}


def test_micro_tokens_and_checkpointing_change_rounding_only(train, chats, weights):
    whole = weights(train("sft", "whole", data=str(chats), micro_tokens=10_000, **SFT) / "model")
    parts = weights(train("sft", "parts", data=str(chats), micro_tokens=60, **SFT) / "model")
    saving = train("sft", "saving", data=str(chats), activation_checkpointing=True, **SFT)
    assert largest_difference(whole, parts) < 2e-6
    assert largest_difference(whole, weights(saving / "model")) < 2e-6


def test_the_same_run_twice_is_identical(train, chats, weights):
    runs = [weights(train("sft", name, data=str(chats), **SFT) / "model") for name in ("one", "two")]
    assert identical(*runs)


def test_out_of_memory_halves_the_parts_and_keeps_the_result(train, chats, weights, monkeypatch, caplog):
    plain = weights(train("sft", "plain", data=str(chats), **SFT) / "model")
    backward = Scorer.backward
    refused = []

    def limited(self, part, *args, **kwargs):
        if part.num_tokens > 250:
            refused.append(part.num_tokens)
            raise torch.OutOfMemoryError("out of memory")
        return backward(self, part, *args, **kwargs)

    monkeypatch.setattr(Scorer, "backward", limited)
    short = weights(train("sft", "short", data=str(chats), **SFT) / "model")
    assert refused
    assert largest_difference(plain, short) < 2e-6
    assert "out of memory; micro_tokens is now" in caplog.text


def test_out_of_memory_in_the_middle_of_a_step_leaves_no_gradient_behind(train, chats, weights, monkeypatch):
    plain = weights(train("sft", "plain", data=str(chats), micro_tokens=120, **SFT) / "model")
    backward, calls = Scorer.backward, []

    def fails_once(self, part, *args, **kwargs):
        result = backward(self, part, *args, **kwargs)
        calls.append(part)
        if len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
        return result

    monkeypatch.setattr(Scorer, "backward", fails_once)
    again = weights(train("sft", "again", data=str(chats), micro_tokens=120, **SFT) / "model")
    assert len(calls) > 3
    assert largest_difference(plain, again) < 2e-6


def test_out_of_memory_with_one_example_is_an_error_with_its_length(train, chats, monkeypatch):
    def never(self, part, *args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Scorer, "backward", never)
    with pytest.raises(ResourceError, match=r"one example of \d+ tokens") as error:
        train("sft", "run", data=str(chats), **SFT)
    assert error.value.exit_code == 4


# ------------------------------------------------------------------------------------------------ stop and resume
def mixed(chats_or_texts, **more):
    return {"max_steps": 7, "batch_size": 5, "max_length": 48, "micro_tokens": 100, "schedule": "cosine", **more}


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_killed_run_resumes_to_the_bit(train, texts, weights, metrics, stop_at, step):
    """CPT over two mixed sources with packed pieces of documents, past the end of an epoch."""
    data = [{"path": str(texts), "limit": 7, "label": "seven"}, {"path": str(texts), "label": "all"}]
    settings = mixed(texts, data=data, replay=str(texts), replay_share=0.3, eval_every=2, holdout=0.1, save_every=2)
    straight = train("cpt", "straight", **settings)
    stop_at(2 * step, part=1)
    with pytest.raises(StoppedError) as stopped:
        train("cpt", "stopped", **settings)
    assert stopped.value.exit_code == 75
    resumed = train("cpt", "stopped", resume=True, **settings)
    assert identical(weights(straight / "model"), weights(resumed / "model"))

    def numbers(run):
        timing = ("tokens_per_s", "step_s")
        return [{k: v for k, v in line.items() if k not in timing} for line in metrics(run)]

    assert numbers(straight) == numbers(resumed)


def test_a_stream_resumes_to_the_bit(train, texts, weights, stop_at):
    data = [{"path": str(texts), "streaming": True, "limit": 9}]
    settings = mixed(texts, data=data)
    straight = train("pt", "straight", **settings)
    stop_at(4)
    with pytest.raises(StoppedError):
        train("pt", "stopped", **settings)
    resumed = train("pt", "stopped", resume=True, **settings)
    assert identical(weights(straight / "model"), weights(resumed / "model"))


def test_the_rows_of_a_stream_are_counted_at_the_end(train, texts):
    run = train("pt", "run", data=[{"path": str(texts), "streaming": True}], max_steps=3, batch_size=4)
    (source,) = json.loads((run / "data_report.json").read_text())["sources"]
    assert source["rows"] >= 12
    assert source["used"] >= 12


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_an_adapter_resumes_to_the_bit(train, chats, weights, stop_at, adapter):
    settings = {"data": str(chats), "adapter": adapter, "lora_dropout": 0.1, "micro_tokens": 10_000, **SFT}
    straight = train("sft", "straight", **settings)
    stop_at(2)
    with pytest.raises(StoppedError):
        train("sft", "stopped", **settings)
    resumed = train("sft", "stopped", resume=True, **settings)
    assert identical(weights(straight / "model"), weights(resumed / "model"))


def test_ctrl_c_saves_and_exits_130(train, chats, stop_at):
    stop_at(1, signal.SIGINT)
    with pytest.raises(StoppedError, match="stopped on request") as stopped:
        train("sft", "run", data=str(chats), micro_tokens=10_000, **SFT)
    assert stopped.value.exit_code == 130


def test_a_damaged_newest_checkpoint_is_passed_over(train, chats, weights, stop_at, caplog):
    settings = {"data": str(chats), "save_every": 1, "keep_checkpoints": 3, "micro_tokens": 10_000, **SFT}
    straight = train("sft", "straight", **settings)
    stop_at(3)
    with pytest.raises(StoppedError):
        train("sft", "stopped", **settings)
    folder = straight.parent / "stopped" / "checkpoints"
    newest = checkpoint.checkpoints(folder)[0]
    (newest / "model.safetensors").write_bytes((newest / "model.safetensors").read_bytes()[:100])
    resumed = train("sft", "stopped", resume=True, **settings)
    assert f"{newest.name} is damaged: model.safetensors has 100 of" in caplog.text
    assert identical(weights(straight / "model"), weights(resumed / "model"))


def test_a_full_disk_does_not_end_the_run(train, chats, monkeypatch, caplog):
    def full(path):
        raise OSError(28, "No space left on device")

    flush = checkpoint._flush
    monkeypatch.setattr(checkpoint, "_flush", lambda path: full(path) if "step-" in str(path) else flush(path))
    run = train("sft", "run", data=str(chats), save_every=2, **SFT)
    assert "could not save step-000002" in caplog.text
    assert (run / "model" / "model.safetensors").exists()
    assert not list((run / "checkpoints").iterdir())


def test_resume_refuses_other_settings_and_shows_them(train, chats, stop_at):
    stop_at(1)
    with pytest.raises(StoppedError):
        train("sft", "run", data=str(chats), micro_tokens=10_000, **SFT)
    with pytest.raises(ConfigError, match="settings are not those") as error:
        train("sft", "run", resume=True, data=str(chats), micro_tokens=10_000, max_steps=4, batch_size=3)
    assert "batch_size: 6 -> 3" in str(error.value)


def test_resume_refuses_other_rows(train, texts, tmp_path, stop_at):
    path = tmp_path / "mine.jsonl"
    path.write_text(texts.read_text())
    stop_at(1)
    with pytest.raises(StoppedError):
        train("pt", "run", data=str(path), micro_tokens=10_000, max_steps=4, batch_size=4)
    path.write_text(texts.read_text().replace("Document 3", "Document 9"))
    with pytest.raises(DataError, match="not those that the run was started on"):
        train("pt", "run", resume=True, data=str(path), micro_tokens=10_000, max_steps=4, batch_size=4)


def test_resume_works_from_the_folder_alone(train, registry, chats, weights, stop_at):
    straight = train("sft", "straight", data=str(chats), micro_tokens=10_000, **SFT)
    stop_at(2)
    with pytest.raises(StoppedError):
        train("sft", "stopped", data=str(chats), micro_tokens=10_000, **SFT)
    folder = straight.parent / "stopped"
    model = launch.resume(folder, registry)
    assert identical(weights(straight / "model"), weights(model))
    with pytest.raises(ConfigError, match="is finished"):
        launch.resume(folder, registry)


def test_resume_works_from_another_folder(train, registry, chats, weights, stop_at, tmp_path, monkeypatch):
    """Relative paths of the run start from where it was started."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "chats.jsonl").write_text(chats.read_text())
    monkeypatch.chdir(tmp_path / "here")
    stop_at(2)
    with pytest.raises(StoppedError):
        train("sft", "run", data="chats.jsonl", micro_tokens=10_000, **SFT)
    monkeypatch.chdir(tmp_path)
    assert (launch.resume(Path("run"), registry) / "model.safetensors").is_file()


# ------------------------------------------------------------------------------------------------ the folder
def test_a_used_folder_is_refused_and_kept(train, chats):
    run = train("sft", "run", data=str(chats), **SFT)
    with pytest.raises(ConfigError, match="used already") as error:
        train("sft", "run", data=str(chats), **SFT)
    assert "--resume" in str(error.value)
    assert "--overwrite" in str(error.value)
    assert (run / "model").exists()
    train("sft", "run", data=str(chats), overwrite=True, **SFT)


def test_the_folder_of_a_run_that_took_no_step_can_be_used_again(train, chats, tiny_model):
    with pytest.raises(ResourceError, match="there is no model"):
        train("sft", "run", data=str(chats), **SFT | {"model": str(tiny_model) + "s"})
    run = train("sft", "run", data=str(chats), **SFT)
    assert (run / "model" / "model.safetensors").is_file()


def test_settings_of_an_adapter_that_is_not_there_are_said(train, chats, caplog):
    train("sft", "run", data=str(chats), lora_r=4, **SFT)
    assert "lora_r: no effect without an adapter" in caplog.text


def test_damaged_weights_are_the_folders_fault_not_ours(train, chats, tiny_model, tmp_path):
    damaged = shutil.copytree(tiny_model, tmp_path / "damaged")
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ResourceError, match="cannot load the model") as error:
        train("sft", "run", data=str(chats), **SFT | {"model": str(damaged)})
    assert "copy or download the folder again" in str(error.value)


def test_a_missing_tokenizer_may_be_one_to_train(train, texts, tiny_model, tmp_path):
    (tmp_path / "bare").mkdir()
    shutil.copy(tiny_model / "config.json", tmp_path / "bare")
    with pytest.raises(ConfigError, match="holds no tokenizer") as error:
        train("pt", "run", data=str(texts), model=str(tmp_path / "bare"), max_steps=1)
    assert "tunesmith run pt --help" in str(error.value)


def test_overwrite_deletes_runs_only(train, chats, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="holds other files"):
        train("sft", "precious", data=str(chats), overwrite=True, **SFT)
    assert (tmp_path / "precious" / "thesis.tex").exists()


def test_a_run_leaves_its_records(train, chats):
    run = train("sft", "run", data=str(chats), **SFT)
    assert json.loads((run / "model" / "config.json").read_text()).get("use_cache", True)  # it is for generating, too
    manifest = json.loads((run / "manifest.json").read_text())
    assert {"sft", "objectives", "formats"} <= {p["name"] for p in manifest["plugins"]}
    assert len(manifest["data"][0]["fingerprint"]) >= 32
    assert manifest["packages"]["torch"] == torch.__version__
    assert json.loads((run / "data_report.json").read_text())
    assert "objective:" in (run / "run.yaml").read_text()


# ------------------------------------------------------------------------------------------------ divergence
def test_a_non_finite_loss_stops_the_run_and_saves_nothing(train, chats, monkeypatch):
    gradient = Stepper.gradient

    def poisoned(self, *args):
        sums = gradient(self, *args)
        if poisoned.step == 2:
            sums.total.fill_(math.nan)
        poisoned.step += 1
        return sums

    poisoned.step = 0
    monkeypatch.setattr(Stepper, "gradient", poisoned)
    with pytest.raises(DivergedError, match="step 3: loss nan") as error:
        train("sft", "run", data=str(chats), save_every=1, **SFT)
    assert error.value.exit_code == 5
    assert "step-000002" in str(error.value)


def test_weights_that_are_not_finite_are_never_saved(train, chats, monkeypatch, tmp_path):
    """A weight turned NaN between two steps: exit 5, and the last good checkpoint is still whole."""
    step = torch.optim.AdamW.step

    def poisoned(self, *args, **kwargs):
        step(self, *args, **kwargs)
        poisoned.step += 1
        if poisoned.step == 2:
            with torch.no_grad():
                self.param_groups[0]["params"][0][0, 0] = math.nan

    poisoned.step = 0
    monkeypatch.setattr(torch.optim.AdamW, "step", poisoned)
    with pytest.raises(DivergedError, match="not finite; nothing was saved"):
        train("sft", "run", data=str(chats), save_every=1, **SFT)
    folder = tmp_path / "run" / "checkpoints"
    assert [p.name for p in checkpoint.checkpoints(folder)] == ["step-000001"]
    checkpoint.verify(folder / "step-000001")
    assert not (tmp_path / "run" / "model").exists()


# ------------------------------------------------------------------------------------------------ what comes out
def test_the_final_folder_loads_with_transformers(train, chats, tiny_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = train("sft", "run", data=str(chats), **SFT)
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert tokenizer.chat_template
    assert "tunesmith" not in (run / "model" / "config.json").read_text()
    ids = tokenizer("The quick", return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape == (1, ids.shape[1] + 3)


def test_an_adapter_folder_loads_with_peft(train, chats, tiny_model):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = train("sft", "run", data=str(chats), adapter="lora", lora_r=4, **SFT)
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.arange(3, 12)[None]
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, run / "model")
    assert (adapted(ids).logits - before).abs().max() > 1e-4


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_a_quantised_base_trains_an_adapter(train, chats, metrics, quantize):
    run = train("sft", "run", data=str(chats), adapter="lora", quantize=quantize, **SFT)
    losses = [line["loss"] for line in metrics(run)]
    assert all(math.isfinite(loss) for loss in losses)
    assert (run / "model" / "adapter_model.safetensors").exists()


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("optimizer", ["adamw-8bit", "paged-adamw-8bit"])
def test_eight_bit_optimizers_train_and_resume(train, chats, weights, stop_at, optimizer):
    settings = {"data": str(chats), "optimizer": optimizer, "micro_tokens": 10_000, **SFT}
    straight = train("sft", "straight", **settings)
    stop_at(2)
    with pytest.raises(StoppedError):
        train("sft", "stopped", **settings)
    resumed = train("sft", "stopped", resume=True, **settings)
    assert identical(weights(straight / "model"), weights(resumed / "model"))


def test_bf16_stays_near_fp32(train, chats, metrics):
    exact, rough = (train("sft", d, data=str(chats), dtype=d, **SFT) for d in ("fp32", "bf16"))
    for a, b in zip(metrics(exact), metrics(rough), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-2)


def test_clipping_bounds_the_update(train, chats, metrics):
    run = train("sft", "run", data=str(chats), max_grad_norm=1e-9, weight_decay=0.0, **SFT)
    assert all(line["grad_norm"] > 0.1 for line in metrics(run))


def test_a_model_without_weights_is_refused_for_methods_that_need_them(train, chats, tmp_path, tiny_model):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (bare / name).write_bytes((tiny_model / name).read_bytes())
    with pytest.raises(ResourceError, match="no model weights"):
        train("sft", "run", data=str(chats), model=str(bare), **SFT)


def test_a_mistyped_model_path_names_the_right_one(train, chats, tiny_model):
    with pytest.raises(ResourceError, match="there is no") as error:
        train("sft", "run", data=str(chats), model=str(tiny_model)[:-1] + "x", **SFT)
    assert tiny_model.name in str(error.value)
