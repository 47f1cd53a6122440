"""What every component is checked for, the test function for pytest, and `tunesmith check` with and without --all."""

import json
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from pydantic import ConfigDict, field_validator

from tunesmith import AnyScheduler, ConfigError, ResourceError, Scheduler
from tunesmith.testing import Finding, Suite, Unchecked, check, conformance, failed, ok, skipped, suite
from tunesmith.testing.conform import checking, find

pytest_plugins = ("pytester",)


class Flat(Scheduler):
    """Always the same."""

    name: ClassVar[str] = "flat"
    height: float = 1.0
    """How high."""

    def last_value(self) -> float:
        return self.height

    def shape(self, step: int, total: int) -> float:
        return self.height


class Scaled(Flat):
    """Another schedule, scaled."""

    inner: AnyScheduler | None = None
    """The other."""


# ---------------------------------------------------------------------------------------------- declarations
class NoDocs(Flat):
    name: ClassVar[str] = "no-docs"


NoDocs.__doc__ = None


class OddName(Flat):
    """Has a name that nobody could write."""

    name: ClassVar[str] = "Odd Name"


class NoHelp(Flat):
    """Has a setting without help."""

    depth: float = 1.0


class Loose(Flat):
    """Takes any setting."""

    model_config = ConfigDict(extra="ignore")


class Changing(Flat):
    """Can be changed after it was checked."""

    model_config = ConfigDict(frozen=False)


class NoSchema(Flat):
    """Cannot be described to an editor."""

    anything: complex | None = None
    """Any number."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"type": object}


class Drifts(Flat):
    """Is another when it is read back."""

    @field_validator("height")
    @classmethod
    def _twice(cls, value: float) -> float:
        return 2 * value


@pytest.mark.parametrize(
    ("fault", "name", "seen"),
    [
        (NoDocs, "declaration", "NoDocs has no docstring"),
        (OddName, "declaration", "OddName.name must be kebab-case"),
        (NoHelp, "help", "no help text: depth"),
        (Loose, "settings", "a setting that does not exist is taken"),
        (Changing, "settings", "can be changed after they were checked"),
        (NoSchema, "schema", "raised TypeError"),
        (Drifts, "run file", "read back from a run file, height is not what it was"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_is_declared_wrongly_is_found(registry, fault, name, seen):
    with checking(fault, {}, registry) as asked:
        found = {n: asked.finding(n) for n in ("declaration", "help", "settings", "schema", "run file")}
    assert {n for n, finding in found.items() if finding.state == "failed"} == {name}
    assert seen in found[name].seen


def test_a_component_that_names_another_is_looked_up(registry):
    with checking(Scaled, {"inner": {"name": "cosine", "final": 0.5}}, registry) as asked:
        assert asked.component.inner.name == "cosine"
        assert asked.finding("run file").state == "ok"


# ---------------------------------------------------------------------------------------------- what is checked
def test_a_component_may_be_an_instance_a_class_or_a_name(registry):
    assert check(Flat(height=0.5)).findings[-1].seen == "0.5"
    assert check(Flat, height=0.25).findings[-1].seen == "0.25"
    assert check("cosine", final=0.75).findings[-1].seen == "0.75"
    assert find(registry, "scheduler/cosine") is find(registry, "cosine") is registry.get("scheduler", "cosine")


@pytest.mark.parametrize(
    ("component", "options", "message"),
    [
        (Flat(), {"height": 2.0}, r"Flat\(...\) has its settings already; height cannot be given"),
        (Flat, {"heihgt": 2.0}, "unknown setting 'heihgt'; did you mean 'height'?"),
        ("cosien", {}, "there is no component 'cosien'; did you mean 'cosine'?"),
        ("countdown", {}, r"'countdown' is a reward and a source\n  fix   write reward/countdown or source/countdown"),
    ],
)
def test_what_cannot_be_checked_is_an_error(component, options, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?") if "(" not in message else message):
        check(component, **options)


def made_suite(monkeypatch, subject):
    """Schedules are checked by this for a while."""
    checks = {"good": lambda s: ok(f"{s} is good"), "bad": lambda s: failed("bad"), "raises": lambda s: 1 / 0}
    made = Suite("scheduler", subject, {**checks, "absent": lambda s: skipped("not here")})
    monkeypatch.setattr(suite, "suite_of", lambda kind: made)


def test_findings_have_the_names_of_their_checks_and_errors_are_findings(monkeypatch, registry):
    closed = []

    @contextmanager
    def subject(component, registry, *, word="it"):
        yield word
        closed.append(component)

    made_suite(monkeypatch, subject)
    with checking(Flat, {}, registry) as asked:
        found = list(asked.findings())[-4:]
    assert found == [
        Finding("good", "ok", "it is good"),
        Finding("bad", "failed", "bad"),
        Finding("raises", "failed", "raised ZeroDivisionError: division by zero"),
        Finding("absent", "skipped", "not here"),
    ]
    assert closed == [Flat()]


@pytest.mark.parametrize(
    ("error", "finding"),
    [
        (ResourceError("no box", fix="buy one"), Finding("loading", "skipped", "no box; buy one")),
        (Unchecked(Finding("good", "failed", "no rows")), Finding("good", "failed", "no rows")),
        (RuntimeError("broken"), Finding("setup", "failed", "raised RuntimeError: broken")),
    ],
)
def test_what_cannot_be_made_ready_is_one_finding(monkeypatch, registry, error, finding):
    @contextmanager
    def subject(component, registry):
        raise error
        yield

    made_suite(monkeypatch, subject)
    with checking(Flat, {}, registry) as asked:
        found = list(asked.findings())
        assert found[-1] == finding and found[-2].check == "run file"
        if not isinstance(error, RuntimeError):
            assert asked.check("bad").state == "skipped" and asked.check("bad").seen == finding.seen


# ---------------------------------------------------------------------------------------------- pytest
PLUGIN = '''
"""A schedule and a format."""
from typing import ClassVar
from tunesmith import DataFormat, Scheduler, Text, hookimpl

class Steep(Scheduler):
    """A line to 0."""
    name: ClassVar[str] = "steep"
    floor: float = 0.0
    """Where it ends."""
    def shape(self, step: int, total: int) -> float:
        return 1.0 - step / total + self.floor

class Bare(DataFormat):
    """Documents without rows to check with."""
    name: ClassVar[str] = "bare"
    produces: ClassVar[type] = Text
    columns: ClassVar[tuple] = ("text",)
    def __call__(self, row):
        return Text(row["text"])

@hookimpl
def tunesmith_register_schedulers():
    return [Steep]

@hookimpl
def tunesmith_register_data_formats():
    return [Bare]
'''


def test_a_stranger_s_test_file_has_a_case_per_check(pytester):
    pytester.makepyfile(
        steep=PLUGIN,
        test_steep="from tunesmith.testing import conformance\nfrom steep import Steep\n"
        "test_conformance = conformance(Steep(floor=-1.0))\n"
        "test_good = conformance(Steep)\n"
        "test_named = conformance('scheduler/linear', warmup=0.5)\n",
    )
    result = pytester.runpytest_inprocess("-rsf", "-p", "no:cacheprovider")
    text = result.stdout.str()
    assert "test_steep.py::test_conformance[values]" in text and "test_good[values]" not in text
    assert "scheduler steep: values: step " in text
    assert "it does not say where it ends" in text
    outcomes = result.parseoutcomes()
    assert outcomes["skipped"] == 2 and outcomes["failed"] == 2 and outcomes["passed"] == 36 - 4


def test_the_cases_of_a_kind_are_known_without_making_anything():
    function = conformance("scheduler/cosine")
    [mark] = function.pytestmark
    assert mark.args[1][:3] == ["declaration", "imports", "help"] and mark.args[1][-1] == "end"


# ---------------------------------------------------------------------------------------------- command line
@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "steep.py").write_text(PLUGIN)
    return ("--plugin", str(tmp_path / "steep.py"))


def test_check_finds_the_kind_of_a_name(cli, plugin):
    result = cli("check", "steep", *plugin)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("steep  scheduler\n") and result.out.endswith("11 ok, 1 skipped\n")
    assert cli("check", "scheduler/steep", *plugin).out == result.out
    result = cli("check", "steep", "--set", "floor=-0.5", *plugin)
    assert result.code == 3 and "  failed   values " in result.out


def test_check_all_is_a_table_of_components_and_checks(cli, plugin):
    result = cli("check", "--all", "schedulers", *plugin)
    assert (result.code, result.err) == (0, "")
    lines = {line.split()[0]: line.split()[1:] for line in result.out.splitlines() if line.strip()}
    assert lines["cosine"] == ["ok"] * 12 and lines["steep"] == ["ok"] * 11 + ["-"]
    assert "7 values" in result.out and "end: it does not say where it ends" in result.out
    assert result.out.endswith("6 components: 70 ok, 2 skipped\n")


def test_check_all_tells_what_failed(cli, plugin):
    only = ("--no-plugin", "formats", *plugin)
    result = cli("check", "--all", "format", *only)
    assert result.code == 3
    assert "  failed   samples: samples() gives no rows, and without any nothing can be checked (bare)" in result.out
    found = json.loads(cli("check", "--all", "format", "--json", *only).out)
    assert found["ok"] is False
    assert [one["name"] for one in found["components"] if not one["ok"]] == ["bare"]
    assert all(one["kind"] == "format" and one["checks"] for one in found["components"])


def test_a_format_is_checked_with_rows_of_the_user_s(cli, plugin, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"body": "a"}\n{"body": "b"}\n')
    result = cli("check", "text", "--data", "rows.jsonl", "--map", "text=body")
    assert result.code == 0 and "2 of 2 rows: Text" in result.out
    assert cli("check", "text", "--data", "rows.jsonl").code == 3
