"""What ``tunesmith data check`` found, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunesmith.components.cards import short
from tunesmith.report.markup import Markup, tag
from tunesmith.report.page import Page, details, facts, grid, notice, table
from tunesmith.report.svg import histogram, rows

if TYPE_CHECKING:
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.quality.findings import Finding
    from tunesmith.data.quality.survey import Checked, Survey
    from tunesmith.data.rows import Outcome

MOST_TOKENS = 1000
"""Tokens of a row that are shown."""
VERDICTS = {
    "stop": ("error", "A run would refuse these rows or train wrongly on them."),
    "warn": ("warning", "A run would take these rows; look at the warnings first."),
    "fine": ("good", "Nothing suspicious was found."),
}


def page(found: Survey, masks: Sequence[Sequence[Markup]]) -> Page:
    """The page of a survey; ``masks``: for every source, its first rows as `masked` writes them."""
    kind, said = VERDICTS[found.level]
    several = len(found.sources) > 1
    result = Page("Data check", notice(said, kind))  # type: ignore[arg-type]
    result.section("All of it" if several else "For a run", *_mix(found))
    for one, decoded in zip(found.sources, masks, strict=True):
        result.section(one.audit.label, *_source(one, found.limit, decoded))
    return result


def _mix(found: Survey) -> list[Markup]:
    blocks = [findings(found.findings)] if found.findings else []
    if len(found.sources) > 1:
        sizes = {one.audit.label: {str(one.audit.unit): float(one.audit.total)} for one in found.sources}
        blocks.append(grid(rows("Share of each source", sizes)))
    if found.amounts:
        body = [
            (
                amount.method,
                amount.volume.use_case,
                str(amount.volume),
                ("about " if amount.estimated else "") + short(amount.have),
                "enough" if amount.enough else "less",
                amount.volume.source,
            )
            for amount in found.amounts
        ]
        blocks.append(table(("method", "for", "typical", "here", "", "who says so"), body, numbers=(3,)))
    for leaks in found.leaks:
        known = leaks.leaked()[:20]
        if known:
            pairs = [(f"{a.row.file}, row {a.row.line:,}", a.how, a.where, a.text[:200]) for a in known]
            blocks.append(table(("evaluation row", "how", "training row", "text"), pairs))
    return blocks


def findings(found: Sequence[Finding]) -> Markup:
    """Findings with what to do, where, and from where on they count."""
    kinds = {"stop": "error", "warn": "warning", "fine": "info"}
    blocks = []
    for level, kind in kinds.items():
        for finding in (finding for finding in found if finding.level == level):
            blocks.append(notice(f"{level}: {finding.text}\n{finding.fix}".strip(), kind))  # type: ignore[arg-type]
            places = ", ".join(f"{file}, row {row:,}" for file, row in finding.places)
            limit = finding.threshold
            told = [
                ("first rows", places),
                ("counts beyond", f"{limit.value:.3g}: {limit.why}" if limit else ""),
            ]
            told = [(name, value) for name, value in told if value]
            if told:
                blocks.append(details("more", facts(told), opened=level == "stop"))
    return tag("div", *blocks)


def _source(checked: Checked, limit: int | None, masks: Sequence[Markup]) -> list[Markup]:
    one = checked.audit
    known = [("format", f"{one.format} ({one.why})")] if one.format else []
    known += [("rows", f"{one.rows:,}"), ("usable", f"{one.usable:,}")]
    names = ("skipped", "dropped", "empty", "duplicates", "trained")
    known += [(name, f"{getattr(one, name):,}") for name in names if getattr(one, name)]
    known.append((one.unit, f"{one.total:,}"))
    known += [(label, text) for label, text, _ in one.balance.lines()]
    blocks = [facts(known)]
    if one.fault is not None:
        blocks.append(notice(str(one.fault), "error"))
    if one.problems.kinds:
        kinds = sorted(one.problems.kinds.values(), key=lambda kind: -kind.count)
        body = [(f"{kind.count:,}", kind.reason, kind.places("")) for kind in kinds]
        blocks += [notice(f"{one.problems.count:,} of {one.rows:,} rows are bad", "error"),
                   table(("rows", "problem", "first"), body, numbers=(0,))]  # fmt: skip
    if checked.findings:
        blocks.append(findings(checked.findings))
    elif not one.bad:
        blocks.append(notice("no problems", "good"))
    if one.lengths:
        blocks.append(grid(*_pictures(checked, limit)))
    if masks:
        blocks.append(
            details("The first rows as the model sees them; what is trained on is marked", *masks, opened=True)
        )
    return blocks


def masked(outcome: Outcome, encoder: Encoder, limit: int | None) -> Markup:
    """A row as the model sees it; what is trained on stands out."""
    from tunesmith.data.highlight import parts, runs

    blocks = [tag("p", outcome.row.where, class_="note")]
    room = MOST_TOKENS
    for tokens in (part for tree in outcome.trees for part in parts(tree) if part):
        shown = runs(tokens[:room], encoder, limit)
        room -= min(room, len(tokens))
        blocks.append(tag("pre", *(tag("mark" if run.trained else "span", run.text) for run in shown)))
    return tag("div", *blocks)


def _pictures(checked: Checked, limit: int | None) -> list[Markup]:
    one = checked.audit
    line = float(limit) if limit is not None and one.unit == "tokens" else None
    pictures = [histogram("Length of rows", one.lengths, x=one.unit, line=line, said="limit")]
    best, worst = checked.answers.best, checked.answers.worst
    if best:
        gaps = [float(high - low) for high, low in zip(best, worst, strict=True)]
        pictures.append(histogram("Better answer longer by", gaps, x="characters", line=0.0, said="the same length"))
    good, bad = one.balance.good, one.balance.bad
    if good + bad:
        pictures.append(rows("Labels", {"true": {"rows": float(good)}, "false": {"rows": float(bad)}}))
    return pictures
