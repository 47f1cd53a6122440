"""Rows out of a repository's history."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from tunesmith import ConfigError, DataError, ResourceError, Row, Source

PREFIX = "git:"
FIELDS = ("commit", "subject", "body")


class GitHistory(Source):
    """The commits of a git repository, oldest first, without merges: commit, subject, body, diff. No names, no dates.

    A plain word such as git:. or git:~/work/project is enough.
    """

    name: ClassVar[str] = "git-history"

    path: str = "."
    """A folder of the repository."""
    revisions: str = "HEAD"
    """Which commits, as git writes it: HEAD, v1.0..HEAD, main; of everything that is reachable from there."""
    max_commits: int | None = Field(default=None, ge=1)
    """The newest ones only, at most this many."""
    within: str | None = None
    """A folder or file in the repository: only commits that change it, and only that part of their diffs."""

    @classmethod
    def claims(cls, word: str) -> Mapping[str, Any] | None:
        """``git:PATH``."""
        return {"path": word.removeprefix(PREFIX) or "."} if word.startswith(PREFIX) else None

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A repository of three commits."""
        for number in range(3):
            (folder / "poem.txt").write_text("\n".join(["roses", "are", "red"][: number + 1]) + "\n")
            if number == 0:
                _git(folder, "init", "--quiet")
            _git(folder, "add", "poem.txt")
            who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
            _git(folder, *who, "commit", "--quiet", "-m", f"Write line {number + 1}")
        return {"path": str(folder)}

    def rows(self) -> Iterator[Row]:
        """Yield the commits. Raises `ConfigError` for what is no repository or no revision of it."""
        for number, commit in enumerate(self._commits(), start=1):
            yield Row(self._read(commit), self.label(), number)

    def fingerprint(self) -> str:
        """A hash of the commits' ids, which are hashes of all that is in them, and of the part that is read."""
        told = "\n".join(["1", self.within or "", *self._commits()])
        return hashlib.sha256(told.encode()).hexdigest()

    def label(self) -> str:
        """The folder's name."""
        return f"{self.folder.name or 'root'} (git)"

    @property
    def folder(self) -> Path:
        """Where the repository is."""
        return Path(self.path).expanduser().resolve()

    @property
    def _parts(self) -> list[str]:
        return [] if self.within is None else [self.within]

    def _commits(self) -> list[str]:
        limit = [] if self.max_commits is None else [f"--max-count={self.max_commits}"]
        words = ("--no-merges", *limit, "--end-of-options", self.revisions, "--", *self._parts)
        if not self.folder.is_dir():
            raise ConfigError(f"git-history: there is no folder {self.path}", fix="correct path")
        listed = _git(self.folder, "rev-list", *words)
        return listed.split()[::-1]

    def _read(self, commit: str) -> dict[str, str]:
        # neither the user's settings nor a .gitattributes file may change what is read, or run a program
        how = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
        form = "--format=%H%x00%s%x00%b%x00"
        shown = _git(self.folder, "show", *how, "--unified=3", form, commit, "--", *self._parts)
        *fields, diff = shown.split("\0", len(FIELDS))
        if len(fields) < len(FIELDS):
            raise DataError(f"git-history: commit {commit} cannot be read", where=self.label())
        return {**dict(zip(FIELDS, (field.strip() for field in fields), strict=True)), "diff": diff.strip("\n")}


def _git(folder: Path, *words: str) -> str:
    """What git prints. Bytes that are no UTF-8 are replaced: history holds files in any encoding."""
    if shutil.which("git") is None:
        raise ResourceError("git-history needs the program git, which is not installed")
    command = ["git", "-C", str(folder), "-c", "core.quotePath=false", *words]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL)
    if done.returncode:
        why = done.stderr.strip().splitlines()
        raise ConfigError(
            f"git-history: git {words[0]} failed in {folder}",
            why=why[0] if why else f"exit code {done.returncode}",
            fix="path should be a repository, revisions something that it knows",
        )
    return done.stdout
