"""Faults of the data that come before any method."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith_plugins.advice.case import Case, count
from tunesmith_plugins.advice.engine import Finding, Methods, rule

COPIES, CUT, SAME = 0.05, 0.02, 0.01
"""Shares beyond which duplicates, cut rows and identical answers must be looked at. Ours, not verified."""


@rule(
    "D1",
    when="more than 5% of the rows are copies",
    then="Drop them: copies are trained on more often than the rest and end up on both sides of a split.",
    source="Lee et al. (arXiv:2107.06499); 5% is ours, not verified",
)
def copies(case: Case, _: Methods) -> Iterator[Finding]:
    """Duplicates."""
    if case.duplicates > COPIES:
        yield Finding("", f"{case.duplicates:.0%} of the rows are copies of others: drop them", stop=True)


@rule(
    "D2",
    when="more than 2% of the rows are longer than a run takes by default",
    then="Make room for them (max_length), which takes memory, or drop them knowingly: an answer that is cut teaches "
    "not to end.",
    source="ours: what a run refuses without --overlong",
)
def cut(case: Case, _: Methods) -> Iterator[Finding]:
    """Truncation."""
    if case.overlong > CUT:
        text = f"{case.overlong:.0%} of the rows are longer than the usual 2,048 tokens: make room, or drop them"
        yield Finding("", text)


@rule(
    "D3",
    when="rows have blank fields, or a run would refuse some",
    then="Correct them first: `tunesmith data check` names file, row and field.",
    source="ours: a run refuses them",
)
def refused(case: Case, _: Methods) -> Iterator[Finding]:
    """Rows that cannot be trained on."""
    if case.empty > 0:
        yield Finding("", f"{case.empty:.1%} of the rows have a blank field", stop=True)
    if case.refused:
        yield Finding("", f"{count(case.refused)} rows would be refused (`tunesmith data check` lists them)", stop=True)


@rule(
    "D4",
    when="the template ends the assistant's turn with no token to stop at",
    then="The model would not learn to stop: choose a template that ends the turn.",
    source="ours: seen as answers that never end",
)
def unended(case: Case, _: Methods) -> Iterator[Finding]:
    """Templates without an end."""
    if case.unended:
        yield Finding("", "the chat template ends answers with no token that a model can stop at", stop=True)


@rule(
    "D5",
    when="rows of the evaluation data are in the training data",
    then="Take them out: what is measured on them is memory.",
    source="ours; as in GPT-3's appendix C (arXiv:2005.14165)",
)
def overlap(case: Case, _: Methods) -> Iterator[Finding]:
    """Contamination."""
    if case.overlap:
        yield Finding("", f"{case.overlap:.0%} of the evaluation rows stand in the training data", stop=True)


@rule(
    "D6",
    when="more than 1% of the pairs have the same answer twice, or judgements contradict each other",
    then="They teach nothing, or opposite things: take them out.",
    source="ours: a run refuses pairs of identical answers",
)
def identical(case: Case, _: Methods) -> Iterator[Finding]:
    """Pairs that say nothing."""
    if case.identical > SAME:
        yield Finding("", f"{case.identical:.0%} of the pairs have the same answer as chosen and rejected", stop=True)
    if case.conflicts:
        yield Finding("", f"{count(case.conflicts)} judgements contradict another row", stop=True)
