"""Minimal edits of a report by a reference report: what it contradicts is repaired, or one thing it says is made false.

Each repair changes one claim in its own sentence: another side, zone or size word; the finding denied or affirmed. What
comes out is read again and must be verified (`verify.verify_by_report`); what is not, gives no edit.
"""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from medalign_lite.text.answers import case_like, like_word
from medalign_lite.text.facts import SIDES, SIZES, ZONES
from medalign_lite.text.claims import Claim
from medalign_lite.edits.facts import Edit, edit_of
from medalign_lite.text.words import DEGREES
from medalign_lite.text.reports import read_report
from medalign_lite.edits.report_truth import ATTRIBUTES, contradicted, supported
from medalign_lite.text.words import Change, NoEdit, make_changes
from medalign_lite.edits.verify import verify_by_report

BY_REPORT = "claims against the reference report"
_VALUES = {"side": SIDES, "zone": ZONES, "size": SIZES}
_PLAIN = {"side": r"(right|left)(-sided)?", "zone": r"(upper|mid|middle|lower)", "size": r"(\w+)"}
_DETERMINER = re.compile(r"\b(?:an?|the|some|new)\s+$", re.I)
_VERB = re.compile(r"\b(?:is|are|was|were|seen|present|noted|identified|has|have)\b", re.I)
_JOINT = re.compile(r"\s*,?\s*(?:\b(?:or|and|nor)\b)?\s*")
_OTHER = re.compile(r"[.,;:]|\b(?:and|or|nor|with|but)\b", re.I)
_UNCOUNTABLE = re.compile(
    r"(?:a?edema|pneumonia|atelectasis|cardiomegaly|congestion|emphysema|air|scoliosis|osteopenia|lymphadenopathy|failure|"
    r"thickening|fibrosis|hemorrhage|fluid|disease|enlargement|tuberculosis|aspiration|blunting)$"
)


def correct_by_report(answer: str, report: str) -> Edit | None:
    """The answer as y- and, as y+, the same with every claim repaired that the report contradicts; None where the
    report contradicts nothing. What the report does not mention stays.

    Raises:
        NoEdit: where a false claim has no minimal repair, or the result is not verified; the message is the reason.
    """
    truth, claims = read_report(report), read_report(answer)
    wrong = [claim for claim in claims if contradicted(claim, truth)]
    if not wrong:
        return None
    changes = [change for claim in wrong for change in _repair(answer, claim, claims, truth)]
    chosen = make_changes(answer, changes)
    verify_by_report(chosen, answer, report, answer=answer)
    return edit_of(chosen, answer, "corrected", (), BY_REPORT)


def falsify_by_report(answer: str, report: str, rng: np.random.Generator) -> Edit:
    """The answer as y+ and, as y-, the same with one claim made false that the report bears out.

    Raises:
        NoEdit: where the report bears out no claim, contradicts one, or no false variant can be verified.
    """
    truth, claims = read_report(report), read_report(answer)
    right = [claim for claim in claims if supported(claim, truth)]
    if not right:
        raise NoEdit("the reference report says nothing of what the answer claims")
    variants = [variant for claim in right for variant in turns(answer, claim, claims).values()]
    for i in rng.permutation(len(variants)):
        rejected = make_changes(answer, variants[i])
        try:
            verify_by_report(answer, rejected, report, answer=answer)
        except NoEdit:
            continue
        return edit_of(answer, rejected, "counterfactual", (), BY_REPORT)
    raise NoEdit("no false variant can be verified")


def turns(answer: str, claim: Claim, claims: Sequence[Claim]) -> dict[str, tuple[Change, ...]]:
    """{in words: changes} of all that a claim may say instead: another side, zone or size, or the other polarity."""
    found = {}
    for name in ATTRIBUTES:
        said = getattr(claim, name)
        for value in _VALUES[name] if said in _VALUES[name] and name in claim.parts else ():
            if value != said:
                found[value] = lambda name=name, value=value: _other_value(answer, claim, name, value)
    if claim.polarity == "present":
        found["not there"] = lambda: _deny(answer, claim)
    elif claim.polarity == "absent":
        found["there"] = lambda: _affirm(answer, claim, claims, claim)
    return {label: changes for label, make in found.items() if (changes := _tried(answer, claim, make))}


def _tried(answer: str, claim: Claim, make: Callable[[], Iterable[Change]]) -> tuple[Change, ...]:
    """The changes, if the reader finds them to change what is said of the finding and of no other."""
    try:
        changes = tuple(make())
        after = read_report(make_changes(answer, changes))
    except NoEdit:
        return ()
    before = [c for c in read_report(answer) if c.finding != claim.finding]
    others = [c for c in after if c.finding != claim.finding]
    same = [_said(c) for c in before] == [_said(c) for c in others]
    now = {_said(c) for c in after if c.finding == claim.finding}
    return changes if same and now and _said(claim) not in now else ()


def _said(claim: Claim) -> tuple:
    return claim.finding, claim.polarity, claim.side, claim.zone, claim.size


def _repair(answer: str, claim: Claim, claims: Sequence[Claim], truth: Sequence[Claim]) -> list[Change]:
    """The changes that make a contradicted claim agree with the report."""
    there = [c for c in truth if c.finding == claim.finding and c.polarity == "present"]
    if claim.polarity == "absent":
        return _affirm(answer, claim, claims, there[0])
    if not there:
        return _deny(answer, claim)
    closest = min(there, key=lambda c: len(_wrong(claim, c)))
    if not _wrong(claim, closest):  # the report denies it on this side, and has it on the other
        raise NoEdit("no minimal repair by the reference report")
    return [change for name in _wrong(claim, closest)
            for change in _other_value(answer, claim, name, getattr(closest, name))]  # fmt: skip


def _wrong(claim: Claim, right: Claim) -> list[str]:
    pairs = {name: (getattr(claim, name), getattr(right, name)) for name in ATTRIBUTES}
    return [name for name, (said, true) in pairs.items() if None not in (said, true) and said != true]


def _other_value(answer: str, claim: Claim, name: str, value: str) -> list[Change]:
    start, end = claim.parts[name]
    said = answer[start:end]
    plain = re.fullmatch(_PLAIN[name], said, re.I)
    if not plain or value not in _VALUES[name]:
        raise NoEdit(f"no one-word repair of a {name}")
    if name == "zone" and said.lower() == "middle" or value == "mid" and answer[end:].lstrip().startswith("lobe"):
        value = "middle" if value == "mid" else value
    word = like_word(value, plain[1], name)
    return [Change(start, start + len(plain[1]), word), *_article_fit(answer, start, word)]


def _article_fit(answer: str, at: int, word: str) -> list[Change]:
    found = re.search(r"\b(an?)\s+$", answer[:at], re.I)
    fits = "an" if word[0].lower() in "aeiou" else "a"
    if not found or found[1].lower() == fits:
        return []
    return [Change(*found.span(1), case_like(fits, found[1]))]


def _deny(answer: str, claim: Claim) -> list[Change]:
    """ "There is a small effusion" -> "There is no effusion"; "The heart is mildly enlarged" -> "is not enlarged"."""
    start, end = claim.parts["finding"]
    if "organ" in claim.parts:
        at = claim.parts["cue"][0] if "cue" in claim.parts else end
        size = claim.parts.get("size", (at, at))
        return [Change(min(size[0], at), at + 1, "not " + answer[at].lower())]
    begin = min([start, *(a for a, _ in claim.parts.values() if a < start and not _OTHER.search(answer, a, start))])
    determiner = _DETERMINER.search(answer[:begin])
    begin = determiner.start() if determiner else begin
    noun = answer[start:end]
    noun = noun if noun.isupper() else noun[0].lower() + noun[1:]
    return [Change(begin, end, case_like("no", answer[begin:]) + " " + noun)]


def _affirm(answer: str, claim: Claim, claims: Sequence[Claim], right: Claim) -> list[Change]:
    """ "No effusion is seen" -> "A small left effusion is seen", with the size and side of `right`."""
    if "cue" not in claim.parts:
        raise NoEdit("no minimal repair of a denial without a word that denies")
    cue_start, cue_end = claim.parts["cue"]
    cue = answer[cue_start:cue_end].lower()
    if "organ" in claim.parts:
        return _affirm_organ(claim, cue, (cue_start, cue_end), right)
    start, end = claim.parts["finding"]
    group = [c for c in claims if c.polarity == "absent" and c.parts.get("cue") == claim.parts["cue"]]
    phrase = _noun_phrase(answer, claim, right)
    if cue_start > start:
        if len(group) > 1 or "not " not in cue:
            raise NoEdit(f"no minimal repair of {cue!r} behind what it denies")
        at = cue_start + cue.index("not ")
        return [Change(start, end, case_like(phrase[0], answer[start:]) + phrase[1:]), Change(at, at + 4, "")]
    lead = "there is " if cue.startswith("there") else ""
    opening = case_like(lead or phrase, answer[cue_start:])
    opening = opening[0] + (lead or phrase)[1:] + (phrase if lead else "")
    if len(group) == 1:
        return [Change(cue_start, end, opening)]
    return [_affirm_in_list(answer, claim, group, phrase, opening)]


def _affirm_in_list(answer: str, claim: Claim, group: list[Claim], phrase: str, opening: str) -> Change:
    """ "No X, Y or Z": "A small X but no Y or Z"; "No X, Y, but a small Z"."""
    place = group.index(claim)
    if place == 0:
        after = _JOINT.match(answer, claim.end)
        return Change(claim.parts["cue"][0], after.end(), f"{opening} but no ")
    if place + 1 < len(group):
        raise NoEdit("no minimal repair within a list of denials")
    before = group[place - 1].end
    if not _JOINT.fullmatch(answer[before : claim.start]):
        raise NoEdit("a list of denials with more in it than findings")
    return Change(before, claim.parts["finding"][1], f", but {phrase}")


def _affirm_organ(claim: Claim, cue: str, place: tuple[int, int], right: Claim) -> list[Change]:
    if claim.finding not in ("cardiomegaly", "enlarged mediastinum"):
        zone = right.zone and f"{right.zone} zone"
        words = " ".join(filter(None, (right.size, right.side, zone, claim.finding)))
        return [Change(place[1], place[1], f" except for {_with_article(words)}")] if cue == "clear" else _no_organ(cue)
    if cue not in ("normal", "within normal limits", "unremarkable", "not enlarged", "normal in size"):
        return _no_organ(cue)
    degree = f"{DEGREES[right.size]} " if right.size in DEGREES else ""
    return [Change(*place, degree + ("enlarged" if claim.finding == "cardiomegaly" else "widened"))]


def _no_organ(cue: str) -> list[Change]:
    raise NoEdit(f"no minimal repair of {cue!r}")


def _noun_phrase(answer: str, claim: Claim, right: Claim) -> str:
    """ "a small left effusion"; without an article where the sentence has no verb."""
    noun = answer[slice(*claim.parts["finding"])]
    noun = re.sub(r"^(?:focal|acute|definite|large|evidence of) ", "", noun if noun.isupper() else noun.lower())
    size = right.size if right.size and right is not claim else None
    if size and _UNCOUNTABLE.search(noun):
        size = like_word(size, "mild", "size")
    side = right.side if right is not claim else None
    words = " ".join(filter(None, (size, side, noun)))
    sentence = answer[max(answer.rfind(".", 0, claim.start), 0) : _end(answer, claim.end)]
    return _with_article(words) if _VERB.search(sentence) else words


def _with_article(words: str) -> str:
    plural = re.search(r"[^sxiu]s$", words)
    if plural or _UNCOUNTABLE.search(words) or words.split()[0] == "bilateral":
        return words
    return ("an " if words[0].lower() in "aeiou" else "a ") + words


def _end(answer: str, at: int) -> int:
    end = answer.find(".", at)
    return len(answer) if end < 0 else end
