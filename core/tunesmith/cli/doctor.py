"""``tunesmith doctor``: is everything there that a run needs, and what would a run use on this machine?"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.offline import hub_cache, needs_of
from tunesmith.cli.sandbox import sandbox
from tunesmith.components import KINDS
from tunesmith.errors import ResourceError

if TYPE_CHECKING:
    import torch

DISTRIBUTION = "tunesmith"
GIB = 2**30
TESTED = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "click": "8.5.1",
    "datasets": "5.2.0",
    "huggingface_hub": "2.4.0",
    "jinja2": "3.1.6",
    "jsonschema": "4.26.0",
    "math-verify": "0.9.0",
    "matplotlib": "3.11.2",
    "numpy": "2.4.6",
    "packaging": "26.3",
    "peft": "0.21.2",
    "pluggy": "1.7.0",
    "py3langid": "0.4.0",
    "pydantic": "2.14.3",
    "pyyaml": "6.0.3",
    "rich": "15.0.0",
    "safetensors": "0.8.0",
    "tokenizers": "0.23.3",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "trl": "1.16.0",
    "z3-solver": "5.4.1.0",
}
"""The versions of constraints.txt, which is no part of the package."""
BESIDE = ("huggingface_hub", "tokenizers", "triton", "flash-attn", "kernels", "vllm", "gguf")
"""Packages that no requirement names and that change what a machine can do."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        group: what it belongs to.
        name: what was looked at.
        status: ``ok``; ``note`` where something optional is missing; ``broken`` where runs will fail.
        detail: what was found.
        fix: what to do, where there is something to do.
    """

    group: str
    name: str
    status: Literal["ok", "note", "broken"]
    detail: str
    fix: str = ""


class Doctor(click.Group):
    """A group whose ``--offline`` takes every word that follows it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with the option written before each of the words."""
        if "--offline" not in args:
            return super().parse_args(ctx, args)
        start = args.index("--offline") + 1
        words = list(itertools.takewhile(lambda word: not word.startswith("-"), args[start:]))
        pairs = [part for word in words for part in ("--offline", word)]
        return super().parse_args(ctx, [*args[: start - 1], *(pairs or ["--offline"]), *args[start + len(words) :]])


@click.group("doctor", cls=Doctor, invoke_without_command=True, subcommand_metavar="[sandbox]")
@click.option(
    "--offline",
    "words",
    metavar="RUN.yaml|MODEL...",
    multiple=True,
    help="What these would need a network for. Nothing else is checked.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@plugin_options
@click.pass_context
def doctor(ctx: click.Context, words: tuple[str, ...], as_json: bool) -> None:
    """Check packages, devices, sandbox, folders and plugins; exit code 4 when something required is broken.

    With --offline: are the models, tokenizers, data sets and endpoints of run files on this machine? Exit code 4 when
    something is not.
    """
    if ctx.invoked_subcommand is not None:
        return
    if words:
        checks = [check for word in words for check in _needed(word)]
    else:
        checks = [*_packages(), *_devices(), *_sandbox(), *_offline(), *_folders(), *_plugins()]
    broken = [check for check in checks if check.status == "broken"]
    if as_json:
        terminal.print_json({"schema": 1, "ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        click.echo("\n".join(_report(checks)))
    if broken:
        ctx.exit(ResourceError.exit_code)


doctor.add_command(sandbox)


def _report(checks: list[Check]) -> list[str]:
    lines: list[str] = []
    colours = {"ok": "green", "note": "yellow", "broken": "red"}
    for group in dict.fromkeys(check.group for check in checks):
        cells = [
            (check.status, check.name, check.detail + (f"; {check.fix}" if check.fix else ""))
            for check in checks
            if check.group == group
        ]
        lines += ["", click.style(group, bold=True)] if lines else [click.style(group, bold=True)]
        lines += terminal.table(cells, wrap=2, indent=2, styles={0: lambda status: {"fg": colours[status]}})
    return lines


def _needed(word: str) -> Iterator[Check]:
    fixes = {
        "model": "download it where there is a network (hf download NAME), or give a folder",
        "tokenizer": "download it with its model, or give a folder",
        "dataset": "download it where there is a network, or give files",
        "address": "start it here, or leave it out",
    }
    for one in needs_of(word):
        name = f"{one.kind} {one.name}"
        fix = "" if one.there else fixes[one.kind]
        yield Check(word, name, "ok" if one.there else "broken", f"{one.use}: {one.detail}", fix)


# ---------------------------------------------------------------------------------------------- packages
def _packages() -> Iterator[Check]:
    from packaging.requirements import Requirement

    yield Check("Packages", "python", "ok", f"{platform.python_version()}, {sys.executable}")
    seen: set[str] = set()
    for text in metadata.requires(DISTRIBUTION) or []:
        wanted = Requirement(text)
        extra = wanted.marker is not None and "extra" in str(wanted.marker)
        applies = wanted.marker is None or any(wanted.marker.evaluate({"extra": name}) for name in ("", *_extras()))
        if not applies or wanted.name in seen:
            continue
        seen.add(wanted.name)
        check = _package(wanted)
        if not extra:
            yield check
        elif not check.detail.startswith("not installed"):  # an optional package matters once it is there
            yield check if check.status == "ok" else replace(check, status="note")
    for name in BESIDE:
        with contextlib.suppress(metadata.PackageNotFoundError):
            said = f", tested with {TESTED[name]}" if name in TESTED else ", not tested"
            yield Check("Packages", name, "ok", metadata.version(name) + said)


def _extras() -> list[str]:
    """The extras that users install, and not those of who works on the repository."""
    return [name for name in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or [] if name != "dev"]


def _package(wanted: Any) -> Check:
    rule = f"needs {wanted.specifier}" if wanted.specifier else "any version"
    fix = f"pip install '{wanted.name}{wanted.specifier}'"
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return Check("Packages", wanted.name, "broken", f"not installed, {rule}", fix)
    if wanted.specifier.contains(found, prereleases=True):
        tested = f", tested with {TESTED[wanted.name]}" if wanted.name in TESTED else ""
        return Check("Packages", wanted.name, "ok", f"{found} ({rule}{tested})")
    return Check("Packages", wanted.name, "broken", f"installed is {found}, {rule}", fix)


# ---------------------------------------------------------------------------------------------- devices
def _devices() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        yield Check("Devices", "torch", "broken", f"cannot be imported: {error}", "install torch again")
        return
    from tunesmith.models.loading import pick_device, pick_dtype
    from tunesmith.settings import RunSettings

    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}"
    yield Check("Devices", "cpu", "ok", f"{threads}, {_ram()}")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        memory = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        yield Check("Devices", f"cuda:{index}", "ok", f"{torch.cuda.get_device_name(index)}, {memory}, {bf16}")
    settings = RunSettings.model_construct(model="", data=(), device="auto", dtype="auto")
    device = pick_device(settings)
    dtype = str(pick_dtype(settings, device)).removeprefix("torch.")
    why = "" if device.type != "cpu" else ": no GPU was found"
    yield Check("Devices", "auto", "ok", f"a run computes on {device.type} in {dtype}{why}")
    yield _attention(device)
    yield from _bitsandbytes(device)


def _attention(device: torch.device) -> Check:
    """Which fast attentions there are; without any of them everything works, and long texts are slow."""
    import torch

    found = {
        "flash": device.type == "cuda" and torch.backends.cuda.is_flash_attention_available(),
        "flash-attn package": importlib.util.find_spec("flash_attn") is not None,
        "flex": device.type == "cuda" and importlib.util.find_spec("triton") is not None,
    }
    there = [name for name, yes in found.items() if yes]
    missing = [name for name, yes in found.items() if not yes]
    detail = f"scaled dot product{''.join(f', {name}' for name in there)}; not here: {', '.join(missing) or 'nothing'}"
    return Check("Devices", "attention", "ok", detail)


def _sandbox() -> Iterator[Check]:
    """The strongest tier that works, tried; ``doctor sandbox`` says more."""
    from tunesmith.sandbox.probes import probes

    found = probes()
    used = next((probe for probe in found if probe.works), None)
    if used is not None:
        yield Check("Sandbox", used.tier, "ok", f"{used.detail}; model-written code runs in it")
        return
    why = "; ".join(f"{probe.tier}: {probe.detail}" for probe in found)
    yield Check("Sandbox", "none", "note", f"model-written code is refused: {why}", "tunesmith doctor sandbox")


def _ram() -> str:
    pages = {"of": os.sysconf("SC_PHYS_PAGES"), "free": os.sysconf("SC_AVPHYS_PAGES")}
    whole = pages["of"] * os.sysconf("SC_PAGE_SIZE") / GIB
    return f"{whole:.1f} GiB of memory, {pages['free'] * os.sysconf('SC_PAGE_SIZE') / GIB:.1f} unused"


def _bitsandbytes(device: torch.device) -> Iterator[Check]:
    """Do what runs do with it: a version that imports may still have no kernels for the device."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    uses = {"4-bit base": _quantize, "8-bit AdamW": _step_in_8_bits}
    for use, attempt in uses.items():
        try:
            attempt(device)
        except (ImportError, OSError, RuntimeError, ValueError, NotImplementedError, AttributeError) as error:
            said = str(error).strip().splitlines()
            detail = f"does not work on {device.type}: {said[0] if said else type(error).__name__}"
            yield Check("Devices", use, "note", detail)
        else:
            yield Check("Devices", use, "ok", f"works on {device.type} (bitsandbytes)")


def _quantize(device: torch.device) -> None:
    import torch
    from bitsandbytes import functional

    weights = torch.linspace(-1, 1, 64 * 64, device=device).reshape(64, 64)
    packed, state = functional.quantize_4bit(weights, quant_type="nf4")
    error = (functional.dequantize_4bit(packed, state) - weights).abs().max().item()
    if error > 0.2:
        raise RuntimeError(f"4-bit weights come back {error:.2g} off")


def _step_in_8_bits(device: torch.device) -> None:
    import bitsandbytes
    import torch

    weight = torch.nn.Parameter(torch.ones(64, 128, device=device))
    optimizer = bitsandbytes.optim.AdamW8bit([weight], lr=0.1)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    if bool((weight == 1).any()):
        raise RuntimeError("a step changes nothing")


# ---------------------------------------------------------------------------------------------- folders
def _offline() -> Iterator[Check]:
    """Without a connection a run needs its model and data on disk; nothing is asked of the network here."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    hub = hub_cache()
    counts = {kind: len(list(hub.glob(f"{kind}--*"))) for kind in ("models", "datasets")}
    detail = f"{counts['models']} models and {counts['datasets']} data sets in {hub}"
    mode = "HF_HUB_OFFLINE is set: only these and paths are used" if offline else "HF_HUB_OFFLINE is not set"
    yield Check("Folders", "hub cache", "ok", f"{detail}; {mode}")
    if not offline:
        return
    if not counts["models"]:
        yield Check("Folders", "offline", "note", "no model is in the hub cache", "give models as folders")


def _folders() -> Iterator[Check]:
    from tunesmith.data.cache import VARIABLE, cache_folder

    yield _writable("token cache", cache_folder(), f"set {VARIABLE} to a folder on another disk")
    yield _writable("runs", Path("runs"), "give --output a folder that can be written")


def _writable(name: str, folder: Path, fix: str) -> Check:
    """Write to the folder, or to the nearest one above it that exists."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check("Folders", name, "broken", f"cannot write to {folder}: {error.strerror}", fix)
    free = shutil.disk_usage(existing).free / GIB
    return Check("Folders", name, "ok", f"{folder}, {free:.1f} GiB free")


def _plugins() -> Iterator[Check]:
    registry = load_registry()
    broken = [plugin for plugin in registry.plugins if plugin.status == "broken"]
    loaded = [plugin for plugin in registry.plugins if plugin.status == "ok"]
    slow = max((plugin.ms for plugin in loaded), default=0.0)
    yield Check("Plugins", "loaded", "ok", f"{len(loaded)}, the slowest in {slow:.0f} ms")
    for plugin in broken:
        yield Check("Plugins", plugin.name, "note", f"{plugin.origin}: {plugin.cause}")
    for cls in (cls for kind in KINDS for _, cls in registry.entries(kind)):
        missing = [name for name in cls.needs if importlib.util.find_spec(name) is None]
        if missing:
            fix = f"pip install {' '.join(missing)}"
            yield Check("Plugins", cls.name, "note", f"this {cls.kind} needs {', '.join(missing)}", fix)
