"""What programs may do, what becomes of them, and when a sandbox is refused."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tunesmith import ConfigError, ResourceError, unsandboxed
from tunesmith.sandbox import (
    Calls,
    Command,
    Limits,
    Outcome,
    Python,
    Sandbox,
    execution,
    pool,
    probes,
    strongest,
    tiers,
)
from tunesmith.sandbox.probes import Probe, _tried

FAST = Limits(wall=5.0)


def test_output_is_the_programs_own(sandbox):
    outcome = sandbox.run(Python("import sys\nprint(input()[::-1])\nprint('err', file=sys.stderr)"), b"abc\n", FAST)
    assert (outcome.ending, outcome.code, outcome.stdout, outcome.stderr) == ("ok", 0, b"cba\n", b"err\n")


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("raise ValueError('no')", "runtime_error"),
        ("import os; os._exit(7)", "runtime_error"),
        ("import os; os.abort()", "runtime_error"),
        ("def f(:", "compile_error"),
        ("x = '" + "\\x00' + 'a\x00'", "compile_error"),
        ("x = bytearray(10**10)", "memory"),
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("print('x' * 3_000_000)", "output_limit"),
        ("x = '\ud800'", "refused"),
        ("x = 1\n" * 1_000_000, "refused"),
    ],
)
def test_endings(source, ending, sandbox):
    limits = replace(FAST, wall=0.7) if ending == "timeout" else FAST
    outcome = sandbox.run(Python(source), b"", limits)
    assert outcome.ending == ending, outcome
    assert outcome.why
    assert outcome.seconds < 4


def test_what_is_raised_is_told(sandbox):
    assert sandbox.run(Python("raise ValueError('no such luck')")).why.endswith("ValueError: no such luck")


def test_calls_report_plain_data_and_the_names_of_exceptions(sandbox):
    source = "def f(x, y=2):\n    return {x: (y, None, True)} if x != 3 else {1 / 0}\n"
    outcome = sandbox.run(Calls(source, "f", [([1], {}), ([3], {}), (["a"], {"y": 2.5}), ([{1}], {})]))
    values = {number: report.error or report.value for number, report in outcome.reports.items()}
    assert values == {
        0: [(1, [2, None, True])],
        1: "ZeroDivisionError",
        2: [("a", [2.5, None, True])],
        3: "TypeError",
    }


@pytest.mark.parametrize(("name", "args"), [("f()", [1]), ("", [1]), ("f", [object()])])
def test_calls_that_cannot_be_made_are_refused(name, args, sandbox):
    assert sandbox.run(Calls("def f(x): pass", name, [(args, {})])).ending == "refused"


def test_calls_find_methods_of_a_fresh_object(sandbox):
    source = "class Solution:\n    n = 0\n    def up(self):\n        self.n += 1\n        return self.n\n"
    for name in ("up", "Solution.up"):
        outcome = sandbox.run(Calls(source, name, [([], {})] * 2))
        assert [report.value for report in outcome.reports.values()] == [1, 1]


def test_a_call_that_hangs_ends_the_program_and_keeps_what_was_reported(sandbox):
    source = "def f(x):\n    while x:\n        pass\n    return x\n"
    limits = Limits(wall=20.0, quiet=0.5)
    outcome = sandbox.run(Calls(source, "f", [([0], {}), ([1], {}), ([0], {})]), b"", limits)
    assert (outcome.ending, list(outcome.reports)) == ("timeout", [0]) and outcome.seconds < 3


def test_commands_leave_a_file(sandbox):
    program = Command(
        ("/bin/sh", "-c", "cat given > made; echo done"), files={"given": b"\x00\xff" * 99}, collect="made"
    )
    outcome = sandbox.run(replace(program, writable=True))
    assert (outcome.ending, outcome.stdout, outcome.collected) == ("ok", b"done\n", b"\x00\xff" * 99)
    failed = sandbox.run(Command(("/bin/sh", "-c", "echo > made; exit 3"), writable=True, collect="made"))
    assert (failed.ending, failed.code) == ("runtime_error", 3)


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "a\nb", ""])
def test_names_of_files_are_plain(name, sandbox):
    assert sandbox.run(Command(("/bin/true",), files={name: b""})).ending == "refused"
    assert sandbox.run(Command(("/bin/true",), collect=name or "\0")).ending == "refused"


def test_a_program_that_is_not_there_is_no_success(sandbox):
    assert sandbox.run(Command(("/nowhere/at/all",))).ending == "runtime_error"


def test_many_at_a_time_keep_their_order_and_run_together(sandbox):
    jobs = [(Python(f"import time; time.sleep(1); print({n})"), b"", FAST) for n in range(6)]
    start = time.monotonic()
    outcomes = Sandbox(sandbox.tier, concurrency=6).run_all(jobs)
    assert [outcome.stdout for outcome in outcomes] == [b"%d\n" % n for n in range(6)]
    assert time.monotonic() - start < 5.5  # one after the other they sleep for 6 s


def test_a_program_ends_with_the_process_that_started_it(sandbox):
    source = f"""
import os, threading, time
from tunesmith.sandbox import Limits, Python, Sandbox
sandbox = Sandbox({sandbox.tier!r})
run = lambda: sandbox.run(Python("import time; time.sleep(123)"), b"", Limits(wall=100))
threading.Thread(target=run, daemon=True).start()
from tunesmith.sandbox.watch import below
while len(below(os.getpid())) < 3:
    time.sleep(0.02)
print(*below(os.getpid())[1:], flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    pids = [int(pid) for pid in done.stdout.split()]
    deadline = time.monotonic() + 5
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert pids and not any(os.path.exists(f"/proc/{pid}") for pid in pids)


# ---------------------------------------------------------------------------------------------- no sandbox
def test_a_sandbox_that_cannot_start_is_no_judgement(monkeypatch):
    monkeypatch.setattr(tiers, "_namespaces", lambda: ("/bin/false",))
    outcome = execution.execute("bubblewrap", Python("print(1)"), b"", FAST)
    assert outcome.ending == "infrastructure" and "before it was ready" in outcome.why
    monkeypatch.setattr(tiers, "_namespaces", lambda: ("/nowhere/bwrap",))
    assert execution.execute("bubblewrap", Python("print(1)"), b"", FAST).ending == "infrastructure"


def test_the_probe_tells_a_tier_that_does_not_hold(monkeypatch):
    """A tier that starts programs and holds nothing does not work."""
    real = tiers.start
    monkeypatch.setattr(tiers, "start", lambda tier, **kwargs: real("none", **kwargs))
    found = _tried("landlock")
    assert not found.works and "not held: open_a_socket" in found.detail


def nothing_works(monkeypatch):
    module = sys.modules["tunesmith.sandbox.probes"]  # the package has a function of that name
    gone = {t: Probe(t, False, f"{t} is not there", f"get {t}") for t in ("bubblewrap", "landlock")}
    monkeypatch.setattr(module, "_bubblewrap", lambda: gone["bubblewrap"])
    monkeypatch.setattr(module, "_landlock", lambda: gone["landlock"])


def test_without_a_tier_programs_are_refused_with_the_fix(monkeypatch):
    nothing_works(monkeypatch)
    with pytest.raises(ResourceError) as caught:
        Sandbox()
    assert caught.value.why == "bubblewrap: bubblewrap is not there; landlock: landlock is not there"
    assert caught.value.fix.startswith(
        "get bubblewrap; or get landlock; or, on a machine that you can lose, add --allow"
    )


def test_a_tier_that_is_named_is_never_replaced(monkeypatch):
    nothing_works(monkeypatch)
    with unsandboxed.allowed_here():
        for tier in ("bubblewrap", "landlock"):
            with pytest.raises(ResourceError, match=f"{tier} does not work here"):
                Sandbox(tier)


def test_leave_is_used_only_where_nothing_works(monkeypatch, caplog):
    with pytest.raises(ConfigError, match="no leave"):
        Sandbox("none")
    with unsandboxed.allowed_here():
        assert any(probe.works for probe in probes()) == (strongest() != "none")
        nothing_works(monkeypatch)
        sandbox = Sandbox()
    assert sandbox.tier == "none" and "WITHOUT A SANDBOX" in caplog.text
    assert sandbox.run(Python("print(2)")).stdout == b"2\n"
    assert sandbox.run(Python("while True: pass"), b"", replace(FAST, wall=0.5)).ending == "timeout"
    with pytest.raises(ResourceError):
        Sandbox()


def test_leave_reaches_processes_below_and_nobody_else(monkeypatch):
    ask = [sys.executable, "-c", "from tunesmith import unsandboxed; print(unsandboxed.allowed())"]
    assert not unsandboxed.allowed()
    with unsandboxed.allowed_here():
        assert unsandboxed.allowed()
        assert subprocess.run(ask, capture_output=True, text=True).stdout == "True\n"
        token = os.environ[unsandboxed.VARIABLE]
    assert not unsandboxed.allowed()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with other:
        for forged in ("1", "yes", f"{os.getpid()}:1", unsandboxed._token(other.pid), token + " "):
            monkeypatch.setenv(unsandboxed.VARIABLE, forged)
            assert not unsandboxed.allowed(), forged


@pytest.mark.parametrize(
    ("why", "ending", "attempts"),
    [
        ("it was not ready: [Errno 11] Resource temporarily unavailable", "ok", 3),
        ("it was not ready: [Errno 22] Invalid argument", "infrastructure", 1),
    ],
)
def test_a_sandbox_that_finds_no_room_for_a_process_is_tried_again(sandbox, monkeypatch, why, ending, attempts):
    outcomes = [Outcome("infrastructure", why)] * 2 + [Outcome("ok")] * 2
    asked = []
    monkeypatch.setattr(pool, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(pool, "execute", lambda *job: asked.append(job) or outcomes[len(asked) - 1])
    assert sandbox.run(Python("pass"), b"", FAST).ending == ending
    assert len(asked) == attempts
