"""Predicted memory beside measured, in the manifest and the report of a run that is long enough."""

import json

from tunesmith.runner import predicted


def test_a_run_that_is_long_enough_notes_both_and_its_page_shows_them(train, chats, monkeypatch, caplog):
    monkeypatch.setattr(predicted, "LEAST_SECONDS", 0.0)
    folder = train("sft", "long", data=str(chats), max_steps=1, batch_size=4, device="cpu")
    noted = json.loads((folder / "manifest.json").read_text())["memory"]
    parts = {name: size for name, size in noted["predicted"].items() if name != "total"}
    assert abs(sum(parts.values()) - noted["predicted"]["total"]) <= len(parts)
    assert noted["measured"]["total"] > 1e8 and noted["peak_phase"] in ("load", "update")
    page = (folder / "report.html").read_text()
    assert "predicted, weights: " in page and "measured, total: " in page


def test_a_short_run_notes_nothing(train, chats):
    folder = train("sft", "short", data=str(chats), max_steps=1, batch_size=4, device="cpu")
    assert "memory" not in json.loads((folder / "manifest.json").read_text())
