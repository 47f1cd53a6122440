"""Rules, what they find, and how findings become ranked options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from tunesmith import Volume
from tunesmith_plugins.advice.case import Case


class Verdict(IntEnum):
    """What is said of an option; of several findings the lowest counts."""

    NO = 0
    NOT_YET = 1
    POSSIBLE = 2
    GOOD = 3

    @property
    def words(self) -> str:
        """For people."""
        return ("no", "not yet", "possible", "recommended")[self]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says about a case.

    Attributes:
        option: what it speaks of: a method, a step without training, or ``""`` for the data as a whole.
        text: what it says, with the numbers of the case.
        verdict: on the option; ``None`` where it only adds something.
        merit: the higher of two options with the same verdict comes first; the findings' are added up.
        then: the option that comes after this one.
        change: what would change it.
        stop: True for data that must be put right, or looked at, before anything is trained.
    """

    option: str
    text: str
    verdict: Verdict | None = None
    merit: int = 0
    then: str = ""
    change: str = ""
    stop: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What an installed method says about itself.

    Attributes:
        name: of the method.
        consumes: the kind of example, see `Case.amount`.
        goals: what it is for.
        volumes: of its card; `unit` is theirs.
        roles: models that it holds.
        adaptable: whether an adapter can be trained.
        builtin: True where rules speak of it.
    """

    name: str
    consumes: str
    goals: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()
    roles: frozenset[str] = frozenset({"policy"})
    adaptable: bool = True

    def volume(self, goal: str | None) -> Volume | None:
        """The volume that speaks of a goal, or the first."""
        return next((v for v in self.volumes if goal in v.goals), self.volumes[0] if self.volumes else None)

    def for_goal(self, goal: str) -> tuple[Volume, ...]:
        """All volumes that speak of a goal; all there are where none does."""
        return tuple(v for v in self.volumes if goal in v.goals) or self.volumes


Methods = Mapping[str, Facts]
Apply = Callable[[Case, Methods], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of advice.

    Attributes:
        id: such as ``K1``.
        condition: when it fires.
        conclusion: what it says.
        source: who says so; ``ours`` where a number is nobody else's and was not verified.
        apply: the findings on a case; none where it does not fire.
        both: what the guide says and what the literature says, where they differ.
    """

    id: str
    condition: str
    conclusion: str
    source: str
    apply: Apply
    both: str = ""


RULES: dict[str, Rule] = {}
"""All rules by id, in the order in which they are applied."""


def rule(id: str, *, when: str, then: str, source: str, both: str = "") -> Callable[[Apply], Apply]:
    """Register a function that finds something in a case as a rule."""

    def register(apply: Apply) -> Apply:
        assert id not in RULES, id
        RULES[id] = Rule(id, when, then, source, apply, both)
        return apply

    return register


@dataclass(slots=True)
class Option:
    """Something that can be done, with what the rules said about it."""

    name: str
    findings: list[tuple[str, Finding]] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The lowest of all findings."""
        return min(f.verdict for _, f in self.findings if f.verdict is not None)

    @property
    def judged(self) -> bool:
        """False where rules only added notes."""
        return any(f.verdict is not None for _, f in self.findings)

    @property
    def merit(self) -> int:
        """The sum over findings."""
        return sum(f.merit for _, f in self.findings)

    @property
    def rules(self) -> list[str]:
        """Ids of the rules that fired, each once."""
        return list(dict.fromkeys(id for id, _ in self.findings))

    @property
    def then(self) -> str:
        """The option that comes after this one."""
        return next((f.then for _, f in self.findings if f.then), "")


@dataclass(slots=True)
class Advice:
    """What all rules together say.

    Attributes:
        goal: what training is for.
        options: the best first.
        checks: what was said of the data as a whole, by rule.
        missing: methods that would be recommended and are not installed.
    """

    goal: str
    options: list[Option]
    checks: list[tuple[str, Finding]]
    missing: list[str]

    @property
    def first(self) -> Option:
        """The option at the top."""
        return self.options[0]

    @property
    def rules(self) -> list[str]:
        """All rules that fired."""
        fired = {id for option in self.options for id in option.rules} | {id for id, _ in self.checks}
        return [id for id in RULES if id in fired]

    def option(self, name: str) -> Option | None:
        """The option of a name, where one is."""
        return next((option for option in self.options if option.name == name), None)

    def changes(self) -> list[str]:
        """What would change the advice, the first options' first."""
        found = [f.change for option in self.options for _, f in option.findings if f.change]
        return list(dict.fromkeys([*found, *(f.change for _, f in self.checks if f.change)]))


STEPS = ("retrieval", "prompting", "collect", "vocabulary")
"""Options that train nothing."""


def advise(case: Case, methods: Methods) -> Advice:
    """Apply all rules and rank what they found."""
    options: dict[str, Option] = {}
    checks: list[tuple[str, Finding]] = []
    for id, finding in _found(case, methods):
        if finding.option:
            options.setdefault(finding.option, Option(finding.option)).findings.append((id, finding))
        else:
            checks.append((id, finding))
    judged = [option for option in options.values() if option.judged]
    there = [option for option in judged if option.name in methods or option.name in STEPS]
    missing = [o.name for o in judged if o not in there and o.verdict >= Verdict.POSSIBLE]
    there.sort(key=lambda option: (-option.verdict, -option.merit))
    return Advice(case.goal, there, checks, missing)


def _found(case: Case, methods: Methods) -> Iterator[tuple[str, Finding]]:
    from tunesmith_plugins.advice import rules

    rules.load()
    for found in RULES.values():
        for finding in found.apply(case, methods):
            yield found.id, finding
