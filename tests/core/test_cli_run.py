"""``tunesmith run``: flags, names of other trainers, run files, mistakes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tunesmith.cli import failures
from tunesmith.plugins import load
from tunesmith.settings import RunSettings

TOY = str(Path(__file__).parent / "toy_plugin.py")
RUN = ("run", "toy", "--plugin", TOY, "--model", "m", "--data", "toy:3")
FILE = f"method: toy\nmodel: m\ndata: toy:3\npreset: wooden\nplugins: {{files: [{TOY}]}}\n"


@pytest.fixture
def dry(cli):
    """``dry(*flags)``: the resolved toy run, and what was said beside it."""

    def run(*flags: object, start=RUN) -> SimpleNamespace:
        result = cli(*start, *flags, "--dry-run")
        assert result.code == 0, result.err
        return SimpleNamespace(err=result.err, out=result.out, **yaml.safe_load(result.out))

    return run


# ---------------------------------------------------------------------------------------------- run: flags
def test_flags_are_generated_from_the_settings(dry):
    run = dry(
        "--patience", 7, "--colour", "light_blue", "--sizes", "1,2", "--sizes", "3e-1", "--label", "1e5",
        "--batch_size=8", "--learning-rate", "3e-4", "--lora-targets", "q,v", "--trackers", "toy-tracker",
        "--objective", "{name: toy-sum, beta: 2}", "--eval-data", "toy:1", "--eval-data", "{path: toy:2, limit: 1}",
    )  # fmt: skip
    assert (run.patience, run.colour, run.sizes, run.label) == (7, "light-blue", [1.0, 2.0, 0.3], "1e5")
    assert (run.batch_size, run.learning_rate, run.lora_targets) == (8, 3e-4, ["q", "v"])
    assert run.trackers == [{"name": "toy-tracker", "folder": "nowhere"}]
    assert run.objective == {"name": "toy-sum", "beta": 2.0}
    assert [(spec["source"]["count"], spec["limit"]) for spec in run.eval_data] == [(1, None), (2, 1)]


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (["--loud"], True),
        (["--loud", "true"], True),
        (["--loud=false"], False),
        (["--loud", "no"], False),
        (["--no-loud"], False),
        (["--no_loud"], False),
        ([], False),
    ],
)
def test_true_or_false_is_written_in_either_way(dry, flags, value):
    assert dry(*flags, "--patience", 2).loud is value


def test_settings_that_are_true_can_be_turned_off(dry):
    assert (dry().shuffle, dry("--no-shuffle").shuffle, dry("--shuffle", "false").shuffle) == (True, False, False)


def test_set_reaches_into_components_and_yields_to_flags(dry):
    run = dry("--set", "objective.beta=0.7", "--set", "schedule.warmup=5", "--set", "seed=3", "--seed", 4)
    assert (run.objective["beta"], run.schedule["warmup"], run.seed) == (0.7, 5.0, 4)


def test_dry_run_says_where_every_value_comes_from(cli, monkeypatch):
    monkeypatch.setenv("TUNESMITH_SEED", "5")
    result = cli(*RUN, "--dry-run", "--preset", "wooden", "--epochs", 2, "--set", "loud=true")
    origins = dict(line.split("#") for line in result.out.splitlines() if "#" in line)
    said = {key.split(":")[0]: origin.strip() for key, origin in origins.items()}
    assert said["method"] == "command line"
    assert said["epochs"] == "--epochs"
    assert said["seed"] == "TUNESMITH_SEED"
    assert said["loud"] == "--set"
    assert said["patience"] == said["learning_rate"] == "preset wooden"
    assert said["schedule"] == "recommended by toy"
    assert said["batch_size"] == "default"
    assert set(said) == {
        "method",
        *RunSettings.model_fields,
        *load(files=[Path(TOY)]).get("method", "toy").model_fields,
    }


def test_dry_run_is_a_run_file_of_the_same_run(cli, tmp_path):
    first = cli(*RUN, "--dry-run", "--revision", "12:30", "--preset", "wooden", "--loud")
    (tmp_path / "again.yaml").write_text(first.out)
    again = cli("run", "again.yaml", "--dry-run")
    assert yaml.safe_load(again.out) == yaml.safe_load(first.out)
    assert "again.yaml, line 2" in again.out


def test_every_setting_has_a_flag_in_help_all_and_the_common_ones_in_help(cli):
    short, long = cli("run", "toy", "--help", "--plugin", TOY).out, cli("run", "toy", "--plugin", TOY, "--help-all").out
    method = load(files=[Path(TOY)]).get("method", "toy")
    for name, info in {**RunSettings.model_fields, **method.model_fields}.items():
        flag = f"  --{name.replace('_', '-')} "
        if name != "plugins":
            assert flag in long, name
        common = (info.json_schema_extra or {}).get("section") == "common" or name in method.model_fields
        assert (flag in short) == common, name
    assert len(short.splitlines()) < 75 < len(long.splitlines())
    assert "model_name_or_path" not in short and "--model_name_or_path" in long
    assert "Steps to wait.  [default: 3]" in short
    assert "[default: 0.001; with an adapter: 0.005]" in " ".join(short.split())


def test_every_installed_method_has_help(cli):
    registry = load()
    for name in registry.names("method"):
        result = cli("run", name, "--help-all")
        assert result.code == 0 and f"Settings of {name}:" in result.out


def test_run_help_lists_the_methods(cli):
    for words in (("run",), ("run", "--help")):
        assert ["toy", "Learn", "from", "toys."] in [
            line.split() for line in cli("--plugin", TOY, *words).out.splitlines()
        ]


# ---------------------------------------------------------------------------------------------- run: aliases
@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--model_name_or_path", "n"], "model", "n"),
        (["--output_dir", "o"], "output", "o"),
        (["--out", "o"], "output", "o"),
        (["--num_train_epochs", "4"], "epochs", 4.0),
        (["--lr", "2e-4"], "learning_rate", 2e-4),
        (["--steps", "9"], "max_steps", 9),
        (["--max-seq-length", "99"], "max_length", 99),
        (["--save_steps", "7"], "save_every", 7),
        (["--save_total_limit", "1"], "keep_checkpoints", 1),
        (["--logging_steps", "3"], "log_every", 3),
        (["--eval_steps", "3"], "eval_every", 3),
        (["--gradient_checkpointing"], "activation_checkpointing", True),
        (["--report_to", "none"], "trackers", []),
        (["--report_to", "toy-tracker"], "trackers", [{"name": "toy-tracker", "folder": "nowhere"}]),
        (["--bf16"], "dtype", "bf16"),
        (["--bf16", "false"], "dtype", "fp32"),
        (["--fp16", "false"], "dtype", "auto"),
        (["--use_cpu"], "device", "cpu"),
        (["--warmup_ratio", "0.3"], "schedule", {"name": "toy-ramp", "warmup": 0.3, "final": 0.0}),
        (["--warmup-steps", "20"], "schedule", {"name": "toy-ramp", "warmup": 20.0, "final": 0.0}),
        (["--lr_scheduler_type", "toy_ramp"], "schedule", {"name": "toy-ramp", "warmup": 0.0, "final": 0.0}),
        (["--schedule", "constant", "--warmup_ratio", "0.3"], "schedule", {"name": "constant", "warmup": 0.3}),
    ],
)  # fmt: skip
def test_names_of_other_trainers(dry, flags, key, value):
    assert getattr(dry(*flags), key) == value


def test_data_set_name_is_data(dry):
    run = dry(start=("run", "toy", "--plugin", TOY, "--model", "m", "--dataset_name", "toy:5"))
    assert run.data[0]["source"]["count"] == 5


def test_batch_size_of_other_trainers_is_multiplied_and_said(dry, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = dry("--per_device_train_batch_size", 4, "--gradient_accumulation_steps", 8)
    assert run.batch_size == 64
    assert run.err == "batch_size = 4 per device x 8 passes x 2 processes = 64\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fp16"], "there is no training in fp16"),
        (["--gradient_accumulation_steps", "8"], "says nothing without --per_device_train_batch_size"),
        (["--per_device_train_batch_size", "4", "--batch-size", "4"], "another flag both set batch_size"),
        (["--per_device_train_batch_size", "x"], "is a whole number from 1, not 'x'"),
        (["--bf16", "--dtype", "fp32"], "another flag both set dtype"),
        (["--use_cpu", "maybe"], "--use_cpu is true or false, not 'maybe'"),
        (["--warmup_ratio", "3"], "is a share of the run below 1"),
        (["--warmup_ratio", "x"], "is a number, not 'x'"),
        (["--resume_from_checkpoint", "runs/x"], "tunesmith resume RUN_DIR"),
        (["--lr_scheduler_type", "toy_rump"], "there is no scheduler 'toy-rump'; did you mean 'toy-ramp'?"),
    ],
)
def test_names_of_other_trainers_that_cannot_be_honoured(cli, flags, said):
    result = cli(*RUN, *flags)
    assert result.code == 2 and said in result.err


# ---------------------------------------------------------------------------------------------- run: mistakes
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lerning-rate", "3"], "error: unknown option --lerning-rate; did you mean --learning-rate?"),
        (["--pateince", "3"], "error: unknown option --pateince; did you mean --patience?"),
        (["--colour", "rad"], "error: 'rad' is not one of red, light-blue; did you mean 'red'?\n  where --colour"),
        (["--preset", "wodden"], "did you mean 'wooden'?"),
        (["--lr", "1e-4x"], "error: learning_rate should be a valid number"),
        (["--lr", "-1"], "error: learning_rate should be greater than 0\n  where --learning-rate\n  why   given: -1"),
        (["--lr", "nan"], "error: learning_rate should be a finite number"),
        (["--loud", "maybe"], "error: loud should be a valid boolean"),
        (["--loud", "--no-loud"], "error: --loud and --no-loud are given together"),
        (["--objective", "toy-sun"], "error: there is no objective 'toy-sun'; did you mean 'toy-sum'?"),
        (["--objective", "toy-numbers"], "error: the objective 'toy-numbers' does not fit the method 'toy'"),
        (["--set", "objective.bta=3"], "error: unknown setting 'bta'; did you mean 'beta'?\n  where objective toy-sum"),
        (["--set", "plugins.files=[x]"], "plugins cannot be set there"),
        (["--batch-size"], "option '--batch-size' requires an argument"),
        (["stray"], "unexpected extra argument"),
        (["--quantize", "4bit"], "needs adapter: lora or dora"),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(cli, flags, said):
    result = cli(*RUN, *flags)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert len(result.err.splitlines()) <= failures.MAX_LINES


def test_settings_before_the_method(cli):
    assert "the method, or the run file, comes before its settings" in cli("run", "--model", "m", "toy").err


def test_unknown_method(cli):
    assert "there is no method 'toi'; did you mean 'toy'?" in cli("--plugin", TOY, "run", "toi").err


def test_missing_settings(cli):
    result = cli("run", "toy", "--plugin", TOY)
    assert result.err.startswith("error: model and data are missing\n")


# ---------------------------------------------------------------------------------------------- run: run files
@pytest.fixture
def run_file(tmp_path):
    def write(text: str, name: str = "run.yaml") -> str:
        (tmp_path / name).write_text(text)
        return name

    return write


def test_run_file_loads_its_plugins_and_flags_override_it(dry, run_file):
    run = dry("--patience", 4, "--epochs", 7, start=("run", run_file(FILE + "epochs: 5\nseed: 1\n")))
    assert (run.method, run.patience, run.epochs, run.seed, run.learning_rate) == ("toy", 4, 7.0, 1, 1e-4)
    assert run.plugins["files"] == [TOY]


def test_plugin_files_are_written_down_with_their_whole_path(dry, run_file, tmp_path):
    (tmp_path / "mine.py").write_text(Path(TOY).read_text())
    run = dry(start=("run", run_file(FILE.replace(TOY, "mine.py"))))
    assert run.plugins["files"] == [str(tmp_path / "mine.py")]


def test_existing_file_is_a_run_file_whatever_its_name(dry, run_file):
    assert dry(start=("run", run_file(FILE, "experiment"))).method == "toy"


def test_help_of_a_run_file_is_that_of_its_method(cli, run_file):
    out = cli("run", run_file(FILE), "--help").out
    assert out.startswith("Usage: tunesmith run run.yaml [SETTINGS]") and "Settings of toy:" in out


def test_plugins_of_the_command_line_are_written_down_with_those_of_the_file(dry, run_file, tmp_path):
    (tmp_path / "extra.py").write_text(Path(TOY).read_text().replace('"toy', '"extra'))
    run = dry("--plugin", "extra.py", "--no-plugin", "trackers", start=("run", run_file(FILE)))
    assert run.plugins == {"require": [], "block": ["trackers"], "files": [TOY, str(tmp_path / "extra.py")]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m\n", "a run file names its method"),
        ("method: [toy]\n", "method: ['toy'] is not a name"),
        (FILE + "pateince: 3\n", "unknown setting 'pateince'; did you mean 'patience'?\n  where run.yaml, line 6"),
        (FILE + "epochs: -3\n", "epochs should be greater than 0\n  where run.yaml, line 6"),
        (FILE.replace("wooden", "wodden"), "has no preset 'wodden'; did you mean 'wooden'?\n  where run.yaml, line 4"),
        ("method: toy\nplugins: {fils: [x]}\n", "did you mean 'files'?\n  where run.yaml, line 2"),
        ("method: toy\nplugins: {require: [no-such-package>=2]}\n", "this run requires no-such-package>=2"),
        ("method: toy\nplugins: {files: [gone.py]}\n", "gone.py: there is no such file"),
        ("method: toy\nplugins: {block: [gone]}\n", "cannot block 'gone'"),
        ("method: [\n", "not valid YAML"),
    ],
)  # fmt: skip
def test_mistakes_in_run_files(cli, run_file, text, said):
    result = cli("run", run_file(text), "--dry-run")
    assert result.code == 2 and said in result.err


def test_run_file_that_is_not_there(cli, run_file):
    run_file(FILE, "right.yaml")
    assert "there is no run file rihgt.yaml; did you mean 'right.yaml'?" in cli("run", "rihgt.yaml").err
