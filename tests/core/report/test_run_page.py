"""The page of a run: everything its folder knows is on it, and what is broken there is said and nothing more."""

import html
import json
import math
import re
import time

import pytest

from tunesmith.errors import ConfigError
from tunesmith.report.folder import read
from tunesmith.report.markup import visible
from tunesmith.report.run import run_page, write_report

LOG = """2026-01-02 03:04:05,678 INFO tunesmith.a: all is well
2026-01-02 03:04:06,678 WARNING tunesmith.b: 50% of the answers are cut off
  and a second line
2026-01-02 03:04:07,678 ERROR other: <b>worse</b>
"""


def text_of(page):
    """What a reader sees, scripts and styles left out."""
    plain = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", plain))


def page_of(folder, registry=None):
    return run_page(read(folder), registry).render()


def figures(page):
    return re.findall(r"<figcaption>(.*?)</figcaption>", page)


def test_every_metric_is_in_a_picture(folder, sampled):
    lines = [*sampled(5), {"step": 5, "eval/held-out/loss": 1.5, "eval/held-out/rewards/accuracies": 0.5}]
    page = page_of(folder(metrics=lines))
    labels = set(re.findall(r'data-label="(.*?)"', page))
    page += "".join(re.findall(r"<figcaption>(.*?)</figcaption>", page))
    for name in {name for line in lines for name in line} - {"step", "reward_std"}:
        assert name in page or name.rpartition("/")[2] in labels or name.split("/")[1] in labels, name
    assert "novel/metric" in text_of(page)


def test_the_spread_of_rewards_is_a_band_around_them(folder, sampled):
    page = page_of(folder(metrics=sampled(5)))
    reward = page[page.index("Reward, and the spread within groups") :]
    assert 'class="band"' in reward[: reward.index("</figure>")]


def test_curves_hold_the_values_of_the_file(folder):
    page = page_of(folder(metrics=[{"step": 1, "loss": 2.5}, {"step": 2, "loss": 0}, {"step": 3, "loss": math.nan}]))
    assert 'data-label="loss" data-xs="1 2" data-ys="2.5 0"' in page
    assert "1 value is nan or infinite (at 3)" in text_of(page)


def test_nothing_that_was_sampled_is_markup(folder, sample, sampled, hostile):
    samples = [sample(1, prompt=hostile, completion=hostile, stop=hostile, columns={hostile: hostile},
                      rewards={hostile: None}, states={hostile: hostile}, reward=None)]  # fmt: skip
    metrics = [{**sampled(1)[0], hostile: 1.0, f"eval/{hostile}/loss": 1.0, f"rewards/{hostile}/mean": 1.0}]
    source = {"label": hostile, "group": hostile, "format": hostile, "rows": 1, "used": 1, "why": hostile}
    run = folder(
        metrics=metrics, samples=samples, settings={"method": hostile, "model": hostile, hostile: [hostile]},
        manifest={"packages": {hostile: hostile}, "command": [hostile], "starts": [{"path": hostile, "why": hostile}],
                  "ended": {"outcome": "failed", "said": hostile}, "replaced": [hostile],
                  "memory": {hostile: {hostile: 1}},
                  "plugins": [{"name": hostile, "distribution": hostile, "version": hostile, "status": "broken"}]},
        data={"sources": [source, source], "warnings": [hostile]},
        log=f"2026-01-02 03:04:05,678 WARNING a: {hostile}\n",
    )  # fmt: skip
    page = page_of(run)
    ours = run_page(read(folder("plain", metrics=metrics[:0])), None).render()
    assert page.count("<script") == ours.count("<script") == 1
    assert "<img" not in page
    assert "CANARY = 1; document" not in page.replace("&#x27;", "'") or "&lt;script&gt;window.CANARY" in page
    page.encode("utf-8")
    assert text_of(page).count(" ".join(visible(hostile).split("\n"))) >= 10


def test_samples_are_shown_with_all_that_is_known_of_them(folder, sample, sampled):
    samples = [
        sample(1, number=0, rewards={"right": 1.0, "brief": None}, states={"brief": "timeout"}, advantage=-0.75),
        sample(1, number=1, stop="length", length=77, reward=None, rewards={"right": None, "brief": 0.5}),
    ]
    text = " ".join(text_of(page_of(folder(metrics=sampled(1), samples=samples))).split())
    assert "step 1, row 0 Question 0? columns: answer" in text
    assert "0 0.025 1 timeout -0.75 10 eos Answer 0 of step 1" in text
    assert "no score 0.5 0.5 77 length Answer 1 of step 1" in text


def test_messages_are_shown_with_their_roles(folder, sample):
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    text = text_of(page_of(folder(samples=[sample(1, prompt=prompt)])))
    assert "system: Be brief.\nuser: Why?" in text


def test_ten_thousand_samples_become_a_few_whole_groups_and_that_is_said(folder, sample, sampled):
    samples = [sample(step, row, number) for step in range(1, 101) for row in range(25) for number in range(4)]
    run = folder(metrics=sampled(100), samples=samples)
    start = time.process_time()
    page = write_report(run, None).read_text()
    assert time.process_time() - start < 4  # 0.4 s on an idle machine
    assert len(page) < 900_000
    rows = re.findall(r'<tr data-stop="eos" data-step="(\d+)"', page)
    assert len(rows) == 192
    assert {rows[0], rows[-1]} == {"1", "100"}
    assert "192 answers of 12 steps, evenly over the run; samples.jsonl holds those of all 100 steps" in text_of(page)
    assert "10,000 values" in text_of(page)  # the distributions are of all


def test_a_long_run_is_read_in_parts_and_that_is_said(folder, sample, sampled):
    run = read(folder(metrics=sampled(1000), samples=[sample(step) for step in range(1, 1001)]))
    assert (run.sampled_steps, run.all_sampled_steps, len(run.samples)) == (400, 1000, 400)
    assert (run.samples[0]["step"], run.samples[-1]["step"]) == (1, 1000)
    assert "of 400 of the 1,000 steps that sampled" in text_of(run_page(run, None).render())


@pytest.mark.parametrize("broken", ["metrics.jsonl", "samples.jsonl", "manifest.json", "data_report.json", "run.yaml"])
def test_a_broken_file_is_named_and_the_rest_is_shown(folder, sample, sampled, broken):
    run = folder(metrics=sampled(3), samples=[sample(1)], manifest={}, data={})
    (run / broken).write_bytes(b'{"step": 1, "loss": 2.0}\n{"a: [\n[1, 2]\n\xff\xfe{}\n{"step": 2, "loss"')
    text = text_of(page_of(run))
    assert broken in text
    assert re.search(r"could not be read|is not valid", text)


def test_what_is_odd_in_samples_does_not_matter(folder, sample):
    odd = [
        sample(1, rewards=None), sample(1, rewards={"right": "high"}), sample(1, length=None, reward="nan"),
        {"step": 1}, sample(1, prompt=None, completion=3.5, columns=[1]),
        sample(1, reward=math.inf, advantage=math.nan),
    ]  # fmt: skip
    assert "6 answers of 1 step" in text_of(page_of(folder(samples=odd)))


@pytest.mark.parametrize(
    ("manifest", "finished", "said"),
    [
        (None, True, "Finished: 3 steps"),
        (None, False, "the run goes on, or it was killed"),
        ({"ended": {"outcome": "stopped", "said": "stopped on request; saved"}}, False, "stopped on request; saved"),
        ({"ended": {"outcome": "failed", "said": "loss nan"}}, False, "Failed after 3 steps: loss nan"),
        ({"starts": [{"total_steps": 9}], "ended": {"outcome": "stopped"}}, False, "Stopped: 3 of 9 steps"),
    ],
)
def test_how_it_ended_is_said_first(folder, sampled, manifest, finished, said):
    text = text_of(page_of(folder(metrics=sampled(3), manifest=manifest, finished=finished)))
    assert said in text[:400]


def test_messages_warn_and_all_of_them_can_be_read(folder):
    page = page_of(folder(log=LOG))
    assert '<p class="notice warning">50% of the answers are cut off\n  and a second line</p>' in page
    assert '<p class="notice error">&lt;b&gt;worse&lt;/b&gt;</p>' in page
    assert "log.txt: 3 messages" in page


def test_gaps_and_places_where_a_run_went_on_are_marked(folder):
    metrics = [{"step": step, "loss": 1.0, "step_s": 1.0} for step in (1, 2, 3, 7, 8)]
    starts = [{"step": 0, "total_steps": 8}, {"step": 3, "total_steps": 8}]
    page = page_of(folder(metrics=metrics, manifest={"starts": starts}))
    assert "steps 4 to 6 are missing from metrics.jsonl" in text_of(page)
    assert "went on: step 4" in text_of(page)
    assert "at step 4" in text_of(page)


def test_what_was_asked_for_stands_beside_what_came_of_it(folder, sampled):
    start = {"step": 0, "total_steps": 3, "device": "cpu", "dtype": "fp32", "path": "padded", "why": "recurrent layers",
             "parameters": 1000, "trained_parameters": 10, "processes": 2}  # fmt: skip
    run = folder(
        metrics=sampled(3), manifest={"starts": [start], "ended": {"outcome": "finished", "micro_tokens": 2048}},
        settings={"device": "auto", "dtype": "auto", "micro_tokens": 4096, "max_steps": 3, "epochs": 1.0},
        data={"sources": [{"label": "d", "rows": 10, "used": 7, "rejected": 3, "duplicates": 1}]},
    )  # fmt: skip
    text = " ".join(text_of(page_of(run)).split())
    for row in (
        "device auto cpu", "dtype auto fp32", "micro_tokens 4096 2,048: memory ran out", "padded (recurrent layers)",
        "10 of 1,000 trained", "7 of 10 used; 3 rejected; 1 duplicates", "1.0 epochs, 3 steps at most 3 of 3",
    ):  # fmt: skip
        assert row in text


def test_planned_memory_stands_beside_the_measured(folder):
    memory = {
        "predicted": {"total": 12 * 2**20, "weights": 4 * 2**20, "states": 8 * 2**20},
        "measured": {"total": 14 * 2**20},
        "peak_phase": "update",
    }
    ended = {"outcome": "finished", "peak_memory": {"process": 14 * 2**20}}
    text = text_of(page_of(folder(manifest={"memory": memory, "ended": ended})))
    assert "predicted, states: 8 MiB" in text
    assert "predicted, total" not in text  # it would count every part twice
    assert "measured, total: 14 MiB" in text
    assert "peak of the process" not in text
    assert "update" in text


def test_the_peak_of_the_process_is_measured(train, chats):
    run = train("sft", "run", data=str(chats), **SFT)
    peak = json.loads((run / "manifest.json").read_text())["ended"]["peak_memory"]["process"]
    assert 2**26 < peak < 2**40  # torch alone takes more than that
    assert "measured: peak of the process" in (run / "report.html").read_text()


def test_what_each_reward_adds_is_its_weight_times_its_mean(folder, sample, sampled):
    settings = {"rewards": [{"name": "right", "weight": 2.0}, {"name": "brief", "weight": 0.5}]}
    page = page_of(folder(metrics=sampled(2), samples=[sample(1)], settings=settings))
    assert 'data-label="right x 2" data-xs="1 2" data-ys="1 2"' in page
    assert 'data-label="brief x 0.5" data-xs="1 2" data-ys="0.125 0.125"' in page


def test_reward_is_drawn_against_kl(folder, sampled):
    page = page_of(folder(metrics=sampled(3)))
    assert "step 3: KL to the reference, nats 0.3, reward 1" in page
    assert figures(page).count("Reward against KL") == 1


def test_a_run_without_anything_has_a_page(folder):
    assert "0 steps" in text_of(page_of(folder()))


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        read(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------------ plugins
class Listener:
    """A plugin that adds sections."""

    def __init__(self, answer):
        self.answer = answer

    def tunesmith_report_sections(self, folder):
        return self.answer(folder)


@pytest.fixture
def listening():
    """``listening(function)``: a registry with one plugin whose sections a function makes."""
    import tunesmith
    from tunesmith.plugins import Registry

    def make(function):
        class Plugin(Listener):
            tunesmith_report_sections = tunesmith.hookimpl(Listener.tunesmith_report_sections)

        registry = Registry()
        registry.manager.register(Plugin(function), name="some-plugin")
        return registry

    return make


def test_a_plugin_adds_a_section_and_its_texts_are_escaped(folder, listening):
    registry = listening(lambda path: [("Mine <1>", [f"seen: {path.name} <i>"])])
    page = page_of(folder("this-run"), registry)
    assert "<h2>Mine &lt;1&gt;</h2><p>seen: this-run &lt;i&gt;</p>" in page


@pytest.mark.parametrize("answer", [lambda _: 1 / 0, lambda _: [("no blocks",)], lambda _: 3], ids=range(3))
def test_a_plugin_that_fails_is_named_in_place_of_its_section(folder, listening, sampled, answer):
    text = text_of(page_of(folder(metrics=sampled(3)), listening(answer)))
    assert "Plugin some-plugin" in text
    assert "its section failed" in text
    assert "Learning rate" in text


def test_a_plugin_with_nothing_to_say_adds_nothing(folder, listening):
    empty = folder()
    assert page_of(empty, listening(lambda _: None)) == page_of(empty)


# ------------------------------------------------------------------------------------------------ real runs
SFT = {"max_steps": 3, "batch_size": 4}


def test_a_finished_run_has_its_page(train, chats, registry):
    run = train("sft", "run", data=str(chats), **SFT)
    text = text_of((run / "report.html").read_text())
    assert "Finished: 3 of 3 steps" in text
    ended = json.loads((run / "manifest.json").read_text())["ended"]
    assert (ended["outcome"], ended["step"]) == ("finished", 3)


def test_a_stopped_run_has_its_page_and_goes_on(train, chats, monkeypatch):
    import os
    import signal

    from tunesmith.errors import StoppedError
    from tunesmith.scoring.scorer import Scorer

    backward, calls = Scorer.backward, []

    def spy(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(self, *args, **kwargs)

    monkeypatch.setattr(Scorer, "backward", spy)
    with pytest.raises(StoppedError):
        train("sft", "run", data=str(chats), **SFT)
    run = train("sft", "run", resume=True, data=str(chats), **SFT)
    text = text_of((run / "report.html").read_text())
    assert "Finished: 3 of 3 steps" in text
    starts = json.loads((run / "manifest.json").read_text())["starts"]
    assert [start["ended"]["outcome"] for start in starts] == ["stopped", "finished"]
    assert f"at step {starts[1]['step'] + 1}" in text


def test_a_run_that_diverged_has_its_page(train, chats, monkeypatch, tmp_path):
    from tunesmith.errors import DivergedError
    from tunesmith.runner.step import Stepper

    gradient = Stepper.gradient

    def poisoned(self, *args):
        sums = gradient(self, *args)
        sums.total.fill_(math.nan)
        return sums

    monkeypatch.setattr(Stepper, "gradient", poisoned)
    with pytest.raises(DivergedError):
        train("sft", "run", data=str(chats), **SFT)
    assert "Failed after 0 of 3 steps: step 1: loss nan" in text_of((tmp_path / "run" / "report.html").read_text())


def test_a_page_does_not_keep_the_folder_of_a_run_that_took_no_step(train, chats, monkeypatch):
    from tunesmith.errors import ResourceError
    from tunesmith.runner.step import Stepper

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "gradient", lambda *_: (_ for _ in ()).throw(ResourceError("no room")))
        with pytest.raises(ResourceError):
            train("sft", "run", data=str(chats), **SFT)
    assert "Finished" in (train("sft", "run", data=str(chats), **SFT) / "report.html").read_text()


@pytest.mark.parametrize("fault", [OSError("no space"), ZeroDivisionError("a bug"), RecursionError("too deep")])
def test_a_page_that_cannot_be_written_does_not_end_the_run(train, chats, monkeypatch, caplog, fault):
    monkeypatch.setattr("tunesmith.report.run.run_page", lambda *_: (_ for _ in ()).throw(fault))
    run = train("sft", "run", data=str(chats), **SFT)
    assert (run / "model" / "config.json").is_file()
    assert f"the report could not be written: {type(fault).__name__}: {fault}" in caplog.text


def test_the_command_writes_it_anew(cli, folder, sampled, tmp_path):
    run = folder(metrics=sampled(3))
    assert cli("report", run).out.strip() == str(run / "report.html")
    elsewhere = tmp_path / "x.html"
    assert cli("report", run, "--output", elsewhere).out.strip() == str(elsewhere)
    assert elsewhere.read_text() == (run / "report.html").read_text()
    assert cli("report", tmp_path / "nothing").code == 2
    refused = cli("report", run, "--output", tmp_path / "no" / "x.html")
    assert (refused.code, "cannot write to" in refused.err) == (2, True)


def test_the_command_asks_the_plugins_of_the_run(cli, folder, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import tunesmith\n\n\n@tunesmith.hookimpl\ndef tunesmith_report_sections(folder):\n"
        "    return [('From my file', [str(folder.name)])]\n"
    )
    run = folder(settings={"plugins": {"files": [str(plugin)]}})
    assert cli("report", run).code == 0
    assert "<h2>From my file</h2><p>run</p>" in (run / "report.html").read_text()
    plugin.unlink()
    said = cli("report", run)
    assert (said.code, "without the plugins of the run: " in said.err) == (0, True)
    assert "From my file" not in (run / "report.html").read_text()
