"""Advice: sixty cases with the answers that were written down before, and what each rule needs to fire."""

from pathlib import Path

import pytest
import yaml

from tunesmith_plugins.advice.case import Case, Machine
from tunesmith_plugins.advice.engine import Verdict, advise
from tunesmith_plugins.advice.reading import facts_of

SCENARIOS = yaml.safe_load((Path(__file__).parent / "advice_scenarios.yaml").read_text())
SUFFIX = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@pytest.fixture(scope="module")
def methods():
    from tunesmith import plugins

    return facts_of(plugins.load())


def number(value):
    return float(value[:-1]) * SUFFIX[value[-1]] if isinstance(value, str) else value


def case(given):
    said = dict(given)
    machine = Machine(said.pop("gpus", 1), said.pop("gpu", None), said.pop("peak", None), said.pop("hours", None))
    renamed = {"texts": "text_tokens", "model": "parameters"}
    return Case(
        machine=machine,
        have=frozenset(said.pop("have", ())),
        must=frozenset(said.pop("must", ())),
        **{
            renamed.get(key, key): value if key in ("goal", "adapter", "start") else number(value)
            for key, value in said.items()
        },
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[s["name"] for s in SCENARIOS])
def test_advice_on_a_case(methods, scenario):
    advice = advise(case(scenario["given"]), methods)
    said = {option.name: option.verdict for option in advice.options}
    assert advice.first.name == scenario["first"], said
    assert advice.first.verdict >= Verdict.POSSIBLE
    assert advice.first.then == scenario.get("then", advice.first.then)
    for name in scenario.get("refused", ()):
        assert said[name] <= Verdict.NOT_YET, said
    for name in scenario.get("open", ()):
        assert said[name] >= Verdict.POSSIBLE, said
    assert set(scenario.get("rules", ())) <= set(advice.rules)
    assert not set(scenario.get("silent", ())) & set(advice.rules)


def test_the_cases_are_sixty_and_hold_ten_traps():
    assert len(SCENARIOS) >= 60
    assert sum("trap" in scenario for scenario in SCENARIOS) >= 10
    assert len({scenario["name"] for scenario in SCENARIOS}) == len(SCENARIOS)
