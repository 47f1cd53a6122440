"""Who sits where, with what: clues that leave exactly one possibility."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any, NamedTuple

from tunesmith_plugins.sources.generated import Task, listed
from tunesmith_plugins.sources.puzzles.words import PEOPLE, THINGS

Domains = list[int]
"""By item (a person, a thing): the seats that are still possible, as bits."""


class Clue(NamedTuple):
    """What is known of the seats of one item, or of two: ``allowed[p]`` are the seats of ``b`` when ``a`` sits on p."""

    kind: str
    a: int
    b: int
    allowed: tuple[int, ...]


def seats_puzzle(rng: random.Random, seats: int, things: int) -> Task:
    """A puzzle with exactly one solution, of clues none of which can be left out."""
    groups = 1 + things
    seat_of = [seat for _ in range(groups) for seat in rng.sample(range(seats), seats)]
    clues = _needed(rng, _true_clues(seat_of, seats), seats, groups)
    kinds = rng.sample(THINGS, things)
    names = [*rng.sample(PEOPLE, seats), *(word for *_, words in kinds for word in rng.sample(words, seats))]
    verbs = ["", *(verb for verb, *_ in kinds)]
    called = [names[i] if i < seats else f"whoever {verbs[i // seats]} {names[i]}" for i in range(len(names))]
    members = [sorted(names[first : first + seats]) for first in range(0, len(names), seats)]
    having = [f" {other}: {', '.join(words)}." for (_, other, _), words in zip(kinds, members[1:], strict=True)]
    lines = [f"- {_sentence(clue, called)}\n" for clue in clues]
    prompt = (
        f"{listed(members[0])} sit in a row on the seats 1 to {seats}, from left to right, one on each."
        f"{''.join(having)}\n{''.join(lines)}"
        f"End with one line of the form 'Answer: {members[0][0]}=..., {members[0][1]}=...' that gives the number of "
        f"the seat for everybody{' and for every thing' if things else ''}.\n"
    )
    puzzle = {
        "variables": {name: [1, seats] for group in members for name in group},
        "constraints": [
            *(f"distinct({', '.join(group)})" for group in members),
            *(_formula(clue, names) for clue in clues),
        ],
    }
    place = dict(zip(names, seat_of, strict=True))
    answer = ", ".join(f"{name}={place[name] + 1}" for group in members for name in group)
    return Task(["seats", seats, _nameless(clues, seat_of, seats)], prompt, answer, columns={"puzzle": puzzle})


def _nameless(clues: Sequence[Clue], seat_of: Sequence[int], seats: int) -> list[Any]:
    """The same for all puzzles that differ in names alone: in the only solution everybody is known by the seat."""
    things = range(1, len(seat_of) // seats)
    forms = []
    for order in permutations(things):
        new = {0: 0, **dict(zip(things, order, strict=True))}
        form: list[Any] = []
        for clue in clues:
            items = [clue.a] if clue.kind in ("at", "not") else [clue.a, clue.b]
            found = [new[item // seats] * seats + seat_of[item] for item in items]
            if clue.kind in ("same", "apart", "beside"):
                found.sort()
            form.append([clue.kind, *found, *([clue.b] if len(items) == 1 else [])])
        forms.append(sorted(form))
    return min(forms)


# ---------------------------------------------------------------------------------------------- clues
def _true_clues(seat_of: Sequence[int], seats: int) -> list[Clue]:
    """Everything that can be said of a solution."""
    every = range(seats)
    clues = []
    for a, seat in enumerate(seat_of):
        clues += [Clue("at" if p == seat else "not", a, p, ()) for p in every]
    for a, b in permutations(range(len(seat_of)), 2):
        p, q = seat_of[a], seat_of[b]
        if a // seats != b // seats and a < b:
            kind = "same" if p == q else "apart"
            clues.append(Clue(kind, a, b, tuple((1 << x) if p == q else _all(seats) & ~(1 << x) for x in every)))
        if q == p + 1:
            clues.append(Clue("left", a, b, tuple((1 << (x + 1)) & _all(seats) for x in every)))
        if abs(p - q) == 1 and a < b:
            clues.append(Clue("beside", a, b, tuple(((1 << (x + 1)) | (1 << x >> 1)) & _all(seats) for x in every)))
        if p < q:
            clues.append(Clue("before", a, b, tuple(_all(seats) & ~((1 << (x + 1)) - 1) for x in every)))
    return clues


def _all(seats: int) -> int:
    return (1 << seats) - 1


LIKELIHOOD = {"at": 0.15, "not": 0.2, "apart": 0.3, "before": 0.7}
"""How soon a clue comes, so that puzzles are not all made of the plainest ones."""


def _needed(rng: random.Random, clues: list[Clue], seats: int, groups: int) -> list[Clue]:
    """Clues that leave one solution, of which no one can be left out."""
    clues = sorted(clues, key=lambda clue: rng.random() / LIKELIHOOD.get(clue.kind, 1.0))
    low, high = 0, len(clues)
    while low < high:  # the shortest beginning that will do
        middle = (low + high) // 2
        if _solutions(clues[:middle], seats, groups) == 1:
            high = middle
        else:
            low = middle + 1
    kept = clues[:low]
    for clue in list(kept):
        fewer = [other for other in kept if other != clue]
        if _solutions(fewer, seats, groups) == 1:
            kept = fewer
    rng.shuffle(kept)
    return kept


def _sentence(clue: Clue, called: Sequence[str]) -> str:
    a = called[clue.a]
    if clue.kind in ("at", "not"):
        text = f"{a} {'sits' if clue.kind == 'at' else 'does not sit'} on seat {clue.b + 1}."
    else:
        words = {
            "same": "is the same person as",
            "apart": "is not the same person as",
            "left": "sits directly to the left of",
            "beside": "sits directly beside",
            "before": "sits somewhere to the left of",
        }
        text = f"{a} {words[clue.kind]} {called[clue.b]}."
    return text[0].upper() + text[1:]


def _formula(clue: Clue, names: Sequence[str]) -> str:
    a = names[clue.a]
    if clue.kind in ("at", "not"):
        return f"{a} {'=' if clue.kind == 'at' else '!='} {clue.b + 1}"
    b = names[clue.b]
    forms = {
        "same": f"{a} = {b}",
        "apart": f"{a} != {b}",
        "left": f"{a} + 1 = {b}",
        "beside": f"{a} + 1 = {b} | {b} + 1 = {a}",
        "before": f"{a} < {b}",
    }
    return forms[clue.kind]


# ---------------------------------------------------------------------------------------------- solutions
def _solutions(clues: Sequence[Clue], seats: int, groups: int) -> int:
    """How many solutions there are: 0, 1, or 2 for more than one."""
    domains = [_all(seats)] * (seats * groups)
    for clue in clues:
        if clue.kind == "at":
            domains[clue.a] &= 1 << clue.b
        elif clue.kind == "not":
            domains[clue.a] &= ~(1 << clue.b)
    return _search(domains, [clue for clue in clues if clue.allowed], seats, 2)


def _search(domains: Domains, clues: Sequence[Clue], seats: int, most: int) -> int:
    if not _narrow(domains, clues, seats):
        return 0
    open_items = [i for i, domain in enumerate(domains) if domain.bit_count() > 1]
    if not open_items:
        return 1
    item = min(open_items, key=lambda i: domains[i].bit_count())
    found = 0
    for seat in range(seats):
        if domains[item] >> seat & 1 and found < most:
            trial = list(domains)
            trial[item] = 1 << seat
            found += _search(trial, clues, seats, most - found)
    return found


def _narrow(domains: Domains, clues: Sequence[Clue], seats: int) -> bool:
    """Strike out seats that cannot be, until nothing changes; False where an item has none left."""
    before: Domains = []
    while before != domains:
        before = list(domains)
        for i, domain in enumerate(before):
            if domain.bit_count() == 1:
                first = i // seats * seats
                for other in range(first, first + seats):
                    domains[other] &= ~domain if other != i else domain
        for clue in clues:
            _relate(domains, clue)
        if not all(domains):
            return False
    return True


def _relate(domains: Domains, clue: Clue) -> None:
    a = b = 0
    for seat, allowed in enumerate(clue.allowed):
        if domains[clue.a] >> seat & 1 and allowed & domains[clue.b]:
            a |= 1 << seat
            b |= allowed
    domains[clue.a], domains[clue.b] = a, domains[clue.b] & b
