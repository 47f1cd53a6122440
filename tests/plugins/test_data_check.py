"""``tunesmith data check``: every fault that is put into clean rows is found by its check, and clean rows by none."""

import json
import random

import pytest

from tunesmith.cli.main import main

ROWS = 120
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
ENDLESS = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"


class Words:
    """Sentences that are never alike."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.known = ["".join(self.random.choices("abcdefghilmnoprstu", k=6)) for _ in range(3000)]

    def __call__(self, count):
        return " ".join(self.random.choices(self.known, k=count))


def clean(shape, seed=0, rows=ROWS):
    """Rows without a fault: lengths, orders and labels are even."""
    say = Words(seed)
    made = {
        "messages": lambda i: {
            "messages": [{"role": "user", "content": say(12)}, {"role": "assistant", "content": say(16)}]
        },
        "completion": lambda i: {"prompt": say(12), "completion": say(16)},
        "pairs": lambda i: {"prompt": say(12), "chosen": say(14 + i % 3), "rejected": say(14 + (i + 1) % 3)},
        "unpaired": lambda i: {"prompt": say(12), "completion": say(16), "label": i % 2 == 0},
        "prompts": lambda i: {"prompt": say(12), "answer": str(i)},
        "text": lambda i: {"text": say(60)},
        "ranking": lambda i: {"prompt": say(12), "completions": [say(14), say(14), say(14)], "scores": [1, 2, 3]},
    }[shape]
    return [made(i) for i in range(rows)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """``model(template=..., **changes)``: the folder of a tokenizer."""
    from tunesmith.data.encoding import train_tokenizer

    trained = train_tokenizer([row["text"] for row in clean("text", rows=10)], 300)
    trained.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})

    def made(template=TEMPLATE, lower=False, bos=False):
        from tokenizers.normalizers import Lowercase

        folder = tmp_path_factory.mktemp("model")
        trained.chat_template = template
        trained.bos_token = "<|im_start|>" if bos else None
        before = trained.backend_tokenizer.normalizer
        if lower:
            trained.backend_tokenizer.normalizer = Lowercase()
        trained.save_pretrained(folder)
        trained.backend_tokenizer.normalizer = before
        return str(folder)

    return made


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """``checked({name: rows}, *options)``: exit code, and the report for programs."""
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(files, *options, json_=True, data=None):
        for name, rows in files.items():
            (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [name for name in files if not name.startswith("eval")] if data is None else data
        code = main(["data", "check", *words, *map(str, options), *(["--json"] if json_ else [])])
        out = capsys.readouterr().out
        return code, json.loads(out) if json_ else out

    return run


def found(report):
    """Check to level of everything that is more than fine, the mix included."""
    findings = [finding for source in [*report["sources"], report["mix"]] for finding in source["findings"]]
    return {finding["check"]: finding["level"] for finding in findings if finding["level"] != "fine"}


# ---------------------------------------------------------------------------------------------- clean rows
@pytest.mark.parametrize("shape", ["messages", "completion", "pairs", "unpaired", "prompts", "text", "ranking"])
def test_clean_rows_of_every_format_are_fine(checked, model, shape):
    for options in ((), ("--model", model())):
        code, report = checked({"rows.jsonl": clean(shape), "eval.jsonl": clean("prompts", 9, 40)}, *options,
                               "--against", "eval.jsonl")  # fmt: skip
        assert (code, report["ok"], report["level"], found(report)) == (0, True, "fine", {})
        [source] = report["sources"]
        assert sum(source["histogram"]["counts"]) == ROWS == source["usable"]
        assert len(source["histogram"]["edges"]) == len(source["histogram"]["counts"]) + 1
        assert report["against"][0]["rows"] == 40 and report["against"][0]["leaked"] == 0


# ---------------------------------------------------------------------------------------------- faults of rows
def same_prompt(rows):
    return [*rows, *({**row, "completion": Words(5 + i)(9)} for i, row in enumerate(rows[:20]))]


def one_word_more(rows):
    return [*rows, *({"text": row["text"] + " once"} for row in rows[:20])]


FAULTS = {
    "copies": ("text", lambda rows: [*rows, *rows[:20]], {"duplicates": "warn"}),
    "near copies": ("text", one_word_more, {"near-duplicates": "warn"}),
    "case and blanks": (
        "text",
        lambda rows: [*rows, *({"text": "  " + row["text"].upper()} for row in rows[:9])],
        {"near-duplicates": "warn"},
    ),
    "two answers": ("completion", same_prompt, {"answers": "warn"}),
    "blank prompts": (
        "messages",
        lambda rows: [*rows[9:], *({"messages": row["messages"][1:]} for row in rows[:9])],
        {"blank-prompt": "warn"},
    ),
    "one label": ("unpaired", lambda rows: [{**row, "label": True} for row in rows], {"labels": "warn"}),
    "few of a label": (
        "unpaired",
        lambda rows: [{**row, "label": i < 6} for i, row in enumerate(rows)],
        {"labels": "warn"},
    ),
    "longer is better": (
        "pairs",
        lambda rows: [{**row, "chosen": row["chosen"] + " and more of it" * 3} for row in rows],
        {"length-bias": "warn"},
    ),
    "longest is best": (
        "ranking",
        lambda rows: [{**r, "completions": [*r["completions"][:2], Words(i)(40)]} for i, r in enumerate(rows)],
        {"length-bias": "warn"},
    ),
    "cut answers": (
        "pairs",
        lambda rows: [*rows[20:], *({**r, "rejected": r["chosen"][:40]} for r in rows[:20])],
        {"prefix": "warn"},
    ),
    "a word apart": (
        "pairs",
        lambda rows: [
            {**r, **dict(zip(("chosen", "rejected"), (Words(i)(30) + " a", Words(i)(30) + " b"), strict=True))}
            for i, r in enumerate(rows)
        ],
        {"alike": "warn"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_check_and_by_no_other(checked, fault):
    shape, change, wanted = FAULTS[fault]
    code, report = checked({"rows.jsonl": change(clean(shape))})
    assert found(report) == wanted
    assert (code, report["ok"], report["level"]) == (0, True, "warn")


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ("completion", lambda rows: [*rows, {"prompt": "a", "completion": ""}]),
        (
            "messages",
            lambda rows: [*rows, {"messages": [*rows[0]["messages"][:1], {"role": "assistant", "content": " "}]}],
        ),
        ("pairs", lambda rows: [{**row, "rejected": row["chosen"]} for row in rows]),
        ("pairs", lambda rows: [*rows, {**rows[0], "chosen": rows[0]["rejected"], "rejected": rows[0]["chosen"]}]),
        ("unpaired", lambda rows: [*rows, {**rows[0], "label": not rows[0]["label"]}]),
    ],
    ids=["empty completion", "empty turn", "identical pairs", "both orders", "both labels"],
)
def test_what_would_train_wrongly_has_exit_code_3(checked, shape, change):
    code, report = checked({"rows.jsonl": change(clean(shape))})
    assert (code, report["ok"], report["level"], report["sources"][0]["level"]) == (3, False, "stop", "stop")


def test_places_share_and_threshold_are_told(checked):
    _, report = checked({"rows.jsonl": [*clean("text"), *clean("text")[:20]]})
    [finding] = [f for f in report["sources"][0]["findings"] if f["check"] == "duplicates"]
    assert finding["first"][0] == {"file": "rows.jsonl", "row": ROWS + 1}
    assert (finding["rows"], finding["of"], finding["share"]) == (20, 140, 20 / 140)
    assert finding["threshold"] == 0.05 and "2107.06499" in finding["why"]


# ---------------------------------------------------------------------------------------------- evaluation data
def noisy(text):
    return text.upper().replace(" ", ",  ", 3) + "?!"


@pytest.mark.parametrize(
    ("put_in", "key"),
    [
        (lambda text: text, "exact"),
        (noisy, "exact"),
        (lambda text: f"Answer this please: {noisy(text)} Thank you.", "inside"),
        (lambda text: f"First things first. {text.rpartition(' ')[0]} otherwise", None),
    ],
    ids=["the same", "other case and commas", "inside of a text", "most of its words"],
)
def test_evaluation_rows_in_training_data_are_found(checked, put_in, key):
    asked = [{"prompt": Words(7)(30)}, *clean("prompts", 9, 40)]
    for shape, place in (
        ("messages", lambda row, text: {"messages": [{"role": "user", "content": text}, *row["messages"][1:]]}),
        ("text", lambda row, text: {"text": text}),
    ):
        rows = clean(shape)
        rows[50] = place(rows[50], put_in(asked[0]["prompt"]))
        code, report = checked({"rows.jsonl": rows, "eval.jsonl": asked}, "--against", "eval.jsonl")
        assert (code, found(report)) == (3, {"contamination": "stop"})
        [leak] = report["against"]
        assert leak["leaked"] == 1 and leak["first"][0]["row"] == 1 and leak["first"][0]["in"] == "rows.jsonl, row 51"
        assert key is None or leak[key] == 1


def test_an_instruction_before_every_question_is_no_contamination(checked):
    head = "Answer the following question in one word and give your reasons after it in a list: "
    rows = [{**row, "prompt": head + row["prompt"]} for row in clean("completion")]
    asked = [{**row, "prompt": head + row["prompt"]} for row in clean("prompts", 9, 60)]
    code, report = checked({"rows.jsonl": rows, "eval.jsonl": asked}, "--against", "eval.jsonl")
    assert (code, found(report), report["against"][0]["leaked"]) == (0, {}, 0)


def test_one_row_of_many_is_a_warning_and_evaluation_rows_need_no_format(checked):
    asked = [{"query": row["prompt"], "key": 1} for row in clean("prompts", 9, 150)]
    rows = [*clean("text"), {"text": asked[3]["query"]}]
    code, report = checked({"rows.jsonl": rows, "eval.jsonl": asked}, "--against", "eval.jsonl")
    assert (code, found(report)) == (0, {"contamination": "warn"})


# ---------------------------------------------------------------------------------------------- templates, tokens
@pytest.mark.parametrize(
    ("changes", "wanted", "code"),
    [
        ({"template": MARKED}, {"opening": "warn"}, 0),
        ({"lower": True}, {"round-trip": "warn"}, 0),
        ({"template": "{{ bos_token }}{{ bos_token }}" + TEMPLATE[:], "bos": True}, {"bos": "warn"}, 0),
        ({"template": ENDLESS}, {}, 3),
    ],
    ids=["asked otherwise", "lower case", "two BOS", "no end"],
)
def test_templates_that_do_not_fit(checked, model, changes, wanted, code):
    rows = [{"messages": [{**turn, "content": "It " + turn["content"]} for turn in row["messages"]]}
            for row in clean("messages")]  # fmt: skip
    got, report = checked({"rows.jsonl": rows}, "--model", model(**changes))
    assert (got, found(report)) == (code, wanted)
    if code:
        assert "ends without a token that stops generation" in report["sources"][0]["problems"][0]["reason"]


def test_rows_that_are_cut(checked, model):
    rows = clean("messages")
    options = ("--model", model(), "--max-length", 100, "--set", "overlong=truncate")
    code, report = checked({"rows.jsonl": rows}, *options)
    [source] = report["sources"]
    assert source["limit"] == 100 and source["overlong"] > 0.02 * ROWS
    assert (code, found(report)) == (0, {"length": "warn"})
    _, report = checked({"rows.jsonl": rows}, "--model", model(), "--max-length", 4000)
    assert found(report) == {}


# ---------------------------------------------------------------------------------------------- methods, mixes
def test_volumes_come_from_the_cards_of_methods(checked):
    code, report = checked({"rows.jsonl": clean("pairs")}, "--method", "dpo")
    assert (code, found(report)) == (0, {"volume": "warn"})
    assert {amount["method"] for amount in report["volumes"]} == {"dpo"}
    assert all(amount["have"] == ROWS and not amount["enough"] for amount in report["volumes"])
    _, report = checked({"rows.jsonl": clean("pairs")})
    assert {"dpo", "orpo", "simpo", "rm"} <= {amount["method"] for amount in report["volumes"]}


def test_a_method_says_how_it_weighs_labels(checked):
    rows = [{**row, "label": i % 3 == 0} for i, row in enumerate(clean("unpaired"))]
    _, report = checked({"rows.jsonl": rows})
    [finding] = [f for f in report["sources"][0]["findings"] if f["check"] == "label-weights"]
    assert finding["level"] == "fine" and "good answers 2 and bad ones 1, 1.00 to 1" in finding["text"]
    _, report = checked({"rows.jsonl": rows}, "--method", "kto", "--set", "desirable_weight=5")
    assert found(report) == {"label-weights": "warn", "volume": "warn"}


def test_a_mix_is_judged_as_a_whole(checked):
    first = clean("text")
    other = [*clean("text", 1)[:60], *first[:60]]
    code, report = checked({"one.jsonl": first, "two.jsonl": other})
    assert (code, found(report)) == (0, {"duplicates": "warn"})
    assert report["sources"][0]["findings"] == report["sources"][1]["findings"] == []
    [finding] = report["mix"]["findings"]
    assert "copies of rows of one: 60 (50%) of two" in finding["text"]
    assert (report["mix"]["rows"], round(sum(report["mix"]["shares"].values()), 6)) == (240, 1)


# ---------------------------------------------------------------------------------------------- what people see
def test_the_terminal_is_short_unless_asked_and_80_columns_wide(checked, model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = [*clean("messages"), *clean("messages")[:20]]
    _, short = checked({"rows.jsonl": rows}, "--model", model(), json_=False)
    assert "  warn  copies of earlier rows: 20 (14%)" in short and "first:" not in short and "[[" not in short
    _, long = checked({"rows.jsonl": rows}, "--model", model(), "--verbose", "--method", "sft", json_=False)
    assert "first: rows.jsonl, row 121" in long and "2107.06499" in long and "[[" in long and "###" in long
    own = [line for line in short.splitlines() if "rows.jsonl, row" not in line]
    assert max(map(len, own)) <= 80


def test_a_page_is_written_with_pictures_and_masks(checked, model, tmp_path):
    rows = [*clean("pairs"), {"prompt": "<script>alert(1)</script>", "chosen": "a", "rejected": "b"}]
    code, _ = checked({"rows.jsonl": rows}, "--model", model(), "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert code == 0 and "<svg" in page and "<mark>" in page and "Better answer longer by" in page
    assert "<script>alert" not in page
    code = main(["data", "check", "rows.jsonl", "--html", str(tmp_path / "none" / "page.html")])
    assert code != 0


def test_evaluation_data_that_cannot_be_compared_stops_the_check(tmp_path, capsys):
    for name, text in (("rows", '{"text": "a"}\n'), ("eval", '{"key": 1}\n'), ("broken", "{\n")):
        (tmp_path / f"{name}.jsonl").write_text(text)
    for name in ("eval", "broken"):
        against = str(tmp_path / f"{name}.jsonl")
        assert main(["data", "check", str(tmp_path / "rows.jsonl"), "--against", against]) == 3
        assert f"no row of {name} has a text to compare" in capsys.readouterr().err
