"""Folders of runs that were never run: metrics, samples and records as a run writes them."""

import json
import math

import pytest

HOSTILE = (
    "<script>window.CANARY = 1; document.title = 'ran'</script></script>]]><!--",
    "<img src='http://127.0.0.1:1/x' onerror='document.title = 1'>",
    "\x1b[31mred\x1b[0m \x07 \x00",
    "right\u202eto left\u2066 zero\u200bwidth \ufeff",
    "line\u2028separator \u2029 \u0085",
    "half \ud800 pair \udfff",
    "&lt;already&gt; &amp; 'quoted' \"twice\"",
    "</pre></td></tr></table></svg></style>",
)
"""What a model may say to whoever looks at what it said."""


def pytest_generate_tests(metafunc):
    """``hostile``: each of these texts."""
    if "hostile" in metafunc.fixturenames:
        metafunc.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))


@pytest.fixture
def hostile_texts():
    """All of them."""
    return HOSTILE


@pytest.fixture
def sample():
    """``sample(step, row, number, **changes)``: a line of samples.jsonl."""
    return line_of


def line_of(step, row=0, number=0, **changes):
    return {
        "step": step, "source": 0, "row": row, "sample": number, "prompt": f"Question {row}?",
        "completion": f"Answer {number} of step {step}", "columns": {"answer": "42"},
        "rewards": {"right": float(number % 2), "brief": 0.25}, "states": {}, "reward": number % 2 + 0.025,
        "advantage": 0.5, "length": 10 + number, "stop": "eos", "seed": 1, **changes,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """``folder(name, metrics=, samples=, settings=, manifest=, data=, log=, finished=)``: the folder of a run."""

    def make(name="run", *, metrics=(), samples=(), settings=None, manifest=None, data=None, log="", finished=True):
        path = tmp_path / name
        path.mkdir()
        # JSON is a subset of YAML
        (path / "run.yaml").write_text(
            json.dumps({"method": "some-method", "model": "m", "seed": 0, **(settings or {})})
        )
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
        for file, content in (("manifest.json", manifest), ("data_report.json", data)):
            if content is not None:
                (path / file).write_text(json.dumps(content))
        if samples:
            (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples))
        if log:
            (path / "log.txt").write_text(log, encoding="utf-8", errors="surrogatepass")
        if finished:
            (path / "model").mkdir()
        return path

    return make


@pytest.fixture
def sampled():
    """``sampled(steps, seed)``: metrics of a run that samples; its reward rises with its KL."""

    def make(steps, seed=0, rate=1.0):
        return [
            {
                "step": step, "loss": 1 / step, "reward": rate * step / steps + seed / 100, "reward_std": 0.1,
                "kl_per_answer": 0.1 * step, "completions/mean_length": 20 + step, "learning_rate": 1e-4,
                "grad_norm": 10.0 ** (step % 4), "rewards/right/mean": step / steps, "rewards/brief/mean": 0.25,
                "num_tokens": 100 * step, "step_s": 0.5, "novel/metric": math.sin(step),
            }
            for step in range(1, steps + 1)
        ]  # fmt: skip

    return make
