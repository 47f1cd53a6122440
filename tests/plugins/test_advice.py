"""Advice: sixty cases with the answers that were written down before, and what each rule needs to fire."""

from pathlib import Path

import pytest
import yaml

from tunesmith import Volume
from tunesmith_plugins.advice.case import Case, Machine
from tunesmith_plugins.advice.engine import RULES, Facts, Verdict, advise
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


# ------------------------------------------------------------------------------------------------ rule by rule
GB_80 = {"model": "7B", "gpu": 80}
FIRES = {
    "K1": ({"goal": "facts"}, {"goal": "task", "demos": 800}),
    "K2": ({"goal": "domain", "texts": "8B"}, {"goal": "style", "texts": "8B"}),
    "K3": ({"goal": "domain", "texts": "8B"}, {"goal": "domain", "texts": "30M"}),
    "K4": ({"goal": "language", "texts": "20B"}, {"goal": "language", "texts": "1B"}),
    "K5": ({"goal": "domain", "texts": "8B", "must": ["keep-general"]}, {"goal": "domain", "texts": "8B"}),
    "K6": ({"goal": "domain", "texts": "2B"}, {"goal": "domain", "texts": "5B"}),
    "K7": ({"goal": "pretrain"}, {"goal": "domain"}),
    "K8": (
        {"goal": "language", "texts": "20B", "fertility": 2.1},
        {"goal": "language", "texts": "20B", "fertility": 2},
    ),
    "R1": ({"goal": "task", "prompts": "2k", "checkable": 1.0}, {"goal": "task", "prompts": "2k", "checkable": 0.0}),
    "R2": ({"goal": "task", "prompts": "2k", "checkable": 1.0}, {"goal": "style", "prompts": "2k", "checkable": 1.0}),
    "R3": ({"goal": "reasoning", "demos": "200k", "traces": 1.0}, {"goal": "style", "demos": "200k", "traces": 1.0}),
    "R4": ({"goal": "style", "prompts": "20k", "have": ["rm"]}, {"goal": "style", "prompts": "20k"}),
    "R5": (
        {"goal": "reasoning", "prompts": 999, "checkable": 1.0},
        {"goal": "reasoning", "prompts": "10k", "checkable": 1.0},
    ),
    "S1": ({"goal": "style", "pairs": 1000}, {"goal": "style", "pairs": 999}),
    "S2": ({"goal": "style", "pairs": 999}, {"goal": "style", "pairs": 1000}),
    "S3": ({"goal": "style", "good": 400, "bad": 400}, {"goal": "facts", "good": 400, "bad": 400}),
    "S4": ({"goal": "style", "pairs": "2k", "longer": 0.71}, {"goal": "style", "pairs": "2k", "longer": 0.7}),
    "S5": (
        {"goal": "style", "pairs": "2k", "have": ["rm"]},
        {"goal": "style", "pairs": "2k", "have": ["rm", "own-pairs"]},
    ),
    "M1": ({"goal": "style", "pairs": "80k"}, {"goal": "style", "pairs": 79_999}),
    "M2": (
        {"goal": "style", "prompts": "2k", "have": ["rm"]},
        {"goal": "reasoning", "prompts": "2k", "checkable": 1.0, "have": ["rm"]},
    ),
    "T1": ({"goal": "task", "demos": 800}, {"goal": "facts", "demos": 800}),
    "T2": ({"goal": "task", "demos": 800}, {"goal": "task", "demos": 800, "adapter": "none"}),
    "D1": ({"goal": "task", "demos": 800, "duplicates": 0.06}, {"goal": "task", "demos": 800, "duplicates": 0.05}),
    "D2": ({"goal": "task", "demos": 800, "overlong": 0.03}, {"goal": "task", "demos": 800, "overlong": 0.02}),
    "D3": ({"goal": "task", "demos": 800, "refused": 1}, {"goal": "task", "demos": 800}),
    "D4": ({"goal": "task", "demos": 800, "unended": True}, {"goal": "task", "demos": 800}),
    "D5": ({"goal": "task", "demos": 800, "overlap": 0.01}, {"goal": "task", "demos": 800, "overlap": 0.0}),
    "D6": ({"goal": "style", "pairs": "2k", "conflicts": 1}, {"goal": "style", "pairs": "2k", "identical": 0.01}),
    "F1": ({"goal": "task", "demos": 800, **GB_80}, {"goal": "task", "demos": 800, **GB_80, "gpus": 2}),
    "F2": (
        {"goal": "task", "demos": 800, "train_tokens": "1B", "peak": 1e15, "hours": 1, **GB_80},
        {"goal": "task", "demos": 800, "train_tokens": "1B", "hours": 1, **GB_80},
    ),
}


@pytest.mark.parametrize("id", FIRES)
def test_a_rule_fires_on_its_condition_and_not_beside_it(methods, id):
    on, off = FIRES[id]
    assert id in advise(case(on), methods).rules
    notes = [f.text for i, f in advise(case(off), methods).checks if i == id]
    assert id not in advise(case(off), methods).rules, notes


def test_every_rule_is_tested_and_says_where_it_comes_from():
    always = {"N1", "G1"}  # G1 speaks of methods of others, see below
    assert set(FIRES) | always == set(RULES)
    for rule in RULES.values():
        assert rule.condition and rule.conclusion and rule.source
        assert any(word in rule.source for word in ("arXiv", "guide", "ours", "card", "2025")), rule.id


def test_the_baseline_is_never_forgotten(methods):
    assert all("N1" in advise(case(scenario["given"]), methods).rules for scenario in SCENARIOS)


def test_what_four_passes_reach_decides(methods):
    # 4 passes are worth 3.73 times the text, so 1.342B tokens reach the 5B of a domain and 1.34B do not
    verdicts = [
        advise(case({"goal": "domain", "texts": size}), methods).option("cpt").verdict for size in (1.343e9, 1.34e9)
    ]
    assert verdicts == [Verdict.GOOD, Verdict.NOT_YET]


def test_memory_without_a_critic_is_computed_for_the_case_and_not_a_slogan(methods):
    given = {"goal": "reasoning", "prompts": "20k", "checkable": 1.0, "model": "8B"}
    said = [f.text for _, f in advise(case(given), methods).option("ppo").findings]
    # 16 + 16 + 2 bytes against 16 + 2, of 8 billion parameters
    assert any("272 GB of model states, grpo 144 GB (47% less)" in text for text in said)


def test_hours_that_do_not_suffice_say_how_many_tokens_pass(methods):
    # 6 * 7e9 * 1e9 FLOPs at 35% of 1e15 are 33.3 hours
    given = {"goal": "task", "demos": 800, "model": "7B", "train_tokens": "1B", "peak": 1e15, "hours": 10}
    option = advise(case(given), methods).option("sft")
    assert option.verdict == Verdict.NOT_YET
    assert any("likely 33 hours; in 10 hours 300M tokens pass" in f.text for _, f in option.findings)


# ------------------------------------------------------------------------------------------------ methods of others
VOLUME = Volume("verses", "rows", 300, 900, source="a study", goals=("style", "poetry"))


@pytest.mark.parametrize(
    ("consumes", "given", "verdict"),
    [
        ("demonstration", {"demos": 400}, Verdict.GOOD),
        ("demonstration", {"demos": 200}, Verdict.NOT_YET),
        ("Sonnet", {"others": {"Sonnet": 400}}, Verdict.GOOD),
        ("demonstration", {}, Verdict.POSSIBLE),
    ],
)
def test_a_method_that_no_rule_knows_takes_part_through_its_card(methods, consumes, given, verdict):
    with_it = {**methods, "verse": Facts("verse", consumes, ("style", "poetry"), (VOLUME,))}
    for goal in ("style", "poetry"):
        advice = advise(Case(goal=goal, **given), with_it)
        assert advice.option("verse").verdict == verdict
        assert advice.option("verse").rules[0] == "G1"
    assert advise(Case(goal="facts", **given), with_it).option("verse") is None


def test_prompts_without_a_judge_are_nothing_for_a_method_of_others_either(methods):
    volume = Volume("tries", "prompts", 100, 900, goals=("reasoning",))
    with_it = {**methods, "tries": Facts("tries", "prompt", ("reasoning",), (volume,))}
    verdicts = [
        advise(Case(goal="reasoning", prompts=500, checkable=share), with_it).option("tries").verdict
        for share in (0.0, 1.0)
    ]
    assert verdicts == [Verdict.NOT_YET, Verdict.GOOD]


@pytest.mark.parametrize("scenario", SCENARIOS[::7], ids=[s["name"] for s in SCENARIOS[::7]])
def test_advice_copes_with_any_built_in_being_absent(methods, scenario):
    given = case(scenario["given"])
    whole = advise(given, methods)
    for name in methods:
        fewer = {other: facts for other, facts in methods.items() if other != name}
        advice = advise(given, fewer)
        assert advice.option(name) is None
        was = whole.option(name)
        assert (name in advice.missing) == (was is not None and was.verdict >= Verdict.POSSIBLE)


def test_the_page_tells_the_cases_as_they_are():
    page = (Path(__file__).parents[2] / "docs" / "advice.md").read_text(encoding="utf-8")
    table = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    told = {cells[0]: cells[1:4] for cells in table}
    for scenario in SCENARIOS:
        first = scenario["first"] + (f", then {scenario['then']}" if "then" in scenario else "")
        refused = ", ".join(scenario.get("refused", ())) or "-"
        assert told.pop(scenario["name"]) == [scenario["given"]["goal"], first, refused]
    assert told == {}
    traps = sum("trap" in scenario for scenario in SCENARIOS)
    assert f"{len(SCENARIOS)} cases were written down" in page and f"; {traps} are traps" in page
