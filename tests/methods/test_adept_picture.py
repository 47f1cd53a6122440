"""``tunesmith picture``: what it says is what the run wrote down."""

import json
import re
import sys

import pytest

from tunesmith.cli.main import main

UNITS = ["self_attn.q_proj", "mlp.down_proj", "input_layernorm"]


def record(folder, refreshes=3, **changes):
    """A run folder with copies of layers 1 and 3 of four, and refreshes at steps 0, 10, 20, ..."""
    names = [f"model.layers.{layer}.{unit}.weight" for layer in (2, 5) for unit in UNITS]
    measured = [
        {
            "step": 10 * i,
            "general_loss": [2.0 + i, 4.0 + i],
            "mean_multiplier": 1.25,
            "importance": {name: 10.0 ** (-9 + n) for n, name in enumerate(names)},
            "multiplier": {name: 2 - n / 4 for n, name in enumerate(names)},
        }
        for i in range(refreshes)
    ]
    content = {
        "selection": "importance", "layer_importance": [2.5, 0.01, 0.5, 0.02], "chosen": [1, 3], "copies": [2, 5],
        "base_loss": [2.0, 4.0], "refreshes": measured, **changes,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "adept.json").write_text(json.dumps(content))
    (folder / "run.yaml").write_text("general_set: prose\ndomain_set: code\n")
    return folder


def with_losses(folder):
    lines = [{"step": step, "loss": 5 - step / 100} for step in range(1, 41)]
    lines += [{"step": s, "eval/prose/loss": g, "eval/code/loss": d} for s, g, d in ((0, 3.0, 5.0), (40, 3.25, 4.0))]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 41, "lo')  # a run that goes on is writing
    return folder


def drawn(capsys, *words):
    assert main(["picture", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_chosen_layers_are_marked_and_bars_follow_importance(tmp_path, capsys):
    text = drawn(capsys, record(tmp_path / "run"))
    rows = re.findall(r"^([* ]) layer +(\d) +([\d.]+) +([\u2588#]+)(?:  copied to (\d))?$", text, flags=re.MULTILINE)
    assert [(mark, layer, copy) for mark, layer, _, _, copy in rows] == [
        (" ", "0", ""), ("*", "1", "2"), (" ", "2", ""), ("*", "3", "5"),
    ]  # fmt: skip
    lengths = [len(bar) for *_, bar, _ in rows]
    assert lengths[0] > lengths[2] > lengths[3] > lengths[1]


def test_every_tensor_has_its_importance_and_its_multiplier_at_every_measurement(tmp_path, capsys):
    text = drawn(capsys, record(tmp_path / "run"))
    assert "layer 2 (copy of 1)" in text and "layer 5 (copy of 3)" in text
    for n, unit in enumerate(UNITS * 2):
        row = rf"^  {re.escape(unit)} +" + r" +".join([f"1e-{9 - n}"] * 3) + r" +" + r" ".join([f"{2 - n / 4:.2f}"] * 3)
        assert re.search(row + "$", text, flags=re.MULTILINE), unit
    assert re.search(r"step +0 +10 +20 +0 +10 +20$", text, flags=re.MULTILINE)


def test_many_measurements_are_thinned_and_that_is_said(tmp_path, capsys):
    text = drawn(capsys, record(tmp_path / "run", refreshes=60))
    shown = int(re.search(r"(\d+) of 60 measurements", text)[1])
    (steps,) = re.findall(r"^ +step +(.*)$", text, flags=re.MULTILINE)
    columns = [int(step) for step in steps.split()]
    assert len(columns) == 2 * shown
    assert (columns[0], columns[shown - 1]) == (0, 590)
    assert max(map(len, text.splitlines()[1:])) <= 110


def test_the_losses_are_those_held_out_where_there_are_any(tmp_path, capsys):
    text = drawn(capsys, with_losses(record(tmp_path / "run")))
    assert "general (held-out), d domain (held-out)" in text
    assert "general 3.000 -> 3.250 (+0.250), domain 5.000 -> 4.000 (-1.000)" in text
    grid = [line[10:] for line in text.splitlines() if re.match(r"[ \d.]{8} \|", line)]
    firsts = {letter: next(i for i, line in enumerate(grid) if line.startswith(letter)) for letter in "dg"}
    assert firsts["d"] == 0 < firsts["g"]


def test_without_them_they_are_of_the_probe_and_of_the_batches(tmp_path, capsys):
    folder = with_losses(record(tmp_path / "run"))
    (folder / "run.yaml").write_text("general_set: replay\ndomain_set: train\n")
    text = drawn(capsys, folder)
    assert "general (probe), d domain (training)" in text
    assert "general 3.000 -> 5.000 (+2.000), domain 4.985 -> 4.605 (-0.380)" in text


def test_what_was_not_measured_is_said(tmp_path, capsys):
    folder = record(tmp_path / "run", refreshes=0, layer_importance=None, copies=[], selection="uniform")
    text = drawn(capsys, folder, "--png", tmp_path / "run.png") if importable() else drawn(capsys, folder)
    assert "layers 1, 3 trained without a copy (selection: uniform)" in text
    assert "Importance of layers was not measured." in text
    assert "No losses yet." in text


def importable():
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def test_other_folders_are_refused(tmp_path, capsys):
    assert main(["picture", str(tmp_path)]) == 2
    assert "holds no adept.json" in capsys.readouterr().err
    assert main(["picture", str(tmp_path / "nothing")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_without_matplotlib_the_terminal_still_has_its_picture(tmp_path, capsys, monkeypatch):
    folder = record(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert "copied to 5" in drawn(capsys, folder)
    assert main(["picture", str(folder), "--png", str(tmp_path / "run.png")]) == 4
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "run.png").exists()


def test_the_figure_shows_the_numbers(tmp_path):
    pytest.importorskip("matplotlib")
    from tunesmith_methods.adept.picture import drawing, reading

    figure = drawing.figure_of(reading.read(with_losses(record(tmp_path / "run"))))
    bars, curves, importance, multiplier, *_ = figure.get_axes()
    assert [bar.get_height() for bar in bars.patches] == [2.5, 0.01, 0.5, 0.02]
    assert len({bar.get_facecolor() for bar in bars.patches}) == 2
    assert bars.patches[1].get_facecolor() == bars.patches[3].get_facecolor() != bars.patches[0].get_facecolor()
    lines = {line.get_label(): list(line.get_ydata()) for line in curves.get_lines()}
    assert lines["general, probe"] == [3.0, 4.0, 5.0] and lines["domain, held out"] == [5.0, 4.0]
    assert lines["general, held out"] == [3.0, 3.25]
    (grid,), (scales,) = importance.get_images(), multiplier.get_images()
    assert [row[0] for row in grid.get_array().tolist() if row[0]] == pytest.approx([10.0**-n for n in range(9, 3, -1)])
    assert [row[2] for row in scales.get_array().tolist() if row[2] is not None] == [2 - n / 4 for n in range(6)]


def test_a_png_is_written(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "run.png"
    text = drawn(capsys, with_losses(record(tmp_path / "run")), "--png", target)
    assert target.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert f"{target} is written" in text
    assert main(["picture", str(tmp_path / "run"), "--png", str(tmp_path / "no" / "run.png")]) == 2


# ------------------------------------------------------------------------------------------------ on the page of a run
def sections(folder):
    from tunesmith_methods.adept import tunesmith_report_sections

    return {heading: "".join(blocks) for heading, blocks in tunesmith_report_sections(folder)}


def test_the_page_of_a_run_has_the_layers_with_their_values(tmp_path):
    page = sections(with_losses(record(tmp_path / "run")))["Layers"]
    assert "Copied: layers 1, 3 of the base (chosen by importance); trained: layers 2, 5 of the deeper model." in page
    for told in ("0: 2.5 nats", "3: 0.02 nats", "2 self_attn.q_proj, step 20: 1e-09", "5 mlp.down_proj, step 0: 1"):
        assert f"<title>{told}</title>" in page
    assert 'data-label="general (held out)" data-xs="0 40" data-ys="3 3.25"' in page
    assert 'data-label="general (probe)" data-xs="0 10 20" data-ys="3 4 5"' in page
    assert "layer 2: copy of 1; layer 5: copy of 3" in page


def test_many_tensors_become_a_row_for_each_layer(tmp_path, monkeypatch):
    from tunesmith_methods.adept.picture import sections as drawn

    monkeypatch.setattr(drawn, "MOST_ROWS", 5)
    page = sections(record(tmp_path / "run"))["Layers"]
    assert "<title>2 mean of 3 tensors, step 0: 1.75</title>" in page  # of 2, 1.75 and 1.5


def test_another_run_has_no_such_section(tmp_path):
    assert sections(tmp_path) == {}
    (tmp_path / "adept.json").write_text('{"selection": ')
    (tmp_path / "run.yaml").write_text("")
    assert sections(tmp_path) == {}
