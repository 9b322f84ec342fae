"""Make a report agree with a table of facts by changing only the words that disagree.

Each false claim has one smallest repair in its own sentence: another side, zone or size word; "A small right" -> "No";
"No" -> "A small right"; "No X or Y" -> "No X but a small left Y". What has none is refused.
"""

import re
from collections.abc import Sequence

from medalign_lite.text.claims import Claim, extract_claims, find_sentences, judge, run_start, wrong_attributes
from medalign_lite.text.facts import Fact
from medalign_lite.text.words import DEGREES, NOUNS, Change, NoEdit, article, make_changes, size_word

_HEART_STATE = ("enlarged", "increased")
_JOINTS = re.compile(r"\s*(?:,\s*)?(?:\b(?:or|and)\b)?\s*")
_EXCEPTION = re.compile(r"\s+(?:except(?: for)?|apart from|other than)\s+$", re.I)
_EVIDENCE = re.compile(r"\s+((?:\w+ )?(?:evidence|signs?) of\s)", re.I)


def rewrite(text: str, facts: Sequence[Fact], *, add_omitted: bool = False) -> str:
    """`text` with every false claim repaired; `text` itself where none is false.

    With `add_omitted` a sentence is added for each visible fact that the text does not mention.

    Raises:
        NoEdit: where a claim is about what cannot be seen, where a false claim has no minimal repair, or where the
            repaired text does not read as true.
    """
    claims = extract_claims(text)
    verdicts = [judge(c, facts).verdict for c in claims]
    if "unverifiable" in verdicts:
        raise NoEdit("a claim about what cannot be seen")
    wrong = [c for c, v in zip(claims, verdicts, strict=True) if v == "false"]
    changes: list[Change] = []
    for claim in wrong:
        others = [c for c in claims if c not in wrong and c.finding == claim.finding]
        removal = _drop_sentence(text, claim, claims) if others else None
        if removal:
            changes.append(removal)
        elif claim.polarity == "present":
            changes += _repair_present(text, claim, facts)
    removed = [(c.start, c.end) for c in changes]
    for cue in sorted({c.parts["cue"] for c in wrong if c.polarity == "absent"}):
        if any(a <= cue[0] < b for a, b in removed):
            continue
        group = [c for c in claims if c.polarity == "absent" and c.parts["cue"] == cue]
        changes += _repair_absent(text, group, [c for c in group if c in wrong], facts)
    repaired = make_changes(text, changes)
    if add_omitted:
        repaired = _add(repaired, [f for f in facts if f.visible and f.finding not in {c.finding for c in claims}])
    bad = [c for c in extract_claims(repaired) if judge(c, facts).verdict != "true"]
    if bad:
        raise NoEdit(f"no minimal repair that reads as true ({bad[0].finding})")
    return repaired


def noun_phrase(fact: Fact, noun: str, *, skip: Sequence[str] = ()) -> str:
    """ "a small right upper zone nodule": everything in front of the noun, but the attributes in `skip`."""
    words = [] if "size" in skip or not fact.size else [size_word(fact.finding, fact.size)]
    words += [fact.side] if fact.side and "side" not in skip else []
    if fact.zone and "zone" not in skip:
        words += [fact.zone] if re.search(r"\bribs?\b", noun) else [fact.zone, "zone"]
    return article(fact.finding, " ".join([*words, noun]))


def _fact_for(claim: Claim, facts: Sequence[Fact]) -> Fact | None:
    """The visible fact that the claim comes closest to."""
    able = [f for f in facts if f.visible and f.finding == claim.finding]
    return min(able, key=lambda f: len(wrong_attributes(claim, f)), default=None)


def _drop_sentence(text: str, claim: Claim, claims: Sequence[Claim]) -> Change | None:
    """Take out the sentence of a claim that another sentence contradicts, if it holds nothing else."""
    sentences = find_sentences(text)
    start, end = next((s, e) for s, e in sentences if s <= claim.start < e)
    inside = [c for c in claims if start <= c.start < end]
    if len(inside) > 1 or len(sentences) == 1:
        return None
    return Change(start, end, "") if text[:start].strip() else Change(0, _skip_space(text, end), "")


def _skip_space(text: str, at: int) -> int:
    return at + len(text[at:]) - len(text[at:].lstrip())


def _repair_present(text: str, claim: Claim, facts: Sequence[Fact]) -> list[Change]:
    fact = _fact_for(claim, facts)
    if fact is None:
        return [_deny(text, claim)]
    changes = []
    for name in wrong_attributes(claim, fact):
        start, end = claim.parts[name]
        said = text[start:end]
        if said.lower() in ("both", "bilateral", "bilaterally"):
            raise NoEdit("a statement about both sides has no one-word repair")
        new = _size_like(said, fact) if name == "size" else getattr(fact, name)
        changes.append(Change(start, end, _cased(new, said)))
        changes += _refit_article(text, start, new)
    return changes


def _size_like(said: str, fact: Fact) -> str:
    """The fact's size in the form of the word it replaces: "mildly" -> "markedly", "small" -> "moderate-sized"."""
    return DEGREES[fact.size] if said.lower().endswith("ly") else size_word(fact.finding, fact.size)


def _cased(new: str, like: str) -> str:
    return new[0].upper() + new[1:] if like[:1].isupper() else new


def _refit_article(text: str, at: int, new: str) -> list[Change]:
    found = re.search(r"\b(an?)\s+$", text[:at], re.I)
    fits = "an" if new[0].lower() in "aeiou" else "a"
    if not found or found.group(1).lower() == fits:
        return []
    return [Change(*found.span(1), _cased(fits, found.group(1)))]


def _deny(text: str, claim: Claim) -> Change:
    """A false finding: only what stands in front of its name changes, the place behind it stays."""
    start, end = claim.parts["finding"]
    if text[start:end].lower() in _HEART_STATE:
        begin = claim.parts["size"][0] if "size" in claim.parts and claim.parts["size"][0] < start else start
        return Change(begin, start, "not ")
    begin = run_start(text, 0, start)
    determiner = re.search(r"\b(?:an?|the)\s+$", text[:begin], re.I)
    begin = determiner.start() if determiner else begin
    exception = _EXCEPTION.search(text[:begin])
    if exception:
        return Change(exception.start(), claim.end, "")
    evidence = re.search(r"\b(?:evidence|signs?) of\s+$", text[:begin], re.I)
    if evidence:
        return Change(evidence.start(), start, "no " + evidence.group())
    if begin == start and text[start].isupper():
        return Change(start, start + 1, "No " + text[start].lower())
    return Change(begin, start, _cased("no ", text[begin:]))


def _repair_absent(text: str, group: list[Claim], wrong: list[Claim], facts: Sequence[Fact]) -> list[Change]:
    """False denials that share one cue."""
    cue_start, cue_end = group[0].parts["cue"]
    cue, first = text[cue_start:cue_end].lower(), group[0]
    if cue in ("clear", "intact", "normal", "within normal limits", "unremarkable"):
        return [_except_for(text, wrong, facts)]
    name = text[slice(*first.parts["finding"])].lower()
    if name in _HEART_STATE and cue == "not" and first in wrong:
        return [Change(cue_start, first.parts["finding"][0], f"{DEGREES[_fact_for(first, facts).size]} ")]
    if cue_start > first.start:
        return _affirm_before(text, group, facts)
    if cue in ("no", "without"):
        return [_affirm_list(text, group, wrong, facts)]
    raise NoEdit(f"no minimal repair of {cue!r}")


def _except_for(text: str, wrong: list[Claim], facts: Sequence[Fact]) -> Change:
    """ "The lungs are clear except for a small nodule"; "The heart size is mildly increased"."""
    start, end = wrong[0].parts["cue"]
    phrases = [_fact_for(c, facts) for c in wrong]
    if wrong[0].finding == "cardiomegaly":
        state = "increased" if text[slice(*wrong[0].parts["finding"])].lower().endswith("size") else "enlarged"
        tail = re.compile(r"\s+in size\b").match(text, end)
        new = f"{DEGREES[phrases[0].size]} {state}"
        return Change(start, tail.end() if tail else end, _cased(new, text[start:end]))
    listed = " and ".join(noun_phrase(f, NOUNS[f.finding][0]) for f in phrases)
    return Change(end, end, f" except for {listed}")


def _affirm_before(text: str, group: list[Claim], facts: Sequence[Fact]) -> list[Change]:
    """ "Pneumothorax is not seen" -> "A small left pneumothorax is seen"."""
    claim = group[0]
    cue_start, cue_end = claim.parts["cue"]
    cue = text[cue_start:cue_end].lower()
    if len(group) > 1 or cue not in ("not", "absent"):
        raise NoEdit(f"no minimal repair of {cue!r} behind what it denies")
    begin = run_start(text, 0, claim.parts["finding"][0])
    determiner = re.search(r"\b(?:an?|the)\s+$", text[:begin], re.I)
    begin = determiner.start() if determiner else begin
    noun = text[slice(*claim.parts["finding"])]
    phrase = noun_phrase(_fact_for(claim, facts), noun[0].lower() + noun[1:], skip=_behind(claim))
    gone = (
        Change(cue_start, _skip_space(text, cue_end), "") if cue == "not" else Change(cue_start, cue_end, "present")
    )
    return [Change(begin, claim.parts["finding"][1], _cased(phrase, text[begin:])), gone]


def _behind(claim: Claim) -> list[str]:
    """Attributes that the claim states behind the finding's name, which stay where they are."""
    return [n for n in ("side", "zone", "size") if claim.parts.get(n, (0, 0))[0] > claim.parts["finding"][0]]


def _affirm_list(text: str, group: list[Claim], wrong: list[Claim], facts: Sequence[Fact]) -> Change:
    """ "No X, Y or Z" with some of them there, in the same order: "No X but a small Y and no Z"."""
    start, cue_end = group[0].parts["cue"]
    cue = text[start:cue_end]
    for a, b in zip(group, group[1:], strict=False):
        if not _JOINTS.fullmatch(text[a.end : b.start]):
            raise NoEdit("a list of denials with more in it than findings")
    evidence = _EVIDENCE.match(text, cue_end)
    lead = evidence.group(1) if evidence else ""
    head = text[start : group[0].parts["finding"][0]]
    out, turned = "", False
    for i, claim in enumerate(group):
        said = text[claim.parts["finding"][0] : claim.end]
        there, before = claim in wrong, i > 0 and group[i - 1] in wrong
        last_of_run = i + 1 == len(group) or group[i + 1] in wrong
        if there:
            said = noun_phrase(_fact_for(claim, facts), said, skip=_behind(claim))
        if i == 0:
            opening = "with " if cue.lower() == "without" else ""
            out = f"{opening}{lead}{said}" if there else head + said
        elif there == before:
            out += (" and " if there else " or " if last_of_run else ", ") + said
        else:
            link = " and " if turned else " but "
            out += link + (said if there else f"no {said}")
            turned = True
    return Change(start, group[-1].end, _cased(out, cue))


def _add(text: str, missing: Sequence[Fact]) -> str:
    for fact in missing:
        text += f" There is {noun_phrase(fact, NOUNS[fact.finding][0])}."
    return text
