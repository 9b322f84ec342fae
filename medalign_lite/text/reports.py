"""What a real radiology report asserts: the claims of its sections, with doubt, time, side, zone and size.

The reader for people's reports; `claims.extract_claims` is the one for the synthetic world, whose table of facts is
complete. Words are in `lexicon` and `cues`, the form of a report in `sections`, the rules in `context`, `organs` and
`places`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from medalign_lite.text import facts
from medalign_lite.text.claims import Claim
from medalign_lite.text.context import Reading, find_cues, read_context, read_time
from medalign_lite.text.form import Sentence, find_report_sentences, normalise, squeeze
from medalign_lite.text.lexicon import FINDINGS
from medalign_lite.text.places import Mention, Place, attach_places, choose_places, read_organs
from medalign_lite.text.qualifiers import doubts, kind_of, organ_qualifiers, qualifiers

_NAMES = {name.replace(" ", "_"): name for name in FINDINGS}
_MENTION = re.compile("|".join(rf"(?P<{g}>\b(?:{'|'.join(FINDINGS[n])})(?!\w))" for g, n in _NAMES.items()))

_WORLD = {("opacity", kind): "consolidation" for kind in ("opacity", "infiltrate", "air-space disease")} | {
    ("other device", "other device"): "pacemaker"
}
_PLACE_TAIL = re.compile(  # "in the left lung"
    r"(?: lung)?[ -](?:zones?|lungs?|ribs?|sided?|hemithorax|lobes?|(?:hemi)?diaphragm|bas(?:e|is)|apex)\b"
)


def read_report(report: str, *, world: bool = False) -> tuple[Claim, ...]:
    """Every mention of a finding or device that the report asserts, doubts or denies, in reading order.

    Findings are those of `lexicon.FINDINGS`. A mention of two sides with sizes of their own ("large right and small
    left effusions") gives a claim for each. What is only asked for or remembered gives none. Any text is read.
    `world`: in the words of the synthetic world, where an opacity is a consolidation.
    """
    claims: list[Claim] = []
    short, places = squeeze(report)
    for start, end in find_report_sentences(short):
        sentence = normalise(short, start, end)
        claims += [_placed(claim, sentence, short, places) for claim in _read_sentence(sentence.text, world)]
    return tuple(claims)


def extract_claims(text: str) -> tuple[Claim, ...]:
    """What a text says of the findings of the synthetic world."""
    return tuple(claim for claim in read_report(text, world=True) if claim.finding in facts.FINDINGS)


def find_terms(text: str) -> tuple[tuple[int, int, str], ...]:
    """(start, end, finding) of every name of a finding."""
    return tuple((*m.span(), _NAMES[m.lastgroup]) for m in _MENTION.finditer(text.lower()))


def find_negations(text: str) -> tuple[tuple[int, int], ...]:
    """The characters of every denying word, before or behind what it denies."""
    return tuple(cue[2:] for cue in find_cues(text.lower()) if cue.kind == "denied")


def _placed(claim: Claim, sentence: Sentence, short: str, places: Sequence[int]) -> Claim:
    """A claim of a sentence with the characters of the report."""
    start, end = sentence.span(claim.start, claim.end)
    spans = {name: sentence.span(*span) for name, span in claim.parts.items()}
    parts = {name: (places[a], places[b]) for name, (a, b) in spans.items()}
    words = " ".join(short[start:end].split())
    return replace(claim, start=places[start], end=places[end], parts=parts, words=words)


@lru_cache(maxsize=4096)  # an edit reads most sentences of an answer again
def _read_sentence(text: str, world: bool) -> tuple[Claim, ...]:
    named = [Mention((_NAMES[m.lastgroup],), *m.span(), None) for m in _MENTION.finditer(text)]
    spans = [(m.start, m.end) for m in named]
    mentions = sorted(named + read_organs(text, spans), key=lambda m: m.start)
    if not mentions:
        return ()
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
            finding = _WORLD.get((finding, kind), finding) if world else finding
            for chosen in choose_places(text, finding, mention, places):
                claims.append(_claim(text, finding, mention, reading, chosen, kind, words, unsure))
    claims = list({(c.said, c.start, c.parts["finding"]): c for c in claims}.values())  # "clear" of two words for one
    affirmed = [c for c in claims if c.polarity != "absent"]
    organs = [c for c in claims if c.polarity == "absent" and "organ" in c.parts]
    over = [c for c in organs if any(_meets(c, a) for a in affirmed)]
    return tuple(c for c in claims if c not in over)


def _meets(organ: Claim, other: Claim) -> bool:
    """Whether both speak of one place: "left lung clear" leaves an opacity on the right."""
    return organ.finding == other.finding and (None in (organ.side, other.side) or organ.side == other.side)


def _several(places: Sequence[Place]) -> frozenset[str]:
    """Zones and sizes of which a mention names more than one: which of them is meant is not certain."""
    return frozenset(n for n in ("zone", "size") if len({p.value for p in places if p.name == n}) > 1)


def _claim(
    text: str, finding: str, mention: Mention, reading: Reading, chosen: Mapping[str, Place], kind: str,
    words: frozenset[str], unsure: frozenset[str],
) -> Claim:  # fmt: skip
    parts = {"finding": (mention.start, mention.end)} | {name: (p.start, p.end) for name, p in chosen.items()}
    last = max([mention.end, *(p.end for p in chosen.values())])
    tail = _PLACE_TAIL.match(text, last) if last > mention.end else None
    start, end = min(a for a, _ in parts.values()), max(b for _, b in parts.values())
    end = tail.end() if tail else end
    if reading.cue:
        parts["cue"] = reading.cue
    if mention.reading:
        parts["organ"] = parts["finding"]
    side, zone, size = (chosen[name].value if name in chosen else None for name in ("side", "zone", "size"))
    return Claim(
        finding, reading.polarity, side, zone, size, start, end, parts, reading.temporal, kind=kind, qualifiers=words,
        unsure=unsure,
    )  # fmt: skip
