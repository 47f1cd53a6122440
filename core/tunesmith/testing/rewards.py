"""Checks of a reward: it knows right answers from none, always says the same, and nothing that it reads breaks it."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import cast

from tunesmith.components import Component, Reward, Rollout, Verdict
from tunesmith.errors import DataError
from tunesmith.plugins import Registry
from tunesmith.rollout.lenient import LenientPanel
from tunesmith.testing.answers import Row, hostile, null_policies, said
from tunesmith.testing.bench import ROUNDING, SAME, Subject, answered, repeating, same, shuffled
from tunesmith.testing.conform import check
from tunesmith.testing.report import Finding, Report, failed, ok, skipped
from tunesmith.testing.suite import Suite, Unchecked

MOST_NULL = 0.05
"""A policy that knows nothing may reach this share of the best score on average."""
MOST_ROWS = 20
"""Rows that are used at most: each is answered some hundred times."""
MOST_REPEATED = 24
"""Answers that are judged again and again, in other orders and batches."""
ENOUGH = 3
"""After as many failures no more hostile answers are tried: each may take the whole time limit."""
IN_PROCESS_CHARACTERS = 1_000
"""Of a hostile answer for a reward that judges in the process that trains, where nothing could stop it."""
TWICE = "asked twice"
STAND_IN: Row = {"prompt": "What is 2 + 2?", "completion": "It is 4."}
"""A row for rewards that have no rows of their own and read no columns."""
JUDGED = ("score", "abstained")


def check_reward(reward: Reward, rows: Sequence[Row] | None = None) -> Report:
    """Check a reward, in processes that are killed when they hang.

    Args:
        reward: with the settings to check it with. Its class stands at the top of a module, so that other processes
            find it.
        rows: each with a ``prompt``, a ``completion`` that deserves the best score, and the columns that the reward
            reads; by default `Reward.samples`. The first `MOST_ROWS` are used.

    Returns:
        A report with a finding per check; ``report.failed`` is empty when all is well.

    Raises:
        DataError: a row lacks its prompt, its completion or a column.
        ConfigError: the reward cannot be handed to another process.
    """
    return check(reward, rows=rows)


@contextmanager
def subject(reward: Reward, registry: Registry, *, rows: Sequence[Row] | None = None) -> Iterator[Subject]:
    """A reward with its rows and the processes that it judges in; the right answers are judged already."""
    found = list(islice(reward.samples() if rows is None else rows, MOST_ROWS))
    columns = list(reward.columns())
    for i, row in enumerate(found, start=1):
        missing = [name for name in ("prompt", "completion", *columns) if name not in row]
        if missing:
            raise DataError(
                f"row {i} lacks {', '.join(missing)}",
                where=f"the rows to check the reward {reward.name!r} with",
                why=f"it has: {', '.join(row)}",
            )
    if not found and columns:
        raise Unchecked(replace(_no_rows(reward, columns), check="gold"))
    with LenientPanel(reward, workers=1) as panel:
        policies = null_policies(found, columns) if reward.verifies else {}
        made = Subject(reward, found or [STAND_IN], columns, panel, policies, own=bool(found))
        verdicts = made.judge("gold", made.gold())
        if all(verdict.state == "infrastructure" for verdict in verdicts):
            raise Unchecked(Finding("judging", "skipped", f"what it relies on is not there: {verdicts[0].why}"))
        yield made


def _no_rows(reward: Reward, columns: Sequence[str]) -> Finding:
    if reward.verifies:
        return failed("it verifies answers, and samples() gives no rows to see that with")
    needed = f"; without rows with {', '.join(columns)} nothing else can be checked" if columns else ""
    return skipped(f"samples() gives no rows, and no others were given{needed}")


# ---------------------------------------------------------------------------------------------- what the scores are
def gold_is_best(subject: Subject) -> Finding:
    """Right answers get the best score on their own rows, or any score where there is no best."""
    if not subject.own:
        return _no_rows(subject.reward, subject.columns)
    best, verdicts = subject.reward.best, [verdict for what, _, verdict in subject.seen if what == "gold"]
    for index, verdict in enumerate(verdicts):
        if verdict.score is None:
            return failed(f"row {index + 1}: {_said(verdict)} for {_quoted(subject, index)}")
        if best is not None and abs(verdict.score - best) > SAME:
            text = f"row {index + 1}: {verdict.score:g} and not {best:g} for {_quoted(subject, index)}"
            return failed(text)
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    goal = f"{best:g} each" if best is not None else f"{min(scores):g} to {max(scores):g}"
    return ok(f"{_answers(len(verdicts))}: {goal}")


def no_verifier(subject: Subject) -> Finding:
    """Null policies make no sense where nothing is right or wrong."""
    return skipped("it does not say that it verifies answers")


def policy(subject: Subject, name: str) -> Finding:
    """Answers that know nothing average near zero: the most that a variant of a policy reaches."""
    if not subject.own:
        return skipped("there are no rows to answer")
    variants = subject.policies.get(name)
    if variants is None:
        return skipped("no two rows differ in answer and columns")
    limit = MOST_NULL * subject.best
    means, total = [], sum(map(len, variants))
    for answers in variants:
        verdicts = subject.judge(name, [subject.rollout(index, text) for index, text in answers])
        silent = [i for i, verdict in enumerate(verdicts) if verdict.score is None]
        if silent:
            told = f"{_said(verdicts[silent[0]])} for {answers[silent[0]][1][:60]!r}"
            return failed(f"no score for {len(silent)} of {len(answers)}: {told}; it deserves a low one")
        scores = [verdict.score or 0.0 for verdict in verdicts]
        means.append(statistics.fmean(scores))
        if means[-1] > limit:
            index, text = answers[scores.index(max(scores))]
            told = f"{max(scores):g} for {text[:60]!r} on row {index + 1}"
            return failed(f"mean {means[-1]:.3f} over {len(scores)}, above {limit:g}: {told}")
    return ok(f"mean {'at most ' if means[1:] else ''}{max(means):.3f} over {total}")


# ---------------------------------------------------------------------------------------------- columns
def declared_columns(subject: Subject) -> Finding:
    """What it reads is declared, so that a missing column is found before anything is loaded."""
    what, declared = "declared columns", ", ".join(subject.columns) or "none"
    extra = sorted({name for row in subject.rows for name in row} - {"prompt", "completion", *subject.columns})
    bare = [
        answered(gold.prompt, gold.completion, {name: gold.columns[name] for name in subject.columns})
        for gold in subject.gold()
    ]
    wrong = next((verdict for verdict in subject.judge(what, bare) if verdict.state not in JUDGED), None)
    if wrong is not None:
        return failed(f"with only the declared columns ({declared}): {_said(wrong)}")
    return ok(f"reads {declared}" + (f"; does without {', '.join(extra)}" if extra else ""))


def unusable_columns(subject: Subject) -> Finding:
    """A row whose column is missing or null is refused by the name of the column, and gets no score."""
    if not subject.columns:
        return skipped("it declares no columns")
    for name in subject.columns:
        for how in ("missing", "null"):
            gold = subject.gold()[0]
            rest = {key: value for key, value in gold.columns.items() if key != name}
            columns = rest if how == "missing" else {**rest, name: None}
            [verdict] = subject.panel.judge([answered(gold.prompt, gold.completion, columns)])
            if verdict.state == "score":
                return failed(f"{name} {how}: the score is {verdict.score:g}, and the row says nothing")
            if verdict.state != "abstained" and name not in verdict.why:
                return failed(f"{name} {how}: {_said(verdict)}; that does not name the column")
    return ok(f"no score without {', '.join(subject.columns)}")


def messages_as_text(subject: Subject) -> Finding:
    """A prompt and an answer in messages get the score of the same text."""
    what = "messages"
    gold = [one for one in subject.gold() if isinstance(one.prompt, str) and isinstance(one.completion, str)]
    if not gold or not subject.reward.isolated:
        return skipped("its rows are messages" if not gold else "a model may read a chat differently")
    texts = subject.panel.judge(gold)
    chats = [answered(_turn("user", one.prompt), _turn("assistant", one.completion), one.columns) for one in gold]
    for one, text, chat in zip(gold, texts, subject.judge(what, chats), strict=True):
        if (text.state, text.score) != (chat.state, chat.score):
            told = f"{_said(text)} as text, {_said(chat)} as messages: {one.text[:60]!r}"
            return failed(f"{told}; `Rollout.text` is the answer in either form")
    return ok(f"{_answers(len(gold))} scored as text is")


def _turn(role: str, content: object) -> list[dict[str, object]]:
    return [{"role": role, "content": content}]


# ---------------------------------------------------------------------------------------------- always the same
def the_same_again(subject: Subject) -> Finding:
    """The score of an answer does not depend on when and in which process it is asked about."""
    chosen = _repeatable(subject)
    if not chosen:
        return skipped("nothing was judged")
    problem = _asked_again(subject, chosen)
    again = problem if problem.startswith(TWICE) else _elsewhere(subject, chosen)
    return failed(again) if again else ok(f"{_answers(len(chosen))}, {TWICE} and in another process")


def order_and_batch_size(subject: Subject) -> Finding:
    """The score of an answer does not depend on what else is asked about."""
    chosen = _repeatable(subject)
    if not chosen:
        return skipped("nothing was judged")
    problem = _asked_again(subject, chosen)
    if problem.startswith(TWICE):
        return skipped("it does not even say the same twice")
    return failed(problem) if problem else ok(f"{_answers(len(chosen))}, shuffled, one by one and in fives")


def _asked_again(subject: Subject, chosen: Sequence[tuple[Rollout, Verdict]]) -> str:
    """What is different when it is asked in other ways; looked at once for both checks."""
    if subject.again is None:
        count = len(chosen)
        in_order = list(range(count))
        ways = {TWICE: [in_order], "shuffled": shuffled(count, count), "one by one": [[i] for i in in_order]}
        ways["in fives"] = shuffled(count, 5)
        job = Rollout("", "", {"answers": [rollout for rollout, _ in chosen], "ways": ways})
        with LenientPanel(repeating(subject.reward, count), workers=1) as panel:
            [verdict] = panel.judge([job])
        subject.again = "" if verdict.state == "score" else verdict.why or verdict.state
    return subject.again


def _elsewhere(subject: Subject, chosen: Sequence[tuple[Rollout, Verdict]]) -> str:
    """What is different in another process."""
    with LenientPanel(subject.reward, workers=1) as other:
        verdicts = other.judge([rollout for rollout, _ in chosen])
    for (rollout, first), second in zip(chosen, verdicts, strict=True):
        if not same(first.score, second.score, SAME if subject.reward.isolated else ROUNDING):
            return f"{_said(first)}, then {_said(second)} in another process, for {rollout.text[:60]!r}"
    return ""


def _repeatable(subject: Subject) -> list[tuple[Rollout, Verdict]]:
    """Right and wrong answers that were judged in time, in turns by where they come from."""
    kinds: dict[str, list[tuple[Rollout, Verdict]]] = {}
    for what, rollout, verdict in subject.seen:
        if verdict.state in JUDGED:
            kinds.setdefault(what, []).append((rollout, verdict))
    share = -(-MOST_REPEATED // max(1, len(kinds)))
    chosen = [one for several in kinds.values() for one in several[:share]][:MOST_REPEATED]
    return chosen


# ---------------------------------------------------------------------------------------------- whatever comes
def hostile_answers(subject: Subject) -> Finding:
    """Answers that break parsers get a score in time, and no process dies of them."""
    what, limit = "hostile answers", f"{subject.reward.timeout:g} s"
    answers, tried, bad = hostile(), 0, []
    longest = None if subject.reward.isolated else IN_PROCESS_CHARACTERS
    for name, text in answers.items():
        rollout = subject.rollout(0, text[:longest])
        [verdict] = subject.judge(what, [rollout])
        tried += 1
        if verdict.state not in JUDGED:
            bad.append(f"{name}: {_said(verdict)}")
        elif subject.reward.verifies and (verdict.score or 0.0) > MOST_NULL * subject.best:
            bad.append(f"{name}: the score is {verdict.score:g}")
        if len(bad) == ENOUGH:
            break
    if not bad:
        told = f"each judged within {limit}" if longest is None else f"of at most {longest:,} characters"
        return ok(f"{tried} answers, {told}")
    rest = f" ({len(answers) - tried} more were not tried)" if tried < len(answers) else ""
    return failed(f"{'; '.join(bad)}{rest}")


def range_of_scores(subject: Subject) -> Finding:
    """No score is above the best one; that they are finite numbers is checked wherever one is given."""
    scores = [(verdict.score, rollout) for _, rollout, verdict in subject.seen if verdict.score is not None]
    if not scores:
        return skipped("nothing was scored")
    low, high = min(score for score, _ in scores), max(score for score, _ in scores)
    best = subject.reward.best
    if best is not None and high > best + SAME:
        text = next(rollout.text for score, rollout in scores if score == high)
        return failed(f"{high:g} is above the best, {best:g}, for {text[:60]!r}")
    return ok(f"{len(scores):,} scores from {low + 0.0:g} to {high + 0.0:g}")


NULL_POLICIES = ("empty", "the prompt copied", "a number from 0 to 100", "all numbers from 0 to 100", "tags only",
                 "another row's answer", "random letters", "very long text")  # fmt: skip


def _applies(cls: type[Component], names: Collection[str]) -> Collection[str]:
    """Null policies one by one for what tells right from wrong, and a word about them for the rest."""
    verifies = cast("type[Reward]", cls).verifies
    return [name for name in names if not name.startswith("null polic") or (name == NO_POLICIES) != verifies]


NO_POLICIES = "null policies"
SUITE = Suite(
    Reward.kind,
    subject,
    {
        "gold": gold_is_best,
        NO_POLICIES: no_verifier,
        **{f"null policy: {name}": partial(policy, name=name) for name in NULL_POLICIES},
        "declared columns": declared_columns,
        "missing columns": unusable_columns,
        "messages": messages_as_text,
        "the same again": the_same_again,
        "order and batch size": order_and_batch_size,
        "hostile answers": hostile_answers,
        "range": range_of_scores,
    },
    _applies,
)


# ---------------------------------------------------------------------------------------------- in words
def _said(verdict: Verdict) -> str:
    if verdict.score is not None:
        return f"{verdict.score:g}"
    return f"{verdict.state}: {verdict.why}" if verdict.why else verdict.state


def _quoted(subject: Subject, index: int) -> str:
    return repr(said(subject.rows[index]["completion"])[:60])


def _answers(count: int) -> str:
    return "1 answer" if count == 1 else f"{count:,} answers"
