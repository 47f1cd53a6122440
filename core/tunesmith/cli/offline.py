"""``tunesmith doctor --offline``: what a run would ask a network for, because it is not on this machine."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tunesmith.components import Component, Reward
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.config import Run

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
WAIT_S = 1.0
"""How long an address on this machine may take to answer."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Something that a run needs.

    Attributes:
        kind: ``model``, ``tokenizer``, ``dataset``, ``address``.
        name: of it.
        use: what the run does with it, in words.
        there: True where no network is needed.
        detail: where it was found, or what is missing.
    """

    kind: str
    name: str
    use: str
    there: bool
    detail: str


def needs_of(word: str) -> list[Needed]:
    """What a run file, a pipeline file or a model needs, each thing once.

    Raises:
        ConfigError: the file is not valid.
    """
    path = Path(word).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        return list(_model(word, "model", tokenizer=True))
    found: dict[tuple[str, str], Needed] = {}
    for stage, run, made in _runs(path):
        for one in _of_run(run, stage, made):
            found.setdefault((one.kind, one.name), one)
    return list(found.values())


def _runs(path: Path) -> Iterator[tuple[str, Run, Path | None]]:
    """The runs of a file, each with its stage and with the folder that stages of a pipeline write to."""
    from tunesmith.cli.common import load_registry
    from tunesmith.config import Layers, check_required, resolve
    from tunesmith.errors import ConfigError
    from tunesmith.runfile import read_run_file
    from tunesmith.settings import PluginSettings

    content = read_run_file(path)
    plugins = PluginSettings.model_validate(content.get("plugins") or {})
    check_required(plugins.require)
    registry = load_registry(files=plugins.files, block=plugins.block)
    if "stages" in content:
        from tunesmith.pipeline.execute import Execution
        from tunesmith.pipeline.spec import read_pipeline

        pipeline = read_pipeline(path)
        for stage, run in Execution(pipeline, registry, lambda words: None).runs():
            yield f"stage {stage}: ", run, pipeline.output
        return
    if "method" not in content:
        raise ConfigError(f"{path} names no method", fix="write method: NAME, or stages for a pipeline")
    yield "", resolve(registry, str(content["method"]), Layers(file=content, path=path)), None


def _of_run(run: Run, stage: str, made: Path | None) -> Iterator[Needed]:
    from tunesmith.offline import HasReference
    from tunesmith.online import HasCritic

    settings, method = run.settings, run.method
    models = {"model": settings.model}
    if isinstance(method, HasReference) and method.reference_model is not None:
        models["reference model"] = method.reference_model
    if isinstance(method, HasCritic) and method.critic_model is not None:
        models["critic model"] = method.critic_model
    for use, name in models.items():
        if not _made_by_stage(name, made):
            yield from _model(name, stage + use, tokenizer=use == "model" and settings.tokenizer is None)
    if settings.tokenizer is not None and not _made_by_stage(settings.tokenizer, made):
        yield _tokenizer(settings.tokenizer, f"{stage}tokenizer")
    groups = [spec for specs in [*method.data_groups().values(), *method.probes().values()] for spec in specs]
    for component in [*_components([settings, method, groups]), method]:
        yield from _of_component(component, stage)


def _of_component(component: Component, stage: str) -> Iterator[Needed]:
    use = f"{stage}{component.kind} {component.name}"
    for kind, name in component.needed_from_outside():
        yield _dataset(name, use) if kind == "dataset" else _address(name, use)
    if isinstance(component, Reward):
        for name in component.models_held():
            yield from _model(name, use, tokenizer=True)


def _components(value: Any) -> Iterator[Component]:
    """Every component in settings, lists and mappings, at any depth."""
    if isinstance(value, (list, tuple)):
        inner: Iterable[Any] = value
    elif isinstance(value, Mapping):
        inner = value.values()
    elif _is_settings(value):
        if isinstance(value, Component) and value.kind != "method":
            yield value
        inner = [getattr(value, name) for name in type(value).model_fields]
    else:
        return
    for item in inner:
        yield from _components(item)


def _is_settings(value: Any) -> bool:
    from pydantic import BaseModel

    return isinstance(value, BaseModel)


def _made_by_stage(name: str, made: Path | None) -> bool:
    return made is not None and Path(name).absolute().is_relative_to(made.absolute())


# ---------------------------------------------------------------------------------------------- looking
def _model(name: str, use: str, *, tokenizer: bool) -> Iterator[Needed]:
    """A folder with its weights (or a config to start from), or a model of the hub that is in the cache."""
    path = Path(name).expanduser()
    path = path / "model" if (path / "run.yaml").is_file() else path
    if path.is_file():  # a config.json, whose tokenizer is trained or named
        yield Needed("model", name, use, True, str(path))
        return
    folder = path if path.is_dir() else _snapshot(name, "models")
    if folder is None:
        yield Needed("model", name, use, False, _missing(name, "neither a folder nor in the hub cache"))
        return
    adapter = folder / "adapter_config.json"
    described = (folder / "config.json").is_file() or adapter.is_file()
    weights = any(any(folder.glob(pattern)) for pattern in WEIGHTS)
    if not described or not (weights or path.is_dir()):
        yield Needed(
            "model", name, use, False, f"{folder} has no {'config.json' if not described else '*.safetensors'}"
        )
        return
    yield Needed("model", name, use, True, str(folder) + ("" if weights else ", config only"))
    if tokenizer and not (folder / "tokenizer_config.json").is_file() and weights:
        yield Needed("tokenizer", name, use, False, f"{folder} has no tokenizer_config.json")
    if adapter.is_file():
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
        yield from _model(str(base), f"{use}, base of the adapter", tokenizer=False)


def _tokenizer(name: str, use: str) -> Needed:
    path = Path(name).expanduser()
    folder = path if path.exists() else _snapshot(name, "models")
    if folder is None:
        return Needed("tokenizer", name, use, False, _missing(name, "neither a folder nor in the hub cache"))
    return Needed("tokenizer", name, use, True, str(folder))


def _dataset(name: str, use: str) -> Needed:
    """In the hub's own cache, or as the datasets library has prepared it."""
    folder = _snapshot(name, "datasets")
    prepared = datasets_cache() / name.replace("/", "___").lower()
    for place in (folder, prepared):
        if place is not None and place.is_dir() and any(place.iterdir()):
            return Needed("dataset", name, use, True, str(place))
    return Needed("dataset", name, use, False, "not in the hub cache")


def _address(url: str, use: str) -> Needed:
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK:
        return Needed("address", url, use, False, "is not on this machine")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((str(parts.hostname), port), timeout=WAIT_S):
            return Needed("address", url, use, True, "on this machine, and it answers")
    except OSError:
        return Needed("address", url, use, False, "on this machine, but nothing listens there now")


def _missing(name: str, otherwise: str) -> str:
    """What is wrong with a name, with the nearest folder where it is written like a path."""
    from tunesmith.models.loading import check_exists

    try:
        check_exists(name, "folder", ask_hub=False)
    except TunesmithError as error:
        return f"{error.what}; {error.fix}"
    return otherwise


def hub_cache() -> Path:
    """The folder of what was downloaded from the hub."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def datasets_cache() -> Path:
    """The folder of what the datasets library has prepared."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    return Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets").expanduser()


def _snapshot(name: str, kind: str) -> Path | None:
    """The newest snapshot of a model or data set in the hub cache."""
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return None
    folder = hub_cache() / f"{kind}--{name.replace('/', '--')}"
    main = folder / "refs" / "main"
    if main.is_file():
        named = folder / "snapshots" / main.read_text(encoding="utf-8").strip()
        if named.is_dir():
            return named
    found = sorted(folder.glob("snapshots/*"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None
