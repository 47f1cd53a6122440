import time

import pytest

from tunesmith import ConfigError, Rollout
from tunesmith.config import build

PROMPT = "What is seventeen plus twenty-five? Think first, then answer in one sentence."
WHY = "Ten and twenty make thirty, seven and five make twelve."


@pytest.fixture
def score(registry):
    def judge(completion, prompt=PROMPT, truncated=False, **settings):
        reward = build(registry, "reward", {"name": "format", **settings})
        return reward([Rollout(prompt, completion, truncated=truncated)])[0]

    return judge


@pytest.mark.parametrize("tag", ["think", "thinking"])
@pytest.mark.parametrize("space", ["", "\n", " \n\n"])
def test_one_block_and_an_answer_are_right(score, tag, space):
    assert score(f"{space}<{tag}>{space}{WHY}{space}</{tag}>{space}42{space}") == 1.0


WRONG = {
    "no tags": WHY + " 42",
    "empty": "",
    "tags only": "<think></think>",
    "no answer": f"<think>{WHY}</think>",
    "blank answer": f"<think>{WHY}</think> \n\t",
    "invisible answer": f"<think>{WHY}</think>\u200b\u2060",
    "signs for an answer": f"<think>{WHY}</think>...",
    "empty reasoning": "<think></think>42",
    "blank reasoning": "<think> \n </think>42",
    "dots for reasoning": "<think>" + ". " * 100 + "</think>42",
    "invisible reasoning": "<think>" + "\u200b" * 100 + "</think>42",
    "next to no reasoning": "<think>ok</think>42",
    "text before": f"Sure! <think>{WHY}</think>42",
    "not closed": f"<think>{WHY} 42",
    "not opened": f"{WHY}</think>42",
    "closed by the other tag": f"<think>{WHY}</thinking>42",
    "two blocks": f"<think>{WHY}</think><think>{WHY}</think>42",
    "block of the other kind": f"<think>{WHY}</think><thinking>{WHY}</thinking>42",
    "nested": f"<think><think>{WHY}</think></think>42",
    "opened twice": f"<think><think>{WHY}</think>42",
    "closed twice": f"<think>{WHY}</think>42</think>",
    "wrong order": f"</think>{WHY}<think>42",
    "capitals": f"<THINK>{WHY}</THINK>42",
    "lookalike beside": f"<think>{WHY}</think>42 <Think>",
    "attribute": f"<think>{WHY}</think>42 <think x='1'>",
    "spaced out": f"<think>{WHY}< / think></think>42",
    "prompt as reasoning": f"<think>{PROMPT}</think>42",
    "prompt again and again": f"<think>{(PROMPT + ' ') * 5}</think>42",
    "part of the prompt": f"<think>{PROMPT[5:50].upper()}</think>42",
    "prompt as answer": f"<think>{WHY}</think>{PROMPT}",
    "prompt": PROMPT,
}


@pytest.mark.parametrize("completion", WRONG.values(), ids=WRONG)
def test_anything_else_is_wrong(score, completion):
    assert score(completion) == 0.0
    assert score(completion, answer="answer") == 0.0


@pytest.mark.parametrize("completion", WRONG.values(), ids=WRONG)
def test_parts_stay_below_the_whole(score, completion):
    assert 0.0 <= score(completion, partial=True) <= 0.6
    reasoned = WHY in completion
    if not reasoned:
        assert score(completion, partial=True) == 0.0


def test_parts(score):
    assert score(f"<think>{WHY}", partial=True) == 0.2
    assert score(f"<think>{WHY}</think>", partial=True) == 0.4
    assert score(f"{WHY}</think>42", partial=True) == 0.4
    assert score(f"<think>{WHY}</think>42", partial=True, answer="answer") == 0.6
    assert score(f"<think>{WHY}</think>42", partial=True) == 1.0


def test_the_answer_may_need_a_tag_of_its_own(score):
    right = f"<think>{WHY}</think>\n<answer>42</answer>"
    assert score(right, answer="answer") == 1.0
    for wrong in (
        f"<think>{WHY}</think>42",
        right + " done",
        right.replace("<answer>", "So: <answer>"),
        right.replace("42", ""),
        right + "<answer>42</answer>",
        right.replace("42", "<answer>42"),
        f"<answer>42</answer><think>{WHY}</think>",
        f"<think>{WHY}<answer>42</answer></think>42",
        f"<think>{WHY}</think></answer>42<answer>",
    ):
        assert score(wrong, answer="answer") == 0.0


def test_a_prompt_that_opened_the_block(score):
    rest, whole = f"{WHY}</think>42", f"<think>{WHY}</think>42"
    opened = PROMPT + "<think>\n"
    assert [score(rest, opened), score(whole, opened)] == [1.0, 0.0]
    assert [score(rest, opened, opened_by="completion"), score(whole, opened, opened_by="completion")] == [0.0, 1.0]
    assert score(f"{WHY}</thinking>42", opened) == 0.0
    chat = [{"role": "user", "content": PROMPT}]
    assert [score(rest, chat), score(whole, chat)] == [0.0, 1.0]
    assert [score(rest, chat, opened_by="prompt"), score(whole, chat, opened_by="prompt")] == [1.0, 0.0]
    assert score(rest, [*chat, {"role": "assistant", "content": "<think>"}]) == 1.0
    asking = [{"role": "user", "content": "Start with <think>"}]  # the user's words open nothing
    assert [score(rest, asking), score(whole, asking)] == [0.0, 1.0]
    assert score(rest, opened, partial=True) == 1.0
    assert score(WHY + "</think>", opened, partial=True) == 0.4


def test_what_was_cut_off_is_not_whole(score):
    assert score(f"<think>{WHY}</think>42", truncated=True) == 0.0
    assert score(f"<think>{WHY}</think>42", truncated=True, partial=True) == 0.6


def test_messages_and_other_scripts(score):
    assert score([{"role": "assistant", "content": f"<think>{WHY}</think>42"}]) == 1.0
    chinese = "\u5341\u4e03\u52a0\u4e8c\u5341\u4e94\u7b49\u4e8e\u56db\u5341\u4e8c"
    assert score(f"<think>{chinese}</think>{chinese}") == 1.0
    assert score(f"<reason>{WHY}</reason>42", thinking="reason") == 1.0


def test_length_of_reasoning_and_answer(score):
    text = f"<think>{WHY}</think>42"
    assert score(text, min_thinking=100) == 0.0
    assert score(text, min_answer=3) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thinking": "<think>"}, "without < and >"),
        ({"thinking": []}, "thinking"),
        ({"thinking": "think,Think"}, "differ"),
        ({"thinking": "think", "answer": "think"}, "differ"),
        ({"answer": ""}, "no name of a tag"),
        ({"opened_by": True}, "opened_by"),
    ],
)
def test_impossible_settings(registry, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(registry, "reward", {"name": "format", **settings})


@pytest.mark.parametrize(
    "settings", [{}, {"answer": "answer"}, {"min_thinking": 200, "min_answer": 50}, {"opened_by": "prompt"}]
)
def test_samples_are_best(registry, settings):
    reward = build(registry, "reward", {"name": "format", **settings})
    rows = list(reward.samples())
    assert rows and reward([Rollout(r["prompt"], r["completion"]) for r in rows]) == [1.0] * len(rows)


@pytest.mark.parametrize("piece", ["<", "< ", "<think>", "</think>", "<think", "\u200b", "a", " ", "\x00"])
def test_a_megabyte_takes_no_time(score, piece):
    start = time.perf_counter()
    text = piece * (1_000_000 // len(piece))
    assert score(text, partial=True, answer="answer") <= 0.6
    assert score(f"<think>{text}</think>{text}", prompt=text[:1000] + PROMPT) in (0.0, 1.0)
    assert time.perf_counter() - start < 5
