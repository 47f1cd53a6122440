"""A mistyped model is said in seconds, and what can be had is not held up."""

import socket

import pytest

from tunesmith.errors import ResourceError
from tunesmith.models.hub import PROXIES
from tunesmith.models.loading import check_exists


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """``hub(endpoint)``: the hub has this address, and nothing is copied yet; the folder of copies is returned."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    for name in (*PROXIES, "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def at(endpoint, *, offline=False):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    return at


@pytest.fixture
def closed():
    """An address at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_name_without_a_copy_where_the_hub_does_not_answer(hub, closed, tmp_path):
    hub(closed)
    (tmp_path / "tiny-model").mkdir()
    with pytest.raises(ResourceError, match="there is no model 'tiny-modell' on this machine") as raised:
        check_exists("tiny-modell", "model")
    assert closed in str(raised.value) and raised.value.fix == "did you mean ./tiny-model?"
    with pytest.raises(ResourceError) as raised:
        check_exists("some/where", "model")
    assert raised.value.fix == "give the path of a folder, or try again with a network"


def test_what_answers_is_asked_by_the_libraries(hub):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        hub(f"http://127.0.0.1:{server.getsockname()[1]}")
        check_exists("some/model", "model")


def test_a_copy_needs_no_hub(hub, closed):
    snapshot = hub(closed) / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    check_exists("some/model", "model")
    with pytest.raises(ResourceError):
        check_exists("some/other", "model")


def test_nothing_is_asked_offline_or_through_a_proxy(hub, closed, monkeypatch):
    hub(closed, offline=True)
    check_exists("some/model", "model")
    hub(closed)
    for name, value in {"HTTPS_PROXY": "http://proxy:3128", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
        check_exists("some/model", "model")
        monkeypatch.delenv(name)
