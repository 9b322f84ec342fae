"""What a reference report decides about a claim: it says so, it says otherwise, or it is silent.

A report is no table of facts: what it does not mention may still be there. So only what it states can be true or false;
the rest is not judged. Claims are those of `radiology.read_report`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medalign_lite.text.claims import by_side
from medalign_lite.cases.case import Case, Question
from medalign_lite.text.facts import Fact
from medalign_lite.text.claims import Claim, Verdict, extract_claims, judge
from medalign_lite.text.reports import read_report

ATTRIBUTES = ("side", "zone", "size")


@dataclass(frozen=True)
class Stated:
    """A report as a table of facts, as far as it goes: `mentioned` are the findings that it affirms or denies.

    A doubted finding is a fact that is not visible, so it is never scored.
    """

    facts: tuple[Fact, ...]
    mentioned: frozenset[str]


def stated(report: str) -> Stated:
    """What the report states; a bilateral finding is one on each side, a repeated one counts once."""
    claims = [one for claim in read_report(report) for one in by_side(claim)]
    facts = [Fact(c.finding, c.side, c.zone, c.size) for c in claims if c.polarity == "present"]
    kept = [f for i, f in enumerate(facts) if not any(_says_more(g, f) for g in facts[:i] + facts[i + 1 :])]
    facts = tuple(dict.fromkeys(kept))
    settled = {c.finding for c in claims if c.polarity != "uncertain"}
    doubted = {c.finding for c in claims if c.polarity == "uncertain"} - settled
    return Stated((*facts, *(Fact(name, visible=False) for name in sorted(doubted))), frozenset(settled))


def judge_claims(text: str, case: Case, question: Question) -> list[tuple[Claim, Verdict]]:
    """Each claim of an answer to a report question with its verdict, by the table of facts or the reference report."""
    if case.facts is not None:
        return [(claim, judge(claim, case.facts)) for claim in extract_claims(text)]
    truth = read_report(question.answer)
    return [(claim, judge_by_report(claim, truth)) for claim in read_report(text)]


def judge_by_report(claim: Claim, truth: Sequence[Claim]) -> Verdict:
    """True, false or unverifiable by the claims of the reference report."""
    if supported(claim, truth):
        return Verdict("true")
    return Verdict("false", ("finding",)) if contradicted(claim, truth) else Verdict("unverifiable")


def supported(claim: Claim, truth: Sequence[Claim]) -> bool:
    """The report says it: the same finding and polarity, and every side, zone and size that the claim names; who denies
    a finding denies it everywhere."""
    about = about_the_same(claim, truth)
    agree = [c for c in about if c.polarity == claim.polarity]
    return bool(agree) and agree == about and any(_covers(c, claim) for c in agree)


def contradicted(claim: Claim, truth: Sequence[Claim]) -> bool:
    """The report says the opposite, or only another side, zone or size of the same finding; without any doubt."""
    same = [c for c in truth if c.finding == claim.finding]
    if not same or "uncertain" in {c.polarity for c in (claim, *same)}:
        return False
    about = about_the_same(claim, same)
    if about and all(c.polarity != claim.polarity for c in about):
        return True
    present = [c for c in same if c.polarity == "present"]
    if claim.polarity == "absent" or not present:
        return False
    return any(all(_differ(getattr(claim, n), getattr(c, n)) for c in present) for n in ATTRIBUTES)


def about_the_same(claim: Claim, truth: Iterable[Claim]) -> list[Claim]:
    """What the report says of the same finding, on the same side where both name one."""
    same = [c for c in truth if c.finding == claim.finding]
    return [c for c in same if None in (claim.side, c.side) or claim.side == c.side]


def _covers(said: Claim, claim: Claim) -> bool:
    named = [(n, v) for n in ATTRIBUTES if (v := getattr(claim, n))]
    if claim.polarity == "absent":
        return all(getattr(said, n) in (None, v) for n, v in named)
    return all(getattr(said, n) == v for n, v in named)


def _differ(said: str | None, right: str | None) -> bool:
    return None not in (said, right) and said != right and "bilateral" not in (said, right)


def _says_more(a: Fact, b: Fact) -> bool:
    """`a` names all that `b` names, and more."""
    if a.finding != b.finding or a == b:
        return False
    return all(getattr(b, n) in (None, getattr(a, n)) for n in ATTRIBUTES)
