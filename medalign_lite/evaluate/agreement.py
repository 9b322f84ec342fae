"""How far a report agrees with the facts: what it affirms, finding by finding, attribute by attribute.

A *countable claim* is an affirmed claim of a report that does not match an invisible fact: what cannot be seen is
neither right nor wrong. An attribute that the claim leaves out agrees with any fact; how many are left out is counted
apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from medalign_lite.edits.truths import Facts, Report
from medalign_lite.text.claims import Claim, by_side, wrong_attributes
from medalign_lite.text.facts import Fact
from medalign_lite.text.qualifiers import contradicts
from medalign_lite.text.reports import extract_claims

ATTRIBUTES = ("side", "zone", "size")
# What must agree beside the finding; fact precision and recall proper take "zone".
LEVELS = {"finding": (), "side": ("side",), "zone": ("side", "zone"), "size": ATTRIBUTES}


def affirmed(text: str) -> list[Claim]:
    """The findings that the text asserts to be there; a bilateral one is asserted once for each side."""
    return [one for claim in extract_claims(text) if claim.polarity == "present" for one in by_side(claim)]


def agrees(claim: Claim, fact: Fact, attributes: Iterable[str] = ATTRIBUTES) -> bool:
    """The claim's finding is this fact's, and each of `attributes` that both state is the same."""
    return claim.finding == fact.finding and not {*attributes} & {*wrong_attributes(claim, fact)}


def on_side(claim: Claim, fact: Fact) -> bool:
    """The claim's finding is this fact's and the side, where both state one, agrees."""
    return agrees(claim, fact, LEVELS["side"])


def countable(claims: Iterable[Claim], facts: Iterable[Fact]) -> list[Claim]:
    """The claims that can be right or wrong: not those that match only what cannot be seen."""
    facts = tuple(facts)
    seen = [fact for fact in facts if fact.visible]
    unseen = [fact for fact in facts if not fact.visible]
    return [
        claim for claim in claims if any(on_side(claim, f) for f in seen) or not any(on_side(claim, f) for f in unseen)
    ]


@dataclass(frozen=True)
class FactErrors:
    """One report's claims and the visible facts, matched one to one: what fits, and the errors by type.

    `pairs` are the (claim, fact) of one finding; a pair that fits is `matched`, another has a `location` error (side
    or zone), a `severity` error (size), or both. `false_finding` is affirmed and belongs to no fact, `missing_finding`
    the other way round. To say the same twice is no error."""

    pairs: tuple[tuple[Claim, Fact], ...]
    matched: int
    false_finding: int
    missing_finding: int
    location: int
    severity: int

    @property
    def match_ratio(self) -> float | None:
        """matched / (matched + errors): the formula of GREEN (Ostmeier et al. 2024) on exact facts. It is not GREEN,
        which has a language model count, on reports, errors that it finds significant. GREEN's errors about comparisons
        with earlier images do not occur here. None where there is neither a match nor an error."""
        total = self.matched + self.false_finding + self.missing_finding + self.location + self.severity
        return self.matched / total if total else None


def fact_errors(claims: Sequence[Claim], facts: Iterable[Fact]) -> FactErrors:
    """Countable affirmed claims against the visible facts, so paired that the fewest attributes are wrong."""
    seen = [fact for fact in facts if fact.visible]
    pairs = [pair for finding in dict.fromkeys(f.finding for f in seen) for pair in _pair(finding, claims, seen)]
    taken = {id(claim) for claim, _ in pairs}
    left = [claim for claim in claims if id(claim) not in taken]
    wrong = [wrong_attributes(claim, fact) for claim, fact in pairs]
    return FactErrors(
        tuple(pairs), matched=sum(not names for names in wrong),
        false_finding=sum(not any(agrees(claim, fact) for fact in seen) for claim in left),
        missing_finding=len(seen) - len(pairs), location=sum("side" in names or "zone" in names for names in wrong),
        severity=sum("size" in names for names in wrong),
    )


def _pair(finding: str, claims: Sequence[Claim], facts: Sequence[Fact]) -> list[tuple[Claim, Fact]]:
    said, there = ([x for x in some if x.finding == finding] for some in (claims, facts))
    if not said or not there:
        return []
    cost = np.array([[len(wrong_attributes(claim, fact)) for fact in there] for claim in said])
    return [(said[i], there[j]) for i, j in zip(*linear_sum_assignment(cost), strict=True)]


def affirmed_by(text: str, truth: Facts | Report) -> list[Claim]:
    """The findings that a report asserts and of which the truth decides, a bilateral one once for each side. A
    reference report decides about what it says itself and what it contradicts; the rest is neither right nor wrong."""
    if isinstance(truth, Facts):
        return affirmed(text)
    said = [one for claim in truth.read(text) if claim.polarity == "present" for one in by_side(claim)]
    there = {(claim.finding, claim.kind) for claim in truth.claims if claim.polarity == "present"}
    seen = [fact for fact in truth.stated.facts if fact.visible]
    borne_out = [(c.finding, c.kind) in there and any(agrees(c, fact) for fact in seen) for c in said]
    return [c for c, found in zip(said, borne_out, strict=True) if found or contradicts(truth.claims, c)]


def report_counts(text: str, truth: Facts | Report) -> dict[str, float]:
    """Columns of `metrics` for one report. claims_right and facts_found are at level "zone", the others say theirs. A
    claim without a fact on its side is `claims_hallucinated`. By a reference report a text that says the same scores 1,
    0, 1, whatever it speaks of."""
    said, facts = affirmed_by(text, truth), truth.stated.facts
    seen, claims = [fact for fact in facts if fact.visible], countable(said, facts)
    sized = [(c, [f.size for f in seen if agrees(c, f, LEVELS["zone"]) and f.size]) for c in claims if c.size]
    row = {
        "claims": len(claims), "claims_hallucinated": sum(not any(on_side(claim, f) for f in seen) for claim in claims),
        "facts": len(seen), "sizes": sum(bool(there) for _, there in sized),
        "sizes_right": sum(claim.size in there for claim, there in sized),
    }
    for level, names in LEVELS.items():
        ending = "" if level == "zone" else f"_{level}"
        row[f"claims_right{ending}"] = sum(any(agrees(claim, f, names) for f in seen) for claim in claims)
        row[f"facts_found{ending}"] = sum(any(agrees(claim, f, names) for claim in claims) for f in seen)
    return row | _mentions(said, facts) | _errors(fact_errors(claims, facts))


def _mentions(claims: Sequence[Claim], facts: Sequence[Fact]) -> dict[str, float]:
    """CHAIR (Rohrbach et al. 2018), with findings for objects: affirmed mentions, whatever place or size they state."""
    unseen = {f.finding for f in facts} - {f.finding for f in facts if f.visible}
    mentions = {(claim.parts["finding"], claim.finding) for claim in claims if claim.finding not in unseen}
    false = sum(finding not in {f.finding for f in facts} for _, finding in mentions)
    return {"mentions": len(mentions), "mentions_false": false, "reports": 1, "reports_false": false > 0}


def _errors(errors: FactErrors) -> dict[str, float]:
    ratio = errors.match_ratio
    row = {} if ratio is None else {"match_ratio": ratio, "match_reports": 1}
    row |= {
        "false_findings": errors.false_finding, "missing_findings": errors.missing_finding,
        "location_errors": errors.location, "severity_errors": errors.severity,
    }  # fmt: skip
    had = [(claim, fact, name) for claim, fact in errors.pairs for name in ATTRIBUTES if getattr(fact, name)]
    stated = [(claim, fact, name) for claim, fact, name in had if getattr(claim, name)]
    row |= {"attributes": len(had), "attributes_stated": len(stated)}
    for name in ("side", "zone"):
        own = [(claim, fact) for claim, fact, other in stated if other == name]
        row |= {f"{name}s": len(own), f"{name}s_right": sum(name not in wrong_attributes(*pair) for pair in own)}
    return row
