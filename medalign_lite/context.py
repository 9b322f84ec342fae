"""What the words around a mention do to it: deny it, doubt it, place it in time, or only ask for it.

In the line of NegEx and ConText (Chapman et al. 2001; Harkema et al. 2009): cues with a direction and a scope that
ends where a new statement begins. The nearest cue decides. Text is a `sections.Sentence`'s: lower case, single spaces.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_SEEN = (
    r"(?:seen|present|visible|visuali[sz]ed|identified|noted|detected|evident|apparent|shown|demonstrated|appreciated|"
    r"found|observed|recogni[sz]ed|there|suggested|perceived|discerned|delineated)"
)
_BE = r"(?:is|are|was|were|be|been|being|'s|have been|has been|had been)"
_MAY = r"(?:may|might|could|would|may also|could also|might also|may possibly)"
_FAINT = r"(?:may|might|could|can|would|may also|could also|might also|may possibly|should)"
_MEAN = (
    r"(?:represent|reflect|indicate|suggest|be(?! excluded| ruled| seen| present| removed| considered)|relate to|be related to|include|"
    r"signify|correspond|account for|have|mean|denote|constitute|be seen with|be secondary|be due)"
)
_CHANGE = r"(?:change|increase|decrease|improvement|progression|worsening|interval change|difference|resolution|growth)s?"
_BETTER = (
    r"(?:decreas(?:ed|ing)|improv(?:ed|ing)|resolving|clearing|diminished|lessened|regressed|smaller|"
    r"less (?:conspicuous|prominent|extensive|apparent|severe))"
)
_LAST = r"(?= ?[.,;)]|$| (?:since|from|compared|in (?:size|extent|appearance|position)|as)\b)"
_GRADE = r"(?:\w+ ){0,3}?"

# kind -> regular expressions. `_f` cues stand in front of what they govern, `_b` behind it; the kinds are tried in this
# order at each character, so what only looks like a negation stands before the negations.
_CUES: dict[str, tuple[str, ...]] = {
    "pause": (  # looks like a cue and is none
        r"no doubt", r"not only", r"not necessarily", r"no (?:prior|previous|comparison)[^,;]*?(?:available|stud(?:y|ies)|exam\w*|films?|radiographs?)",
        r"not (?:fully |well |completely |adequately |optimally |entirely )?(?:included|imaged|assessed|evaluated|in the field)",
        r"(?:poorly|suboptimally|incompletely|not well|not clearly|not optimally|less well) (?:seen|visuali[sz]ed|evaluated|assessed|delineated|defined|demonstrated)",
        r"no (?:better|worse)", r"not? malposition\w*", r"without complications?", r"no complications?(?! such)",
        r"no (?:definite |obvious )?(?:etiology|explanation|cause) (?:for|of)", r"likely (?:chronic|unchanged|stable)",
    ),
    "unchanged_b": (
        r"(?:has|have|is|are) not (?:yet |completely |fully |entirely )*(?:resolved|cleared)",
        r"(?:is|are|has|have|remains?|was|appears?)? ?(?:\w+ly )?(?:not|n't|no)(?: \w+){0,2} (?:changed|different|progressed|increased|worsened|improved|decreased)",
        r"(?:without|no|with no) (?:\w+ ){0,2}(?:interval )?" + _CHANGE, r"(?:is|are|remains?|appears?),? (?:likely |grossly |essentially |relatively |largely |overall |again )*(?:unchanged|stable|the same)",
        r"(?:is|are)? ?(?:again|still) (?:\w+ )?" + _SEEN, r"(?:is|are|remains?) similar|similar(?: in \w+)?(?: to| as| compared| since)", rf"(?:unchanged|stable){_LAST}", r"in (?:unchanged|stable|similar) position", r"persists?", r"as (?:before|seen previously|on prior)",
    ),
    "resolved_b": (
        r"(?:is|are|was|were)? ?no longer (?:\w+ )?" + _SEEN, r"no longer (?:present|in place|apparent)", r"(?:has|have|is|are)? ?(?:now |since |completely |fully |entirely |interval )*resolved",
        r"(?:has|have) (?:now |since |completely |fully |entirely |largely )*(?:cleared|disappeared)", r"(?:is|are|has) (?:now )?gone", r"removal|extraction",
        r"(?:has|have|was|were|is|are)? ?(?:been |also |now |since |subsequently |interval )*(?:removed|withdrawn completely|discontinued|explanted|pulled)",
    ),
    "better_b": (
        r"(?:has|have|is|are)? ?(?:nearly|almost|mostly|largely|partially|partly|near) (?:completely |entirely )?(?:resolved|cleared)",
        rf"(?:has|have|is|are)(?: been| now)? (?:\w+ly )*{_BETTER}", rf"{_BETTER}{_LAST}",
        r"(?:shows?|demonstrates?) (?:\w+ )?improvement",
    ),
    "worse_b": (
        r"(?:has|have|is|are) (?:\w+ )?(?:\w+ly )*(?:increased|worsened|progressed|enlarged|worse|larger|grown|more (?:conspicuous|prominent|extensive|apparent|confluent|severe))(?! (?:in size )?on the)",
        r"(?:has|have|is|are) (?:\w+ly )*(?:increasing|worsening|progressing|enlarging|growing)", r"increased (?:in size|from|since|compared|in extent|in severity)",
        r"(?:worsened|worse)(?: \w+)? (?:since|compared|from|than prior)",
    ),
    "new_b": (
        r"(?:is|are|appears?|which is) (?:likely |possibly |probably )?new", r"(?:has|have) (?:\w+ )?(?:developed|appeared|been (?:placed|inserted))",
        r"(?:was|were|is|are) (?:not|n't) (?:clearly |definitely )?(?:seen|present|visible|noted|evident) (?:on|in) (?:the )?(?:prior|previous|earlier|comparison)[\w ]*",
        r"not (?:seen|present|visible|noted|evident) (?:on |in |at )?(?:the )?(?:prior|previous|earlier|comparison)[\w ]*", r"not previously (?:seen|present|visible|noted)", rf"new{_LAST}",
    ),
    "doubt_b": (
        rf"(?:can ?not|can't|could not|couldn't|not|n't)(?: be)? (?:\w+ )?(?:{_BE} )?(?:entirely |completely |definitely |definitively |fully |confidently |reliably |totally |absolutely )*(?:excluded|ruled out|discounted|eliminated)",
        r"favou?red(?= over| ?[.,;)]|$)",
        r"(?:difficult|hard|impossible|unable) to (?:entirely |completely |definitively )?(?:exclude|rule out)(?= ?[.,;)]|$)",
        rf"{_MAY} be (?:\w+ )?{_SEEN}(?<!seen)", rf"{_MAY} (?:\w+ )?be seen(?! (?:with|in))", rf"{_FAINT} (?:\w+ )?be (?:\w+ )?(?:considered|entertained)", r"(?:must|should) (?:also )?be considered", rf"{_BE} (?:\w+ )?considered",
        rf"(?:{_BE}|remains?|seems?|appears?|also|felt to be) (?:\w+ )?(?:possible|likely|probable|suspected|questionable|questioned|unlikely|doubtful|favored|equivocal|a (?:\w+ )?(?:possibility|consideration|concern)|in the differential|uncertain|suggested|of concern|suspicious|not certain)(?= ?[.,;)]|$| (?:in|at|on|given|with|and|but|though|as|because|over|from|within)\b)",
        r"(?:less|more|most) likely(?= ?[.,;)]|$)", r"unlikely(?= ?[.,;)]|$)", r"(?:possible|probable|suspected|questioned|questionable)(?= ?[.,;)]|$)", r"(?:in|within) the differential",
        r"(?:in|given|with) the (?:appropriate|correct|proper|right) clinical (?:setting|context|scenario|situation)", r"if clinically \w+", r"\(?\?\)?(?= ?$)", r"not excluded", r"vs ?\.?(?= )|versus",
        r"would be difficult to exclude",
    ),
    "asked_b": (r"protocol", r"(?:is|are) (?:clinically )?suspected(?= ?,? (?:recommend|ct|further|a|dedicated|consider)\b)", r"precautions?"),
    "denied_b": (
        rf"(?:{_BE} |can |do |does |could |has |have )?(?:not|n't|never|cannot)(?! (?:well|fully|completely|optimally|adequately|entirely))(?: \w+)?(?: \w+)?(?: be)? (?:\w+ )?{_SEEN}", rf"(?:cannot|can't|n't)(?: be)? {_SEEN}",
        r"(?:is|are|was|were) (?:absent|excluded|ruled out|negative|none)", r"(?:: ?|- ?)?(?:none|absent|negative)(?= ?[.,;)]|$| seen)", r": ?no(?= ?[.,;)]|$)", r"excluded|ruled out", r"not (?:seen|identified|present|visuali[sz]ed|noted|demonstrated)",
    ),
    "unchanged_f": (
        rf"(?:no|without|not) {_GRADE}(?:interval )?{_CHANGE} (?:in|of|to|from)(?! prior| previous| the prior| the previous)(?: the)?(?: \w+ of)?",
        r"unchanged", r"stable", r"persist(?:ent|ing)", r"persistence of", r"continued", r"again (?:is |are )?(?:seen|noted|demonstrated)",
        r"re-?demonstrat(?:ion|ed)(?: of)?", r"once again", r"similar(?: appearing)?(?= \w+)(?! to)", r"ongoing", r"residual",
    ),
    "better_f": (
        r"(?:interval |\w+ly |slight |marked |mild |significant |partial )*(?:decrease|improvement|reduction|regression)(?: in)?(?: the)?(?: \w+)? (?:of|in)",
        r"(?:improv(?:ed|ing)|decreas(?:ed|ing)|resolving|clearing|diminish(?:ed|ing)|improved aeration of)",
        r"(?:partial|near|near complete|incomplete|partial interval) (?:clearing|resolution) of",
    ),
    "resolved_f": (
        r"(?:interval |complete )*resolution of", r"(?:interval |status post |s/p |post |after |following |since )*removal of", r"clearing of",
        r"interval extubation|extubated|extubation", r"no longer (?:any )?(?:seen|evident|present|visible|visuali[sz]ed|demonstrat\w+|identified)?(?= \w)(?! (?:in|on|at|as|with|is|are)\b)",
        r"(?:no|without)(?: \w+)? (?:residual|remaining|recurrent|persistent)", r"resolved",
    ),
    "worse_f": (
        r"(?:interval |slight |mild |marked |significant )*(?:increase|worsening|progression|enlargement)(?: in)?(?: the)?(?: \w+)? (?:of|in)(?! the heart)",
        r"(?:increasing|worsening|worsened|progressive|progressing|enlarging|growing)",
    ),
    "new_f": (
        r"(?:interval |new )?(?:development|appearance|onset) of", r"new(?:ly)?(?: developed| appearing)?", r"(?:has|have) (?:now )?developed", r"now (?:is |are )?(?:seen|present|evident|appears?)",
        r"(?:interval |recent |new |status post |s/p |post |after |following )*(?:placement|insertion|introduction) of", r"interval",
    ),
    "doubt_f": (
        r"(?:can ?not|can't|could not|couldn't|not|n't|unable to|difficult to|hard to|impossible to|does not|not possible to)(?: be)?(?: \w+ly)? (?:exclude|rule out|rule-out)(?:s|d)?(?: the possibility of| the presence of)?",
        r"to (?:better )?(?:exclude|rule out)", r"(?:no|without) (?:definite )?evidence to rule out", r"(?:cannot|can't) (?:be certain|be sure|tell)[\w ]*?(?:there is|is)?(?= )",
        rf"{_FAINT} (?:\w+ )?(?:\w+ )?{_MEAN}(?: the presence of)?", r"(?:im|un)?possibl[ey]|possibility(?: of)?|probabl[ey]|probability of|potential(?:ly)?|perhaps|maybe|presumabl[ey]|presumed|conceivabl[ey]",
        r"(?:most |very |more |less |quite )?likely(?: to)?(?: represent\w*| reflect\w*| due to| related to)?|unlikely(?: to)?(?: represent\w*)?|likelihood of", r"suspected?|suspects|suspect for", r"question(?:able|ed)?(?: of)?(?! is)|equivocal|borderline|query",
        r"(?:raise[sd]?|raising|consider|considering)(?: the| a)? (?:possibility|question|suspicion|concern)(?: of| for)?|consider(?:ation)?(?: of| for)?(?! normal)", r"favou?r(?:ed|s|ing)?(?: to (?:represent|reflect|be))?",
        r"(?:ddx|differential)(?: diagnos[ie]s| considerations?)?(?: would)?(?: includes?| including| is| are| being|:)?", r"rather than|instead of|over(?= (?:pneumonia|atelectasis|edema|consolidation|effusion))", r"vs ?\.?(?= )|versus",
        r"correlat(?:e|ion)(?: \w+)? (?:for|with)(?: \w+){0,3}? (?:signs? of |symptoms? of |evidence of )?", rf"(?:{_MAY}|can) (?:\w+ )?be seen (?:with|in(?: the setting of)?)", r"suggestion of|hint of", r"\?", r"either",
        r"(?:could|may|might)(?= \w)(?! (?:be|have|not)\b)", r"differentiat\w+ (?:between|from|of)|distinguish\w* (?:between|from)?", r"as well as could be",
    ),
    "hint_f": (  # doubt unless denied: "no opacity to suggest pneumonia"
        r"suggest(?:s|ed|ing|ive)?(?: of| for| the presence of)?|(?:suspicious|concerning|worrisome) (?:for|of)|(?:concern|suspicion|worry|concerns) (?:for|of|about)|indicati(?:ve|ng)(?: of)?",
        r"to (?:suggest|indicate)", r"(?:which|that) (?:would|could) (?:suggest|indicate)",
    ),
    "asked_f": (
        r"(?:to )?(?:evaluat(?:e|ion|ing)|assess(?:ment|ing)?|rule out|r/o|look(?:ing)?|screen(?:ing)?|sensitive|sensitivity)(?: for| of)?(?! (?:is|are) unremark)",
        r"(?:past |prior |known |clinical )?(?:history|hx|h/o)(?: of| for)", r"h/o|hx", r"if (?:\w+ )*?(?:suspected|concern for|suspicion (?:for|of|is)|there is|symptoms)", r"(?:symptoms?|risk|treated|treatment|therapy|workup|work-up) (?:of|for)",
        r"should (?=\w+ be)", r"r/o|rule out", r"(?:patient|pt) with(?! stable)",
    ),
    "denied_f": (
        r"(?:there (?:is|are) )?no (?:\w+ )?(?:evidence|signs?|suggestion|indication|radiographic (?:evidence|signs?))(?: of| for| to suggest)?(?: \w+ of)?", r"no(?!\s*[,.:!?]|\s*$| longer)", r"without(?: \w+)? (?:evidence|signs?) of", r"without", r"w/o",
        r"(?:free|clear) of", r"negative for", r"unremarkable for", r"neither", r"nor", r"lack(?:s|ing)?(?: of)?", r"absence of", r"absent(?= \w)", r"never", r"(?:fails?|failed) to",
        r"cannot|can't|not|n't", r"exclud(?:es|ing)", r"rules? out",
    ),
    "old_b": (r"(?:is|are|appears?|which appears?) (?:\w+ )?(?:old|healed|chronic|longstanding|remote)",),
    "old_f": (r"(?:old|healed|healing|chronic|remote|prior|longstanding|long-standing|sequelae? of)",),
}  # fmt: skip
_CUE = re.compile(
    "|".join(rf"(?P<{kind}>(?<![\w-])(?:{'|'.join(p)})(?:(?<=\?)|(?!\w)))" for kind, p in _CUES.items())
)  # fmt: skip

# Where a statement ends and another begins.
_BREAK = (
    r";|\bbut\b|\bhowever\b|\balthough\b|\bthough\b|\bwhile\b|\bwhereas\b|\byet\b|\bexcept(?:ing)?\b|\bapart from\b|\bother than\b|\baside from\b"
    r"|\bexception of\b|\bnevertheless\b|\botherwise\b|\b(?:and|,) there (?:is|are|has|remains?)\b|, which\b|\bwho\b| -- | - (?!\d)|\boutside of\b|\bbesides\b"
)
_CAUSE = (
    r"\bdue to\b|\bsecondary to\b|\bbecause\b|\bgiven\b|\brelated to\b|\bstatus post\b|\bs/p\b|\bafter\b|\bfollowing\b|\bsince\b|\bsuperimposed on\b"
    r"|\bobscur\w+|\blimit\w*\b|\bin (?:the )?(?:setting|presence) of\b|\boverlying\b|\bin this patient\b|\bunderlying the\b|\blikely\b(?= due)"
)
_WITH = r"(?<!consistent )(?<!compatible )(?<!associated )(?<!concerning )\bwith\b(?! evidence)"
_SEEN_END = rf"\b(?:is|are|was|were) (?:\w+ )?(?!there){_SEEN}\b"
_FRESH = (
    r"(?:an?|the|this|these|there|some|small|tiny|trace|minimal|mild|slight|moderate|large|marked|severe|right|left|bilateral|both|stable|"
    r"unchanged|new|persistent|again|continued|old|healed|chronic|interval|increas\w+|decreas\w+|improv\w+|worsen\w+|bibasilar|biapical|"
    r"multiple|scattered|calcified|residual|heart|lungs?|cardiac|previously|prior|possible|possibly|probable|probably|likely|low|"
    r"status|post|patchy|linear|streaky|platelike|increased)\b"
)
_NEW_AND = re.compile(rf"\band (?:there (?:is|are) )?{_FRESH}")
_NEW_COMMA = re.compile(rf", (?:and )?(?:there (?:is|are) )?{_FRESH}")
_OR = re.compile(r"\b(?:n?or|versus|vs|and/or)\b|/")
_STOP = {
    "denied_f": re.compile(f"{_BREAK}|{_CAUSE}|{_WITH}|{_SEEN_END}|, (?:likely|possibl[ey]|probabl[ey]|suggest|concerning)"),
    "doubt_f": re.compile(f"{_BREAK}|{_WITH}|\\bno\\b|\\bwithout\\b"),
    "asked_f": re.compile(f"{_BREAK}|{_CAUSE}|{_SEEN_END}|:|,|\\bno\\b|\\bwithout\\b|\\b(?:shows?|demonstrates?|reveals?|is|are|limited)\\b"),
    "b": re.compile(f"{_BREAK}|{_WITH}|\\bthere (?:is|are)\\b|\\b(?:is|are|shows?|demonstrates?|reveals?)\\b(?! not)|:(?! ?(?:no|none|absent|negative)\\b)"),
    "time": re.compile(f"{_BREAK}|{_WITH}|\\b(?:no|without)\\b|\\bthere (?:is|are)\\b|:"),
}  # fmt: skip
_TIMES = ("unchanged", "resolved", "better", "worse", "new", "old")


class Cue(NamedTuple):
    """`kind`: a key of the table of cues, without its direction; `front`: it stands in front of what it governs."""

    kind: str
    front: bool
    start: int
    end: int


class Reading(NamedTuple):
    """`polarity` None: only asked for or remembered, no claim. `cue`: the characters that decide the polarity."""

    polarity: str | None
    temporal: str | None
    cue: tuple[int, int] | None


def find_cues(text: str) -> tuple[Cue, ...]:
    """The cues of a sentence in reading order."""
    cues = []
    for m in _CUE.finditer(text):
        kind, _, way = m.lastgroup.rpartition("_")
        if kind:
            cues.append(Cue(kind, way == "f", *m.span()))
    return tuple(cues)


def read_context(
    text: str, mention: tuple[int, int], others: Sequence[tuple[int, int]], cues: Sequence[Cue]
) -> Reading:
    """How the sentence speaks of the mention at these characters; `others`: all mentions of the sentence."""
    temporal, gone = read_time(text, mention, others, cues)
    if gone:
        return Reading("absent", "resolved", gone)
    behind = _behind(text, mention, others, cues)
    front = _front(text, mention, cues)
    for cue in (behind, front):
        if cue and cue.kind == "asked":
            return Reading(None, None, None)
    if behind and (behind.kind == "doubt" or not (front and front.kind == "doubt")):
        if not (front and front.kind == "denied" and behind.kind == "doubt"):
            return Reading({"doubt": "uncertain", "denied": "absent"}[behind.kind], temporal, behind[2:])
    if front:
        return Reading({"denied": "absent"}.get(front.kind, "uncertain"), temporal, front[2:])
    no_change = temporal == "unchanged" and re.search(r"\b(?:no|not|without)\b", text[: mention[0]])
    either = None if no_change else _either(text, mention, others)
    return Reading("uncertain", temporal, either) if either else Reading("present", temporal, None)


def _front(text: str, mention: tuple[int, int], cues: Sequence[Cue]) -> Cue | None:
    """The nearest cue in front whose scope reaches the mention; a hint of something denied is the denial's."""
    start, nearest = mention[0], None
    for cue in reversed(cues):
        if not cue.front or cue.end > start or cue.kind not in ("denied", "doubt", "hint", "asked"):
            continue
        if nearest is None and _reaches(text, cue, start):
            nearest = cue
            if cue.kind != "hint":
                return cue
        elif nearest is not None and cue.kind in ("denied", "asked") and _reaches(text, cue, nearest.start):
            return cue
    return nearest


def _reaches(text: str, cue: Cue, start: int) -> bool:
    """Whether nothing between a cue in front and the mention begins a new statement."""
    kind = "doubt_f" if cue.kind == "hint" else f"{cue.kind}_f"
    if _STOP[kind].search(text, cue.end, start):
        return False
    if cue.kind == "denied" and text[cue.start : cue.end] in ("not", "n't", "cannot", "can't"):
        return text.count(" ", cue.end, start) <= 6 and not re.search(r"\band\b|,", text[cue.end : start])
    if _NEW_AND.search(text, cue.end, start):
        return False
    if text.startswith(("differential", "ddx"), cue.start):
        return True
    comma = (_NEW_COMMA if cue.kind == "denied" else _ANY_COMMA).search(text, cue.end, start)
    return comma is None or bool(_OR.search(text, comma.end(), _clause_end(text, comma.end())))


_ANY_COMMA = re.compile(",")
_LINK = re.compile(r" ?(?:\b(?:is|are|was|were)|:|-)? ?$")
_PART = re.compile(r"\b(?:tip|end|course|margin|cause|etiology)s? of (?:the |an? |this )?(?:\w+ ){0,2}$")
_ASIDE = re.compile(r", (?:which|that|as|seen|noted)\b[^,]*,|,? (?:which|that|but) ?$")
_CLAUSE_END = re.compile(_BREAK)


def _clause_end(text: str, at: int) -> int:
    end = _CLAUSE_END.search(text, at)
    return end.start() if end else len(text)


def _behind(text: str, mention: tuple[int, int], others, cues: Sequence[Cue]) -> Cue | None:
    """The first cue behind whose scope reaches back to the mention."""
    for cue in cues:
        if cue.front or cue.start < mention[1] or cue.kind not in ("denied", "doubt", "asked"):
            continue
        between = _LINK.sub("", text[mention[1] : cue.start])
        if _STOP["b"].search(between):
            return None
        if cue.kind == "denied" and _PART.search(text, 0, mention[0]):
            return None
        later = [o for o in others if mention[1] <= o[0] and o[1] <= cue.start]
        if later and not _listed(text, mention, later):
            continue
        if text[cue.start : cue.end].startswith("v") and (later or len(between.split()) > 6):
            continue
        return cue
    return None


def _listed(text: str, mention: tuple[int, int], later: Sequence[tuple[int, int]]) -> bool:
    """Whether the mention and those behind it make one list ("A, B and C") that nothing has already asserted."""
    gap = text[mention[1] : later[0][0]]
    if "," in gap and not re.search(r"\b(?:and|or)\b", text[mention[1] : later[-1][0]]):
        return False
    if re.search(r"\bthere (?:is|are)\b|\b(?:shows?|with|reveals?|demonstrates?)\b", text[: mention[0]]) and " and " in gap:
        return False
    return not re.search(r"\b(?:is|are|represent\w*|suggest\w*|reflect\w*|likely)\b", gap) and not _NEW_COMMA.search(gap)


def _either(text: str, mention: tuple[int, int], others) -> tuple[int, int] | None:
    """ "A versus B", affirmed "A or B", "?A": either may be it."""
    for a, b in zip(others, others[1:], strict=False):
        if mention not in (a, b) or b[0] - a[1] > 40:
            continue
        gap = re.search(r"(?:\b(?:versus|vs|or|and/or)\b)", text[a[1] : b[0]])
        if gap and not re.search(r"[,;]|\b(?:and|is|are|with|tubes?|lines?)\b(?!/)", text[a[1] : b[0]]):
            return a[1] + gap.start(), a[1] + gap.end()
    return None


def read_time(text: str, mention, others, cues) -> tuple[str | None, tuple[int, int] | None]:
    """The nearest word of time or change, and where it says that the finding is gone."""
    best: tuple[int, str, Cue] | None = None
    for cue in cues:
        if cue.kind not in _TIMES:
            continue
        if not cue.front and not any(o[1] <= cue.start for o in others):
            cue = cue._replace(front=True)  # "Stable, mild cardiomegaly"
        a, b = (cue.end, mention[0]) if cue.front else (mention[1], cue.start)
        if a > b and not (mention[0] <= cue.start and cue.end <= mention[1] and cue.kind == "old"):
            continue
        gap = _ASIDE.sub("", text[a:b]) if a <= b else ""
        between = [o for o in others if a <= o[0] and o[1] <= b]
        blocked = _STOP["time"].search(gap) or gap.count(" ") > (9 if not between else 14)
        if blocked or (between and not _carried(text, mention, between, cue)) or (cue.front and not between and "," in gap):
            continue
        if cue.front and re.search(r"\b(?:is|are|was|were|has|have)\b", gap):
            continue
        if best is None or len(gap) < best[0]:
            best = len(gap), cue.kind, cue
    if best is None:
        return None, None
    return (None, best[2][2:]) if best[1] == "resolved" else (best[1], None)


def _carried(text: str, mention, between, cue: Cue) -> bool:
    """Whether a word of change is shared over other mentions: "unchanged A and B", "A and B have increased"."""
    gap = text[cue.end : mention[0]] if cue.front else text[mention[1] : cue.start]
    if cue.front and cue.kind in ("new", "old"):
        return False
    shared = not cue.front and text.startswith(("are", "have", "remain "), cue.start)
    if not shared and (_NEW_AND.search(gap) or _NEW_COMMA.search(gap)):
        return False
    return bool(re.search(r"\b(?:and|or)\b|/", gap)) and not re.search(r"\b(?:no|without|is|are|likely|may|suggest\w*)\b", gap)
