"""A pipeline of small stages, written into a folder and run by the command line."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tunesmith.cli.main import main


@pytest.fixture
def stages(tiny_model, chats, texts):
    """Three runs, each from the one before, and a command between them."""
    return {
        "domain": {"method": "cpt", "model": str(tiny_model), "data": str(texts), "replay_share": 0.0, "max_steps": 2},
        "words": {"command": "vocab expand", "arguments": ["stages.domain", "--data", str(texts), "--pieces", 3]},
        "chat": {"method": "sft", "model": "stages.words", "data": str(chats), "max_steps": 2},
        "short": {"method": "sft", "model": "stages.chat", "data": str(chats), "max_steps": 1},
    }


@pytest.fixture
def pipeline(tmp_path, monkeypatch, capfd):
    """``pipeline(stages, *words)``: write the file, run it, and return code, out and err."""
    monkeypatch.chdir(tmp_path)

    def run(stages, *words, **top):
        content = {"output": "out", "defaults": {"device": "cpu", "batch_size": 4, "seed": 1}, **top, "stages": stages}
        Path("pipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        code = main(["run", "pipe.yaml", *words])
        printed = capfd.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run
