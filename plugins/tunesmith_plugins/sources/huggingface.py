"""Data sets of the Hugging Face hub, and folders that the datasets library reads or has saved."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from tunesmith import ConfigError, DataError, ResourceError, Row, Source, did_you_mean
from tunesmith_plugins.sources import readers

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
SECRET = re.compile(r"hf_\w+|(?<=Bearer )\S+|(?<=//)[^/\s@]+@")
HASHED_ROWS = 1000


class HuggingFace(Source):
    """A hub data set (name or org/name), or a folder written by save_to_disk; code of data sets is never run."""

    name: ClassVar[str] = "huggingface"
    priority: ClassVar[int] = -100
    needs: ClassVar[tuple[str, ...]] = ("datasets",)

    path: str = Field(min_length=1)
    """Name of a data set, or a folder that the datasets library can read."""
    subset: str | None = None
    """Configuration of the data set, where it has several."""
    split: str = Field(default="train", min_length=1)
    """Split to read; of hub data also a slice such as ``train[:10%]``."""
    streaming: bool = False
    """Read rows while training instead of downloading all of them before it."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set."""
    _loaded: Any = PrivateAttr(default=None)

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A data set of three rows, saved in the folder."""
        import datasets

        path = folder / "rows"
        with _quiet_without_terminal():
            datasets.Dataset.from_dict({"text": [f"Row {number}." for number in range(3)]}).save_to_disk(path)
        return {"path": str(path)}

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """A folder written by save_to_disk, or a word written like a hub name that cannot be meant as a path."""
        path = os.path.expanduser(word)
        if os.path.exists(path):
            return {"path": word} if readers.is_saved_dataset(path) else None
        if not HUB_NAME.fullmatch(word) or readers.file_type(word) is not None:
            return None
        folder = os.path.dirname(word)
        return None if folder and os.path.exists(folder) else {"path": word}

    def needed_from_outside(self) -> Iterable[tuple[Literal["dataset", "address"], str]]:
        """The data set, unless it is a folder."""
        return () if os.path.exists(os.path.expanduser(self.path)) else (("dataset", self.path),)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the split.

        Raises:
            ConfigError: the split or subset does not exist, or the data set needs code of its own.
            DataError: a file of the data set cannot be read.
            ResourceError: the data set cannot be found or reached.
        """
        with self._explained():
            dataset = self._dataset()
            features = dataset.features or {}  # of a stream they may be unknown
            where = f"{self.path} ({self.split})"
            for number, data in enumerate(dataset, start=1):
                row = {key: _without_filled(value, features.get(key)) for key, value in data.items()}
                yield Row(row, where, number)

    def fingerprint(self) -> str | None:
        """A hash of the rows' Arrow form; ``None`` for a stream."""
        if self.streaming:
            return None
        import pyarrow as pa

        digest = hashlib.sha256()
        with self._explained():
            for table in self._dataset().with_format("arrow").iter(batch_size=HASHED_ROWS):
                whole = table.replace_schema_metadata(None).combine_chunks()
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, whole.schema) as writer:
                    writer.write_table(whole)
                digest.update(sink.getvalue())
        return digest.hexdigest()

    @property
    def streams(self) -> bool:
        """The setting ``streaming``."""
        return self.streaming

    def label(self) -> str:
        """The data set's own name, and the split where it is not train."""
        name = Path(os.path.expanduser(self.path)).resolve().name if os.path.exists(self.path) else self.path
        name = name.rpartition("/")[2]
        return name if self.split == "train" else f"{name}-{self.split}"

    def _dataset(self) -> Any:
        if self._loaded is None:
            path = os.path.expanduser(self.path)
            self._loaded = self._saved(path) if readers.is_saved_dataset(path) else self._load(path)
        return self._loaded

    def _saved(self, path: str) -> Any:
        import datasets

        if self.subset is not None or self.revision is not None:
            raise ConfigError(f"{self.path} was written by save_to_disk: it has no subset and no revision")
        found = datasets.load_from_disk(path)
        several = isinstance(found, datasets.DatasetDict)
        splits = list(found) if several else sorted({"train", str(found.split or "train")})
        if self.split not in splits:
            raise ConfigError(
                f"{self.path} has no split {self.split!r}{did_you_mean(self.split, splits)}",
                why=f"splits: {', '.join(splits)}",
            )
        dataset = found[self.split] if several else found
        return dataset.to_iterable_dataset() if self.streaming else dataset

    def _load(self, path: str) -> Any:
        import datasets

        try:
            with _quiet_without_terminal():
                return datasets.load_dataset(
                    path, self.subset, split=self.split, streaming=self.streaming, revision=self.revision
                )
        except StopIteration:  # how the library ends on an empty JSON file
            raise DataError(f"{self.path} holds a file without rows", fix="remove the empty file") from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of the libraries into ours, without secrets."""
        import datasets
        import pyarrow as pa

        what = f"cannot load the data set {self.path!r}"
        try:
            yield
        except OSError as error:
            local = did_you_mean(self.path, sorted(os.listdir())) if "/" not in self.path else ""
            raise ResourceError(
                what + local,
                why=_first_line(error),
                fix="check the name and the network; a private data set needs HF_TOKEN, a file needs an existing path",
            ) from None
        except (datasets.exceptions.DatasetsError, pa.ArrowException) as error:
            raise DataError(what, where=f"split {self.split}", why=_first_line(error.__cause__ or error)) from None
        except (ValueError, RuntimeError) as error:
            raise ConfigError(what, why=_first_line(error), fix="set subset or split to one that exists") from None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = SECRET.sub("***", lines[0] if lines else type(error).__name__)
    return text if len(text) <= 240 else text[:237] + "..."


def _without_filled(value: Any, feature: Any) -> Any:
    """The value without the nulls that Arrow puts into objects that lack an entry of others.

    A null inside of a JSON feature was written as such, and stays.
    """
    from datasets import Json, LargeList, List

    if value is None or isinstance(feature, Json):
        return value
    if isinstance(feature, (List, LargeList)):
        return [_without_filled(item, feature.feature) for item in value]
    if isinstance(feature, dict) and isinstance(value, dict):
        return {key: _without_filled(item, feature.get(key)) for key, item in value.items() if item is not None}
    return readers.without_filled(value)


@contextmanager
def _quiet_without_terminal() -> Iterator[None]:
    """No progress bars in a log file."""
    import datasets

    silence = not sys.stderr.isatty() and datasets.is_progress_bar_enabled()
    if silence:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if silence:
            datasets.enable_progress_bars()
