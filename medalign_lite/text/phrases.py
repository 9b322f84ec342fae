"""How a finding is denied or affirmed in the sentence that speaks of it: ways from the smallest to the whole sentence.

Nothing here is trusted: every way is read again and checked by `report` before it is an edit.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from medalign_lite.text.answers import case_like, like_word
from medalign_lite.text.claims import Claim
from medalign_lite.text.facts import DEGREES, NOUNS, SIZES, size_word
from medalign_lite.text.form import find_report_sentences
from medalign_lite.text.spans import Change

ATTRIBUTES = ("side", "zone", "size")
_DETERMINER = (
    r"(?:an?|the|some|several|multiple|few|many|numerous|scattered|innumerable|two|three|one|this|these|bilateral)"
)
_STOP = re.compile(
    r"[,;:.()!?]|\b(?:and|or|nor|with|but|as well as|is|are|was|were|be|been|has|have|had|shows?|showed|demonstrates?|"
    r"reveals?|of|in|on|at|from|for|to|by|than|sees?|without|no|not|also|which|that|over|under|through|contains?|there|"
    r"appears?|remains?|suggests?)\b", re.I)
_EVIDENCE = re.compile(r"\b(?:evidence|signs?|suggestion|indication) of\s+$", re.I)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|shows?|demonstrates?|reveals?|appears?|there's|contains?|sees?|can be)\b", re.I)
_BE = re.compile(r"\b(is|are|was|were|appears?|remains?)\s+$", re.I)
_LIGHT = re.compile(  # what may follow a denied noun phrase as it is
    r"(?:\s+(?:is|are|was|were|can|be|seen|noted|present|visible|visuali[sz]ed|identified|evident|detected|"
    r"demonstrated|shown|found|there|in|on|at|of|the|both|either|lungs?|right|left|upper|lower|mid|middle|lobes?|"
    r"zones?|bases?|apex|apices|hemithorax|sides?|chest|wall|hilum|today|this|film|image|view|over|beneath|under|"
    r"hemidiaphragm|pleural|space|T?\d+|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|ribs?|"
    r"clavicle|scapula|humerus|spine|thoracic|associated|neck|lingula|region|area|side|posteriorly|laterally|lobe|base|"
    r"basal))*\s*(?=[.,;]|$|\b(?:and|or|but|with)\b)", re.I)
_UNCOUNTABLE = re.compile(
    r"(?:o?edema|pneumonia|atelectasis|cardiomegaly|congestion|emphysema|air|gas|scoliosis|kyphosis|osteopenia|"
    r"adenopathy|failure|thickening|fibrosis|hemorrhage|fluid|disease|enlargement|tuberculosis|aspiration|blunting|"
    r"widening|cuffing|crowding|wedging|hyperinflation|scarring|pneumomediastinum|pneumoperitoneum|overload|volume|change|engorgement|loss|"
    r"free air|copd|\w+megaly|ascites|\w+cephalus|\w+osis|\w+[^n]itis|stranding|mass effect)$"
)
_STATE = re.compile(r"\w+(?:ed|ic|ous|otic|openic|ened|atous|atic)$", re.I)  # "hyperinflated": a state, no noun
_PLACE_WORDS = re.compile(r"\b(?:right|left|upper|lower|middle|mid|basal|apical|basilar|base|lobe|lung|zone)\b", re.I)
_BOTH = re.compile(
    r"\b(in|on|of|through|throughout|at) both (lung|base|lower lobe|upper lobe|side|apic|hemithora)(s|es|ces)?\b",
    re.I,
)
_PLEURAL = ("effusion", "pneumothorax", "pleural thickening")  # in no lobe
_HEART = {"cardiomegaly": "enlarged", "enlarged mediastinum": "widened"}
_NORMAL = re.compile(
    r"(?:of )?(?:normal(?: in size| size)?|within normal limits|unremarkable|not (?:\w+ )?(?:enlarged|widened))", re.I)

_EITHER = re.compile(
    r"\s+(?:on|in|at|of) either (?:side|lung|base|apex|hemithorax)\b|\s+(?:bilaterally|anywhere)\b", re.I)
_JOINED = re.compile(
    r"(?:,? and| as well as|,?(?<!consistent)(?<!compatible)(?<!keeping) with(?: associated)?)\s+$", re.I)
_MORE, _LINK = re.compile(r"\s*n?or\b", re.I), re.compile(r",|\bn?or\b", re.I)
_JOINT = re.compile(r"\s*,?\s*(?:\b(?:or|and|nor)\b)?\s*(?:pleural |pulmonary |focal |acute )*")

Ways = Iterator[list[Change]]


def _sentence(answer: str, at: int) -> tuple[int, int]:
    return next(((a, b) for a, b in find_report_sentences(answer) if a <= at < b), (0, len(answer)))


def phrase_of(answer: str, claim: Claim) -> tuple[int, int]:
    """The characters of the claim's noun phrase, its determiner included."""
    start, end = claim.parts["finding"]
    first, _ = _sentence(answer, start)
    stops = [m.end() for m in _STOP.finditer(answer, first, start) if answer[m.start() - 1 : m.start()] != "-"]
    begin = stops[-1] if stops else first
    for back in range(len(stops) - 1, -1, -1):  # "a large, lobulated, spiculated mass"
        if answer[stops[back] - 1] != ",":
            break
        before = stops[back - 1] if back else first
        if re.match(rf"(?i:\s*{_DETERMINER}\b)", answer[before:]):
            begin = before
            break
    begin += len(answer[begin:start]) - len(answer[begin:start].lstrip())
    evidence = _EVIDENCE.search(answer[first:begin])
    return (_before(answer, first, first + evidence.start()) if evidence else begin), end


def _before(answer: str, first: int, at: int) -> int:
    found = re.search(r"\b(?:\w+ )?$", answer[first:at])
    word = found.group().strip().lower() if found else ""
    return at - len(found.group()) if word in ("some", "the", "clear", "radiographic") else at


def _plain_noun(answer: str, claim: Claim) -> str:
    noun = answer[slice(*claim.parts["finding"])]
    return " ".join(word if word[1:] != word[1:].lower() else word.lower() for word in noun.split())


def drop(answer: str, claim: Claim, claims: Sequence[Claim]) -> Ways:
    """The sentence of a claim taken out, if it holds nothing else and is not the only one."""
    start, end = _sentence(answer, claim.start)
    end += len(answer[end:]) - len(answer[end:].lstrip(".!"))
    alone = all(c == claim for c in claims if start <= c.start < end)
    if alone and (answer[:start].strip() or answer[end:].strip()):
        before, behind = len(answer[:start].rstrip()), len(answer) - len(answer[end:].lstrip())
        yield [Change(before, end if before else behind, "")]


def deny(answer: str, claim: Claim, claims: Sequence[Claim], nouns: Sequence[str] = ()) -> Ways:
    """ "There is a small effusion" -> "There is no effusion"; "The heart is mildly enlarged" -> "is not enlarged".

    `nouns` are other words for it, as a reference denies it: "focal consolidation"."""
    start, end = claim.parts["finding"]
    first, last = _sentence(answer, start)
    lead = _yes(answer, first, claims, "no")
    if "organ" in claim.parts:
        at = claim.parts["cue"][0] if "cue" in claim.parts else end
        size = claim.parts.get("size", (at, at))
        word = re.match(r"[\w-]*", answer[at:]).group()
        degree = re.search(r"\b(?:\w+ly )$", answer[first:at])
        begin = min(size[0], at - len(degree.group()) if degree else at)
        yield [*lead, Change(begin, at + len(word), f"not {word.lower()}"), *_tail(answer, at + len(word), last)]
        return
    be = _BE.search(answer[first:start])
    if _STATE.match(answer[start:end].split()[-1]) or (be and _STATE.match(answer[start:end].split()[0])):
        found = re.search(r"\b(is|are|was|were|appears?|remains?)\s+((?:\w+ly |\w+ )?)$", answer[first:start], re.I)
        if found:
            yield [*lead, Change(first + found.start(2), start, "not ")]
            return
    inner = re.search(r"\b(is|are|remains?|appears?)\s+(?:\w+ly )?", answer[start:end], re.I)
    if inner:
        yield [*lead, Change(start + inner.start(), start + inner.end(), f"{inner[1]} not ")]
    begin, _ = phrase_of(answer, claim)
    exception = re.search(r"\s+(?:except(?: for)?|apart from|other than)\s+$", answer[first:begin], re.I)
    if exception:
        yield [*lead, Change(first + exception.start(), max(end, claim.end), "")]
    named = re.compile(r"\s*:\s*[^.;]*").match(answer, end)
    if named and begin == start:
        yield [*lead, Change(end, named.end(), ": none")]
    full = _plain_noun(answer, claim)
    bare = re.sub(r"^(?:bilateral|multiple|several|diffuse|scattered) ", "", full)
    placed = " ".join([*map(str.lower, _PLACE_WORDS.findall(answer[begin:start])), bare])  # "no left base opacity"
    for noun in dict.fromkeys([_without(full, claim.qualifiers), full, bare, *nouns, placed]):
        yield from ([*lead, *way] for way in _deny_noun(answer, claim, claims, begin, noun))


def _without(noun: str, words: Iterable[str]) -> str:
    *front, head = noun.split()
    return " ".join([*(w for w in front if w not in words or not w.endswith(("ed", "ing"))), head])


def _deny_noun(answer: str, claim: Claim, claims: Sequence[Claim], begin: int, noun: str) -> Ways:
    """The noun phrase that begins at `begin` denied by `noun`, alone, with what is joined to it, or as a sentence."""
    start, end = claim.parts["finding"]
    first, last = _sentence(answer, start)
    if _STATE.match(noun.split()[-1]) and noun != claim.finding:  # "osteopenic bones"
        noun = claim.finding
    opening = "no evidence of " if re.match(r"(?:\w+ )?evidence of ", answer[begin:start], re.I) else "no "
    phrase = case_like(opening[0], answer[begin:]) + opening[1:] + noun
    if _LIGHT.match(answer, end):
        yield [Change(begin, end, phrase), *_both(answer, end, last)]
    joined = _JOINED.search(answer[first:begin])
    if joined and _LIGHT.match(answer, end):
        yield [Change(first + joined.start(), end, f" but no {noun}"), *_both(answer, end, last)]
    comma = re.compile(r",(?:[^,.;]|\.(?=\d))*(?=[.;](?!\d)|$)").match(answer, end)
    if comma and not any(comma.start() <= c.start < comma.end() for c in claims):
        yield [Change(begin, end, phrase), Change(*comma.span(), "")]
    alone = {c.parts["finding"] for c in claims if first <= c.start < last} == {claim.parts["finding"]}
    if alone:
        yield [Change(*_body(answer, first, last), _clause(answer, first, last, f"no {noun}", noun))]


def _yes(answer: str, first: int, claims: Sequence[Claim], word: str) -> list[Change]:
    """A leading yes or no that the changed claim turns round."""
    found = re.compile(r"\s*(yes|no)(?=[,.])", re.I).match(answer)
    if (
        not found
        or found[1].lower() == word
        or first > found.end() + 2
        or len({c.parts["finding"] for c in claims if first <= c.start < _sentence(answer, first)[1]}) > 1
    ):
        return []
    return [Change(*found.span(1), case_like(word, found[1]))]


def _both(answer: str, start: int, last: int) -> list[Change]:
    """ "in both lungs" is said otherwise behind a denial."""
    changes = [
        Change(m.end(1), m.end(), f" either {m[2]}" + {"apic": "apex", "hemithora": "x"}.get(m[2], ""))
        for m in _BOTH.finditer(answer, start, last)
    ]
    return changes + [
        Change(m.start(), m.end(), "") for m in re.compile(r"\s+bilaterally").finditer(answer, start, last)
    ]


def _tail(answer: str, at: int, last: int) -> list[Change]:
    """A relative clause that hangs on what was denied goes with it."""
    found = re.compile(r",? (?:which|suggesting|indicating|consistent with|compatible with)\b[^.;]*").match(
        answer, at, last
    )
    return [Change(found.start(), found.end(), "")] if found else []


def _body(answer: str, first: int, last: int) -> tuple[int, int]:
    """A sentence without the space in front, a leading "Yes,", a header or the mark at its end."""
    lead = re.compile(
        r"\s*(?:[-*\u2022]\s+|\d+[.)]\s+)?(?:(?:yes|no)[,.]\s+)?(?:\**[A-Za-z ]{3,20}:\**\s+)?",
        re.I,
    ).match(answer, first, last)
    body = answer[lead.end() : last]
    return lead.end(), lead.end() + len(body.rstrip(" .;!\n"))


def _clause(answer: str, first: int, last: int, phrase: str, noun: str) -> str:
    """The phrase as the sentence it takes the place of: with a verb where that had one."""
    begin, end = _body(answer, first, last)
    if _VERB.search(answer, begin, end):
        phrase = f"there {'are' if _plural(noun) else 'is'} {phrase}"
    return phrase[0].upper() + phrase[1:] if answer[begin : begin + 1].isupper() else phrase


def _plural(noun: str) -> bool:
    return bool(re.search(r"[^sxiu]s$|ces$|masses$", noun)) and not _UNCOUNTABLE.search(noun)


def _agreeing(answer: str, at: int, noun: str) -> list[Change]:
    """The verb at a place in the number of the noun."""
    found = re.compile(r"\s*(is|was|are|were)(?=n't|\b)").match(answer, at)
    fits = {"are": "is", "were": "was"} if not _plural(noun) else {"is": "are", "was": "were"}
    return [Change(*found.span(1), fits[found[1]])] if found and found[1] in fits else []


def affirm(answer: str, claim: Claim, claims: Sequence[Claim], right: Claim | None) -> Ways:
    """ "No effusion is seen" -> "A small left effusion is seen", with the size and side of `right`."""
    if "cue" not in claim.parts:
        return
    start, end = claim.parts["finding"]
    cue_start, cue_end = claim.parts["cue"]
    cue = answer[cue_start:cue_end].lower()
    first, last = _sentence(answer, start)
    lead = _yes(answer, first, claims, "yes")
    if "organ" in claim.parts:
        yield from ([*lead, *way] for way in _affirm_organ(answer, claim, cue, right))
        if right and {c.finding for c in claims if first <= c.start < last} == {claim.finding}:  # "The aorta is clear"
            for p in map(with_article, _noun_phrases("", claim, right)):
                yield [*lead, Change(*_body(answer, first, last), f"There {'are' if _plural(p) else 'is'} {p}")]
        return
    group = sorted(
        {c.parts["finding"] for c in claims if c.polarity == "absent" and c.parts.get("cue") == (cue_start, cue_end)}
    )
    if cue_end <= start and (_MORE.match(answer, group[-1][1]) or _LINK.search(answer[cue_end : group[0][0]])):
        return  # what no reader knows is denied beside it: "No effusion or scalloping"
    phrases = _noun_phrases(answer, claim, right)
    said = re.search(r"(?:not|n't)\s*", answer[cue_start:cue_end])
    if said and len(group) == 1:
        gone = Change(cue_start + said.start(), cue_start + said.end(), "" if said.group().startswith("not") else " ")
        for p in phrases if cue_start > end else ():
            begin, _ = phrase_of(answer, claim)
            p = with_article(p) if _VERB.search(answer, first, last) else p
            fit = _agreeing(answer, cue_start, p)
            yield [*lead, Change(begin, end, case_like(p[0], answer[begin:]) + p[1:]), gone, *fit]
        if _plural(phrases[0]) == _plural(_plain_noun(answer, claim)):
            yield [*lead, gone]
    elif cue.endswith("negative for") and len(group) == 1:
        yield [*lead, Change(cue_end - len("negative for"), cue_end, "positive for")]
    elif cue_start > end and len(group) == 1 and cue in ("is absent", "are absent"):
        begin, _ = phrase_of(answer, claim)
        for p in map(with_article, phrases):
            there = [Change(begin, end, case_like(p[0], answer[begin:]) + p[1:])]
            yield [*lead, *there, Change(cue_start, cue_end, ("are" if _plural(p) else "is") + " present")]
    but = re.search(r"\bbut\s+$", answer[first:cue_start], re.I)
    also = [Change(first + but.start(), first + but.start() + 3, "and")] if but else []  # "A but no B" -> "A and a B"
    be = re.match(r"(is|are|was|were)(?:n't| not)(?: any| an?)?$", cue)
    free = re.match(r"(is|are|was|were)?\s*(?:free|clear|devoid) (?:of|from)$", cue)
    for p in phrases if cue_end <= start else ():
        if (be or free) and len(group) == 1:
            verb_in_front = _BE.search(answer[first:cue_start]) if free else None
            begin = first + verb_in_front.start() if verb_in_front else cue_start
            one = (verb_in_front or be or free)[1] in ("is", "was")
            yield [*lead, Change(begin, end, f"{be[1] if be else 'shows' if one else 'show'} {with_article(p)}")]
            continue
        bare = len(group) > 1 and (p.startswith(_plain_noun(answer, claim)) or " amount of " in p)
        p = with_article(p) if bare or _VERB.search(answer, first, last) else p
        there = re.match(r"there (?:is|are)(?=\b)|there's", cue)
        head = ("there are " if _plural(p) else "there is ") if there else "with " if cue.startswith("without") else ""
        evidence = re.search(r"\b(?:evidence|signs?) of$", cue)
        head += f"{evidence.group()} " if evidence else ""
        if len(group) == 1 and cue != "neither":
            new = head + p
            either = _EITHER.search(answer, end, last)  # "on either side" is said of what is not there
            fit = _agreeing(answer, end, p) + ([Change(*either.span(), "")] if either else [])
            front = re.search(r"\b(is|was|are|were)\s+$", answer[first:cue_start])
            fit += _agreeing(answer, first + front.start(), p) if front else []
            yield [*lead, *also, Change(cue_start, end, case_like(new[0], answer[cue_start:]) + new[1:]), *fit]
            last_one = re.search(r"\b(?:and|or)\s+$", answer[first:cue_start])
            if last_one and cue == "no":  # "No pneumothorax and no effusion"
                yield [*lead, Change(first + last_one.start(), end, f"but {with_article(p)}"), *fit]
        elif cue != "neither":
            also = also if group[0] == (start, end) else []
            yield [*lead, *also, *_out_of_list(answer, claim, group, head, p, first)]
    inside = {c.parts["finding"] for c in claims if first <= c.start < last}
    if inside == {claim.parts["finding"]}:
        for p in phrases:
            p = with_article(p) if _VERB.search(answer, first, last) else p
            yield [*lead, Change(*_body(answer, first, last), _clause(answer, first, last, p, p))]


def _out_of_list(
    answer: str, claim: Claim, group: Sequence[tuple[int, int]], opening: str, phrase: str, first: int
) -> list[Change]:
    """ "No X, Y or Z is seen" -> "No X but a small Y and no Z is seen"; `opening`: what is left of "there is no"."""
    gaps = [answer[a[1] : b[0]] for a, b in zip(group, group[1:], strict=False)]
    if not all(_JOINT.fullmatch(gap) for gap in gaps):
        return []
    place = group.index(claim.parts["finding"])
    items = [answer[a:b] for a, b in group]
    link = " and " if re.search(r"\bbut\b", answer[first : claim.parts["cue"][0]], re.I) else " but "
    start = group[0][0]
    if place:
        said = f"{_listed(items[:place])}{link}{phrase}"
        said += f" and no {_listed(items[place + 1 :])}" if items[place + 1 :] else ""
    else:
        start = claim.parts["cue"][0]
        said = case_like(opening[:1] or phrase[0], answer[start:]) + (opening + phrase)[1:]
        said += f" but no {_listed(items[1:])}"
    last = phrase if place == len(items) - 1 else items[-1]
    return [Change(start, group[-1][1], said), *_agreeing(answer, group[-1][1], last)]


def _listed(items: Sequence[str]) -> str:
    lower = [items[0], *(i if i.isupper() else i[0].lower() + i[1:] for i in items[1:])]
    return " or ".join(filter(None, (", ".join(lower[:-1]), lower[-1])))


def _affirm_organ(answer: str, claim: Claim, cue: str, right: Claim | None) -> Ways:
    start, end = claim.parts["cue"]
    state = _HEART.get(claim.finding)
    denied = re.search(r"(?:(?<=\w)n't|\s+not)(?=\s+(?:\w+ly )?$)", answer[max(start - 30, 0) : start])
    if denied:
        yield [Change(max(start - 30, 0) + denied.start(), max(start - 30, 0) + denied.end(), "")]
    if state:
        tail = re.compile(r"\s+(?:in )?(?:size|width|calibre)\b").match(answer, end)
        start -= 3 if answer[:start].endswith(" of ") else 0
        degree = f"{DEGREES[right.size]} " if right and right.size in DEGREES else ""
        state = "increased" if answer[slice(*claim.parts["finding"])].lower().endswith("size") else state
        if _NORMAL.fullmatch(cue):
            said = case_like(degree + state, answer[start:]) if answer[:start].endswith(": ") else degree + state
            yield [Change(start, tail.end() if tail else end, said)]
        if cue.startswith("not "):
            yield [Change(start, start + 4, "")]
        size = re.compile(r"normal (heart|cardiac)( size| silhouette)?", re.I).match(answer, start)
        if size:
            yield [Change(start, start + 6, case_like("enlarged", answer[start]))]
        return
    if cue.startswith("not "):
        yield [Change(start, start + 4, "")]
    if cue in ("clear", "intact"):
        except_for = re.compile(r" except(?: for)? ").match(answer, end)
        for phrase in map(with_article, _noun_phrases("", claim, right)):
            if except_for:
                yield [Change(except_for.end(), except_for.end(), f"{phrase} and ")]
            else:
                yield [Change(end, end, f" except for {phrase}")]


def _noun_phrases(answer: str, claim: Claim, right: Claim | None) -> list[str]:
    """What is there, in words: as the reference says it, else the answer's noun with size, side and zone of `right`,
    but for those that stand behind the noun already."""
    noun = _plain_noun(answer, claim) if answer else NOUNS.get(claim.finding, (claim.finding,))[0]
    noun = re.sub(r"^(?:focal|acute|definite|large|any|evidence of) ", "", noun)
    if right is None:
        return [noun]
    behind = {n for n in ATTRIBUTES if claim.parts.get(n, (0, 0))[0] > claim.parts["finding"][0]}
    behind -= {"side"} if claim.side == "bilateral" else set()  # "on either side" goes
    found = []
    text = right.words
    if _STATE.match(text) or "organ" in right.parts or "size" in right.unsure:  # "osteopenic", "moderately severe"
        text = ""
    if text and not behind and not re.search(r"[,;:.()]|\b(?:is|are|and|with)\b", text):
        found.append(text if text.isupper() else text[0].lower() + text[1:])
    if _plural(noun) and not _plural(text) and right.side != "bilateral":
        noun = re.sub(r"(?:(?<=ss)e|)s$", "", noun)
    size = right.size if right.size in SIZES and not {"size"} & (right.unsure | behind) else None
    if size:
        size = like_word(size, "mild", "size") if _UNCOUNTABLE.search(noun) else size_word(claim.finding, size)
    side = None if "side" in behind or re.search(r"\bfree (?:air|gas)$", noun) else right.side
    if side == "bilateral" and not _plural(noun) and not _UNCOUNTABLE.search(noun):
        noun += "es" if noun.endswith("s") else "s"
    zone = re.search(r"\b(?:upper|middle|lower) (?:lobe|zone)\b", text, re.I)
    zone = zone.group().lower() if zone and claim.finding not in _PLEURAL else None
    if right.zone and not text:  # of a table of facts
        zone = right.zone if re.search(r"\bribs?\b", noun) else f"{right.zone} zone"
    if zone and not {"zone"} & (right.unsure | behind):
        found.append(" ".join(filter(None, (size, side, zone, noun))))
    found.append(" ".join(filter(None, (size, side, noun))))
    return list(dict.fromkeys(found))


def with_article(words: str) -> str:
    """The noun phrase with the article that it needs."""
    head = re.split(r" (?:in|at|on) ", words)[0]
    head = "amount" if " amount of " in words else head
    if _plural(head) or _UNCOUNTABLE.search(head) or words.split()[0] in ("bilateral", "bibasilar", "a", "an", "the"):
        return words
    return ("an " if words[0].lower() in "aeiou" else "a ") + words
