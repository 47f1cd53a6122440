"""Which verifiers the tests meet: the installed one; where there is none, stand-ins for the two that are known."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = ("verifiers", "capitals_v0", "capitals_v1", "tools_v0", "tools_v1")
try:
    GENERATIONS = [version("verifiers")[:3]]
except PackageNotFoundError:
    GENERATIONS = ["0.1", "0.4"]
    sys.path.insert(0, str(HERE / "standin" / "0.4"))
sys.path.insert(0, str(HERE / "environments"))


def _forget():
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        del sys.modules[name]


@pytest.fixture(params=GENERATIONS)
def ending(request, monkeypatch):
    """The end of the names of the environments for this generation of verifiers."""
    from tunesmith_verifiers import library

    if len(GENERATIONS) == 2:
        _forget()
        monkeypatch.syspath_prepend(HERE / "standin" / request.param)
    library._load.cache_clear()
    yield {"0.1": "v0", "0.4": "v1"}[request.param]
    library._load.cache_clear()
    if len(GENERATIONS) == 2:
        _forget()
