"""Every attempt to get out, in every tier; and the attempts themselves, which must be able to succeed."""

import pytest

from tunesmith.sandbox import Python, Sandbox, attacks, landlock
from tunesmith.sandbox.attacks import table

ALL = attacks.attacks()


@pytest.fixture(scope="module")
def prey():
    with attacks.Prey() as found:
        yield found


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
def test_attack_is_stopped(attack, sandbox, prey):
    found = attacks.attempt(attack, sandbox, prey)
    assert found.result == "stopped", found


@pytest.mark.parametrize("attack", [a for a in ALL if a.canary], ids=lambda attack: attack.name)
def test_attack_works_without_a_sandbox(attack):
    with attacks.Prey() as prey:
        assert attacks.as_canary(attack, prey)


def test_an_escape_is_seen(sandbox, prey):
    found = attacks.attempt(attacks.Attack("says so", "escaped('here')\n"), sandbox, prey)
    assert (found.result, found.detail) == ("ESCAPED", "ESCAPED here")
    assert table.lines([found])[-2:] == [
        f"ESCAPED: says so ({sandbox.tier}): ESCAPED here",
        "0 of 1 attempts were stopped",
    ]


@pytest.mark.parametrize("source", ["1 / 0\n", "syntax error", "import sys; sys.exit(1)\n"])
def test_an_attack_that_did_not_do_its_work_proves_nothing(source, sandbox, prey):
    assert attacks.attempt(attacks.Attack("broken", source), sandbox, prey).result == "unclear"


def test_what_is_reached_outside_is_seen():
    with attacks.Prey() as prey:
        assert prey.reached() is None
        prey.victim.kill()
        prey.victim.wait()
        assert prey.reached() == "the victim was ended"
    with attacks.Prey() as prey:
        prey.file.write_text("other")
        assert prey.reached() == "a file of ours was changed"


@pytest.mark.parametrize("version", [4, 5])
def test_older_kernels_hold_too(version, prey, monkeypatch):
    """Landlock before its sixth version leaves signals alone; the filter then forbids them."""
    if landlock.version() < version:
        pytest.skip(f"the kernel has Landlock {landlock.version()}")
    monkeypatch.setattr(landlock, "version", lambda: version)
    names = (
        "end the process",
        "end every process",
        "have the kernel signal",
        "connect to an abstract",
        "write to the host",
    )
    chosen = [attack for attack in ALL if attack.name.startswith(names)]
    assert len(chosen) == len(names)
    for attack in chosen:
        found = attacks.attempt(attack, Sandbox("landlock"), prey)
        assert found.result == "stopped", found
    killed = Sandbox("landlock").run(Python("import os\nos.kill(os.getppid(), 0)"))
    assert "PermissionError" in killed.why
