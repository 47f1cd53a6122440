"""The command line in this process: its exit code and what it prints."""

import logging
from types import SimpleNamespace

import pytest

from tunesmith.cli.main import main


@pytest.fixture
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
def cli(capsys, surroundings):
    """``cli(*words)``: run the command line; its exit code, stdout and stderr."""

    def run(*words: object) -> SimpleNamespace:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def failed_checks(registry):
    """``failed_checks(component, **options)``: the checks that fail, and what each saw."""
    from tunesmith.testing.conform import checking

    def run(component, **options):
        with checking(component, options, registry) as asked:
            return {finding.check: finding.seen for finding in asked.findings() if finding.state == "failed"}

    return run
