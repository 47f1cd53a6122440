"""adept as whole runs: what moves and what does not, rates, resume, settings, and what is left behind."""

import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.config import Layers, resolve
from tunesmith.errors import ConfigError, StoppedError
from tunesmith_methods.adept.importance import Unit, mean_multiplier, multipliers
from tunesmith_methods.adept.selection import least_important, least_important_run, top, uniform


# ------------------------------------------------------------------------------------------------ selection
def test_the_least_important_layers_are_chosen():
    importance = [0.9, 0.1, 0.5, 0.2, 0.35]
    assert least_important(importance, 2) == [1, 3]
    assert least_important(importance, 2, exclude=[1]) == [3, 4]
    assert least_important(importance, 0) == []
    assert least_important(importance, 5) == [0, 1, 2, 3, 4]
    assert least_important([1.0, 1.0, 1.0], 1) == [2], "of equal ones the deeper, where less of the model is above it"
    assert least_important_run(importance, 2) == [3, 4]
    assert least_important_run(importance, 2, exclude=[4]) == [1, 2]
    assert top(6, 2) == [4, 5]
    assert top(6, 2, exclude=[5]) == [3, 4]
    with pytest.raises(ValueError, match="5 layers are to be copied, and there are 4"):
        least_important(importance, 5, exclude=[0])
    with pytest.raises(ValueError, match="no 3 consecutive layers of 5 are left"):
        least_important_run(importance, 3, exclude=[2])


@pytest.mark.parametrize(("layers", "count"), [(32, 8), (28, 4), (28, 5), (7, 3), (5, 5), (9, 1)])
def test_uniform_copies_end_groups_of_equal_size(layers, count):
    found = uniform(layers, count)
    sizes = [b - a for a, b in zip([-1, *found], found, strict=False)]
    assert len(found) == count
    assert found[-1] == layers - 1
    assert max(sizes) - min(sizes) <= 1
    if layers % count == 0:
        assert found == [i for i in range(layers) if (i + 1) % (layers // count) == 0], "as its code counts"


# ------------------------------------------------------------------------------------------------ T-AD6
UNITS = {"q": Unit(100, False), "k": Unit(50, False), "up": Unit(200, False), "norm": Unit(5, True)}
IMPORTANCE = {"q": 1e-6, "k": 3e-6, "up": 2e-6, "norm": 9e-4}


def test_the_more_important_the_slower():
    found = multipliers(IMPORTANCE, UNITS, calibration="all")
    assert found["norm"] == 0.0
    assert found["q"] == 2.0
    assert 1.99 < found["k"] < found["up"] < 2.0, "one norm stretches the range of all"
    apart = multipliers(IMPORTANCE, UNITS)
    assert apart == pytest.approx({"q": 2.0, "up": 1.0, "k": 0.0, "norm": 0.0})


@pytest.mark.parametrize("calibration", ["all", "non-norm"])
def test_the_scale_of_importance_does_not_matter(calibration):
    scaled = {name: 1234.5 * value for name, value in IMPORTANCE.items()}
    found = multipliers(IMPORTANCE, UNITS, calibration=calibration)
    assert multipliers(scaled, UNITS, calibration=calibration) == pytest.approx(found)
    assert all(0 <= value <= 2 for value in found.values())


def test_floor_mean_and_equal_importance():
    assert min(multipliers(IMPORTANCE, UNITS, floor=0.1).values()) == 0.1
    assert multipliers(dict.fromkeys(UNITS, 0.0), UNITS) == dict.fromkeys(UNITS, 1.0)
    assert multipliers(dict.fromkeys(UNITS, 7.0), UNITS) == dict.fromkeys(UNITS, 1.0)
    plain, whole = (multipliers(IMPORTANCE, UNITS, renormalize=how) for how in ("none", "numel-mean-one"))
    assert mean_multiplier(plain, UNITS) == pytest.approx((100 * 2 + 200 * 1) / 355)
    assert mean_multiplier(whole, UNITS) == pytest.approx(1.0)
    assert whole["q"] / whole["up"] == pytest.approx(2.0)


# ------------------------------------------------------------------------------------------------ runs
@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_model):
    """A Llama of four layers with the tokenizer of the tiny model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("base")
    for path in tiny_model.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder)
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(tiny_model, num_hidden_layers=4, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture
def domain(tmp_path):
    path = tmp_path / "domain.txt"
    path.write_text("def add(a, b):\n    return a + b\n\n" * 40)
    return str(path)


@pytest.fixture
def adept(train, base, domain, texts):
    """``adept(name, **settings)``: a short run, and the folder of it."""

    def run(name, *, resume=False, **more):
        given = {"model": str(base), "data": domain, "probe": str(texts), "copies": 2, "refresh_every": 3, **more}
        given = {"max_steps": 7, "batch_size": 4, "max_length": 32, "holdout": 0.0, "learning_rate": 3e-3, **given}
        return train("adept", name, resume=resume, **{key: value for key, value in given.items() if value is not None})

    return run


def record(run):
    return json.loads((run / "adept.json").read_text())


def test_only_the_copies_move(adept, base, weights):
    """T-AD2."""
    run = adept("run")
    found, before = weights(run / "model"), weights(base)
    facts = record(run)
    chosen, copies = facts["chosen"], facts["copies"]
    assert copies == [layer + 1 + i for i, layer in enumerate(chosen)]
    order = [i for i in range(4) for _ in range(1 + (i in chosen))]
    for name, tensor in found.items():
        if ".layers." not in name:
            assert torch.equal(tensor, before[name]), name
            continue
        place = int(name.split(".")[2])
        original = before[name.replace(f".{place}.", f".{order[place]}.", 1)]
        if place not in copies:
            assert torch.equal(tensor, original), name
        elif "o_proj" in name or "down_proj" in name:
            assert bool(tensor.any()), "it has left zero"
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["adept"] == {"source_layers": chosen, "copy_indices": copies}
    assert config["num_hidden_layers"] == 6


def test_the_record_says_what_was_measured_and_done(adept, metrics):
    run = adept("run")
    facts = record(run)
    importance = facts["layer_importance"]
    assert len(importance) == 4
    assert facts["chosen"] == sorted(sorted(range(4), key=lambda i: importance[i])[:2])
    assert [r["step"] for r in facts["refreshes"]] == [0, 3, 6]
    for found in facts["refreshes"]:
        assert found["importance"].keys() == found["multiplier"].keys()
        assert len(found["importance"]) == 2 * 9
        matrices = [n for n in found["importance"] if "norm" not in n]
        ranked = sorted(matrices, key=lambda n: found["importance"][n])
        scales = [found["multiplier"][n] for n in ranked]
        assert scales == sorted(scales, reverse=True)
        assert (scales[0], scales[-1]) == (2.0, 0.0)
    lines = [line for line in metrics(run) if "adept/mean_multiplier" in line]
    assert [line["step"] for line in lines if "adept/general_loss" in line] == [3, 6]
    for line, at in zip(lines, [0, 0, 1, 1, 1, 2, 2], strict=True):
        assert line["adept/mean_multiplier"] == facts["refreshes"][at]["mean_multiplier"]


def test_the_rate_of_a_tensor_is_the_schedule_times_its_multiplier(adept, monkeypatch):
    """T-AD7, read from the optimizer at every step."""
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        seen.append([(group["lr"], len(group["params"]), group["weight_decay"]) for group in self.param_groups])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    run = adept("run", schedule={"name": "cosine", "warmup": 0.3}, floor=0.25)
    refreshes = record(run)["refreshes"]
    rates = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in rates if "learning_rate" in line]
    for i, (groups, rate) in enumerate(zip(seen, rates, strict=True)):
        scales = refreshes[(i > 2) + (i > 5)]["multiplier"]
        assert [lr for lr, *_ in groups] == pytest.approx([rate * scale for scale in scales.values()])
        assert [rest for _, *rest in groups] == [[1, 0.0 if "norm" in name else 0.1] for name in scales]
        assert min(scales.values()) == 0.25
    assert len(set(rates)) == len(rates)


def test_frozen_tensors_have_no_state_and_no_gradient(adept, monkeypatch):
    """And nothing is computed below the first copy: hidden states there belong to no graph."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    seen = {}
    forward = LlamaDecoderLayer.forward

    def spy(self, hidden_states, *args, **kwargs):
        if torch.is_grad_enabled():
            seen.setdefault(self.self_attn.layer_idx, set()).add(hidden_states.requires_grad)
        return forward(self, hidden_states, *args, **kwargs)

    for name, more in (("plain", {}), ("saving", {"activation_checkpointing": True})):
        run = adept(name, selection="manual", layers=[2, 3], copies=None, save_every=7, rates="uniform", **more)
        state = json.loads((run / "checkpoints" / "step-000007" / "trainer" / "state.json").read_text())
        assert len(state["lr_scales"]) == 18
        moments = load_file(run / "checkpoints" / "step-000007" / "trainer" / "optimizer.safetensors")
        assert {name.split("/")[0] for name in moments} == {str(i) for i in range(18)}
        with monkeypatch.context() as patched:
            patched.setattr(LlamaDecoderLayer, "forward", spy)
            seen.clear()
            adept(f"{name}-watched", selection="manual", layers=[2, 3], copies=None, rates="uniform", **more)
        assert {i for i, grads in seen.items() if True in grads} == {4, 5}
        assert {i for i, grads in seen.items() if False in grads} == {0, 1, 2, 3}


def test_memory_knobs_change_rounding_only(adept, weights):
    given = {"rates": "importance", "floor": 0.5, "learning_rate": 1e-3, "eps": 1e-3}
    whole = weights(adept("whole", micro_tokens=10_000, **given) / "model")
    parts = weights(adept("parts", micro_tokens=40, **given) / "model")
    saving = weights(adept("saving", activation_checkpointing=True, **given) / "model")
    for other in (parts, saving):
        assert max((whole[name] - other[name]).abs().max().item() for name in whole) < 2e-5


def test_bf16_and_halves_of_the_probe(adept, tmp_path, metrics):
    rows = [{"prompt": f"Question {i}?", "completion": "Yes. " * (1 + i % 3)} for i in range(9)]
    rows.append({"prompt": "long " * 40, "completion": "no"})
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = adept("run", probe_instructions=str(path), dtype="bf16", probe_size=5)
    facts = record(run)
    assert len(facts["base_loss"]) == len(facts["refreshes"][0]["general_loss"]) == 2
    report = {source["label"]: source for source in json.loads((run / "data_report.json").read_text())["sources"]}
    assert report["asked"]["dropped"] == 1, "what measures only may be dropped where texts are split"
    assert all(line["loss"] < 20 for line in metrics(run) if "loss" in line)


def test_replay_is_mixed_in_and_measured_on(adept, texts, metrics):
    run = adept("run", probe=None, replay=str(texts), replay_share=0.5, holdout=0.2)
    lines = metrics(run)
    assert sum(key.startswith("mix/") for key in lines[-2]) == 2
    assert lines[0]["forgetting"] == 0.0
    assert len(record(run)["layer_importance"]) == 4


# ------------------------------------------------------------------------------------------------ resume
def test_a_killed_run_resumes_to_the_bit(adept, weights, metrics, monkeypatch, texts):
    """T-AD8: rates, importances and the copies' places come back, in the middle between two refreshes."""
    given = {"save_every": 2, "schedule": "cosine", "replay": str(texts), "replay_share": 0.3, "log_every": 1}
    straight = adept("straight", **given)
    update, count = torch.optim.AdamW.step, []

    def stopping(self, *args, **kwargs):
        count.append(1)
        if len(count) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", stopping)
        with pytest.raises(StoppedError):
            adept("stopped", **given)
    before = record(straight.parent / "stopped")
    assert [r["step"] for r in before["refreshes"]] == [0, 3]
    assert before["refreshes"] == record(straight)["refreshes"][:2]
    (straight.parent / "stopped" / "adept.json").unlink()
    resumed = adept("stopped", resume=True, **given)
    assert record(resumed) == record(straight)
    one, two = weights(straight / "model"), weights(resumed / "model")
    assert all(torch.equal(one[name], two[name]) for name in one)

    def numbers(run):
        timing = ("tokens_per_s", "step_s")
        return [{k: v for k, v in line.items() if k not in timing} for line in metrics(run)]

    assert numbers(straight) == numbers(resumed)


@pytest.mark.parametrize("family", ["gemma2", "mixtral"])
def test_post_norm_and_expert_blocks_train_and_resume_to_the_bit(family, adept, weights, tiny_model, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    more = {"gemma2": {"head_dim": 8, "sliding_window": 16}, "mixtral": {"num_local_experts": 3}}[family]
    config = AutoConfig.for_model(
        family, vocab_size=len(tokenizer), hidden_size=32, intermediate_size=24, num_hidden_layers=3, pad_token_id=0,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, eos_token_id=0, bos_token_id=None,
        initializer_range=0.2, **more,
    )  # fmt: skip
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    given = {"model": str(tmp_path / "base"), "max_steps": 4, "save_every": 2, "copies": 1, "batch_size": 2}
    straight = adept("run", **given)
    wanted, facts = weights(straight / "model"), record(straight)
    for folder in (straight / "model", straight / "checkpoints" / "step-000004"):
        shutil.rmtree(folder)
    again = adept("run", resume=True, **given)
    found = weights(again / "model")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert record(again) == facts
    copies = AutoModelForCausalLM.from_pretrained(again / "model").model.layers
    assert bool(copies[facts["copies"][0]].self_attn.o_proj.weight.any())
    assert AutoConfig.from_pretrained(again / "model").adept["copy_indices"] == facts["copies"]


# ------------------------------------------------------------------------------------------------ variants
def test_llama_pro_is_uniform_places_and_one_rate(train, base, domain, weights, registry, tmp_path):
    from tunesmith.runner.launch import start

    flags = {"model": str(base), "data": domain, "copies": 2, "max_steps": 3, "batch_size": 4, "max_length": 32,
             "holdout": 0.0, "output": str(tmp_path / "pro"), "schedule": "constant"}  # fmt: skip
    run = resolve(registry, "adept", Layers(preset="llama-pro", flags=flags))
    start(run, registry)
    facts = record(tmp_path / "pro")
    assert (facts["chosen"], facts["copies"]) == ([1, 3], [2, 5])
    assert facts["refreshes"] == []
    assert facts["layer_importance"] is None


def test_each_stage_can_be_left_out(adept, weights, base):
    alone = adept("alone", expand=False)
    before, found, facts = weights(base), weights(alone / "model"), record(alone)
    moved = {int(n.split(".")[2]) for n in found if not torch.equal(found[n], before[n])}
    assert moved == set(facts["chosen"])
    assert facts["copies"] == []
    assert found.keys() == before.keys()
    equal = adept("equal", rates="uniform")
    assert record(equal)["refreshes"] == []
    assert len(record(equal)["chosen"]) == 2
    late = adept("late", initial_importance="uniform")
    assert [r["step"] for r in record(late)["refreshes"]] == [3, 6]
    last = adept("last", selection="top", exclude=[3], rates="uniform", probe=None)
    assert record(last)["chosen"] == [1, 2]
    run = adept("together", contiguous=True)
    assert record(run)["chosen"][1] == record(run)["chosen"][0] + 1


def test_a_run_too_short_to_measure_says_so(adept, caplog):
    adept("short", initial_importance="uniform", refresh_every=7)
    assert "importance is first measured after step 7, and the run has 7 steps" in caplog.text


def test_a_deepened_model_is_deepened_again_only_when_asked(adept, weights):
    first = adept("first", selection="manual", layers=[1, 2], copies=None)
    model = str(first / "model")
    with pytest.raises(ConfigError, match="it has copied layers already, 2, 4") as error:
        adept("second", model=model)
    assert "--on-expanded continue" in str(error.value)
    on = adept("on", model=model, on_expanded="continue")
    before, found = weights(first / "model"), weights(on / "model")
    assert {n.split(".")[2] for n in found if not torch.equal(found[n], before[n])} == {"2", "4"}
    assert [r["step"] for r in record(on)["refreshes"]] == [0, 3, 6]
    more = adept("more", model=model, on_expanded="add", selection="manual", layers=[0, 4], copies=None)
    config = json.loads((more / "model" / "config.json").read_text())
    assert config["num_hidden_layers"] == 8
    assert config["adept"] == {"source_layers": [0, 4], "copy_indices": [1, 6], "earlier_copies": [3, 5]}


def test_the_result_is_a_base_for_other_methods(adept, train, chats, domain, weights):
    from transformers import AutoModelForCausalLM

    model = adept("deep") / "model"
    loaded = AutoModelForCausalLM.from_pretrained(model)
    assert len(loaded.model.layers) == 6
    for method, data, more in (("cpt", domain, {"replay_share": 0}), ("sft", str(chats), {"adapter": "lora"})):
        run = train(method, method, model=str(model), data=data, max_steps=2, batch_size=2, **more)
        assert (run / "model").is_dir()


# ------------------------------------------------------------------------------------------------ refused
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"probe": None}, "measured on general text, and there is none"),
        ({"layers": [1]}, "selection: manual and layers go together"),
        ({"selection": "manual"}, "selection: manual and layers go together"),
        ({"selection": "manual", "layers": [1, 1]}, "a layer is named twice"),
        ({"selection": "uniform", "exclude": [1]}, "exclude has no effect with selection: uniform"),
        ({"selection": "top", "contiguous": True}, "contiguous has no effect with selection: top"),
        ({"adapter": "lora"}, "the method 'adept' takes none"),
        ({"copies": 5}, "5 layers are to be copied, and there are 4 to choose from"),
        ({"selection": "manual", "layers": [4]}, "layers: there is no layer 4; the model has layers 0 to 3"),
        ({"exclude": [9]}, "exclude: there is no layer 9"),
    ],
)
def test_settings_that_make_no_sense_are_refused(adept, settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        adept("run", **settings)
    assert not (tmp_path / "run" / "adept.json").exists()


def test_streamed_rows_are_measured_on_where_they_are_limited(adept, texts):
    stream = {"path": str(texts), "streaming": True}
    with pytest.raises(ConfigError, match="replay is streamed, so nothing of it can be measured on") as error:
        adept("run", probe=None, replay=[stream])
    assert "give a probe with a limit" in str(error.value)
    with pytest.raises(ConfigError, match="is streamed, but rows of probe are read whole"):
        adept("run", probe=[stream])
    run = adept("run", probe=[{**stream, "limit": 10}], replay=[stream], max_steps=1)
    assert len(record(run)["layer_importance"]) == 4


def test_a_long_measurement_says_how_far_it_is(adept, caplog, monkeypatch):
    from tunesmith_methods.adept import probe

    caplog.set_level("INFO")
    monkeypatch.setattr(probe, "SAY_SECONDS", 0.0)
    adept("run", max_steps=1)
    assert "layers   3 of 4 measured" in caplog.text


def test_new_pieces_that_nobody_trained_are_said_to_stay_frozen(adept, base, tmp_path, caplog):
    shutil.copytree(base, tmp_path / "expanded")
    path = tmp_path / "expanded" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "vocab_expansion": {"first": 250, "count": 9, "trained": False}}))
    run = adept("run", model=str(tmp_path / "expanded"), max_steps=1)
    assert "9 new pieces of the vocabulary have rows that nothing trains" in caplog.text
    assert json.loads((run / "model" / "config.json").read_text())["vocab_expansion"]["trained"] is False


def test_an_architecture_that_does_something_else_is_refused_by_name(adept, tiny_model, tmp_path):
    from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(tmp_path / "bloom")
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=2, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    with pytest.raises(ConfigError, match="a BloomForCausalLM cannot be deepened") as error:
        adept("run", model=str(tmp_path / "bloom"), copies=1)
    assert "supported are decoder-only models" in str(error.value)
