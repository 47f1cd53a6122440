"""``tunesmith doctor sandbox``, and the flag that does without one."""

import json
import os
import sys
from types import SimpleNamespace

import click
import pytest

from tunesmith import unsandboxed
from tunesmith.cli.main import main
from tunesmith.cli.sandbox import unsandboxed_option
from tunesmith.runner.records import MANIFEST, write_manifest
from tunesmith.sandbox import attacks, probes
from tunesmith.sandbox.probes import Probe

MODULE = "tunesmith.sandbox.probes"


def probing(monkeypatch, *works):
    names = ("bubblewrap", "landlock")
    found = [
        Probe(name, ok, "it does" if ok else "it is gone", "" if ok else f"get {name}")
        for name, ok in zip(names, works, strict=True)
    ]
    monkeypatch.setattr(sys.modules[MODULE], "probes", lambda: found)


def test_doctor_says_what_this_machine_has(capsys):
    found = {probe.tier: probe for probe in probes()}
    code = main(["doctor", "sandbox", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert {tier["tier"]: tier["works"] for tier in said["tiers"]} == {name: p.works for name, p in found.items()}
    assert said["used"] == next((name for name, p in found.items() if p.works), None)
    assert code == (0 if said["ok"] else 4)


@pytest.mark.parametrize(
    ("works", "used", "code"),
    [((True, True), "bubblewrap", 0), ((False, True), "landlock", 0), ((False, False), "none: ", 4)],
)
def test_doctor_names_the_tier_and_the_fix(works, used, code, monkeypatch, capsys):
    probing(monkeypatch, *works)
    assert main(["doctor", "sandbox"]) == code
    out = capsys.readouterr().out
    assert f"  used: {used}" in out
    for name, ok in zip(("bubblewrap", "landlock"), works, strict=True):
        assert (f"get {name}" in out) is not ok


@pytest.mark.parametrize(("result", "code"), [("stopped", 0), ("ESCAPED", 4), ("unclear", 4)])
def test_doctor_prints_what_came_of_attacks(result, code, monkeypatch, capsys):
    probing(monkeypatch, True, False)
    results = [
        attacks.Result("read a file", "bubblewrap", "stopped", "ok"),
        attacks.Result("x", "bubblewrap", result, "why"),
    ]
    monkeypatch.setattr(attacks, "attempt_all", lambda tiers: results if tiers == ["bubblewrap"] else 1 / 0)
    assert main(["doctor", "sandbox", "--attacks"]) == code
    out = capsys.readouterr().out
    assert ("2 of 2 attempts were stopped" in out) is (code == 0)
    assert (f"{result}: x (bubblewrap): why" in out) is (code == 4)
    assert main(["doctor", "sandbox", "--attacks", "--json"]) == code
    assert [row["result"] for row in json.loads(capsys.readouterr().out)["attacks"]] == ["stopped", result]


def test_leave_from_the_environment_is_refused(monkeypatch, capsys):
    monkeypatch.setenv(unsandboxed.VARIABLE, "1")
    assert main(["list"]) == 2
    assert f"unset {unsandboxed.VARIABLE}" in capsys.readouterr().err


def test_the_flag_holds_for_one_command_and_is_said(monkeypatch, capsys):
    seen = []

    @unsandboxed_option
    @click.command()
    def command():
        seen.append(unsandboxed.allowed())

    for args in ([], [unsandboxed.FLAG], []):
        command.main(args, standalone_mode=False)
    assert seen == [False, True, False] and unsandboxed.VARIABLE not in os.environ
    assert capsys.readouterr().err.count("WITHOUT ONE") == 1


@pytest.mark.parametrize("command", [["run", "sft"], ["resume"], ["score"], ["check"]])
def test_commands_that_may_run_programs_have_the_flag(command, capsys):
    assert main([*command, "--help"]) == 0
    assert unsandboxed.FLAG in capsys.readouterr().out


def test_the_manifest_tells(tmp_path):
    registry = SimpleNamespace(plugins=[], notes=[])
    for given in (False, True):
        if given:
            unsandboxed.allow()
        try:
            write_manifest(tmp_path, registry, [], 1)
        finally:
            unsandboxed.withdraw()
        assert json.loads((tmp_path / MANIFEST).read_text())["unsandboxed_code"] is given
