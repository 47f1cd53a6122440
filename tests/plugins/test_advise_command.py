"""``tunesmith advise`` and ``tunesmith budget`` as their users meet them: files in, a page and a run file out."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tunesmith.cli.main import main

VERSE = str(Path(__file__).parent / "verse_plugin.py")
TEXT = "the cat sat on a mat while rain fell over green hills and people walked home from work"
WORDS = TEXT.split()


@pytest.fixture
def cli(capsys, monkeypatch):
    """``cli(*words)``: exit code, stdout and stderr, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def advise(cli):
    """``advise(*words)``: what the command says for programs."""

    def run(*words):
        result = cli("advise", "--json", *words)
        assert result.code == 0, result.err
        return json.loads(result.out)

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files such as users have."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)

    def text(size):
        return " ".join(rng.choice(WORDS) for _ in range(size))

    def write(name, rows):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)

    thumbs = [{"prompt": f"{i}? {text(6)}", "completion": text(9), "label": i % 10 < 7} for i in range(2000)]
    write("thumbs", thumbs)
    write("pairs", [{"prompt": f"{i}? {text(6)}", "chosen": text(9), "rejected": text(12)} for i in range(30)])
    write("more", [{"prompt": f"{i}? {text(6)}", "chosen": text(14), "rejected": text(9)} for i in range(300)])
    write("maths", [{"prompt": f"What is {i} + {2 * i}?", "answer": str(3 * i)} for i in range(3000)])
    write("unanswered", [{"prompt": f"Write about {text(5)} {i}"} for i in range(300)])
    turns = [({"role": "user", "content": f"{i}? {text(6)}"}, text(9)) for i in range(2000)]
    write("chats", [{"messages": [turn, {"role": "assistant", "content": reply}]} for turn, reply in turns])
    traces = [f"<think>{text(40)}</think> {i}" for i in range(300)]
    write("traces", [{"prompt": f"{i}? {text(6)}", "completion": trace} for i, trace in enumerate(traces)])
    write("copies", [{"prompt": f"{i % 400}? again", "completion": f"{i % 400}"} for i in range(800)])
    write("sonnets", [{"verse": [f"line {i} {line}" for line in range(14)]} for i in range(20)])
    (folder / "manuals").mkdir()
    for i in range(3):
        (folder / "manuals" / f"{i}.txt").write_text(text(500))
    return folder


def first(said):
    return said["advice"][0]["options"][0]


# ------------------------------------------------------------------------------------------------ the four traps
def test_thumbs_are_for_kto(advise, data):
    said = advise("--data", data / "thumbs.jsonl")
    assert (first(said)["name"], first(said)["verdict"]) == ("kto", "recommended")
    assert said["advice"][0]["goal"] == "style"
    assert any("the goal is style" in text for text in said["assumed"])
    assert "retrieval" not in [option["name"] for option in said["advice"][0]["options"]]
    assert first(said)["findings"][0]["text"].startswith("1,400 thumbs up, 600 down; a thumb down gets 2.3 times")


def test_thirty_pairs_are_not_enough(advise, data):
    said = advise("--goal", "safety", "--data", data / "pairs.jsonl")
    verdicts = {option["name"]: option["verdict"] for option in said["advice"][0]["options"]}
    assert verdicts["dpo"] == "not yet" and first(said)["name"] == "prompting"
    assert said["run_file"] is None and said["no_run_file"] == "nothing should be trained yet"


def test_verifiable_prompts_are_for_rl(advise, data):
    said = advise("--data", data / "maths.jsonl")
    assert first(said)["name"] == "grpo"
    assert said["data"][0]["checkers"][:2] == ["numeric", "math"]
    assert said["run_file"]["rewards"] == "numeric"
    assert f"tunesmith eval MODEL --data {data / 'maths.jsonl'} --limit 100 --reward numeric" in said["next"]


def test_chats_do_not_teach_facts(advise, data):
    said = advise("--goal", "facts", "--data", data / "chats.jsonl")
    verdicts = {option["name"]: option["verdict"] for option in said["advice"][0]["options"]}
    assert (first(said)["name"], verdicts["sft"]) == ("retrieval", "no")


# ------------------------------------------------------------------------------------------------ what files hold
def test_what_is_read_of_files(advise, data):
    said = advise(
        "--goal", "task", *(word for name in ("traces", "copies") for word in ("--data", f"{data}/{name}.jsonl"))
    )
    traces, copies = said["data"]
    assert (traces["kind"], traces["traces"]) == ("demonstration", 1.0)
    assert (copies["traces"], copies["duplicates"]) == (0.0, 400)
    [known] = said["advice"]
    assert known["case"]["demos"] == 1100
    assert known["case"]["traces"] == pytest.approx(300 / 1100)
    assert known["case"]["duplicates"] == pytest.approx(400 / 1100)
    assert [check["rule"] for check in known["checks"] if check["stop"]] == ["D1"]


def test_a_tokenizer_counts_and_a_config_has_parameters(advise, data, tiny_model):
    texts = advise("--goal", "facts", "--data", data / "manuals")["data"][0]
    counted = advise("--goal", "facts", "--data", data / "manuals", "--model", tiny_model)
    assert texts["unit"] == "characters" and counted["data"][0]["unit"] == "tokens"
    assert counted["data"][0]["tokens"] == counted["data"][0]["total"]
    # embeddings and head of 32 columns, and 2 layers: 32*32 + 32*16*2 + 32*32 + 3*32*48 + 2*32 parameters; a last norm
    rows = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
    assert counted["advice"][0]["case"]["parameters"] == 2 * rows * 32 + 2 * layer + 32
    assert counted["data"][0]["fertility"] > 0


def test_room_is_made_for_rows_that_are_longer_than_usual(advise, tiny_model, tmp_path):
    rows = [{"prompt": "Say it. ", "completion": "on and on " * size} for size in (10, 20, 1500)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 200))
    said = advise("--goal", "task", "--data", tmp_path / "long.jsonl", "--model", tiny_model)
    assert said["advice"][0]["case"]["overlong"] == pytest.approx(1 / 3)
    assert "D2" in said["rules"]
    longest = said["data"][0]["lengths"]["max"]
    assert longest > 2048 and 0 <= said["run_file"]["max_length"] - longest < 64


def test_chosen_answers_that_are_longer_are_warned_of(advise, data):
    said = advise("--goal", "style", "--data", data / "more.jsonl")
    assert said["advice"][0]["case"]["longer"] > 0.9
    assert "S4" in said["rules"]


def test_rows_of_the_evaluation_data_are_found(advise, data, tmp_path):
    rows = (data / "copies.jsonl").read_text().splitlines(keepends=True)
    fresh = ['{"prompt": "new?", "completion": "yes"}\n', '{"prompt": "newer?", "completion": "no"}\n']
    (tmp_path / "eval.jsonl").write_text("".join([*rows[:2], *fresh]))
    said = advise("--goal", "task", "--data", data / "copies.jsonl", "--eval-data", tmp_path / "eval.jsonl")
    assert said["advice"][0]["case"]["overlap"] == 0.5
    assert {"rule": "D5", "text": "50% of the evaluation rows stand in the training data", "stop": True} in (
        said["advice"][0]["checks"]
    )


@pytest.mark.parametrize(
    ("answers", "reward"),
    [
        (["A", "(b)"], "multiple-choice"),
        (["3", "-1,200.5"], "numeric"),
        (["x^2", "3"], "math"),
        (["Paris"], "exact-match"),
    ],
)
def test_answers_tell_which_reward_reads_them(answers, reward):
    from tunesmith_plugins.advice.reading import likeliest

    assert likeliest(answers)[0] == reward


# ------------------------------------------------------------------------------------------------ the run file
CASES = {
    "thumbs": (["--data", "thumbs.jsonl"], "kto"),
    "maths": (["--data", "maths.jsonl", "--model", "7B", "--gpu", "24GB", "--no-plan"], "grpo"),
    "one epoch of chats": (["--goal", "style", "--data", "chats.jsonl", "--adapter", "none"], "sft"),
    "chosen answers": (["--goal", "style", "--data", "more.jsonl"], "sft"),
    "short of memory": (
        ["--goal", "style", "--data", "thumbs.jsonl", "--model", "7B", "--gpu", "8GB", "--no-plan"],
        "kto",
    ),
    "four bits asked for": (["--data", "thumbs.jsonl", "--adapter", "4bit"], "kto"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_run_file_is_complete(cli, data, monkeypatch, tmp_path, name):
    words, method = CASES[name]
    monkeypatch.chdir(data)
    path = tmp_path / "run.yaml"
    result = cli("advise", *words, "--output", path)
    assert result.code == 0, result.err
    assert f"Run file: {path}" in result.out and f"tunesmith run {path}" in result.out
    settings = yaml.safe_load(path.read_text())
    assert settings["method"] == method and settings["model"] == "MODEL"
    done = cli("run", path, "--dry-run")
    assert done.code == 0, done.err
    complete = yaml.safe_load(done.out)
    wanted = {"short of memory": ("lora", "4bit"), "four bits asked for": ("lora", "4bit")}
    form = wanted.get(name, ("none" if "none" in words else "lora", "none"))
    assert (complete["adapter"], complete["quantize"]) == form


def test_an_existing_run_file_is_kept(cli, data, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("mine")
    words = ("advise", "--data", data / "thumbs.jsonl", "--output", path)
    result = cli(*words)
    assert result.code == 2 and "--overwrite" in result.err and path.read_text() == "mine"
    assert cli(*words, "--overwrite").code == 0
    assert "method: kto" in path.read_text()


def test_no_run_file_is_written_where_nothing_should_be_trained(cli, data, tmp_path):
    path = tmp_path / "run.yaml"
    result = cli("advise", "--goal", "facts", "--data", data / "manuals", "--output", path)
    assert result.code == 0 and not path.exists()
    assert "Run file: none, as nothing should be trained yet." in result.out


def test_prompts_that_nothing_can_judge_get_no_run_file(advise, data):
    said = advise("--goal", "reasoning", "--data", data / "unanswered.jsonl")
    assert said["data"][0]["checkers"] == [] and said["run_file"] is None
    with_rule = advise(
        "--goal", "reasoning", "--data", data / "unanswered.jsonl", "--verifier", "{name: regex, pattern: a}"
    )
    assert with_rule["run_file"]["rewards"] == {"name": "regex", "pattern": "a"}


def test_the_plan_of_the_run_file_is_told(advise, data, tiny_model):
    words = ("--data", data / "thumbs.jsonl", "--model", tiny_model)
    said = advise(*words, "--gpu", "24GB")
    assert said["plan"]["fits"] and 0 < said["plan"]["gigabytes"] < 2 and said["plan"]["there_are"] == 24
    assert "activation_checkpointing" not in said["run_file"]
    # what changes no result is tried in the run file before it is said not to fit
    tight = advise(*words, "--gpu", f"{said['plan']['gigabytes'] / 2:.4f}GB")
    assert tight["run_file"]["activation_checkpointing"]
    assert advise(*words, "--gpu", "24GB", "--no-plan")["plan"] is None


def test_going_on_with_text_takes_general_text_to_mix_in(advise, data, tmp_path, monkeypatch):
    from tunesmith_plugins.advice.rules import knowledge

    monkeypatch.setattr(knowledge, "least", lambda *_: 100.0)
    words = ("--goal", "language", "--data", data / "manuals")
    assert "--general DATA" in advise(*words)["no_run_file"]
    (tmp_path / "general.txt").write_text("Water is wet. " * 50)
    said = advise(*words, "--general", tmp_path / "general.txt")
    assert said["run_file"]["replay"] == str(tmp_path / "general.txt")
    assert (said["run_file"]["replay_share"], said["run_file"]["overlong"]) == (0.25, "split")


# ------------------------------------------------------------------------------------------------ the page
def test_the_page_keeps_to_the_terminal_and_says_what_it_rests_on(cli, data):
    result = cli("advise", "--data", data / "maths.jsonl", "--model", "7B", "--gpu", "24GB", "--no-plan")
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80 or str(data) in result.out
    titles = ["Goal: reasoning", "Before training", "Data against the cards", "Where the guide and the papers differ"]
    titles += [
        "Memory",
        "Assumed",
        "What would change this advice",
        "Run file",
        "Next",
        "Sources: tunesmith advise --explain",
    ]
    places = [result.out.index(title) for title in titles]
    assert places == sorted(places)


def test_several_goals_have_a_section_each(cli, data):
    out = cli("advise", "--goal", "style", "--goal", "facts", "--data", data / "thumbs.jsonl").out
    assert out.index("Goal: style") < out.index("Goal: facts") < out.index("Assumed")


def test_rules_are_explained(cli):
    from tunesmith_plugins.advice.engine import RULES

    out = cli("advise", "--explain", "k1, S3").out
    assert out.startswith("K1   When the goal is facts, or a domain:") and "\nS3   " in out
    assert "arXiv:2312.05934" in out.replace("\n     ", " ")
    everything = cli("advise", "--explain", "all").out
    assert all(f"\n{id} " in f"\n{everything}" for id in RULES)
    assert max(map(len, everything.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--goal", "fact"), "there is no goal 'fact'; did you mean 'facts'?"),
        (("--explain", "K9"), "there is no rule 'K9'"),
        ((), "say what training is for, or what data there is"),
        (("--goal", "style", "--gpu", "huge"), "'huge' is no device"),
        (("--goal", "style", "--model", "no/such/folder"), "no/such/folder"),
        (("--goal", "style", "--verifier", "mth"), "did you mean"),
    ],
)
def test_what_makes_no_sense_is_refused(cli, words, said):
    result = cli("advise", *words)
    assert result.code in (2, 4) and said in result.err
    assert len(result.err.splitlines()) <= 8


def test_data_that_cannot_be_read_is_refused_and_not_left_out(cli, tmp_path):
    (tmp_path / "odd.jsonl").write_text('{"colour": "green"}\n')
    result = cli("advise", "--goal", "task", "--data", tmp_path / "odd.jsonl")
    assert result.code == 3 and "fit no format" in result.err


def test_what_is_not_said_is_asked_on_a_terminal(data, monkeypatch):
    from tunesmith_plugins.advice import command

    answers = iter(["style", str(data / "thumbs.jsonl"), "", "24GB"])
    asked = []
    monkeypatch.setattr(command.click, "prompt", lambda text, **_: asked.append(text) or next(answers))
    goals, options = command._ask((), {"words": (), "model": None, "gpu": None}, {})
    assert (goals, options["words"], options["model"], options["gpu"]) == (
        ("style",), (str(data / "thumbs.jsonl"),), None, "24GB"
    )  # fmt: skip
    assert "facts" in asked[0] and len(asked) == 4


def test_built_ins_may_be_absent(cli, data):
    result = cli("--no-plugin", "grpo", "advise", "--data", data / "maths.jsonl")
    assert result.code == 0 and "Not installed, so not advised: grpo" in result.out
    assert " 1. rloo: recommended" in result.out


# ------------------------------------------------------------------------------------------------ methods of others
def test_a_method_of_another_package_is_advised_by_its_card(advise, cli, data):
    said = advise("--plugin", VERSE, "--goal", "poetry", "--data", data / "sonnets.jsonl")
    option = first(said)
    assert (option["name"], option["verdict"], option["rules"]) == ("verse", "recommended", ["G1"])
    assert option["findings"][0]["text"] == "20; its card: 10-154 rows (one poet)"
    assert said["run_file"]["method"] == "verse"
    said = advise("--plugin", VERSE, "--goal", "style", "--data", data / "sonnets.jsonl")
    verse = next(option for option in said["advice"][0]["options"] if option["name"] == "verse")
    assert verse["verdict"] == "not yet" and "1k-9k+ rows" in verse["findings"][0]["text"]
    assert "there is no goal 'poetry'" in cli("advise", "--goal", "poetry").err


def test_show_prints_the_volumes_of_a_card(cli):
    out = cli("--plugin", VERSE, "show", "verse").out
    assert "Typical data\n  one poet  10-154 rows  in order. The Sonnets, 1609\n  an age    1k-9k+ rows  The" in out
    said = json.loads(cli("--plugin", VERSE, "show", "verse", "--json").out)
    assert said["goals"] == ["poetry", "style"]
    assert [(v["low"], v["goals"]) for v in said["volumes"]] == [(10, ["poetry"]), (1000, ["poetry", "style"])]


# ------------------------------------------------------------------------------------------------ budget
def test_budget_of_a_size(cli):
    said = json.loads(cli("budget", "--model", "1B", "--gpu", "h100", "--gpus", "8", "--json").out)
    ratio, law = said["ways"]
    assert (ratio["tokens"], ratio["flops"]) == (2e10, 1.2e20)
    assert law["tokens"] == pytest.approx(22.7e9, rel=0.01)
    # 1.2e20 FLOPs on eight cards of 989e12 a second at 35% of that
    assert ratio["hours"]["likely"] == pytest.approx(1.2e20 / (8 * 989e12 * 0.35) / 3600)
    assert ratio["hours"]["low"] < ratio["hours"]["likely"] < ratio["hours"]["high"]


def test_budget_of_hours_and_of_tokens(cli):
    by_hours = json.loads(cli("budget", "--gpu", "h100", "--gpus", "8", "--hours", "100", "--json").out)["ways"][0]
    assert by_hours["hours"]["likely"] == pytest.approx(100)
    by_tokens = json.loads(cli("budget", "--tokens", "20B", "--json").out)["ways"]
    assert by_tokens[0]["parameters"] == 1e9
    again = json.loads(cli("budget", "--model", f"{by_tokens[1]['parameters']:.0f}", "--json").out)["ways"][1]
    assert again["tokens"] == pytest.approx(2e10, rel=1e-6)


def test_budget_with_service_is_smaller_and_longer(cli):
    plain, _, served = json.loads(cli("budget", "--flops", "1e21", "--serve", "1T", "--json").out)["ways"]
    assert served["parameters"] < plain["parameters"] / 2 and served["tokens"] > 2 * plain["tokens"]
    assert served["loss"] == pytest.approx(plain["loss"], abs=1e-3)
    assert served["flops_with_service"] < plain["flops_with_service"]


@pytest.mark.parametrize(("unique", "warned"), [("20B", None), ("5B", None), ("4B", "beyond 4"), ("1B", "beyond 16")])
def test_repetition_is_warned_of(cli, unique, warned):
    said = json.loads(cli("budget", "--model", "1B", "--tokens", "20B", "--unique", unique, "--json").out)["repetition"]
    assert [text for text in said if text.startswith("warning")] == [text for text in said if warned and warned in text]
    assert bool(warned) == any(text.startswith("warning") for text in said)


def test_budget_of_going_on(cli):
    said = json.loads(cli("budget", "cpt", "--model", "7B", "--goal", "language", "--unique", "3B", "--json").out)
    assert [way["tokens"] for way in said["ways"]] == [1e10, 5e10]
    assert said["ways"][0]["replay_tokens"] == 2.5e9 and said["ways"][0]["flops"] == 6 * 7e9 * 1e10
    out = cli("budget", "cpt", "--model", "7B", "--gpu", "24GB").out
    assert max(map(len, out.splitlines())) <= 80 and "GPU hours" in out


@pytest.mark.parametrize("words", [("budget",), ("budget", "--model", "big"), ("budget", "cpt")])
def test_a_budget_of_nothing_is_refused(cli, words):
    assert cli(*words).code == 2
