"""Runs side by side: what is compared is what the files hold, and seeds are a spread and not a difference."""

import json
import math
import statistics

import pytest

from tunesmith.errors import ConfigError
from tunesmith.report.compare import Spread, common_reward, compare, flat, grouped, kl_at, step_at
from tunesmith.report.compare_page import page
from tunesmith.report.folder import read


@pytest.fixture
def runs(folder, sampled):
    """Two groups of three seeds and two seeds; the second learns half as fast."""

    def make(rate, seeds, **settings):
        return [
            read(folder(f"rate-{rate}-{seed}", metrics=sampled(20, seed, rate), settings={**settings, "seed": seed}))
            for seed in seeds
        ]

    return [*make(1.0, (0, 1, 2), lr=1e-3), *make(0.5, (0, 1), lr=1e-4)]


def row(comparison, name):
    return next(row for row in comparison.rows if row.name == name)


def test_runs_that_differ_in_their_seed_alone_are_a_group(runs):
    found = compare(runs)
    assert [len(group.runs) for group in found.groups] == [3, 2]
    assert found.differ == {"lr": [1e-3, 1e-4]}
    assert [group.name for group in found.groups] == ["some-method, lr 0.001", "some-method, lr 0.0001"]


def test_where_a_run_is_written_does_not_make_it_another(folder):
    one, two = (folder(name, settings={"output": name, "log_every": i}) for i, name in enumerate(("a", "b")))
    assert len(grouped([read(one), read(two)])) == 1


@pytest.mark.parametrize("deep", [{"objective": {"beta": 0.2}}, {"data": [{"path": "x"}]}, {"stop": ["a"]}])
def test_any_other_setting_does(folder, deep):
    shallow = {"objective": {"beta": 0.1}, "data": [{"path": "y"}], "stop": []}
    one, two = folder("a", settings=shallow), folder("b", settings={**shallow, **deep})
    found = compare([read(one), read(two)])
    assert len(found.groups) == 2
    assert len(found.differ) == 1


def test_groups_of_methods_are_called_after_them(folder):
    found = compare([read(folder(name, settings={"method": name, name: 1})) for name in ("first", "second")])
    assert [group.name for group in found.groups] == ["first", "second"]


def test_numbers_are_means_and_deviations_over_runs(runs):
    (first, second) = row(compare(runs), "reward, final").spreads
    # the last tenth of 20 steps are steps 19 and 20: 0.95 and 1, plus a hundredth of the seed
    values = [0.975 + seed / 100 for seed in (0, 1, 2)]
    assert first.values == pytest.approx(values)
    assert first.mean == pytest.approx(statistics.fmean(values))
    assert first.sd == pytest.approx(statistics.stdev(values))
    assert second.mean == pytest.approx(0.4925)


def test_a_single_run_has_no_deviation():
    assert Spread((2.0,)).text() == "2"
    assert Spread((1.0, 3.0)).text() == "2 +- 1.414"
    assert Spread(()).text() == "-"
    assert Spread((math.nan, 1.0)).as_dict() == {"mean": None, "sd": None, "n": 2, "values": [None, 1.0]}


def test_the_best_of_a_loss_is_the_least_and_of_an_accuracy_the_greatest(folder):
    metrics = [
        {"step": i, "eval/e/loss": loss, "eval/e/rewards/accuracies": 1 - loss} for i, loss in enumerate((3, 1, 2))
    ]
    found = compare([read(folder("a", metrics=metrics)), read(folder("b", metrics=metrics, settings={"x": 1}))])
    assert row(found, "eval/e/loss, best").spreads[0].mean == 1
    assert row(found, "eval/e/loss, final").spreads[0].mean == 2
    assert row(found, "eval/e/rewards/accuracies, best").spreads[0].mean == 0


def test_kl_is_held_against_kl_at_the_same_reward(runs):
    level = common_reward(runs)
    slow, fast = runs[3], runs[0]
    assert level == pytest.approx(0.5, abs=0.03)  # what the slow ones reach
    assert step_at(fast, level) == pytest.approx(10, abs=1)
    assert step_at(slow, level) == pytest.approx(20, abs=1)
    assert kl_at(fast, level) == pytest.approx(0.1 * step_at(fast, level), abs=0.06)
    assert kl_at(slow, level) > 1.8 * kl_at(fast, level)


def test_runs_without_rewards_have_no_common_one(folder, sampled):
    assert (
        common_reward([read(folder("a", metrics=sampled(5))), read(folder("b", metrics=[{"step": 1, "loss": 1}]))])
        is None
    )


def test_further_metrics_are_compared_when_asked_for(runs):
    assert row(compare(runs, ["novel/*"]), "novel/metric, final").spreads[0].values
    assert not [row for row in compare(runs).rows if row.name.startswith("novel")]


def test_the_same_seed_twice_and_runs_cut_short_are_said(folder, sampled):
    start = {"starts": [{"step": 0, "total_steps": 9}]}
    short = [read(folder(name, metrics=sampled(3), manifest=start, settings={"seed": 4})) for name in ("a", "b")]
    notes = "\n".join(compare(short).notes)
    assert "the same seed more than once (4, 4)" in notes
    assert "3 of 9 steps" in notes
    assert "without further seeds" in "\n".join(compare(short[:1]).notes)


def test_flat_names_and_lists():
    assert flat({"a": {"b": {"c": 1}}, "d": [1, 2], "e": [{"f": None}]}) == {"a.b.c": 1, "d": [1, 2], "e.0.f": None}


def test_a_page_has_a_band_for_every_group_of_several_runs(runs):
    written = page(compare(runs)).render()
    reward = written[written.index("<figcaption>reward</figcaption>") :]
    reward = reward[: reward.index("</figure>")]
    assert reward.count('class="band"') == 2
    assert "some-method, lr 0.001 (n = 3)" in written
    assert "0.985 +- 0.01" in written


def test_a_group_keeps_its_colour_where_the_other_has_no_such_metric(runs, folder, sampled):
    other = read(folder("other", metrics=[{"step": 1, "only/here": 1.0, "loss": 1.0}], settings={"method": "other"}))
    written = page(compare([*runs, other])).render()
    only = written[written.index("<figcaption>only/here</figcaption>") :]
    assert 'class="series c2" data-label="other"' in only[: only.index("</figure>")]


def test_thousands_of_steps_are_compared_in_parts(folder, sampled):
    found = compare([read(folder(str(seed), metrics=sampled(3000, seed), settings={"seed": seed})) for seed in (0, 1)])
    written = page(found).render()
    assert len(written) < 400_000
    assert 'class="band"' in written


def test_hostile_settings_are_texts(folder, sampled, hostile):
    made = [read(folder(str(i), metrics=sampled(3), settings={"method": hostile, hostile: i})) for i in (0, 1)]
    written = page(compare(made)).render()
    assert written.count("<script") == 1
    assert "<img" not in written
    written.encode()


def test_the_command_prints_and_writes(cli, runs, tmp_path):
    words = [run.path for run in runs]
    printed = cli("compare", *words, "--html", tmp_path / "c.html")
    assert printed.code == 0
    assert "5 runs in 2 groups" in printed.out
    line = next(line for line in printed.out.splitlines() if line.startswith("reward, final"))
    assert line.split() == ["reward,", "final", "0.985", "+-", "0.01", "0.4925", "+-", "0.007071"]
    assert (tmp_path / "c.html").is_file()
    for_programs = json.loads(cli("compare", *words, "--json").out)
    assert for_programs["groups"][0]["numbers"]["reward, final"]["n"] == 3
    assert for_programs["differ"] == {"lr": [1e-3, 1e-4]}


def test_one_run_is_refused_and_so_is_another_folder(cli, runs, tmp_path):
    alone = cli("compare", runs[0].path, runs[0].path)
    assert (alone.code, "one run cannot be compared" in alone.err) == (2, True)
    assert cli("compare", runs[0].path, tmp_path / "nowhere").code == 2


def test_what_a_run_file_says_does_not_steer_the_terminal(cli, folder):
    made = [folder(str(i), settings={"model": f"\x1b[2J{i}"}) for i in (0, 1)]
    assert cli("compare", *made).out.count(r"\x1b[2J0") == 2  # in the name of a group, and as a setting


def test_groups_by_a_setting_alone_say_in_what_else_their_runs_differ(folder):
    """As for runs that start from models of their own: what they share is compared, the rest is a note."""
    runs = [
        read(folder(f"{method}-{seed}", settings={"method": method, "seed": seed, "model": f"start-{seed}"}))
        for method in ("one", "other")
        for seed in (0, 1)
    ]
    assert len(grouped(runs)) == 4
    comparison = compare(runs, by=["method"])
    assert [(group.name, len(group.runs), group.varies) for group in comparison.groups] == [
        ("one", 2, ["model"]),
        ("other", 2, ["model"]),
    ]
    assert list(comparison.differ) == ["method"]
    assert "one: its runs differ in model" in comparison.notes
    with pytest.raises(ConfigError, match="--by methodd: no run has such a setting; did you mean 'method'"):
        compare(runs, by=["methodd"])
