"""Checks of a reward: it knows right answers from none, always says the same, and nothing that it reads breaks it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import islice

from tunesmith.components import Reward, Rollout, Verdict
from tunesmith.errors import DataError, ResourceError
from tunesmith.rollout.lenient import LenientPanel
from tunesmith.testing.answers import Answered, Row, hostile, null_policies, said
from tunesmith.testing.bench import ROUNDING, SAME, Subject, answered, repeating, same, shuffled
from tunesmith.testing.imports import ImportProblemError, heavy_imports
from tunesmith.testing.report import Finding, Report

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
    return Report(Reward.kind, reward.name, list(findings(reward, rows)))


def findings(reward: Reward, rows: Sequence[Row] | None = None) -> Iterator[Finding]:
    """What `check_reward` reports, each finding as soon as it is known."""
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
    yield from _judging(reward, found, columns)
    yield imports_are_light(type(reward))


def _judging(reward: Reward, rows: Sequence[Row], columns: Sequence[str]) -> Iterator[Finding]:
    if not rows:
        yield _no_rows(reward, columns)
    if not rows and columns:
        return
    try:
        panel = LenientPanel(reward, workers=1)
    except ResourceError as error:
        yield Finding("loading", "skipped", " ".join(str(error).split()))
        return
    with panel:
        subject = Subject(reward, rows or [STAND_IN], columns, panel)
        verdicts = subject.judge("gold", subject.gold())
        if all(verdict.state == "infrastructure" for verdict in verdicts):
            yield Finding("judging", "skipped", f"what it relies on is not there: {verdicts[0].why}")
            return
        if rows:
            yield gold_is_best(subject, verdicts)
            yield from nothing_for_nothing(subject)
        for check in (declared_columns, unusable_columns, messages_as_text):
            yield check(subject)
        yield from always_the_same(subject)
        yield hostile_answers(subject)
        yield range_of_scores(subject)


def _no_rows(reward: Reward, columns: Sequence[str]) -> Finding:
    if reward.verifies:
        return Finding("gold", "failed", "it verifies answers, and samples() gives no rows to see that with")
    needed = f"; without rows with {', '.join(columns)} nothing else can be checked" if columns else ""
    return Finding("gold", "skipped", f"samples() gives no rows, and no others were given{needed}")


# ---------------------------------------------------------------------------------------------- what the scores are
def imports_are_light(cls: type[Reward]) -> Finding:
    """Importing the module loads no heavy package, so that listing components stays instant."""
    try:
        module, heavy = heavy_imports(cls)
    except ImportProblemError as problem:
        return Finding("imports", "skipped", str(problem))
    if heavy:
        return Finding("imports", "failed", f"importing {module} loads {', '.join(heavy)}; import it inside functions")
    return Finding("imports", "ok", f"importing {module} loads nothing heavy")


def gold_is_best(subject: Subject, verdicts: Sequence[Verdict]) -> Finding:
    """Right answers get the best score on their own rows, or any score where there is no best."""
    best = subject.reward.best
    for index, verdict in enumerate(verdicts):
        if verdict.score is None:
            return Finding("gold", "failed", f"row {index + 1}: {_said(verdict)} for {_quoted(subject, index)}")
        if best is not None and abs(verdict.score - best) > SAME:
            text = f"row {index + 1}: {verdict.score:g} and not {best:g} for {_quoted(subject, index)}"
            return Finding("gold", "failed", text)
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    goal = f"{best:g} each" if best is not None else f"{min(scores):g} to {max(scores):g}"
    return Finding("gold", "ok", f"{_answers(len(verdicts))}: {goal}")


def nothing_for_nothing(subject: Subject) -> Iterator[Finding]:
    """Answers that know nothing average near zero, if the reward tells right answers from wrong ones."""
    if not subject.reward.verifies:
        yield Finding("null policies", "skipped", "it does not say that it verifies answers")
        return
    policies = null_policies(subject.rows, subject.columns)
    for name, variants in policies.items():
        yield _policy(subject, name, variants)
    if "another row's answer" not in policies:
        yield Finding("null policy: another row's answer", "skipped", "no two rows differ in answer and columns")


def _policy(subject: Subject, name: str, variants: Sequence[Answered]) -> Finding:
    """The most that a variant of a policy reaches on average."""
    check, limit = f"null policy: {name}", MOST_NULL * subject.best
    means, total = [], sum(map(len, variants))
    for answers in variants:
        verdicts = subject.judge(name, [subject.rollout(index, text) for index, text in answers])
        silent = [i for i, verdict in enumerate(verdicts) if verdict.score is None]
        if silent:
            told = f"{_said(verdicts[silent[0]])} for {answers[silent[0]][1][:60]!r}"
            return Finding(
                check, "failed", f"no score for {len(silent)} of {len(answers)}: {told}; it deserves a low one"
            )
        scores = [verdict.score or 0.0 for verdict in verdicts]
        means.append(statistics.fmean(scores))
        if means[-1] > limit:
            index, text = answers[scores.index(max(scores))]
            told = f"{max(scores):g} for {text[:60]!r} on row {index + 1}"
            return Finding(check, "failed", f"mean {means[-1]:.3f} over {len(scores)}, above {limit:g}: {told}")
    return Finding(check, "ok", f"mean {'at most ' if means[1:] else ''}{max(means):.3f} over {total}")


# ---------------------------------------------------------------------------------------------- columns
def declared_columns(subject: Subject) -> Finding:
    """What it reads is declared, so that a missing column is found before anything is loaded."""
    check, declared = "declared columns", ", ".join(subject.columns) or "none"
    extra = sorted({name for row in subject.rows for name in row} - {"prompt", "completion", *subject.columns})
    bare = [
        answered(gold.prompt, gold.completion, {name: gold.columns[name] for name in subject.columns})
        for gold in subject.gold()
    ]
    failed = next((verdict for verdict in subject.judge(check, bare) if verdict.state not in JUDGED), None)
    if failed is not None:
        return Finding(check, "failed", f"with only the declared columns ({declared}): {_said(failed)}")
    return Finding(check, "ok", f"reads {declared}" + (f"; does without {', '.join(extra)}" if extra else ""))


def unusable_columns(subject: Subject) -> Finding:
    """A row whose column is missing or null is refused by the name of the column, and gets no score."""
    check = "missing columns"
    if not subject.columns:
        return Finding(check, "skipped", "it declares no columns")
    for name in subject.columns:
        for how in ("missing", "null"):
            gold = subject.gold()[0]
            rest = {key: value for key, value in gold.columns.items() if key != name}
            columns = rest if how == "missing" else {**rest, name: None}
            [verdict] = subject.panel.judge([answered(gold.prompt, gold.completion, columns)])
            if verdict.state == "score":
                return Finding(
                    check, "failed", f"{name} {how}: the score is {verdict.score:g}, and the row says nothing"
                )
            if verdict.state != "abstained" and name not in verdict.why:
                return Finding(check, "failed", f"{name} {how}: {_said(verdict)}; that does not name the column")
    return Finding(check, "ok", f"no score without {', '.join(subject.columns)}")


def messages_as_text(subject: Subject) -> Finding:
    """A prompt and an answer in messages get the score of the same text."""
    check = "messages"
    gold = [one for one in subject.gold() if isinstance(one.prompt, str) and isinstance(one.completion, str)]
    if not gold or not subject.reward.isolated:
        return Finding(check, "skipped", "its rows are messages" if not gold else "a model may read a chat differently")
    texts = subject.panel.judge(gold)
    chats = [answered(_turn("user", one.prompt), _turn("assistant", one.completion), one.columns) for one in gold]
    for one, text, chat in zip(gold, texts, subject.judge(check, chats), strict=True):
        if (text.state, text.score) != (chat.state, chat.score):
            told = f"{_said(text)} as text, {_said(chat)} as messages: {one.text[:60]!r}"
            return Finding(check, "failed", f"{told}; `Rollout.text` is the answer in either form")
    return Finding(check, "ok", f"{_answers(len(gold))} scored as text is")


def _turn(role: str, content: object) -> list[dict[str, object]]:
    return [{"role": role, "content": content}]


# ---------------------------------------------------------------------------------------------- always the same
def always_the_same(subject: Subject) -> Iterator[Finding]:
    """The score of an answer depends neither on when it is asked about nor on what else is."""
    chosen = _repeatable(subject)
    count = len(chosen)
    if not count:
        yield Finding("the same again", "skipped", "nothing was judged")
        return
    in_order = list(range(count))
    ways = {TWICE: [in_order], "shuffled": shuffled(count, count), "one by one": [[i] for i in in_order]}
    ways["in fives"] = shuffled(count, 5)
    job = Rollout("", "", {"answers": [rollout for rollout, _ in chosen], "ways": ways})
    with LenientPanel(repeating(subject.reward, count), workers=1) as panel:
        [verdict] = panel.judge([job])
    problem = "" if verdict.state == "score" else verdict.why or verdict.state
    again = problem if problem.startswith(TWICE) else _elsewhere(subject, chosen)
    told = f"{_answers(count)}, asked twice and in another process"
    yield Finding("the same again", "failed" if again else "ok", again or told)
    if problem and again == problem:
        yield Finding("order and batch size", "skipped", "it does not even say the same twice")
        return
    told = f"{_answers(count)}, shuffled, one by one and in fives"
    yield Finding("order and batch size", "failed" if problem else "ok", problem or told)


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
    check, limit = "hostile answers", f"{subject.reward.timeout:g} s"
    answers, tried, bad = hostile(), 0, []
    longest = None if subject.reward.isolated else IN_PROCESS_CHARACTERS
    for name, text in answers.items():
        rollout = subject.rollout(0, text[:longest])
        [verdict] = subject.judge(check, [rollout])
        tried += 1
        if verdict.state not in JUDGED:
            bad.append(f"{name}: {_said(verdict)}")
        elif subject.reward.verifies and (verdict.score or 0.0) > MOST_NULL * subject.best:
            bad.append(f"{name}: the score is {verdict.score:g}")
        if len(bad) == ENOUGH:
            break
    if not bad:
        told = f"each judged within {limit}" if longest is None else f"of at most {longest:,} characters"
        return Finding(check, "ok", f"{tried} answers, {told}")
    rest = f" ({len(answers) - tried} more were not tried)" if tried < len(answers) else ""
    return Finding(check, "failed", f"{'; '.join(bad)}{rest}")


def range_of_scores(subject: Subject) -> Finding:
    """No score is above the best one; that they are finite numbers is checked wherever one is given."""
    scores = [(verdict.score, rollout) for _, rollout, verdict in subject.seen if verdict.score is not None]
    if not scores:
        return Finding("range", "skipped", "nothing was scored")
    low, high = min(score for score, _ in scores), max(score for score, _ in scores)
    best = subject.reward.best
    if best is not None and high > best + SAME:
        text = next(rollout.text for score, rollout in scores if score == high)
        return Finding("range", "failed", f"{high:g} is above the best, {best:g}, for {text[:60]!r}")
    return Finding("range", "ok", f"{len(scores):,} scores from {low + 0.0:g} to {high + 0.0:g}")


# ---------------------------------------------------------------------------------------------- in words
def _said(verdict: Verdict) -> str:
    if verdict.score is not None:
        return f"{verdict.score:g}"
    return f"{verdict.state}: {verdict.why}" if verdict.why else verdict.state


def _quoted(subject: Subject, index: int) -> str:
    return repr(said(subject.rows[index]["completion"])[:60])


def _answers(count: int) -> str:
    return "1 answer" if count == 1 else f"{count:,} answers"
