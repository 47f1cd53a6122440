"""Checkpoints: whole or not there; damage is found and named."""

import json
import random

import numpy as np
import pytest
import torch

from tunesmith.runner import checkpoint


def fill(folder):
    (folder / "a.txt").write_text("alpha")
    (folder / "inner").mkdir()
    (folder / "inner" / "b.bin").write_bytes(bytes(1000))


def test_a_written_folder_verifies(tmp_path):
    target = tmp_path / "step-000001"
    checkpoint.write_folder(target, fill)
    checkpoint.verify(target)
    assert {p.name for p in tmp_path.iterdir()} == {"step-000001"}


DAMAGES = {
    "cut short": (lambda f: (f / "inner" / "b.bin").write_bytes(bytes(10)), "inner/b.bin has 10 of 1,000 bytes"),
    "changed": (lambda f: (f / "a.txt").write_text("alpho"), r"a.txt has changed \(checksum\)"),
    "missing": (lambda f: (f / "a.txt").unlink(), "a.txt is missing"),
    "manifest cut": (lambda f: (f / "manifest.json").write_text('{"files"'), "manifest cannot be read"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_used(tmp_path, caplog, damage):
    harm, message = DAMAGES[damage]
    for step in (2, 4):
        checkpoint.write_folder(tmp_path / f"step-{step:06d}", fill)
    harm(tmp_path / "step-000004")
    with pytest.raises(checkpoint.Damaged, match=message):
        checkpoint.verify(tmp_path / "step-000004")
    assert checkpoint.newest(tmp_path).name == "step-000002"
    assert "step-000004 is damaged" in caplog.text


@pytest.mark.parametrize("failing", range(1, 8))
def test_a_crash_at_any_write_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, failing):
    """The n-th flush to disk fails, for every n: nothing half-written carries a checkpoint's name."""
    checkpoint.write_folder(tmp_path / "step-000001", fill)
    calls = 0
    flush = checkpoint._flush

    def failing_flush(path):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")
        flush(path)

    monkeypatch.setattr(checkpoint, "_flush", failing_flush)
    try:
        checkpoint.write_folder(tmp_path / "step-000002", fill)
    except OSError:
        crashed = True
    else:
        crashed = False
    whole = checkpoint.newest(tmp_path)
    assert whole.name in ("step-000001", "step-000002")
    checkpoint.verify(whole)
    assert crashed == (failing <= 6)
    assert not list(tmp_path.glob(".writing-*"))


def test_pruning_keeps_the_newest(tmp_path):
    for step in (10, 2, 9):
        checkpoint.write_folder(tmp_path / f"step-{step:06d}", fill)
    checkpoint.prune(tmp_path, 2)
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(tmp_path)] == [10, 9]


def make_optimizer():
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def test_state_round_trip_is_exact(tmp_path):
    """Optimizer, all random generators and the method's state: what follows is the same to the bit."""
    model, optimizer = make_optimizer()
    for _ in range(3):
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
    random.seed(3)
    np.random.seed(4)
    state = {"step": 3, "method": {"loss": 0.1 + 0.2, "scores": torch.arange(3.0)}}
    checkpoint.save_state(tmp_path / "trainer", optimizer, state)
    draws = [random.random(), np.random.random(), torch.rand(2).tolist()]

    fresh_model, fresh = make_optimizer()
    fresh_model.load_state_dict(model.state_dict())
    loaded = checkpoint.load_state(tmp_path / "trainer", fresh, torch.device("cpu"))
    assert [random.random(), np.random.random(), torch.rand(2).tolist()] == draws
    assert loaded["method"]["loss"] == 0.1 + 0.2
    assert torch.equal(loaded["method"]["scores"], torch.arange(3.0))
    for one, optimizer_ in ((model, optimizer), (fresh_model, fresh)):
        one.zero_grad()
        one(torch.ones(2, 4)).sum().backward()
        optimizer_.step()
    assert torch.equal(model.weight, fresh_model.weight)


def test_no_pickle_is_written(tmp_path):
    _, optimizer = make_optimizer()
    checkpoint.save_state(tmp_path / "trainer", optimizer, {"step": 0, "method": {}})
    assert {p.suffix for p in (tmp_path / "trainer").iterdir()} == {".safetensors", ".json"}
    json.loads((tmp_path / "trainer" / "state.json").read_text())
