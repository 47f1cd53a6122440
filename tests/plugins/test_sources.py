"""Which source a word of the data is for, and the data sets and folders of the Hugging Face library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tunesmith import ConfigError, DataError, DataSpec, ResourceError, Source, plugins
from tunesmith.config import Layers, build, resolve
from tunesmith_plugins.sources import (
    Arithmetic,
    Files,
    HuggingFace,
    huggingface,
)

AB = [{"text": "a", "n": 1}, {"text": "b\nc", "n": 2}]
JSONL = b'{"text": "a", "n": 1}\n{"text": "b\\nc", "n": 2}\n'


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(source: Source) -> list[dict[str, Any]]:
    rows = list(source.rows())
    assert not [row.problem for row in rows if row.problem]
    return [dict(row.data) for row in rows]


# ---------------------------------------------------------------------------------------------- words
def test_an_existing_path_wins_over_the_name_of_a_source(folder: Path, registry: plugins.Registry) -> None:
    assert isinstance(build(registry, "source", "arithmetic"), Arithmetic)
    (folder / "arithmetic").mkdir()
    assert isinstance(build(registry, "source", "arithmetic"), Files)
    assert isinstance(build(registry, "source", {"name": "arithmetic"}), Arithmetic)


def test_a_source_without_a_path_is_an_entry_of_the_data(registry: plugins.Registry) -> None:
    def entry(**settings: Any) -> DataSpec:
        return resolve(registry, "pt", Layers(file={"model": "m", "data": settings})).settings.data[0]

    spec = entry(name="arithmetic", rows=7, weight=2, label="sums")
    assert isinstance(spec.source, Arithmetic)
    assert (spec.source.num_rows, spec.weight, spec.label) == (7, 2, "sums")
    with pytest.raises(ConfigError, match=r"unknown setting.*rwos"):
        entry(name="arithmetic", rwos=7)
    with pytest.raises(ConfigError, match=r"unknown setting.*path"):
        entry(source="arithmetic", path="x")


@pytest.mark.parametrize(
    ("word", "similar"),
    [
        ("data/trian.jsonl", "data/train.jsonl"),
        ("dta/train.jsonl", "data/train.jsonl"),
        ("dta/eval.jsonl", "data"),
        ("data/train.json", "data/train.jsonl"),
        ("dta/*.jsonl", "data"),
        ("data/*.csv", None),
        ("qqqq.jsonl", None),
        ("data/train.jsonl/x.jsonl", None),
    ],
)
def test_a_path_that_does_not_exist_names_the_one_that_was_meant(
    word: str, similar: str | None, folder: Path, registry: plugins.Registry
) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_bytes(JSONL)
    with pytest.raises(ConfigError, match="no source knows what") as caught:
        build(registry, "source", word)
    assert re.findall(r"did you mean '(.*)'\?", str(caught.value)) == ([similar] if similar else [])


@pytest.mark.parametrize("word", ["imdb", "org/name", "HuggingFaceH4/ultrachat_200k", "org/v1.1", "a-b/c_d.e"])
def test_a_word_like_a_hub_name_is_a_data_set(word: str, folder: Path, registry: plugins.Registry) -> None:
    source = build(registry, "source", {"path": word, "split": "test"})
    assert isinstance(source, HuggingFace) and (source.path, source.split) == (word, "test")
    assert isinstance(build(registry, "source", word), HuggingFace)


@pytest.mark.parametrize(
    "word", ["a/b/c", "/a", "./a", "a/", "~/a", "x.jsonl", "x.jsonl.gz", "here/x", "-x", "", "a b"]
)
def test_a_word_like_a_path_is_no_data_set(word: str, folder: Path) -> None:
    (folder / "here").mkdir()
    assert HuggingFace.claims(word) is None


# ---------------------------------------------------------------------------------------------- huggingface
CHAT = [
    {"text": "a", "messages": [{"role": "user", "x": 1}, {"role": "tool"}], "n": None},
    {"text": "b", "messages": [], "n": 2},
    {"text": "c", "messages": [{"role": "user", "y": "z"}], "n": 3},
]


@pytest.fixture
def hub_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The datasets library with its cache in the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "hf-cache")
    return folder


@pytest.fixture
def saved(hub_cache: Path) -> Path:
    """one/ (a data set) and both/ (train and test), as save_to_disk writes them."""
    import datasets

    datasets.disable_progress_bars()
    dataset = datasets.Dataset.from_list(CHAT)
    dataset.save_to_disk("one")
    datasets.DatasetDict({"train": dataset, "test": dataset.select([1])}).save_to_disk("both")
    return hub_cache


@pytest.mark.parametrize("streaming", [False, True])
def test_a_saved_folder_is_read(streaming: bool, saved: Path, registry: plugins.Registry) -> None:
    for path in ("one", "both"):
        source = build(registry, "source", {"path": path, "streaming": streaming})
        assert isinstance(source, HuggingFace)
        assert content(source) == content(source) == CHAT
        assert source.streams is streaming
        assert (source.fingerprint() is None) is streaming
    source = HuggingFace(path="both", split="test", streaming=streaming)
    assert content(source) == CHAT[1:2]
    assert (source.label(), next(source.rows()).where) == ("both-test", "both (test), row 1")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_plain_files_can_be_read_through_the_library(
    streaming: bool, hub_cache: Path, registry: plugins.Registry
) -> None:
    (hub_cache / "d").mkdir()
    (hub_cache / "d" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHAT))
    (hub_cache / "d" / "test.jsonl").write_text(json.dumps(CHAT[2]) + "\n")
    source = build(registry, "source", {"name": "huggingface", "path": "d", "streaming": streaming})
    assert isinstance(source, HuggingFace)
    assert content(source) == CHAT
    assert content(HuggingFace(path="d", split="test", streaming=streaming)) == CHAT[2:]
    with pytest.raises(ConfigError, match="train"):
        list(HuggingFace(path="d", split="nope", streaming=streaming).rows())


def test_the_fingerprint_of_a_data_set_follows_its_rows(saved: Path) -> None:
    import datasets

    dataset = datasets.Dataset.from_list(CHAT)
    dataset.save_to_disk("elsewhere", num_shards=3)
    dataset.select([2, 1, 0]).save_to_disk("turned")
    first = HuggingFace(path="one").fingerprint()
    assert first == HuggingFace(path="both").fingerprint() == HuggingFace(path="elsewhere").fingerprint()
    assert HuggingFace(path="turned").fingerprint() != first
    assert HuggingFace(path="both", split="test").fingerprint() != first


def test_nulls_inside_of_json_are_the_users_own(hub_cache: Path) -> None:
    import datasets

    rows = [{"a": {"x": None}, "b": [{"y": None, "z": {"w": None}}]}]
    features = datasets.Features(
        {"a": datasets.Json(), "b": datasets.List({"y": datasets.Value("string"), "z": datasets.Json()})}
    )
    datasets.Dataset.from_list(rows, features=features).save_to_disk("one")
    assert content(HuggingFace(path="one")) == [{"a": {"x": None}, "b": [{"z": {"w": None}}]}]


def test_faults_of_a_saved_folder_are_ours(saved: Path) -> None:
    with pytest.raises(ConfigError, match=r"no split 'tset'; did you mean 'test'\?"):
        list(HuggingFace(path="both", split="tset").rows())
    with pytest.raises(ConfigError, match="has no split 'test'"):
        list(HuggingFace(path="one", split="test").rows())
    with pytest.raises(ConfigError, match="it has no subset and no revision"):
        list(HuggingFace(path="one", subset="en").rows())


def test_faults_of_files_behind_the_library_are_ours(hub_cache: Path) -> None:
    (hub_cache / "d").mkdir()
    (hub_cache / "d" / "train.jsonl").write_text('{"text": "a"}\n{"text": bad}\n')
    for streaming in (False, True):
        with pytest.raises(DataError, match=r"(?s)cannot load the data set 'd'.*JSON parse error"):
            list(HuggingFace(path="d", streaming=streaming).rows())
    (hub_cache / "d" / "train.jsonl").write_text("")
    with pytest.raises(DataError, match="d holds a file without rows"):
        list(HuggingFace(path="d").rows())
    (hub_cache / "e").mkdir()
    with pytest.raises(ResourceError, match="doesn't contain any data files"):
        list(HuggingFace(path="e").rows())


def test_a_folder_with_code_is_refused_and_the_code_is_not_run(hub_cache: Path) -> None:
    (hub_cache / "d").mkdir()
    (hub_cache / "d" / "d.py").write_text("open('ran', 'w')\n")
    with pytest.raises(ConfigError, match="Dataset scripts are no longer supported"):
        list(HuggingFace(path="d").rows())
    assert not (hub_cache / "ran").exists()


def test_an_unreachable_hub_is_a_missing_resource_and_no_secret_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError(
            "cannot reach https://me:pass@host/x?token=hf_CanaryCanary with Bearer abc.def\nsecond line " + "x" * 999
        )

    monkeypatch.setattr(datasets, "load_dataset", fail)
    (folder / "imdb2").mkdir()
    with pytest.raises(ResourceError) as caught:
        list(HuggingFace(path="imbd2").rows())
    text = str(caught.value)
    assert "did you mean 'imdb2'?" in text and "cannot reach" in text and "HF_TOKEN" in text
    assert not [secret for secret in ("pass", "Canary", "abc.def", "second line") if secret in text]
    assert len(text.splitlines()) <= 4 and max(map(len, text.splitlines())) < 300


def test_what_the_user_chose_reaches_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(*args: Any, **settings: Any) -> Any:
        asked.append((args, settings))
        return datasets.Dataset.from_list([{"text": "a"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = HuggingFace(path="o/n", subset="en", split="train[:5]", revision="abc")
    assert content(source) == [{"text": "a"}] and source.fingerprint()
    assert asked == [(("o/n", "en"), {"split": "train[:5]", "streaming": False, "revision": "abc"})], "loaded once"
    assert huggingface.HuggingFace(path="o/n").label() == "n"
