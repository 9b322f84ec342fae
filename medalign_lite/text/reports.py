"""What a real radiology report asserts: the claims of its sections, with doubt, time, side, zone and size.

The reader for people's reports; `claims.extract_claims` is the one for the synthetic world, whose table of facts is
complete. Words are in `lexicon` and `cues`, the form of a report in `sections`, the rules in `context`, `organs` and
`places`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medalign_lite.text.claims import Claim
from medalign_lite.text.context import Reading, find_cues, read_context, read_time
from medalign_lite.text.form import Sentence, find_report_sentences, normalise, squeeze
from medalign_lite.text.lexicon import FINDINGS
from medalign_lite.text.organs import Mention, read_organs
from medalign_lite.text.places import Place, attach_places, choose_places
from medalign_lite.text.qualifiers import doubts, kind_of, organ_qualifiers, qualifiers

_NAMES = {name.replace(" ", "_"): name for name in FINDINGS}
_MENTION = re.compile("|".join(rf"(?P<{g}>\b(?:{'|'.join(FINDINGS[n])})(?!\w))" for g, n in _NAMES.items()))


def read_report(report: str) -> tuple[Claim, ...]:
    """Every mention of a finding or device that the report asserts, doubts or denies, in reading order.

    Findings are those of `lexicon.FINDINGS`. A mention of two sides with sizes of their own ("large right and small
    left effusions") gives a claim for each. What is only asked for or remembered gives none. Any text is read.
    """
    claims: list[Claim] = []
    short, places = squeeze(report)
    for start, end in find_report_sentences(short):
        claims += _read_sentence(normalise(short, start, end))
    claims = [replace(claim, words=" ".join(short[claim.start : claim.end].split())) for claim in claims]
    return tuple(claims) if len(short) == len(report) else tuple(_moved(claim, places) for claim in claims)


def _moved(claim: Claim, places: Sequence[int]) -> Claim:
    parts = {name: (places[a], places[b]) for name, (a, b) in claim.parts.items()}
    return replace(claim, start=places[claim.start], end=places[claim.end], parts=parts)


def _read_sentence(sentence: Sentence) -> list[Claim]:
    text = sentence.text
    named = [Mention((_NAMES[m.lastgroup],), *m.span(), None) for m in _MENTION.finditer(text)]
    spans = [(m.start, m.end) for m in named]
    mentions = sorted(named + read_organs(text, spans), key=lambda m: m.start)
    if not mentions:
        return []
    # A cue inside a name is a part of it ("increased markings"); "old" of "old fracture" still counts.
    cues = [c for c in find_cues(text) if c.kind == "old" or not any(m.start <= c.start < m.end for m in mentions)]
    readings = []
    for mention in mentions:
        reading = mention.reading or read_context(text, mention[1:3], spans, cues)
        if mention.reading and reading.polarity == "present":  # "the heart is enlarged but stable"
            time = read_time(text, mention[1:3], [*spans, mention[1:3]], cues)[0]
            reading = reading._replace(temporal=time)
        readings.append(reading)
    used = {r.cue for r in readings if r.cue}
    claims: list[Claim] = []
    for mention, reading, places in zip(mentions, readings, attach_places(text, mentions), strict=True):
        span = mention[1:3]
        if not reading.polarity or (reading.temporal == "old" and mention.findings == ("pneumonia",)):
            continue
        unsure = doubts(text, span, reading, cues, used) | _several(places)
        words = organ_qualifiers(text, span, reading) if mention.reading else qualifiers(text, span, spans, reading)
        for finding in mention.findings:
            kind = kind_of(finding, text[slice(*span)]) if not mention.reading else finding
            for chosen in choose_places(text, finding, mention, places):
                claims.append(_claim(sentence, finding, mention, reading, chosen, kind, words, unsure))
    affirmed = [c for c in claims if c.polarity != "absent"]
    organs = [c for c in claims if c.polarity == "absent" and "organ" in c.parts]
    over = [c for c in organs if any(_meets(c, a) for a in affirmed)]
    return [c for c in claims if c not in over]


def _meets(organ: Claim, other: Claim) -> bool:
    """Whether both speak of one place: "left lung clear" leaves an opacity on the right."""
    return organ.finding == other.finding and (None in (organ.side, other.side) or organ.side == other.side)


def _several(places: Sequence[Place]) -> frozenset[str]:
    """Zones and sizes of which a mention names more than one: which of them is meant is not certain."""
    return frozenset(n for n in ("zone", "size") if len({p.value for p in places if p.name == n}) > 1)


def _claim(
    sentence: Sentence, finding: str, mention: Mention, reading: Reading, chosen: Mapping[str, Place], kind: str,
    words: frozenset[str], unsure: frozenset[str],
) -> Claim:  # fmt: skip
    parts = {"finding": sentence.span(mention.start, mention.end)}
    parts |= {name: sentence.span(p.start, p.end) for name, p in chosen.items()}
    start, end = min(a for a, _ in parts.values()), max(b for _, b in parts.values())
    if reading.cue:
        parts["cue"] = sentence.span(*reading.cue)
    if mention.reading:
        parts["organ"] = parts["finding"]
    side, zone, size = (chosen[name].value if name in chosen else None for name in ("side", "zone", "size"))
    return Claim(
        finding, reading.polarity, side, zone, size, start, end, parts, reading.temporal, kind=kind, qualifiers=words,
        unsure=unsure,
    )  # fmt: skip
