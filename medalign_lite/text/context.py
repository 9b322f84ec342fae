"""What the words around a mention do to it: deny it, doubt it, place it in time, or only ask for it.

In the line of NegEx and ConText (Chapman et al. 2001; Harkema et al. 2009): cues with a direction and a scope that
ends where a new statement begins. The nearest cue decides. Text is a `sections.Sentence`'s: lower case, single spaces.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from medalign_lite.text.cues import CUES, SEEN

_CUE = re.compile(
    "|".join(rf"(?P<{kind}>(?:(?<![\w-])|(?=\?))(?:{'|'.join(p)})(?:(?<=[?)])|(?!\w)))" for kind, p in CUES.items())
    .replace("|n't", r"|\w*n't").replace("(?:n't", r"(?:\w*n't")  # "isn't"
)  # fmt: skip

# Where a statement ends and another begins.
_BREAK = (
    r";|\bbut\b|\bhowever\b|\balthough\b|\bthough\b|\bwhile\b|\bwhereas\b|\byet\b|\bexcept(?:ing)?\b|\bapart from\b|"
    r"\bother than\b|\baside from\b|\bexception of\b|\bnevertheless\b|\botherwise\b|\b(?:and|,) there (?:is|are|has|"
    r"remains?)\b|, which\b|\bwho\b| -- | - (?!\d)|\boutside of\b|\bbesides\b"
)
_CAUSE = (
    r"\bdue to\b|\bsecondary to\b|\bbecause\b|\bgiven\b|\brelated to\b|\bstatus post\b|\bs/p\b|\bafter\b|\bfollowing\b|"
    r"\bsince\b|\bsuperimposed on\b|\bobscur\w+|\blimit\w*\b|\bin (?:the )?(?:setting|presence) of\b|\boverlying\b|"
    r"\bin this patient\b|\bunderlying the\b|\blikely\b(?= due)"
)
_WITH = r"(?<!consistent )(?<!compatible )(?<!associated )(?<!concerning )\bwith\b(?! evidence)"
_SEEN_END = rf"\b(?:is|are|was|were) (?:\w+ )?(?!there){SEEN}\b"
_FRESH = (
    r"(?:an?|the|this|these|there|some|small|tiny|trace|minimal|mild|slight|moderate|large|marked|severe|right|left|"
    r"bilateral|both|stable|unchanged|new|persistent|again|continued|old|healed|chronic|interval|increas\w+|decreas\w+|"
    r"improv\w+|worsen\w+|bibasilar|biapical|multiple|scattered|calcified|residual|heart|lungs?|cardiac|previously|"
    r"prior|possible|possibly|probable|probably|likely|low|status|post|patchy|linear|streaky|platelike|increased|"
    r"merely|only|just|instead|rather|(?:\w+ ){0,3}?(?:compatible|consistent|in keeping|typical|characteristic|"
    r"representing|reflecting|being|(?:changes|findings|features|sequelae|evidence) of|"
    r"persists?|remains?|is|are|was|were|has|have))\b"
)
_NEW_AND = re.compile(rf"\band (?:there (?:is|are) )?{_FRESH}")
_NEW_COMMA = re.compile(rf", (?:and )?(?:there (?:is|are) )?{_FRESH}")
_NEW_STATE = re.compile(  # "No fracture, osteopenic bones", where the adjective is a name
    r", (?:and )?(?:calcified|old|healed|\w+(?:ed|ic|ous) (?:\w+ ){0,2}(?:bones?|lungs?|heart|aorta|angles?|pleura|"
    r"(?:hemi)?diaphragms?|spine|trachea|vessels|vasculature|hil(?:a|um)|mediastinum|silhouette))\b"
)
_SIZED = re.compile(r"(?:small|mild|moderate|severe|chronic|old|healed|right|left|bilateral|increased)\b")
_OR = re.compile(r"\b(?:n?or|versus|vs|and/or)\b|/")
_AFFIRMS = r"\b(?:there (?:is|are)|is|are|shows?|demonstrates?|reveals?)\b"
_NONE = r"\b(?:no|without)\b"
_FRONT_STOPS = {
    "denied": re.compile(
        f"{_BREAK}|{_CAUSE}|{_WITH}|{_SEEN_END}|, (?:likely|possibl[ey]|probabl[ey]|suggest|concerning)"
    ),
    "doubt": re.compile(f"{_BREAK}|{_WITH}|{_NONE}"),
    "hint": re.compile(f"{_BREAK}|{_WITH}|{_NONE}"),
    "asked": re.compile(f"{_BREAK}|{_CAUSE}|{_SEEN_END}|:|,|{_NONE}|{_AFFIRMS}|\\blimited\\b"),
}
_BEHIND_STOP = re.compile(f"{_BREAK}|{_WITH}|{_AFFIRMS}(?! not)|:")
_TIME_STOP = re.compile(f"{_BREAK}|{_WITH}|{_NONE}|\\bthere (?:is|are)\\b|:")
_TIMES = ("unchanged", "resolved", "better", "worse", "new", "old")

_COMMA = re.compile(",")
_CLAUSE_END = re.compile(_BREAK)
_LINK = re.compile(r" ?(?:\b(?:is|are|was|were)|:|-)? ?$")  # between a name and what is said of it
_ASIDE = re.compile(r", (?:which|that|as|seen|noted)\b[^,]*,|,? (?:which|that|but) ?$")
_PART = re.compile(r"\b(?:tip|end|course|margin|cause|etiology)s? of (?:the |an? |this )?(?:\w+ ){0,2}$")
_VERB = re.compile(r"\b(?:is|are|was|were|has|have)\b")
_MEANS = re.compile(r"\b(?:is|are|represent\w*|suggest\w*|reflect\w*|likely)\b")
_SAID = re.compile(r"\bthere (?:is|are)\b|\b(?:shows?|with|reveals?|demonstrates?)\b")
_AND_OR = re.compile(r"\b(?:and|or)\b|/")
_NOT_SHARED = re.compile(r"\b(?:no|without|is|are|likely|may|suggest\w*)\b")
_EITHER = re.compile(r"\b(?:versus|vs|or|and/or)\b")
_NOT_EITHER = re.compile(r"[,;]|\b(?:and|is|are|with|tubes?|lines?)\b(?!/)")
_NO = re.compile(r"\b(?:no|not|without)\b")
_NEAR = 40  # characters between two names that "or" joins
_SHORT, _LONG = 9, 14  # words between a word of change and the name, directly and over other names
_REACH_OF_NOT = 6  # words

Span = tuple[int, int]


class Cue(NamedTuple):
    """`kind`: a key of `CUES` without its direction; `front`: it stands in front of what it governs."""

    kind: str
    front: bool
    start: int
    end: int


class Reading(NamedTuple):
    """`polarity` None: only asked for or remembered, no claim. `cue`: the characters that decide the polarity."""

    polarity: str | None
    temporal: str | None
    cue: Span | None


def find_cues(text: str) -> tuple[Cue, ...]:
    """The cues of a sentence in reading order."""
    cues = []
    for m in _CUE.finditer(text):
        kind, _, way = m.lastgroup.rpartition("_")
        if kind:
            cues.append(Cue(kind, way == "f", *m.span()))
    return tuple(cues)


def read_context(text: str, mention: Span, others: Sequence[Span], cues: Sequence[Cue]) -> Reading:
    """How the sentence speaks of the mention at these characters; `others`: all mentions of the sentence."""
    temporal, gone = read_time(text, mention, others, cues)
    if gone:
        return Reading("absent", "resolved", gone)
    behind, front = _behind(text, mention, others, cues), _front(text, mention, cues)
    kinds = {cue.kind for cue in (behind, front) if cue}
    if "asked" in kinds:
        return Reading(None, None, None)
    if "denied" in kinds and (front is None or front.kind != "doubt"):  # "no opacity is suggested"
        cue = front if front and front.kind == "denied" else behind
        return Reading("absent", temporal, cue[2:])
    if kinds:
        return Reading("uncertain", temporal, (behind or front)[2:] if "denied" not in kinds else front[2:])
    unchanged = temporal == "unchanged" and _NO.search(text, 0, mention[0])  # "no change in the opacities or effusions"
    either = None if unchanged else _either(text, mention, others)
    return Reading("uncertain" if either else "present", temporal, either)


def read_time(text: str, mention: Span, others: Sequence[Span], cues: Sequence[Cue]) -> tuple[str | None, Span | None]:
    """The nearest word of time or change; the characters that say so where the finding is gone."""
    best: tuple[int, Cue] | None = None
    for cue in cues:
        if cue.kind not in _TIMES:
            continue
        if not cue.front and not any(end <= cue.start for _, end in others):
            cue = cue._replace(front=True)  # "Stable, mild cardiomegaly"
        gap = _time_gap(text, mention, others, cue)
        if gap is not None and (best is None or gap < best[0]):
            best = gap, cue
    if best is None:
        return None, None
    return (None, best[1][2:]) if best[1].kind == "resolved" else (best[1].kind, None)


def _time_gap(text: str, mention: Span, others: Sequence[Span], cue: Cue) -> int | None:
    """How far a word of change stands from the mention; None where it speaks of something else."""
    start, end = (cue.end, mention[0]) if cue.front else (mention[1], cue.start)
    if start > end:  # "old" of "old fracture" is a part of the name
        return 0 if cue.kind == "old" and mention[0] <= cue.start and cue.end <= mention[1] else None
    gap = _ASIDE.sub("", text[start:end])
    between = any(start <= a and b <= end for a, b in others)
    if _TIME_STOP.search(gap) or gap.count(" ") > (_LONG if between else _SHORT):
        return None
    if between and not _shared(gap, cue, text):
        return None
    if cue.front and (not between and "," in gap or _VERB.search(gap.removeprefix(" is").removeprefix(" are"))):
        return None
    return len(gap)


def _shared(gap: str, cue: Cue, text: str) -> bool:
    """Whether a word of change is said of all names of a list: "unchanged A and B", "A and B have increased"."""
    if cue.front and cue.kind in ("new", "old"):
        return False
    plural = not cue.front and text.startswith(("are", "have", "remain "), cue.start)
    if not plural and (_NEW_AND.search(gap) or _NEW_COMMA.search(gap)):
        return False
    return bool(_AND_OR.search(gap)) and not _NOT_SHARED.search(gap)


def _front(text: str, mention: Span, cues: Sequence[Cue]) -> Cue | None:
    """The nearest cue in front whose scope reaches the mention; a hint of something denied is the denial's."""
    nearest = None
    for cue in reversed(cues):
        around = cue.kind == "asked" and cue.start < mention[0] and mention[1] < cue.end  # "if pneumonia is suspected"
        if around:
            return cue
        if not cue.front or cue.end > mention[0] or cue.kind not in _FRONT_STOPS:
            continue
        if nearest is None and _reaches(text, cue, mention[0]):
            nearest = cue
            if cue.kind != "hint":
                return cue
        elif nearest is not None and cue.kind in ("denied", "asked") and _reaches(text, cue, nearest.start):
            return cue
    return nearest


def _reaches(text: str, cue: Cue, start: int) -> bool:
    """Whether nothing between a cue in front and the mention begins a new statement."""
    if _FRONT_STOPS[cue.kind].search(text, cue.end, start) or _NEW_AND.search(text, cue.end, start):
        return False
    words, gap = text[cue.start : cue.end], text[cue.end : start]
    if words in ("not", "cannot") or words.endswith("n't"):
        return gap.count(" ") <= _REACH_OF_NOT and " and " not in gap and "," not in gap
    if words.startswith(("lack", "absence")):
        return "," not in gap
    if words.startswith(("differential", "ddx")):
        return True
    sized = _SIZED.match(text, start)  # "No failure, mild vascular congestion": of the name
    comma = (_NEW_COMMA if cue.kind == "denied" else _COMMA).search(text, cue.end, sized.end() if sized else start)
    comma = comma or _NEW_STATE.search(text, cue.end, start + _NEAR)
    if comma is None or comma.start() >= start:
        return True
    clause_end = _CLAUSE_END.search(text, comma.end())  # a list that "or" closes goes on behind its commas
    return bool(_OR.search(text, comma.end(), clause_end.start() if clause_end else len(text)))


def _behind(text: str, mention: Span, others: Sequence[Span], cues: Sequence[Cue]) -> Cue | None:
    """The first cue behind whose scope reaches back to the mention."""
    for cue in cues:
        if cue.front or cue.start < mention[1] or cue.kind not in ("denied", "doubt", "asked"):
            continue
        between = _LINK.sub("", text[mention[1] : cue.start])
        if _BEHIND_STOP.search(between) or (cue.kind == "denied" and _PART.search(text, 0, mention[0])):
            return None
        later = [o for o in others if mention[1] <= o[0] and o[1] <= cue.start]
        if later and not _listed(text, mention, later):
            continue
        if text.startswith(("vs", "versus"), cue.start) and (later or between.count(" ") > _REACH_OF_NOT):
            continue
        return cue
    return None


def _listed(text: str, mention: Span, later: Sequence[Span]) -> bool:
    """Whether the mention and those behind it make one list ("A, B and C") that nothing has already asserted."""
    gap = text[mention[1] : later[0][0]]
    if "," in gap and not _AND_OR.search(text, mention[1], later[-1][0]):
        return False
    if " and " in gap and _SAID.search(text, 0, mention[0]):
        return False
    return not _MEANS.search(gap) and not _NEW_COMMA.search(gap)


def _either(text: str, mention: Span, others: Sequence[Span]) -> Span | None:
    """The characters that make it one of two: "A versus B", and "A or B" where nothing denies them."""
    for a, b in zip(others, others[1:], strict=False):
        if mention not in (a, b) or b[0] - a[1] > _NEAR:
            continue
        word = _EITHER.search(text, a[1], b[0])
        if word and not _NOT_EITHER.search(text, a[1], b[0]):
            return word.span()
    return None
