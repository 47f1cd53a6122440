"""From names and numbers to components: precedence, what is refused, and how it is said."""

from pathlib import Path

import pytest

from tunesmith import ConfigError, ResourceError, TunesmithError
from tunesmith.config import Layers, Run, build, check_required, plain, read_run_file, resolve
from tunesmith.fieldtypes import field_type, from_text, help_texts
from tunesmith.plugins import Registry, load
from tunesmith.runfile import dump, key_line, parse_value
from tunesmith.settings import RunSettings

TOY = Path(__file__).parent / "toy_plugin.py"
NEEDED = {"model": "m", "data": "toy:3"}


@pytest.fixture(scope="module")
def toys() -> Registry:
    return load(files=[TOY])


@pytest.fixture
def refused(toys):
    """Resolve a toy run that must be refused, and return the error."""

    def run(method="toy", *, error=ConfigError, **layers) -> TunesmithError:
        layers.setdefault("flags", {})
        with pytest.raises(error) as caught:
            resolve(toys, method, Layers(**{**layers, "flags": {**NEEDED, **layers["flags"]}}))
        return caught.value

    return run


@pytest.fixture
def run_file(tmp_path):
    def write(text: str) -> Layers:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return Layers(file=read_run_file(path), path=path)

    return write


def toy(toys: Registry, **layers) -> Run:
    return resolve(toys, "toy", Layers(**{**layers, "flags": {**NEEDED, **layers.get("flags", {})}}))


# ---------------------------------------------------------------------------------------------- precedence
def test_every_layer_wins_over_those_below_it(toys, monkeypatch):
    """default 1e-5 < method 1e-3 < adapter 5e-3 < preset 1e-4 < run file < variable < --set < flag."""
    layers: dict = {}
    seen = []

    def step() -> None:
        run = toy(toys, **layers)
        seen.append((run.settings.learning_rate, run.origins["learning_rate"]))

    step()
    layers["file"] = {"adapter": "lora"}
    step()
    layers["preset"] = "wooden"
    step()
    layers["file"] = {"adapter": "lora", "learning_rate": 0.1}
    step()
    monkeypatch.setenv("TUNESMITH_LEARNING_RATE", "2e-1")
    step()
    layers["overrides"] = ["learning_rate=0.3"]
    step()
    layers["flags"] = {"learning_rate": 0.4}
    step()
    assert seen == [
        (1e-3, "method"),
        (5e-3, "adapter"),
        (1e-4, "preset"),
        (0.1, "run file"),
        (0.2, "environment"),
        (0.3, "--set"),
        (0.4, "flag"),
    ]


def test_settings_nobody_gave_have_their_defaults(toys):
    run = toy(toys)
    assert (run.settings.batch_size, run.origins["batch_size"]) == (32, "default")
    assert (run.method.patience, run.origins["patience"]) == (3, "default")
    assert run.method.objective.name == "toy-sum" and run.settings.epochs == 3


def test_preset_of_the_run_file_yields_to_the_flag(toys):
    assert toy(toys, file={"preset": "wooden"}).method.patience == 9
    with pytest.raises(ConfigError, match="no preset 'plastic'"):
        toy(toys, file={"preset": "wooden"}, preset="plastic")


def test_mapping_without_a_name_refines_the_component_below(toys):
    run = toy(toys, overrides=["schedule.final=0.5", "objective.beta=2"], file={"schedule": {"warmup": 0.2}})
    assert plain(run.settings.schedule) == {"name": "toy-ramp", "warmup": 0.2, "final": 0.5}
    assert plain(run.method.objective) == {"name": "toy-sum", "beta": 2.0}


def test_name_replaces_the_component_below(toys):
    run = toy(toys, flags={"schedule": "toy-ramp"})
    assert plain(run.settings.schedule) == {"name": "toy-ramp", "warmup": 0.0, "final": 0.0}


def test_mapping_of_data_replaces_the_data_below(toys):
    run = toy(toys, file={"data": "toy:1"}, flags={"data": {"path": "toy:7", "weight": 2}})
    assert [(spec.source.count, spec.weight) for spec in run.settings.data] == [(7, 2.0)]


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("TUNESMITH_MODEL", "1e5", "model", "1e5"),
        ("TUNESMITH_REVISION", "none", "revision", None),
        ("TUNESMITH_SHUFFLE", "false", "shuffle", False),
        ("TUNESMITH_BETAS", "0.8,0.9", "betas", (0.8, 0.9)),
        ("TUNESMITH_LORA_TARGETS", "q,v", "lora_targets", ("q", "v")),
    ],
)
def test_variables_are_read_as_the_setting_wants(toys, monkeypatch, variable, text, key, value):
    monkeypatch.setenv(variable, text)
    run = resolve(toys, "toy", Layers(file=NEEDED))
    assert getattr(run.settings, key) == value


def test_unknown_variable_is_refused(refused, monkeypatch):
    monkeypatch.setenv("TUNESMITH_BACH_SIZE", "3")
    assert refused().what.endswith("TUNESMITH_BACH_SIZE is no setting of this run; did you mean 'batch_size'?")


def test_dump_is_a_run_file_that_gives_the_same_run(toys, tmp_path):
    run = toy(toys, preset="wooden", flags={"revision": "12:30", "label": "1e5", "trackers": ["toy-tracker"]})
    path = tmp_path / "again.yaml"
    path.write_text(dump(run.dump()))
    again = resolve(toys, "toy", Layers(file=read_run_file(path), path=path))
    assert again.settings == run.settings and again.method == run.method
    assert again.dump() == run.dump()


def test_dump_writes_what_a_clash_was_resolved_with(toys):
    run = resolve(toys, "toy_plugin/toy", Layers(flags={**NEEDED, "objective": "toy_plugin/toy-sum"}))
    assert run.dump()["method"] == "toy_plugin/toy"
    assert run.dump()["objective"] == {"name": "toy_plugin/toy-sum", "beta": 0.1}


# ---------------------------------------------------------------------------------------------- what is refused
def test_unknown_setting_names_the_nearest_of_run_and_method(refused):
    assert refused(flags={"pateince": 1}).what == "unknown setting 'pateince'; did you mean 'patience'?"
    error = refused(flags={"lerning_rate": 1})
    assert error.what == "unknown setting 'lerning_rate'; did you mean 'learning_rate'?"
    assert "--help-all" in (error.fix or "")


def test_unknown_setting_of_a_run_file_names_the_line(toys, run_file):
    layers = run_file("method: toy\nmodel: m\n\ndata: toy:3\n# a comment\npateince: 3\n")
    with pytest.raises(ConfigError) as caught:
        resolve(toys, "toy", layers)
    assert (caught.value.where or "").endswith("run.yaml, line 6")


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("batch_size: 0\n", "batch_size should be greater than or equal to 1", 1),
        ("objective:\n  name: toy-sum\n  bta: 1\n", "unknown setting 'bta'; did you mean 'beta'?", 3),
        ("objective: {name: toy-sum, beta: -1}\n", "beta should be greater than 0", 1),
        ("eval_data:\n- toy:3\n- path: toy:4\n  wieght: 3\n", "unknown setting 'wieght'; did you mean 'weight'?", 4),
        ("eval_data:\n  - path: toy:4\n    cuont: 3\n", "unknown setting 'cuont'; did you mean 'count'?", 3),
        ("eval_data: {source: toy-rows, limt: 3}\n", "unknown setting 'limt'; did you mean 'limit'?", 1),
        ("eval_data: {path: toy:1, weight: toy-rmp}\n", "there is no scheduler 'toy-rmp'; did you mean 'toy-ramp'?", 1),
        ("dtype: fp23\n", "dtype should be 'auto', 'fp32' or 'bf16'; did you mean 'fp32'?", 1),
        ("trackers:\n  - toy-trucker\n", "there is no tracker 'toy-trucker'; did you mean 'toy-tracker'?", 2),
        ("schedule: 3\n", "a scheduler is written as its name or as {name: ..., settings}, not as 3", 1),
    ],
)  # fmt: skip
def test_wrong_value_in_a_run_file_names_the_line(toys, run_file, text, what, line):
    layers = run_file(text + "method: toy\nmodel: m\ndata: toy:3\n")
    with pytest.raises(ConfigError) as caught:
        resolve(toys, "toy", layers)
    assert caught.value.what == what
    assert (caught.value.where or "").endswith(f"run.yaml, line {line}")


@pytest.mark.parametrize(
    ("layers", "where"),
    [
        ({"flags": {"batch_size": -1}}, "--batch-size"),
        ({"overrides": ["batch_size=-1"]}, "--set batch_size=..."),
        ({"overrides": ["objective.bta=-1"]}, "objective toy-sum, --set objective=..."),
        ({"flags": {"objective": {"name": "toy-sum", "bta": 1}}}, "objective toy-sum, --objective"),
    ],
)
def test_error_names_where_the_value_was_given(refused, layers, where):
    assert refused(**layers).where == where


def test_error_names_the_variable(refused, monkeypatch):
    monkeypatch.setenv("TUNESMITH_SEED", "-3")
    error = refused()
    assert (error.where, error.why) == ("environment variable TUNESMITH_SEED", "given: -3")


def test_all_missing_settings_are_named_at_once(toys):
    with pytest.raises(ConfigError, match="model and data are missing") as caught:
        resolve(toys, "toy", Layers())
    assert caught.value.fix == "give --model ... --data ..., or set them in the run file"


def test_other_wrong_settings_are_counted(refused):
    assert refused(flags={"seed": -1, "epochs": 0, "lora_r": 0}).what.endswith("(and 2 more wrong)")


def test_settings_that_contradict_each_other(refused):
    assert "needs adapter: lora or dora" in refused(flags={"quantize": "4bit"}).what


@pytest.mark.parametrize("weight", [-1, float("inf"), float("nan")])
def test_weight_of_a_source_that_is_no_share(refused, weight):
    error = refused(flags={"data": {"path": "toy:1", "weight": weight}})
    assert error.what.startswith("data.0.weight") and "finite number" in error.what


def test_objective_that_does_not_fit_lists_those_that_do(refused):
    error = refused(flags={"objective": "toy-numbers"})
    assert error.what == "the objective 'toy-numbers' does not fit the method 'toy'"
    assert error.why == "it reads Numbers, and toy supplies TokenLogps"
    assert "toy-sum" in (error.fix or "") and "toy-numbers" not in (error.fix or "")


def test_unknown_method_and_preset(refused):
    assert refused("tyo").what == "there is no method 'tyo'; did you mean 'toy'?"
    error = refused(preset="wodden")
    assert "did you mean 'wooden'" in error.what and error.why == "presets: wooden"


def test_number_for_a_weight_is_not_taken_for_a_schedule(toys):
    assert toy(toys, flags={"data": {"path": "toy:3", "weight": 1}}).settings.data[0].weight == 1.0
    named = toy(toys, flags={"data": {"path": "toy:3", "weight": "toy-ramp"}}).settings.data[0].weight
    assert named.name == "toy-ramp"


@pytest.mark.parametrize("text", ["learning_rate", "=3", "a..b=3"])
def test_malformed_override(refused, text):
    assert refused(overrides=[text]).what == f"--set {text!r}: write key=value, or outer.inner=value"


def test_missing_package_of_a_component_is_a_resource_error(toys, monkeypatch):
    monkeypatch.setattr(toys.get("tracker", "toy-tracker"), "needs", ("json", "no_such_package_here"))
    with pytest.raises(ResourceError, match="needs a package that is not installed: no_such_package_here"):
        build(toys, "tracker", "toy-tracker")


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("no-such-package>=1", "it is not installed"),
        ("tunesmith>=999", "tunesmith 0.1.0 is installed"),
        ("a b", "'a b' is not a requirement"),
    ],
)
def test_required_plugins_are_checked(requirement, said):
    with pytest.raises(ConfigError, match=said):
        check_required([requirement])
    check_required(["tunesmith>=0.0.1"])


def test_reserved_variables_are_no_settings(toys, monkeypatch):
    for name in ("TUNESMITH_CACHE", "TUNESMITH_DEBUG", "TUNESMITH_NO_PLUGINS"):
        monkeypatch.setenv(name, "")
    assert toy(toys).settings.model == "m"


# ---------------------------------------------------------------------------------------------- run files
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E5", 1e5), ("-.5", -0.5), ("3.", 3.0), ("1_000", 1000), ("0", 0), ("+4", 4),
        ("010", "010"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3"), ("1e", "1e"),
        ("true", True), ("~", None), ("[1, 2e-1]", [1, 0.2]), ("{a: 1", "{a: 1"), ("nan", "nan"),
    ],
)  # fmt: skip
def test_values_are_read_as_yaml_1_2_reads_numbers(text, value):
    found = parse_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "value", ["1e5", "12:30", "2024-01-01", "no", "010", "0x1f", "~", "3", ".5", "a: b", "", "1_0"]
)
def test_text_is_written_so_that_it_is_read_back_as_text(value):
    import yaml

    assert parse_value(dump({"x": value})) == {"x": value}
    assert yaml.safe_load(dump({"x": value})) == {"x": value}


def test_numbers_are_written_so_that_any_yaml_reads_them():
    import yaml

    values = {"a": 1e-8, "b": 3.0, "c": 1e22, "d": 7, "e": [1e-5, 2], "f": None, "g": True}
    assert parse_value(dump(values)) == values == yaml.safe_load(dump(values))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [\n", "run.yaml, line 3"),
        ("a: 1\nb: 2\na: 3\n", "a is written twice"),
        ("o:\n  x: 1\n  x: 2\n", "lines 2 and 3"),
        ("- a\n", "a run file is a mapping of settings"),
        ("", "a run file is a mapping of settings"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_unreadable_run_file(tmp_path, text, said):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_run_file(path)
    assert said in str(caught.value)


def test_run_file_that_is_not_text(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot read the run file"):
        read_run_file(tmp_path / "run.yaml")


def test_line_of_a_setting_is_that_of_the_deepest_key_that_is_there(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("a:\n  - x\n  - y:\n      z: 1\nb: 2\n")
    assert [key_line(path, keys) for keys in (["a", 1, "y", "z"], ["a", 1, "source", "y"], ["b", "q"], ["c"])] == [
        4,
        3,
        5,
        None,
    ]


# ---------------------------------------------------------------------------------------------- types and help
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("model", "text"),
        ("output", "path"),
        ("data", "list of data"),
        ("epochs", "number"),
        ("max_steps", "integer"),
        ("shuffle", "true|false"),
        ("schedule", "scheduler"),
        ("trackers", "list of tracker"),
        ("betas", "list of number"),
        ("dtype", "auto|fp32|bf16"),
    ],
)
def test_types_are_named_for_people(name, label):
    assert field_type(RunSettings.model_fields[name].annotation).label == label


def test_words_are_values_of_the_setting(toys):
    fields = {**RunSettings.model_fields, **toys.get("method", "toy").model_fields}

    def read(name: str, text: str):
        return from_text(field_type(fields[name].annotation), text)

    assert read("model", "1.0") == "1.0"
    assert read("max_steps", "null") is None
    assert read("trackers", "none") == ()
    assert read("trackers", "a, b") == ("a", "b")
    assert read("data", "a,b.jsonl") == "a,b.jsonl"
    assert read("data", "{path: x, weight: 1e-1}") == {"path": "x", "weight": 0.1}
    assert read("objective", "{name: toy-sum, beta: 2}") == {"name": "toy-sum", "beta": 2}
    assert read("colour", "light_blue") == "light-blue"
    assert read("sizes", "1,2e-1") == (1, 0.2)


def test_help_is_the_docstring_under_the_field(toys):
    texts = help_texts(toys.get("method", "toy"))
    assert texts["patience"] == "Steps to wait." and texts["objective"] == "Loss."
    assert help_texts(toys.get("scheduler", "toy-ramp"))["warmup"].startswith("Linear warm-up from 0")


def test_every_setting_of_every_installed_component_has_help(toys):
    from tunesmith.components import KINDS

    bare = [
        f"{cls.name}.{name}"
        for kind in KINDS
        for _, cls in toys.entries(kind)
        for name, text in help_texts(cls).items()
        if not text
    ]
    assert bare == []
    assert all(help_texts(RunSettings).values())
