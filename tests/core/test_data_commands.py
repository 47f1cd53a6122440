"""``tunesmith data check`` and ``data show`` as their users see them, without any built-in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.cli.main import main

PLUGIN = str(Path(__file__).with_name("data_plugin.py"))
ALONE = ["--plugin", PLUGIN, "--no-plugin", "tunesmith"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tokenizer only: no model is loaded by these commands."""
    from tunesmith.data.encoding import train_tokenizer

    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["the quick brown fox says one two three four"] * 3, 300)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def write(tmp_path):
    def lines(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
        return str(path)

    return lines


@pytest.fixture
def data(capsys, monkeypatch):
    """``data("check", ...)``: exit code, stdout and stderr; output goes to a pipe, so no colours and no wrapping."""
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(command, *args):
        code = main(["data", command, *map(str, args), *ALONE])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def chat(*turns):
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]}


# ---------------------------------------------------------------------------------------------- check
def test_check_of_a_file_in_which_no_row_can_be_read(data, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"},\n{"text": "b"\n')
    code, out, _ = data("check", path)
    assert code == 3
    assert "not one of the first 2 rows of rows can be read" in out
    assert "rows.jsonl, row 1" in out and "Extra data" in out


def test_check_of_good_rows(data, write):
    code, out, _ = data("check", write({"text": "one"}, {"text": "three"}))
    assert code == 0
    assert out.splitlines() == [
        "rows",
        "  format      toy-text (found: 2 of the first 2 rows look like it (columns text))",
        "  rows        2   usable 2",
        "  characters  min 3   median 3   p95 5   max 5   total 8",
        "  no problems",
    ]


def test_check_counts_every_kind_of_problem_and_names_the_first_rows(data, write):
    numbers = [{"text": i} for i in range(5)]
    path = write({"text": "one"}, {"text": ""}, *numbers, '{"text"', {"txt": "x"}, {"text": "SKIP"})
    code, out, _ = data("check", path)
    assert code == 3
    assert "  rows        10   usable 1   skipped 1   empty 1" in out
    table = out[out.index("problem") :].splitlines()
    assert table[1].split("  ")[1:] != [] and "field 'text' is not text" in table[1]
    assert table[1].strip().startswith("5 ") and table[1].endswith("row 3, row 4, row 5, ...")
    assert any("the text is empty" in line and line.endswith("row 2") for line in table)
    assert any("not valid JSON" in line and line.endswith("row 8") for line in table)
    assert any("KeyError('text')" in line and line.endswith("row 9") for line in table)
    assert out.splitlines()[-1] == "  8 of 10 rows are bad"


def test_check_of_several_sources_goes_on_after_one_that_cannot_be_read(data, write):
    broken = write({"text": "one"}, "UNREADABLE", name="broken.jsonl")
    other = write({"question": "x"}, name="other.jsonl")
    good = write({"text": "one"}, name="good.jsonl")
    code, out, _ = data("check", broken, other, good)
    assert code == 3
    assert "the disk is on fire" in out and f"{broken}, line 2" in out
    assert "the rows of other fit no format" in out and "toy-qa needs question, answer" in out
    lines = out.splitlines()
    assert lines[lines.index("good") + 4] == "  no problems" and lines[-1].split() == ["good", "1", "100%"]


def test_check_names_the_file_of_a_row_where_there_are_several(data, write, tmp_path, capsys):
    folder = tmp_path / "many.jsonl"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_text('{"text": "x"}\n{"text": 5}\n')
    plugin = tmp_path / "many.py"
    text = Path(PLUGIN).read_text()
    one_file = "for number, line in enumerate(self.path.read_text().splitlines(), start=1):"
    assert one_file in text
    plugin.write_text(
        text.replace(one_file, "for file, number, line in self.lines():")
        .replace("str(self.path), number)", "str(file), number)")
        .replace(
            "    def rows(self):",
            (
                "    def lines(self):\n        for file in sorted(self.path.iterdir()):\n"
                "            for number, line in enumerate(file.read_text().splitlines(), start=1):\n"
                "                yield file, number, line\n\n    def rows(self):"
            ),
        )
    )
    assert main(["data", "check", str(folder), "--plugin", str(plugin), "--no-plugin", "tunesmith"]) == 3
    assert f"{folder}/one, row 2, {folder}/two, row 2" in capsys.readouterr().out


def test_check_with_a_model_counts_tokens_and_over_long_rows(data, write, model):
    from transformers import AutoTokenizer

    answer = len(AutoTokenizer.from_pretrained(model)("two")["input_ids"]) + 1  # and the end of the turn
    path = write(chat("one", "two"), chat("one", "two " * 30))
    code, out, _ = data("check", path, "--model", model, "--method", "toy-tutor", "--max-length", 30)
    assert code == 3 and "longer than 30: 1" in out and "more than max_length 30" in out
    assert f"   trained {answer}\n" in out
    code, out, _ = data("check", path, "--model", model, "--method", "toy-tutor", "--set", "overlong=truncate")
    assert code == 0 and "longer than 2,048: 0" in out
    for how, usable in (("truncate", "usable 2"), ("drop", "usable 1   dropped 1")):
        args = ["--max-length", 30, "--set", f"overlong={how}"]
        code, out, _ = data("check", path, "--model", model, "--method", "toy-tutor", *args)
        assert code == 0 and usable in out and "longer than 30: 1" in out
    code, out, _ = data("check", path, "--model", model)
    assert code == 0 and "longer than" not in out


def test_check_asks_the_method(data, write, model):
    path = write({"text": "a fox"}, {"text": "one"})
    args = ("check", path, "--model", model, "--method", "toy-reader")
    assert data(*args)[0] == 0
    code, out, _ = data(*args, "--set", "forbidden=fox")
    assert code == 3 and "it says fox" in out
    code, out, _ = data("check", path, "--method", "toy-tutor")
    assert code == 3 and "in the format 'toy-text', which toy-tutor does not take" in out


def test_check_renames_columns_and_takes_a_given_format(data, write):
    path = write({"q": "one", "a": "two", "text": "x"})
    code, out, _ = data("check", path, "--map", "question=q", "--map", "answer=a")
    assert code == 0 and "toy-qa (found" in out
    code, out, _ = data("check", path, "--format", "toy-text")
    assert code == 0 and "toy-text (as given)" in out


def test_a_source_can_be_written_out_with_its_settings(data, write):
    path = write(*({"text": f"text {i}"} for i in range(5)))
    code, out, err = data("check", f"{{path: {path}, limit: 2}}")
    assert (code, err) == (0, "") and "rows        2 " in out
    code, out, err = data("check", "{path: rows.jsonl")
    assert code == 2 and "is not valid YAML" in err and "{name: SOURCE, setting: value}" in err


def test_check_for_programs(data, write, model):
    path = write(chat("one", "two"), {"messages": None}, chat("one", "two"))
    code, out, _ = data("check", path, "--json", "--model", model)
    found = json.loads(out)
    [source] = found["sources"]
    assert (code, found["ok"], found["schema"]) == (3, False, 1)
    assert (source["rows"], source["usable"], source["bad"], source["duplicates"]) == (3, 2, 1, 1)
    assert source["unit"] == "tokens" and source["lengths"]["min"] == source["lengths"]["max"] > source["trained"] / 2
    assert source["problems"] == [
        {"reason": "field 'messages' is null", "rows": 1, "first": [{"file": path, "row": 2}]}
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--map", "question"], "--map 'question': write NAME=YOURS"),
        (["--set", "overlong"], "--set 'overlong': write KEY=VALUE"),
        (["--set", "overlon=drop"], "unknown setting 'overlon'; did you mean 'overlong'?"),
        (["--method", "toy-tutr"], "there is no method 'toy-tutr'; did you mean 'toy-tutor'?"),
        (["--format", "toy-txt"], "there is no format 'toy-txt'; did you mean 'toy-text'?"),
        (["--method", "toy-reader", "--set", "train_on=5"], "train_on"),
        (["--model", "./nowhere"], "there is no folder './nowhere'"),
        (["--max-lenth", "5"], "unknown option --max-lenth; did you mean --max-length?"),
    ],
)
def test_mistakes_on_the_command_line(data, write, args, message):
    code, out, err = data("check", write({"text": "one"}), *args)
    assert code == 2 and message in err and out == ""


def test_check_without_a_model_does_not_import_torch_or_transformers(write):
    code = (
        "import sys; from tunesmith.cli.main import main; "
        f"code = main(['data', 'check', {write({'text': 'one'})!r}, '--method', 'toy-reader', *{ALONE!r}]); "
        "sys.exit(code or 9 * bool({'torch', 'transformers', 'tokenizers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no problems" in done.stdout


# ---------------------------------------------------------------------------------------------- show
def test_show_marks_trained_text_in_brackets(data, write, model):
    path = write(chat("one", "two\nthree", "four", "fox"), chat("x", "y"), chat("x", "y"), chat("x", "y"))
    code, out, _ = data("show", path, "--model", model, "--rows", 2, "--method", "toy-tutor")
    assert code == 0
    first, second, *rest = out.split("\n\n")
    lines = first.splitlines()
    assert lines[1:] == [
        "  | <|im_start|>user",
        "  | one<|im_end|>",
        "  | <|im_start|>assistant",
        "  | [[two",
        "  | three<|im_end|>]]",
        "  | <|im_start|>user",
        "  | four<|im_end|>",
        "  | <|im_start|>assistant",
        "  | [[fox<|im_end|>]]",
    ]
    assert lines[0].startswith(f"{path}, row 1: ") and lines[0].endswith("trained, 0 BOS, 4 EOS (2 trained)")
    assert second.startswith(f"{path}, row 2: ") and rest == [""]
    _, out, _ = data("show", path, "--model", model, "--rows", 1, "--method", "toy-tutor", "--set", "train_on=last")
    assert "  | two" in out and out.count("[[") == 1


def test_show_starts_where_it_is_told(data, write, model):
    path = write(*({"text": f"number {i}"} for i in range(9)))
    _, out, _ = data("show", path, "--model", model, "--start", 4, "--rows", 2, "--method", "toy-reader")
    assert [line.split(":")[0].rpartition("row ")[2] for line in out.splitlines() if ", row " in line] == ["5", "6"]
    code, _, err = data("show", path, "--model", model, "--start", 9, "--method", "toy-reader")
    assert code == 2 and "--start 9: there are not so many rows" in err


def test_show_in_colour(data, write, model, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    path = write({"question": "one", "answer": " two"})
    _, out, _ = data("show", path, "--model", model, "--method", "toy-tutor")
    assert "  | one\x1b[32m two<|endoftext|>\x1b[0m" in out and "[[" not in out
    monkeypatch.setenv("NO_COLOR", "1")
    _, out, _ = data("show", path, "--model", model, "--method", "toy-tutor")
    assert "  | one[[ two<|endoftext|>]]" in out and "\x1b" not in out


def test_show_escapes_what_would_steer_a_terminal(data, write, model):
    path = write({"text": "a\x1b[31mred\x07\u202ek"})
    _, out, _ = data("show", path, "--model", model, "--method", "toy-reader")
    assert r"\x1b[31mred\x07\u202ek" in out
    assert not any(ord(c) < 32 and c != "\n" for c in out) and "\u202e" not in out


def test_show_says_where_a_row_is_cut_and_that_its_end_is_lost(data, write, model):
    path = write({"question": "one", "answer": " two three four"})
    args = ("show", path, "--model", model, "--method", "toy-tutor", "--max-length", 3)
    code, out, _ = data(*args, "--set", "overlong=truncate")
    assert code == 0 and ", cut at 3, " in out and "<<CUT AT 3>>" in out
    assert "warning: no token that stops generation is trained on (the end is cut off)" in out
    assert "EOS (0 trained)" in out
    code, out, _ = data(*args)
    assert code == 3 and "<<LONGER THAN 3>>" in out and "bad row:" in out and "more than max_length 3" in out
    code, out, _ = data(*args, "--set", "overlong=drop")
    assert code == 0 and "dropped: longer than 3" in out


def test_show_warns_of_two_bos_and_of_nothing_trained(data, write, model, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.save_pretrained(tmp_path / "bos")
    template = tmp_path / "double.jinja"
    template.write_text("{{ bos_token }}{{ bos_token }}" + TEMPLATE)
    args = ("--model", tmp_path / "bos", "--method", "toy-tutor")
    _, out, _ = data("show", write(chat("x", "y")), *args, "--chat-template", template)
    assert "2 BOS" in out and "warning: 2 beginning-of-text tokens" in out
    _, out, _ = data("show", write(chat("x", "y")), *args)
    assert "0 BOS" in out and "warning" not in out
    path = write({"ids": [5, 6, 7], "mute": True})
    code, out, _ = data("show", path, "--model", model, "--method", "toy-any")
    assert code == 3 and "warning: nothing is trained on" in out and "bad row: no token of it is trained on" in out


def test_show_goes_on_after_a_bad_row(data, write, model):
    path = write({"text": "SKIP"}, {"text": 5}, {"text": "one"})
    code, out, _ = data("show", path, "--model", model, "--method", "toy-reader")
    assert code == 3
    assert "row 1: left out by the format" in out and "row 2: bad row: field 'text' is not text" in out
    assert "row 3: " in out and "| one[[<|endoftext|>]]" in out


def test_show_needs_a_method_where_several_take_the_rows(data, write, model):
    code, _, err = data("show", write({"text": "one"}), "--model", model)
    assert code == 2 and "in the format 'toy-text', which 2 methods take" in err
    assert "add --method, one of: toy-any, toy-reader" in err


def test_show_takes_the_only_method_there_is(data, write, model, tmp_path, capsys):
    only = tmp_path / "only.py"
    only.write_text(Path(PLUGIN).read_text().replace("return [Toy, Reader, Tutor]", "return [Tutor]"))
    args = ["--model", model, "--plugin", str(only), "--no-plugin", "tunesmith"]
    assert main(["data", "show", write(chat("x", "y")), *args]) == 0
    assert "[[y<|im_end|>]]" in capsys.readouterr().out
    assert main(["data", "show", write({"text": "x"}), *args]) == 2
    assert "which no installed method takes" in capsys.readouterr().err


def test_a_rule_over_several_settings_of_a_method_does_not_matter_to_rows(data, write, tmp_path, capsys):
    strict = tmp_path / "strict.py"
    rule = (
        "    @pydantic.model_validator(mode='after')\n    def _rule(self):\n"
        "        raise ValueError('needs more data')\n\n    def check(self, example, tree):\n"
    )
    text = Path(PLUGIN).read_text().replace("    def check(self, example, tree):\n", rule, 1)
    strict.write_text("import pydantic\n" + text)
    args = ["--method", "toy-reader", "--plugin", str(strict), "--no-plugin", "tunesmith"]
    assert main(["data", "check", write({"text": "one"}), *args]) == 0, capsys.readouterr().err
    assert "no problems" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ prompts
@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"number {i}", "answer": i}) + "\n" for i in range(4)))
    return path


def test_prompts_are_checked_without_rewards_and_with_them(cli, tiny_model, prompts):
    found = cli("data", "check", prompts, "--method", "grpo", "--model", tiny_model)
    assert found.code == 0, found.err
    assert "trained" not in found.out
    assert "no problems" in found.out
    lacking = cli("data", "check", prompts, "--method", "grpo", "--model", tiny_model, "--set", "rewards=countdown")
    assert lacking.code == 3
    assert "countdown reads the column" in lacking.out


def test_a_prompt_is_shown_as_one(cli, tiny_model, prompts):
    found = cli("data", "show", prompts, "--method", "grpo", "--model", tiny_model, "--rows", "1")
    assert found.code == 0, found.err
    assert "a prompt of" in found.out
    assert "| number 0" in found.out
    assert "trained" not in found.out
