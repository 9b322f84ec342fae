"""How far a report agrees with the facts: what it affirms, finding by finding, attribute by attribute.

A *countable claim* is an affirmed claim of a report that does not match an invisible fact: what cannot be seen is
neither right nor wrong. An attribute that the claim leaves out agrees with any fact; how many are left out is counted
apart.
"""

from collections.abc import Iterable, Sequence

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


def countable(claims: Iterable[Claim], facts: Sequence[Fact]) -> list[Claim]:
    """The claims that can be right or wrong: not those that match only what cannot be seen."""
    about = [(claim, [fact.visible for fact in facts if on_side(claim, fact)]) for claim in claims]
    return [claim for claim, seen in about if any(seen) or not seen]


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
    return row | _mentions(said, facts) | _errors(claims, seen)


def _mentions(claims: Sequence[Claim], facts: Sequence[Fact]) -> dict[str, float]:
    """CHAIR (Rohrbach et al. 2018), with findings for objects: affirmed mentions, whatever place or size they state."""
    unseen = {f.finding for f in facts} - {f.finding for f in facts if f.visible}
    mentions = {(claim.parts["finding"], claim.finding) for claim in claims if claim.finding not in unseen}
    false = sum(finding not in {f.finding for f in facts} for _, finding in mentions)
    return {"mentions": len(mentions), "mentions_false": false, "reports": 1, "reports_false": false > 0}


def _errors(claims: Sequence[Claim], facts: Sequence[Fact]) -> dict[str, float]:
    """Countable claims against visible facts, matched one to one within a finding so that the fewest attributes are
    wrong. A pair that fits is a match; another has a location error (side or zone), a severity error (size), or both. A
    false finding is affirmed and belongs to no fact, a missing one the other way round. To say the same twice is no
    error.

    `match_ratio` = matches / (matches + errors): the formula of GREEN (Ostmeier et al. 2024) on exact facts. It is not
    GREEN, which has a language model count, on reports, errors that it finds significant. GREEN's errors about
    comparisons with earlier images do not occur here. None where there is neither a match nor an error."""
    pairs = [pair for name in dict.fromkeys(fact.finding for fact in facts) for pair in _pair(name, claims, facts)]
    taken = {id(claim) for claim, _ in pairs}
    left, wrong = [c for c in claims if id(c) not in taken], [wrong_attributes(*pair) for pair in pairs]
    row = {
        "false_findings": sum(not any(agrees(claim, fact) for fact in facts) for claim in left),
        "missing_findings": len(facts) - len(pairs), "severity_errors": sum("size" in names for names in wrong),
        "location_errors": sum("side" in names or "zone" in names for names in wrong),
    }  # fmt: skip
    matched = sum(not names for names in wrong)
    if total := matched + sum(row.values()):
        row |= {"match_ratio": matched / total, "match_reports": 1}
    had = [(claim, fact, name) for claim, fact in pairs for name in ATTRIBUTES if getattr(fact, name)]
    stated = [(claim, fact, name) for claim, fact, name in had if getattr(claim, name)]
    row |= {"attributes": len(had), "attributes_stated": len(stated)}
    for name in ("side", "zone"):
        own = [(claim, fact) for claim, fact, other in stated if other == name]
        row |= {f"{name}s": len(own), f"{name}s_right": sum(name not in wrong_attributes(*pair) for pair in own)}
    return row


def _pair(finding: str, claims: Sequence[Claim], facts: Sequence[Fact]) -> list[tuple[Claim, Fact]]:
    said, there = ([x for x in some if x.finding == finding] for some in (claims, facts))
    if not said or not there:
        return []
    cost = np.array([[len(wrong_attributes(claim, fact)) for fact in there] for claim in said])
    return [(said[i], there[j]) for i, j in zip(*linear_sum_assignment(cost), strict=True)]
