"""The command line as its users meet it: what it prints where, and which exit code it returns."""

import errno
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import click
import jsonschema
import pytest
import yaml

import tunesmith.runner
from tunesmith import ConfigError, DataError, DivergedError, ResourceError, StoppedError, TunesmithError
from tunesmith.cli import failures
from tunesmith.cli.common import COMMANDS
from tunesmith.cli.main import main
from tunesmith.components import KINDS
from tunesmith.plugins import load
from tunesmith.runfile import read_run_file
from tunesmith.settings import RunSettings

TOY = str(Path(__file__).parent / "toy_plugin.py")
RUN = ("run", "toy", "--plugin", TOY, "--model", "m", "--data", "toy:3")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """An empty folder, no terminal, and a logger that is put back."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "RANK", "LOCAL_RANK", "WORLD_SIZE", "TUNESMITH_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("tunesmith")
    before = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = before[:2]
    logger.setLevel(before[2])


@pytest.fixture
def cli(capsys):
    """``cli(*words)``: run the command line; its exit code, stdout and stderr."""

    def run(*words: object) -> SimpleNamespace:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def dry(cli):
    """``dry(*flags)``: the resolved toy run, and what was said beside it."""

    def run(*flags: object, start=RUN) -> SimpleNamespace:
        result = cli(*start, *flags, "--dry-run")
        assert result.code == 0, result.err
        return SimpleNamespace(err=result.err, out=result.out, **yaml.safe_load(result.out))

    return run


@pytest.fixture
def launch(monkeypatch):
    """Stands in for the runner; remembers what it was asked for."""
    calls = []

    def start(run, registry, *, resume, overwrite):
        calls.append(SimpleNamespace(run=run, registry=registry, resume=resume, overwrite=overwrite))
        return Path("runs/x/model")

    def resume(folder, registry):
        calls.append(SimpleNamespace(folder=folder, registry=registry))
        return folder / "model"

    monkeypatch.setattr(tunesmith.runner, "launch", SimpleNamespace(start=start, resume=resume), raising=False)
    return calls


# ---------------------------------------------------------------------------------------------- the root
@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_root_help_fits_a_screen_and_names_every_command(cli, words):
    result = cli(*words)
    assert result.code == 0 and result.err == ""
    assert len(result.out.splitlines()) < 25
    assert all(f"\n  {name} " in result.out for name in COMMANDS)


def test_version(cli):
    assert cli("--version").out == f"tunesmith {tunesmith.__version__}\n"


def test_every_command_has_help(cli):
    for name in COMMANDS:
        result = cli(name, "--help")
        assert (result.code, result.err) == (0, ""), name
        assert result.out.startswith(f"Usage: tunesmith {name}")


def test_commands_of_plugins_are_listed_and_run(cli):
    assert "toybox  Open the toy box." in cli("--plugin", TOY, "--help").out
    assert cli("--plugin", TOY, "toybox").out == "a toy box\n"
    assert "unknown command 'toybox'" in cli("toybox").err


def test_unknown_command_gets_the_nearest(cli):
    result = cli("lst")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: unknown command 'lst'; did you mean 'list'?\n  fix   see `tunesmith --help`\n"


def test_method_without_run_is_told_so(cli):
    assert "fix   tunesmith run toy" in cli("--plugin", TOY, "toy").err


def test_command_of_a_broken_plugin_is_explained(cli, tmp_path):
    (tmp_path / "bad.py").write_text("import not_a_package_at_all")
    assert "No module named 'not_a_package_at_all'" in cli("--plugin", "bad.py", "frobnicate").err


# ---------------------------------------------------------------------------------------------- list, plugins
def test_list_shows_every_component_once(cli):
    registry = load(files=[Path(TOY)])
    out = cli("list", "--plugin", TOY).out
    for kind in KINDS:
        entries = registry.entries(kind)
        assert (f"{kind}s\n" in out) == bool(entries)
        for _, cls in entries:
            assert sum(line.split()[:1] == [cls.name] for line in out.splitlines()) >= 1
    assert "  toy  " in out and "Learn from toys." in out and "second paragraph" not in out


@pytest.mark.parametrize("word", ["method", "methods", "Methods"])
def test_kinds_are_singular_or_plural(cli, word):
    out = cli("list", word).out
    assert out.startswith("methods\n") and "objectives" not in out


@pytest.mark.parametrize("word", ["format", "formats", "data-formats", "data_format"])
def test_formats_are_data_formats_too(cli, word):
    assert cli("list", word).out.startswith("formats\n")


def test_unknown_kind(cli):
    result = cli("list", "metod")
    assert result.code == 2 and "did you mean 'method'?" in result.err


def test_list_for_programs(cli):
    found = json.loads(cli("list", "--json", "--plugin", TOY).out)["components"]
    toy = next(component for component in found if component["name"] == "toy")
    assert toy == {
        "kind": "method",
        "name": "toy",
        "summary": "Learn from toys.",
        "plugin": "toy_plugin",
        "package": TOY,
        "version": "",
        "selector": "toy",
        "clash": False,
    }
    nll = next(component for component in found if component["package"] == "tunesmith")
    assert nll["version"] == tunesmith.__version__


def test_clash_is_marked_in_both_lists(cli, tmp_path):
    (tmp_path / "other.py").write_text(Path(TOY).read_text())
    out = cli("list", "methods", "--plugin", TOY, "--plugin", "other.py").out
    assert "[clash: write toy_plugin/toy]" in out and "[clash: write other/toy]" in out
    found = json.loads(cli("list", "methods", "--json", "--plugin", TOY, "--plugin", "other.py").out)["components"]
    assert [c["selector"] for c in found if c["clash"]] == ["toy_plugin/toy", "other/toy"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_pages_keep_to_the_width_of_the_terminal(cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    pages = (
        [("list",), ("plugins",)] if columns == 60 else [("list",), ("plugins",), ("show", "toy"), ("run", "--help")]
    )
    for words in pages:
        lines = cli(*words, "--plugin", TOY).out.splitlines()
        assert len(lines) > 5
        assert [line for line in lines if len(line) > columns] == []


def test_without_a_terminal_lines_stay_whole(cli):
    long = max(cli("list").out.splitlines(), key=len)
    assert len(long) > 120


def test_colours_follow_the_environment(cli, monkeypatch):
    assert "\x1b[" not in cli("list").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli("list").out and "\x1b[" in cli("lst").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in cli("list").out + cli("lst").err
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[" not in cli("list").out + cli("lst").err


def test_plugins_show_status_cause_and_what_they_provide(cli, tmp_path):
    (tmp_path / "bad.py").write_text("import not_a_package_at_all")
    words = ("plugins", "--plugin", TOY, "--plugin", "bad.py", "--no-plugin", "trackers")
    out = cli(*words).out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "broken" in lines["bad"] and "No module named 'not_a_package_at_all'" in lines["bad"]
    assert "blocked" in lines["trackers"]
    assert "method toy" in lines["toy_plugin"] and "command toybox" in lines["toy_plugin"]
    rows = {row["plugin"]: row for row in json.loads(cli(*words, "--json").out)["plugins"]}
    assert (rows["bad"]["status"], rows["trackers"]["status"], rows["toy_plugin"]["status"]) == (
        "broken",
        "blocked",
        "ok",
    )
    assert {"kind": "source", "name": "toy-rows"} in rows["toy_plugin"]["components"]
    assert rows["schedulers"]["package"] == "tunesmith" and rows["schedulers"]["ms"] > 0


def test_list_mentions_what_failed_to_load_on_stderr(cli, tmp_path):
    (tmp_path / "bad.py").write_text("import not_a_package_at_all")
    assert cli("list", "--plugin", "bad.py").err == "1 plugin failed to load: bad; see `tunesmith plugins`\n"


def test_plugin_options_stand_before_or_behind_the_command(cli):
    before = cli("--plugin", TOY, "--no-plugin", "trackers", "list").out
    assert before == cli("list", "--plugin", TOY, "--no-plugin", "trackers").out
    assert before == cli("--plugin", TOY, "list", "--no_plugin=trackers").out
    assert "trackers" not in before.replace("toy-tracker", "").split("\n  ")[0] and "tensorboard" not in before


# ---------------------------------------------------------------------------------------------- show
def test_show_method_prints_card_presets_and_settings(cli):
    out = cli("show", "toy", "--plugin", TOY).out
    for text in (
        "toy  method, from " + TOY,
        "  paper     Toys, a study (arXiv:0000.00000)",
        "  use when  Testing.",
        "  data      3 rows.",
        "  memory    Little.",
        "  models    policy",
        "--preset wooden",
        "learning_rate 1e-4; patience 9",
        "  patience  integer  [default 3]\n      Steps to wait.",
        "  colour  red|light-blue  [default red]",
        "  label  text or null\n",
        "learning_rate  number  [default 0.001, with an adapter 0.005]",
        "schedule  scheduler or null  [default toy-ramp (warmup 0.1)]",
        "Make `noise`.",
    ):
        assert text in out, text
    consumes = next(line for line in out.splitlines() if line.startswith("  consumes"))
    assert consumes.startswith("  consumes  Text (formats: ") and "toy-format" in consumes
    supplies = next(line for line in out.splitlines() if line.startswith("  supplies"))
    assert "toy-sum" in supplies and "toy-numbers" not in supplies


def test_show_for_programs_has_every_setting(cli):
    facts = json.loads(cli("show", "toy", "--json", "--plugin", TOY).out)
    assert [s["name"] for s in facts["run_settings"]] == list(RunSettings.model_fields)
    rate = next(s for s in facts["run_settings"] if s["name"] == "learning_rate")
    assert (rate["default"], rate["default_with_adapter"], rate["type"]) == (1e-3, 5e-3, "number")
    assert facts["presets"]["wooden"]["settings"]["patience"] == 9
    assert facts["settings"][0] == {
        "name": "objective",
        "type": "objective",
        "optional": False,
        "required": False,
        "default": "toy-sum",
        "help": "Loss.",
    }


def test_every_installed_component_can_be_shown(cli):
    for component in json.loads(cli("list", "--json", "--plugin", TOY).out)["components"]:
        result = cli("show", f"{component['kind']}/{component['name']}", "--plugin", TOY)
        assert result.code == 0 and component["summary"] in result.out


@pytest.mark.parametrize("word", ["toy-sum", "objective/toy-sum", "objectives/toy_sum", "toy_plugin/toy-sum"])
def test_names_may_have_a_kind_or_a_plugin_in_front(cli, word):
    out = cli("show", word, "--plugin", TOY).out
    assert out.startswith("toy-sum  objective, from")
    assert "  reads     TokenLogps\n  sum over  tokens\n" in out and "toy" in out.split("methods")[1]
    assert cli("show", "toy-sum", "--kind", "objectives", "--plugin", TOY).out == out


def test_show_of_a_format(cli):
    out = cli("show", "toy-format", "--plugin", TOY).out
    assert "  columns   toy\n  produces  Text\n" in out


def test_name_of_two_kinds_must_be_qualified(cli, tmp_path):
    text = Path(TOY).read_text().replace('name: ClassVar[str] = "toy-ramp"', 'name: ClassVar[str] = "toy"')
    (tmp_path / "two.py").write_text(text)
    result = cli("show", "toy", "--plugin", "two.py")
    assert result.code == 2
    assert "'toy' is a method and a scheduler" in result.err and "write method/toy or scheduler/toy" in result.err
    assert cli("show", "scheduler/toy", "--plugin", "two.py").code == 0


def test_unknown_component(cli):
    result = cli("show", "toi", "--plugin", TOY)
    assert result.code == 2 and "there is no component 'toi'; did you mean 'toy'?" in result.err


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


FILE = f"method: toy\nmodel: m\ndata: toy:3\npreset: wooden\nplugins: {{files: [{TOY}]}}\n"


def test_run_file_loads_its_plugins_and_flags_override_it(dry, run_file):
    run = dry("--patience", 4, "--epochs", 7, start=("run", run_file(FILE + "epochs: 5\nseed: 1\n")))
    assert (run.method, run.patience, run.epochs, run.seed, run.learning_rate) == ("toy", 4, 7.0, 1, 1e-4)
    assert run.plugins["files"] == [TOY]


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


# ---------------------------------------------------------------------------------------------- run: the runner
def test_runner_gets_the_resolved_run(cli, launch):
    result = cli(*RUN, "--patience", 5, "--output", "there")
    assert (result.code, result.out, result.err) == (0, "runs/x/model\n", "")
    (call,) = launch
    assert call.run.method.patience == 5 and call.run.settings.output == Path("there")
    assert (call.resume, call.overwrite) == (False, False)
    assert call.registry.get("method", "toy").name == "toy"


@pytest.mark.parametrize(
    ("flags", "resume", "overwrite"),
    [
        (["--resume"], True, False),
        (["--resume_from_checkpoint"], True, False),
        (["--resume_from_checkpoint", "false"], False, False),
        (["--overwrite"], False, True),
    ],
)
def test_resume_and_overwrite_reach_the_runner(cli, launch, flags, resume, overwrite):
    assert cli(*RUN, *flags).code == 0
    assert (launch[0].resume, launch[0].overwrite) == (resume, overwrite)


def test_resume_loads_the_plugins_of_the_run(cli, launch, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.yaml").write_text(FILE)
    assert cli("resume", "old").out == "old/model\n"
    assert launch[0].folder == Path("old") and launch[0].registry.get("method", "toy").name == "toy"


def test_resume_of_what_is_no_run(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "there is no run.yaml" in cli("resume", "empty").err.replace("empty/", "")
    result = cli("resume", "emtpy")
    assert result.code == 2 and "there is no folder emtpy; did you mean 'empty'?" in result.err


def test_only_the_first_process_prints(cli, launch, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert cli(*RUN, "--per_device_train_batch_size", 4) == SimpleNamespace(code=0, out="", err="")
    assert len(launch) == 1
    assert cli(*RUN, "--lr", "x") == SimpleNamespace(code=2, out="", err="")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert cli(*RUN, "--lr", "x").err.startswith("error (process 1): learning_rate")


# ---------------------------------------------------------------------------------------------- errors
@pytest.fixture
def fail(cli, monkeypatch):
    """Run something whose runner raises."""

    def run(error: BaseException, *flags: object) -> SimpleNamespace:
        def start(*_, **__):
            raise error

        monkeypatch.setattr(tunesmith.runner, "launch", SimpleNamespace(start=start), raising=False)
        return cli(*RUN, *flags)

    return run


@pytest.mark.parametrize(
    ("error", "code", "first"),
    [
        (ConfigError("a"), 2, "error: a"),
        (DataError("a"), 3, "error: a"),
        (ResourceError("a"), 4, "error: a"),
        (DivergedError("a"), 5, "error: a"),
        (StoppedError("a", exit_code=75), 75, "stopped: a"),
        (TunesmithError("a"), 1, "error: a"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("a"), 4, "error: there is not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "here"), 4, "error: no space left on device: here"),
        (PermissionError(errno.EACCES, "Permission denied", "here"), 4, "error: permission denied: here"),
        (OSError("something else"), 1, "error: this is a bug of tunesmith"),
        (ZeroDivisionError("a"), 1, "error: this is a bug of tunesmith"),
    ],
)
def test_exit_codes(fail, error, code, first, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = fail(error)
    assert (result.code, result.out, result.err.splitlines()[0]) == (code, "", first)


def test_errors_have_four_parts_and_at_most_eight_lines(fail, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    rows = "\n".join(f"row {i}: {'x' * 30}" for i in range(30))
    error = DataError("label must be true or false", where="a.jsonl, row 3", why=rows, fix="--on-bad-row skip")
    lines = fail(error).err.splitlines()
    assert len(lines) == failures.MAX_LINES and max(map(len, lines)) <= 60
    assert lines[0] == "error: label must be true or false"
    assert lines[1] == "  where a.jsonl, row 3"
    assert lines[2] == "  why   row 0: " + "x" * 30 and lines[3].startswith("        row 1: ")
    assert lines[-2].endswith(" ...") and lines[-1] == "  fix   --on-bad-row skip"


def test_bug_leaves_a_traceback_where_it_says(fail, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = fail(ZeroDivisionError("secret hf_abcdefghijklmnop"))
    _, why, log = result.err.splitlines()
    assert why == "  why   ZeroDivisionError: secret hf_***"
    text = Path(log.split(maxsplit=1)[1]).read_text()
    assert "Traceback" in text and "hf_***" in text and "hf_abc" not in text


def test_bug_in_a_run_is_written_to_its_folder(fail, tmp_path):
    error = ZeroDivisionError("a")
    error.add_note(f"run folder: {tmp_path}")
    log = Path(fail(error).err.splitlines()[-1].split(maxsplit=1)[1])
    assert log.parent == tmp_path and "ZeroDivisionError: a" in log.read_text()


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_debug_prints_the_traceback(fail, monkeypatch, tmp_path, how):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if how == "variable":
        monkeypatch.setenv("TUNESMITH_DEBUG", "1")
    result = fail(ZeroDivisionError("a"), *(["--debug"] if how == "flag" else []))
    assert "Traceback (most recent call last)" in result.err and "ZeroDivisionError: a" in result.err


def test_bug_of_a_later_process_is_said_too(fail, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert fail(ZeroDivisionError("a")).err.startswith("error (process 3): this is a bug")
    assert fail(ResourceError("no memory")).err.startswith("error (process 3): no memory")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("token hf_AbCdEfGhIjKl at", "token hf_*** at"),
        ("key sk-proj-abc_defghijk.", "key sk-***."),
        ("password hunter2hunter2", "password ***"),
        ("half_life and task-force", "half_life and task-force"),
        ("TOKENIZERS_PARALLELISM is falsefalse", "TOKENIZERS_PARALLELISM is falsefalse"),
    ],
)
def test_secrets_are_masked(monkeypatch, text, masked):
    monkeypatch.setenv("MY_PASSWORD", "hunter2hunter2")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsefalse")
    assert failures.mask(text) == masked
    assert click.unstyle(failures.render(ConfigError(text))) == f"error: {masked}"


def test_messages_of_the_run_go_to_stderr(cli, monkeypatch):
    def start(*_, **__):
        log = logging.getLogger("tunesmith.runner")
        log.info("model    m")
        log.warning("slow: hf_abcdefghijklmnop")
        log.debug("nothing")
        return Path("x")

    monkeypatch.setattr(tunesmith.runner, "launch", SimpleNamespace(start=start), raising=False)
    assert cli(*RUN) == SimpleNamespace(code=0, out="x\n", err="model    m\nwarning: slow: hf_***\n")
    monkeypatch.setenv("RANK", "1")
    assert cli(*RUN).err == ""


def test_completion_knows_commands(cli, monkeypatch):
    monkeypatch.setenv("_TUNESMITH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "tunesmith re")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert "plain,resume" in cli().out


# ---------------------------------------------------------------------------------------------- schema
@pytest.fixture(scope="module")
def schema():
    from tunesmith.cli.schema import run_file_schema

    found = run_file_schema(load(files=[Path(TOY)]))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def test_schema_is_printed_as_json(cli, schema):
    assert json.loads(cli("schema", "--plugin", TOY).out) == schema.schema
    assert schema.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schema_takes_every_resolved_run(cli, schema, tmp_path):
    registry = load(files=[Path(TOY)])
    assert set(schema.schema["properties"]["method"]["enum"]) == set(registry.names("method"))
    resolved = set()
    for name in registry.names("method"):
        result = cli("run", name, "--plugin", TOY, "--model", "m", "--data", "toy:3", "--dry-run")
        if result.code == 0:  # others need more than a model and data
            resolved.add(name)
            (tmp_path / "run.yaml").write_text(result.out)
            schema.validate(read_run_file(tmp_path / "run.yaml"))
    assert "toy" in resolved and len(resolved) > 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"patience": 2, "preset": "wooden"},
        {"data": "x.jsonl"},
        {"data": ["x", {"path": "y", "weight": 0.3, "limit": 4}]},
        {"data": {"source": {"name": "toy-rows", "count": 3}, "weight": {"name": "toy-ramp", "final": 1}}},
        {"objective": "toy-sum"},
        {"objective": {"name": "toy-sum", "beta": 2}},
        {"objective": {"beta": 2}},
        {"schedule": None, "shadow": "toy-ramp"},
        {"trackers": "toy-tracker", "lora_targets": "q_proj"},
        {"trackers": [{"name": "toy-tracker", "folder": "x"}]},
        {"plugins": {"files": ["x.py"], "block": [], "require": ["a>=1"]}},
    ],
)
def test_schema_takes_what_the_command_line_takes(schema, settings):
    schema.validate({"method": "toy", **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"pateince": 2},
        {"patience": 0},
        {"replay": "x"},
        {"preset": "plastic"},
        {"data": [{"path": "y", "wieght": 0.3}]},
        {"data": {"source": {"name": "toy-rows", "cuont": 3}}},
        {"objective": "toy-sun"},
        {"objective": {"name": "toy-sum", "bta": 2}},
        {"schedule": {"name": "toy-ramp", "wramup": 2}},
        {"trackers": ["toy-trucker"]},
        {"dtype": "fp16"},
        {"plugins": {"fils": []}},
    ],
)
def test_schema_marks_what_the_command_line_refuses(schema, settings):
    assert not schema.is_valid({"method": "toy", **settings})


def test_schema_describes_every_setting(schema):
    properties = schema.schema["properties"]
    assert [name for name in RunSettings.model_fields if not properties[name].get("description")] == []
    (toy,) = (
        rule["then"]["properties"]
        for rule in schema.schema["allOf"]
        if rule["if"]["properties"]["method"]["const"] == "toy"
    )
    assert toy["patience"]["description"] == "Steps to wait." and toy["patience"]["default"] == 3
    assert toy["learning_rate"] == {"default": 1e-3} and "default" not in properties["learning_rate"]


# ---------------------------------------------------------------------------------------------- doctor
def test_doctor_reports_and_finds_this_environment_fit(cli):
    result = cli("doctor", "--json")
    report = json.loads(result.out)
    assert report["ok"] is (result.code == 0)
    checks = {check["name"]: check for check in report["checks"]}
    assert {"python", "torch", "cpu", "auto", "hub cache", "token cache", "runs", "loaded"} <= set(checks)
    assert checks["torch"]["status"] == "ok" and "a run computes on" in checks["auto"]["detail"]


def test_doctor_exits_with_4_when_something_required_is_broken(cli, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: ["torch>=999", "not-a-package-at-all>=2", "x; extra == 'e'"]
    )
    result = cli("doctor")
    assert result.code == 4
    lines = {tuple(line.split()[:2]): line for line in result.out.splitlines()}
    assert "needs >=999; pip install 'torch>=999'" in lines["broken", "torch"]
    assert "not installed, needs >=2" in lines["broken", "not-a-package-at-all"]
    assert "cannot write to" in lines["broken", "token"] and "TUNESMITH_CACHE" in lines["broken", "token"]


def test_doctor_says_what_works_without_a_connection(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    offline = {c["name"]: c for c in json.loads(cli("doctor", "--json").out)["checks"]}
    assert offline["offline"]["status"] == "note" and "0 models" in offline["hub cache"]["detail"]
    (tmp_path / "hub" / "models--a--b").mkdir(parents=True)
    ready = {c["name"]: c for c in json.loads(cli("doctor", "--json").out)["checks"]}
    assert "offline" not in ready and "1 models" in ready["hub cache"]["detail"]
