"""From a run, a model or an adapter to a folder that other programs load, checked before it gets its name."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tunesmith.data.encoding import Encoder, load_tokenizer
from tunesmith.errors import ConfigError, GateError
from tunesmith.export import consistency, gguf, serving
from tunesmith.export.compare import PROMPTS, Compared, Said, compare, completions, prompt_ids, scores
from tunesmith.export.consistency import Finding
from tunesmith.export.loading import DTYPES, load, short, stored_dtype
from tunesmith.models.adapters import CONFIG, WEIGHTS
from tunesmith.models.folders import Found, find_model
from tunesmith.models.loading import quiet_transformers
from tunesmith.runner.card import entry, write_lineage
from tunesmith.runner.checkpoint import write_folder
from tunesmith.settings import RunSettings

log = logging.getLogger(__name__)
BESIDE = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "*.py")
"""Files of the source that go along: what one must pass on, and code that its config names."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        model: folder of a run, a model or an adapter, or a hub name.
        output: folder of the result; it must be empty or not there.
        dtype: of the weights; as they are stored when not given.
        shard_size: of a file at most, such as ``5GB``.
        merge: put an adapter into its base.
        gguf: also write this file.
        prompts: to compare on; a few of our own when not given.
        tokens: of a completion that is compared.
        force: keep an export that is not what its source was.
        trust_remote_code: run code that comes with the model.
    """

    model: str
    output: Path
    dtype: str | None = None
    shard_size: str = "5GB"
    merge: bool = True
    gguf: Path | None = None
    prompts: Sequence[str] = ()
    tokens: int = 32
    force: bool = False
    trust_remote_code: bool = False


@dataclass(slots=True)
class Report:
    """What was written, and what was found.

    Attributes:
        model: that was exported.
        output: its folder.
        dtype: of the weights.
        kind: ``model``, ``merged adapter`` or ``adapter``.
        files: weight files and their bytes.
        merging: unmerged against merged weights, both in fp32; ``None`` where that is the next comparison already.
        written: the source against the folder.
        exact: whether these two must be the same.
        findings: about config, tokenizer and template.
        serve: command of a server; empty where it takes no such model, for the reason in ``not_served``.
    """

    model: str
    output: Path
    dtype: str
    kind: str
    files: dict[str, int] = field(default_factory=dict)
    merging: Compared | None = None
    written: Compared | None = None
    exact: bool = True
    findings: list[Finding] = field(default_factory=list)
    serve: str = ""
    not_served: str = ""
    gguf: Path | None = None

    def failures(self) -> list[str]:
        """Why the export is not what its source was, in words."""
        found = [f"{one.name}: {one.detail}" for one in self.findings if one.status == "broken"]
        for name, one in (("merging the adapter", self.merging), ("writing the folder", self.written)):
            if one is not None and not one.identical and (self.exact or one is self.merging):
                found.append(
                    f"{name} changed {one.prompts - one.same} of {one.prompts} greedy completions: {one.first}"
                )
        return found


def export(request: Request) -> Report:
    """Write the export. The source is read only.

    Raises:
        ConfigError: an output that is used or lies in the source; what cannot be asked of this model.
        ResourceError: there is no such model, or no converter.
        GateError: the export does not say what its source says, and ``force`` is not given.
    """
    quiet_transformers()
    command = gguf.converter() if request.gguf is not None else []
    found = find_model(request.model, trust_remote_code=request.trust_remote_code)
    _check_request(request, found)
    report = _Export(request, found).write()
    if request.gguf is not None:
        config, tokenizer = _read(request, request.output)
        gguf.convert(command, request.output, request.gguf, report.dtype)
        report.gguf = request.gguf
        report.findings += gguf.check(request.gguf, config, tokenizer)
        _judge(report, request, f"{request.gguf} is kept for a look")
    return report


def _check_request(request: Request, found: Found) -> None:
    output = request.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"--output: {output} is used already", fix="choose another folder")
    if found.local and Path(found.name).resolve() in (output.resolve(), *output.resolve().parents):
        raise ConfigError(f"--output: {output} lies in the model itself", fix="choose a folder beside it")
    if request.gguf is not None and request.gguf.exists():
        raise ConfigError(f"--gguf: {request.gguf} exists already", fix="choose another file")
    if request.gguf is not None and (found.scores or (found.base and not request.merge)):
        what = "a model that scores" if found.scores else "an adapter that is not merged"
        raise ConfigError(
            f"--gguf: {what} has no such file", fix="leave --gguf out" + (" or merge" * (not found.scores))
        )


def _read(request: Request, folder: Path) -> tuple[Any, Any]:
    found = find_model(str(folder), trust_remote_code=request.trust_remote_code)
    return found.config, _tokenizer(request, found)


def _tokenizer(request: Request, found: Found) -> Any:
    """The tokenizer beside the model, or of an adapter without one that of its base."""
    own = Path(found.name) / "tokenizer_config.json"
    name = found.base if found.base is not None and found.local and not own.is_file() else None
    settings = RunSettings.model_construct(
        model=found.name, data=(), tokenizer=name, trust_remote_code=request.trust_remote_code
    )
    return load_tokenizer(settings)


def _judge(report: Report, request: Request, otherwise: str) -> None:
    failures = report.failures()
    for failure in failures if request.force else ():
        log.warning("kept all the same: %s", failure)
    if failures and not request.force:
        raise GateError(
            f"the export of {report.model} is not what its source is",
            why="; ".join(failures),
            fix=f"{otherwise}; --force keeps it",
        )


class _Export:
    """Loads, says something, writes, loads what was written, and lets it say the same."""

    def __init__(self, request: Request, found: Found) -> None:
        self.request, self.found = request, found
        self.tokenizer = _tokenizer(request, found)
        self.encoder = Encoder(self.tokenizer)
        self.texts = list(request.prompts or PROMPTS)
        self.prompts = prompt_ids(self.encoder, self.texts)
        self.merges = found.base is not None and request.merge
        self.keeps_adapter = found.base is not None and not request.merge
        stored = _adapter_dtype(found) if self.keeps_adapter else stored_dtype(found)
        self.dtype = DTYPES[request.dtype] if request.dtype else stored
        self.computes = torch.float32 if found.base is not None else stored
        kind = "adapter" if self.keeps_adapter else "merged adapter" if self.merges else "model"
        self.report = Report(found.name, request.output, short(self.dtype), kind)
        self.report.exact = self.dtype in (stored if self.keeps_adapter else self.computes, torch.float32)

    def write(self) -> Report:
        """See `export`."""
        write_folder(self.request.output, self._fill)
        report, output = self.report, self.request.output.resolve()  # a server may be started elsewhere
        report.files = {path.name: path.stat().st_size for path in sorted(output.glob("*.safetensors"))}
        if self.keeps_adapter:
            assert self.found.adapter is not None and self.found.base is not None
            report.not_served = serving.not_served(self.found.adapter)
            base_dtype = short(stored_dtype(self.found))
            line = serving.adapter_line(output, self.found.base, self.found.config, self.found.adapter, base_dtype)
            report.serve = "" if report.not_served else line
        else:
            report.serve = serving.serving_line(output, self.found.config, report.dtype, scores=self.found.scores)
        return report

    def _fill(self, folder: Path) -> None:
        log.info("loading  %s", self.found.name)
        model = self._load(self.found, self.computes)
        before = self._said(model)
        if self.keeps_adapter:
            self._write_adapter(folder)
        else:
            model = self._merged(model, before)
            self.report.findings += consistency.mend(model, self.encoder)
            model.to(self.dtype).save_pretrained(folder, max_shard_size=self.request.shard_size)
        del model
        self.tokenizer.save_pretrained(folder)
        self._copy_beside(folder)
        self._check(folder, before)
        _judge(self.report, self.request, "nothing was written; merge in fp32, or keep the adapter with --no-merge")
        write_lineage(folder, self.found.name, self._entry())

    def _load(self, found: Found, dtype: torch.dtype) -> Any:
        return load(found, dtype, trust_remote_code=self.request.trust_remote_code)

    def _said(self, model: nn.Module) -> list[Said]:
        if self.found.scores:
            return scores(model, self.prompts)
        return completions(model, self.prompts, self.request.tokens, self.encoder.stop_ids)

    def _merged(self, model: Any, before: list[Said]) -> Any:
        if not self.merges:
            return model
        log.info("merging  into %s", self.found.base)
        merged = model.merge_and_unload(safe_merge=True)
        if self.dtype != torch.float32:
            self.report.merging = compare(before, self._said(merged), self.tokenizer)
        return merged

    def _write_adapter(self, folder: Path) -> None:
        source = Path(self.found.name)
        shutil.copyfile(source / CONFIG, folder / CONFIG)
        tensors = {
            name: tensor.to(self.dtype) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(source / WEIGHTS).items()
        }
        with safe_open(source / WEIGHTS, framework="torch") as file:
            said = file.metadata()
        save_file(tensors, folder / WEIGHTS, metadata=said)

    def _copy_beside(self, folder: Path) -> None:
        for name in (self.found.base, self.found.name):
            source = Path(name) if name is not None else Path()
            if name is None or not source.is_dir():
                continue
            for pattern in BESIDE:
                for path in source.glob(pattern):
                    if path.is_file():
                        shutil.copyfile(path, folder / path.name)

    def _check(self, folder: Path, before: list[Said]) -> None:
        log.info("checking %d prompts", len(self.prompts))
        found = find_model(str(folder), trust_remote_code=self.request.trust_remote_code)
        model = self._load(found, self.computes if self.keeps_adapter else self.dtype)
        self.report.written = compare(before, self._said(model), self.tokenizer)
        encoder = Encoder(_tokenizer(self.request, found))
        self.report.findings += consistency.check(model, encoder, self.tokenizer, folder, self.texts)

    def _entry(self) -> dict[str, Any]:
        written = self.report.written
        assert written is not None
        said = {"prompts": written.prompts, "same": written.same, "largest_difference": written.largest}
        return entry("export", self.found.name, [], dtype=self.report.dtype, kind=self.report.kind, completions=said)


def _adapter_dtype(found: Found) -> torch.dtype:
    """What an adapter's weights are stored in."""
    with safe_open(Path(found.name) / WEIGHTS, framework="torch") as file:
        name = next(iter(file.keys()))
        dtype: torch.dtype = file.get_tensor(name).dtype
    return dtype
