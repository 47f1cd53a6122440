"""Which tiers work here: found by running a program in each, not by looking for their parts."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from functools import cache

from tunesmith import unsandboxed
from tunesmith.errors import ResourceError
from tunesmith.sandbox import landlock, seccomp, tiers, users
from tunesmith.sandbox.execution import execute
from tunesmith.sandbox.limits import Limits, Python

PROGRAM = """
import os, sys
def held(attempt):
    try:
        attempt()
    except OSError:
        return
    print("not held:", attempt.__name__)
def read_a_file():
    open({canary!r}).close()
def write_to_the_system():
    open("/var/tmp/tunesmith-probe", "w").close()
def signal_the_starter():
    os.kill({pid}, 0)
def make_a_user_namespace():
    import ctypes
    if ctypes.CDLL(None).unshare(0x10000000):
        raise OSError
def open_a_socket():
    import _socket
    _socket.socket()
for attempt in (read_a_file, write_to_the_system, signal_the_starter, make_a_user_namespace, open_a_socket):
    held(attempt)
if os.getuid() == 0:
    print("not held: root")
print("done")
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a tier works.

    Attributes:
        tier: the tier.
        works: True where a program was run in it and was held.
        detail: what was found.
        fix: what to do where it does not work.
    """

    tier: tiers.Tier
    works: bool
    detail: str
    fix: str = ""


def probes() -> list[Probe]:
    """Every tier that isolates, strongest first; each is tried once in a process."""
    return [_bubblewrap(), _landlock()]


def strongest() -> tiers.Tier:
    """The strongest tier that works; ``none`` only with leave (see `tunesmith.unsandboxed`).

    Raises:
        ResourceError: no tier works, and there is no leave to do without.
    """
    for probe in (_bubblewrap, _landlock):
        found = probe()
        if found.works:
            return found.tier
    if unsandboxed.allowed():
        return "none"
    raise ResourceError(
        "no sandbox works on this machine, so model-written code is not run",
        why="; ".join(f"{probe.tier}: {probe.detail}" for probe in probes()),
        fix="; or ".join(dict.fromkeys(probe.fix for probe in probes() if probe.fix))
        + f"; or, on a machine that you can lose, add {unsandboxed.FLAG} to the command",
    )


def require(tier: tiers.Tier) -> None:
    """Raises `ResourceError` where this tier does not work."""
    probe = _bubblewrap() if tier == "bubblewrap" else _landlock()
    if not probe.works:
        raise ResourceError(f"the sandbox {tier} does not work here", why=probe.detail, fix=probe.fix or None)


@cache
def _bubblewrap() -> Probe:
    install = "install bubblewrap from your distribution (apt-get install bubblewrap)"
    why = _everywhere()
    if why:
        return Probe("bubblewrap", False, why)
    if tiers.bubblewrap_path() is None:
        return Probe("bubblewrap", False, "bwrap is not installed", install)
    found = _tried("bubblewrap")
    if found.works or os.geteuid() == 0:
        fix = "start the container with the right to mount (CAP_SYS_ADMIN)"
        return found if found.works else Probe("bubblewrap", False, found.detail, fix)
    fix = "allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces)"
    return Probe("bubblewrap", False, found.detail, fix)


@cache
def _landlock() -> Probe:
    why = _everywhere()
    if why:
        return Probe("landlock", False, why)
    found = landlock.version()
    if found < landlock.OLDEST:
        has = f"the kernel has version {found}" if found else "the kernel has no Landlock, or it is switched off"
        return Probe(
            "landlock", False, f"{has}, needs {landlock.OLDEST}", "use Linux 6.7 or newer with landlock in lsm="
        )
    if os.geteuid() == 0 and not users.may_change_user():
        why = "programs of root run as another user, and this root may not become one (CAP_SETUID, CAP_SETGID)"
        return Probe("landlock", False, why, "run as an ordinary user")
    if tiers.open_interpreter() is None:
        where = tiers.interpreter()[0]
        return Probe(
            "landlock",
            False,
            f"programs of root run as nobody, and nobody can read {where}",
            "run as an ordinary user, or install python3 from your distribution",
        )
    probe = _tried("landlock")
    return Probe("landlock", probe.works, f"version {found}, {probe.detail}", probe.fix)


def _everywhere() -> str | None:
    if sys.platform != "linux":
        return "only Linux has one; on other systems use a Linux machine or a container"
    return seccomp.supported()


def _tried(tier: tiers.Tier) -> Probe:
    with tempfile.NamedTemporaryFile(dir=_not_shared()) as canary:
        os.fchmod(canary.fileno(), 0o644)
        program = PROGRAM.format(canary=canary.name, pid=os.getpid())
        outcome = execute(tier, Python(program), b"", Limits(wall=20.0))
    said = outcome.stdout.decode("utf-8", "replace").split("\n")
    if outcome.ending == "ok" and said == ["done", ""]:
        return Probe(tier, True, "a program ran in it and was held")
    bad = [line for line in said if line.startswith("not held")]
    return Probe(tier, False, "; ".join(bad) or outcome.why.strip().replace("\n", " ") or outcome.ending)


def _not_shared() -> str:
    """A folder that everybody may enter here and that no sandbox shows."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
