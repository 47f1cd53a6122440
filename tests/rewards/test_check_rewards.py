"""Every built-in reward passes the checks that `tunesmith check reward` makes."""

import pytest

from tunesmith import plugins
from tunesmith.config import build
from tunesmith.plugins import load
from tunesmith.testing import check_reward

SETTINGS = {
    "json-schema": [{"definition": {"type": "object"}}],
    "language": [{"language": "en"}],
    "length": [{"limit": 100}, {"shape": "target", "target": 50, "unit": "characters"}],
    "regex": [{"pattern": "a+b"}, {"pattern": "^\\s*(\\S+\\s*)+$", "timeout": 3}],
}
"""Of rewards that cannot be made, or do nothing, without."""
ENDPOINT = {"judge": {"base_url": "http://127.0.0.1:9/v1", "model": "none", "retries": 0, "backoff": 0.01}}
"""Rewards that ask a server: without one their own tests check what they make of its replies."""
BUILT_IN = sorted(c.name for plugin, c in load().entries("reward") if plugin.distribution == plugins.GROUP)
CASES = [(name, settings) for name in BUILT_IN for settings in SETTINGS.get(name, [{}])]
MODEL = "reward-model"


@pytest.mark.parametrize(("name", "settings"), [case for case in CASES if case[0] not in {*ENDPOINT, MODEL}])
def test_it_keeps_its_promises(registry, name, settings):
    report = check_reward(build(registry, "reward", {"name": name, **settings}))
    assert report.failed == []
    skipped = {finding.check for finding in report.skipped}
    assert skipped <= {"gold", "null policies", "missing columns"}


@pytest.mark.parametrize(("name", "settings"), ENDPOINT.items())
def test_without_its_endpoint_it_is_checked_as_far_as_possible(registry, name, settings):
    report = check_reward(build(registry, "reward", {"name": name, **settings}))
    assert report.failed == []
    assert {finding.check for finding in report.skipped} >= {"judging"}


def test_a_reward_model_keeps_its_promises(registry, tiny_model, tmp_path):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(tiny_model, num_labels=1)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    report = check_reward(build(registry, "reward", {"name": MODEL, "model": str(tmp_path)}))
    assert report.failed == []
    assert {finding.check for finding in report.findings if finding.state == "ok"} >= {"order and batch size", "range"}
