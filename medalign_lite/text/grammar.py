"""A small check of English around an edit, which knows nothing of findings: what an edit broke, or None.

It shares no rule with the reader of reports, so a mistake of the one is seen by the other. It need not find every fault
of a text, only those that replaced words leave behind.
"""

import re
from collections import Counter

_BEFORE_NO = (  # what may stand in front of "no" within a sentence
    "is are was were be been being has have had show shows showed shown demonstrate demonstrates demonstrated reveal "
    "reveals revealed with and but or though although while whereas that there's there see sees identify find found "
    "contains contain also however yet so suggest suggests still now yes then because since exhibits exhibit indicate "
    "indicates appears bears carries carry there're i'd essentially currently"
)
_SIDES = r"(?:right|left|bilateral)(?:-sided)?"
_ZONES = r"(?:upper|middle|mid|lower|apical|basal|basilar|bibasilar|biapical)"
_SIZES = r"(?:small|tiny|trace|minimal|mild|moderate|large|massive|marked|severe|extensive|huge|big)"
_NOUNS = (
    r"(?:opacit(?:y|ies)|effusions?|nodules?|fractures?|infiltrates?|mass(?:es)?|lesions?|granulomas?|cavit(?:y|ies)|"
    r"o?edema|pneumonia|cardiomegaly|pneumothora(?:x|ces)|atelectasis|emphysema|consolidations?|scoliosis|congestion)"
)
_FAULTS = (
    (r"\bno (?:a|an|the|no|not|some|any|several|multiple|both|few|many|there|is|are|was|in|on|with|and|or|but|of|"
        r"this)\b", "a word that cannot follow 'no'"),
    (r"(?<=[a-z,] )no\s*[.;]|\b(?:there|and|but|or|with) no\s*,", "'no' without a noun"),
    (rf"\b({_SIDES}|{_ZONES}|{_SIZES}|no|not|the|is|are|with|and|or|of|a|an) +\1\b", "a word twice"),
    (rf"\b{_SIDES},? +{_SIDES}\b|\bbilateral +(?:bibasilar|biapical|both)\b|\b(?:bibasilar|biapical) +(?:bilateral|"
        rf"both|{_SIDES})\b|\b{_SIDES} +(?:bibasilar|biapical)\b|\bboth +(?:right|left|bilateral)\b", "two sides"),
    (rf"(?:^|[ (]){_SIZES} +{_SIZES}\b(?! nodular)", "two sizes"),
    (rf"\b{_ZONES} +(?!(?:lung|zone|lobe|basal|apical)){_ZONES}\b", "two places"),
    (r",\s*[,.;:]|[;:]\s*[,.;]|\(\s*\)|\s[,.;](?:\s|$)|\.\s*\.(?!\.)", "a mark without words"),
    (r"\b(?:and|or|but|nor|with|of|the|a|an|without|not|to|in|for|there is|there are)\s*(?:[.;,]|$)",
        "a sentence that stops short"),
    (r"(?:^|[.;] )(?:and|or|nor|,)\b", "a sentence that begins in the middle"),
    (r"\ban (?=[bcdfgjklmnpqrstvwz])(?!mri|mr |nodul\b)|\ba (?=[aeio])(?!one|eu)", "the wrong article"),
    (r"\b(?:a|an) (?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){0,3}(?:opacities|effusions|nodules|fractures|"
        r"infiltrates|masses|lesions|pneumothoraces|granulomas|consolidations|cavities|tubes|clips|wires|nodes|"
        r"edema|cardiomegaly|atelectasis|emphysema|scoliosis|pneumonia(?! \w)|congestion)\b(?!-)",
        "an article that does not fit"),
    (r"\bthere is (?:no )?(?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){0,3}(?:opacities|effusions|nodules|"
        r"fractures|infiltrates|masses|lesions|granulomas|cavities|pneumothoraces|nodes|clips|wires)\b(?! (?:and|or)"
        r")", "'is' before several"),
    (r"\bthere are an?\b(?! (?:few|number|couple|total|variety))", "'are' before one"),
    (r"\bthere are (?:no )?(?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){0,3}(?:opacity|effusion|nodule|fracture|"
        r"infiltrate|mass|lesion|granuloma|cavity|edema|pneumonia|cardiomegaly|pneumothorax|atelectasis|emphysema|"
        r"consolidation)\b(?! (?:and|or|nor)|,)(?=[ .]|$)", "'are' before one"),
    (r"(?:^|[.;,] )(?:no|a|an) (?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){0,3}(?:effusion|nodule|fracture|"
        r"infiltrate|mass|lesion|granuloma|cavity|edema|pneumonia|cardiomegaly|pneumothorax|atelectasis|emphysema|"
        r"consolidation|opacity) (?:are|were|have)\b", "one with 'are'"),
    (r"(?:^|[.;,] )no (?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){0,3}(?:effusions|nodules|fractures|"
        r"infiltrates|masses|lesions|granulomas|opacities) (?:is|was|has)\b", "several with 'is'"),
    (r"\bno (?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){1,4}(?:occup\w+|scattered|has (?:increased|decreased|"
        r"worsened|improved|developed|progressed)|have (?:increased|decreased|worsened)|persists?|with "
        r"(?:associated|shift)|measur\w+|unchanged|stable|worse|increasing)\b", "'no' with what only a thing can do"),
    (rf"\b((?:{_SIZES} +)?{_SIDES}) and \1\b", "a side twice"),
    (r"\b[A-Z]{4,}:\s*$", "a header without words"),
    (r"\*\*[A-Za-z ]+:(?=\w)", "a mark lost"),
    (r"\bnot (?:\w+ly )?\w+ed with\b", "something said of what is denied"),
    (r"\bnot [\w-]+ but (?:\w+ly )?(?:stable|unchanged|\w+ing|\w+ed)\b", "a course of what is denied"),
    (r"\bno (?:stable|unchanged|healed|healing|improving|worsening|persistent|known|multiple|bilateral)\b|\bno [\w "
        r"]{1,40} bilaterally\b", "'no' before what is there"),
    (r"\bno (?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){1,4}(?:in|of|on|at|over) both\b", "'no' with 'both'"),
    (r"\b(?:yes, (?:there (?:is|are) )?no|no, (?:there (?:is|are) )?(?:a|an|some)|not not|no longer no)\b",
        "yes and no"),
    (rf"\b(?:an?|the)\s+(?:(?!(?:{_NOUNS}|is|are|was|were|has|have|shows?|heart|lungs?)\b)"
        rf"[\w-]+,?\s+){{1,6}}(?<=,\s)no\b(?!,)", "'no' within a noun phrase"),
    (rf"(?:^|[.;] )(?:there (?:is|are) )?no (?:(?! but )[^.;,]){{1,40}} and (?:an?|{_SIZES}|{_SIDES})\b",
        "a denial that runs on"),
    (rf"\bno (?:(?!but\b)[\w-]+ ){{1,8}}and (?!no\b|there\b|without\b|an?\b|{_SIZES}\b|{_SIDES}\b|"
        r"(?:[\w-]+ ){0,5}(?:is|are|was|were|has|have|shows?|appears?|remains?|seems?)\b)", "a denial that runs on"),
    (r"\bno\b[^.;]*, (?:which|that|may|might|could|suggesting|indicating|consistent|compatible|likely|probably|"
        r"possibly|suspicious|concerning|worrisome|in keeping|as in)\b|\bno (?:[\w-]+ ){1,8}with (?!respect)",
        "something said of what is denied"),
    (rf"\bno\b[^.;,]*, (?:\w+ly )?(?:{_SIZES}|{_SIDES})\s*(?:[.,;]|in (?:size|extent)\b|larger|greater)",
        "a size without a noun"),
    (r"\bno\b[^.;,]*, (?:\w+ly |now |again |has |have )?(?:reduced|increas\w+|decreas\w+|unchanged|stable|improv\w+|"
        r"worse\w*|larger|smaller|better|similar|compared|since|persist\w+|resol\w+)\b", "a course of what is denied"),
    (r"\bno [^.;,]*,? (?:however|although|though|but),? (?:there (?:is|are) )?no\b", "'but' between two denials"),
    (r"\bno [^.;,]* with no\b", "'no' with 'no'"),
    (r"(?:^|[.;] )there (?!is\b|are\b|was\b|were\b|has\b|have\b|had\b|appears?\b|may\b|might\b|remains?\b|seems?\b|"
        r"can\b|could\b|isn|aren|wasn|weren|also\b|continues?\b|persists?\b|exists?\b)\w+", "'there' without a verb"),
    (rf"(?<!there )(?<!there's )\b(?:is|are|was|were) (?:(?:an?|{_SIZES}|{_SIDES}|{_ZONES}|lobe|pleural) "
        rf")*{_NOUNS}\b", "a thing that is a finding"),
    (rf"(?<!there )(?<!there's )\b(?:is|are|was|were) no (?:[\w-]+ ){{0,3}}{_NOUNS}\b", "a thing that is no finding"),
    (r"\b(?:consistent|compatible|keeping) with no\b", "a sign of what is denied"),
    (r"(?:^|(?<=[.;] ))(?![^.;]*\b(?:no|neither|not|without|\w+n't|if)\b)[^.;]*\b(?:on|in|at|of) either\b",
        "'either' of what is there"),
    (r"\b(?:of|under|over|above|below|along|behind) the (?:right|left|upper|lower)\s*(?:is\b|are\b|of\b|in\b|"
        r"under\b|over\b|[.;,]|$)", "a side without a part"),
    (rf"\b(?:straight|normal|intact|unremarkable)\b[^.;,]* with (?:an? )?(?:{_SIZES} )?{_NOUNS}|"
        r"\b(?:straight|normal|intact|unremarkable) with (?!no\b|normal\b)", "normal, and yet not"),
    (r"\b(?:under|beneath|below) (?:the|both) [\w ]{1,40} (?:under|beneath|below) (?:the|both)\b", "a place twice"),
    (r"\b((?:right|left) (?:base|apex|lung|hilum|hemithorax))\b[^.;,]* (?:in|at|on) the \1\b|\b(right|left) (?:base|"
        r"apex|lung) shows (?:an? )?\2\b", "a place twice"),
    (r"\ban? (?:small |large )?(?:free |surgical |subcutaneous )?(?:air|gas|fluid)\b", "an article that does not fit"),
    (r"\bor no\b|\b(?:hilar|mediastinal|pleural|apical|basal|upper|lower|right|left|bilateral|axillary|pulmonary) "
        r"and no\b", "'no' within a noun phrase"),
    (r"\bno [^.;,]*, (?:non-?displaced|displaced|healed|healing|calcified|loculated|old|chronic|acute)\s*[.;,]|\bno "
        r"[^.;]* as before\b", "something said of what is denied"),
    (r"(?:^|[.;,] )no (?:[\w-]+ ){0,3}[\w-]*(?:[b-df-hj-rt-z]|(?<!a)e) (?:are|were|have)\b", "one with 'are'"),
    (r"\bnot [^.;,]*, (?:raising|suggest\w+|indicat\w+|consistent|compatible|concerning|which|likely|worrisome|"
        r"reflecting)|\band no (?:\w+ly )?enlarged heart\b", "something said of what is denied"),
    (r"\b(?:no|not) [^.;,]*, and [^.;,]*\b(?:considered|suspected|suggest\w*|concerning|likely)\b",
        "something said of what is denied"),
    (r"\bno (?:mild|small|minimal|trace|tiny|slight)\b", "a size of what is denied"),
    (r"\b(?:large|small) (?:pulmonary |interstitial |vascular )*(?:o?edema|congestion|emphysema|cardiomegaly|"
        r"scoliosis)\b", "a size that is a degree"),
    (r"\b(?:widened|enlarged|increased) (?:width|size|calibre)\b|\bnot non-?\w+|\bthere (?:is|are) not (?!any\b|"
        r"an?\b|enough\b)", "what was said of what was normal"),
    (r"\bin the (?:right|left)\s*(?:[.;,]|$)", "a side without a part"),
    (r"\bthe (right|left)\b[^.;]*\b(?:whereas|while|but)\b[^.;]*\bthe \1\b", "one side against itself"),
    (r"\bthe \d+\s*(?:[.;,]|$)", "a number without a noun"),
    (r"(?:^|(?<=[.;] ))(?![^.;]*\b(?:no|neither|not|without|\w+n't)\b)[^.;]*\bnor\b", "'nor' alone"),
    (r"\bno (?:[\w-]+ ){0,3}\w+(?:[^e]ar|[^nr]al|ary)\s*[.,;]", "an adjective without a noun"),
    (r"\b(?:lungs?|side|base|apex) (?:a |an )?(?:small|large|mild|moderate|marked|tiny|trace) ",
        "a phrase without a link"),
    (r"\b(?:is|are) (?:show|has|have|is|are)\b", "two verbs"),
    (r"(?<!there )\b(?:a|an) (?:(?!(?:of|with|in|and|or|few|at|on) )[\w-]+ ){0,4}(?:of [\w ]{1,24} )?are\b",
        "one with 'are'"),
    (r"\b(?:opacities|effusions|nodules|fractures|infiltrates|masses|granulomas|consolidations) (?:is|was|has)\b",
        "several with 'is'"),
    (r"(?-i:(?:^|[.!?] )[a-z])", "a sentence without a capital"),
    (r"\bbut there\b[^.;]*\bbut\b|\bbut\b[^.;]*\bbut there\b", "'but' and 'but'"),
    (r"\bleft middle lobe\b", "a lobe that there is not"),
    (r"\b(\w{5,}): (?:an? )?(?:\w+ )?\1\b", "a word twice"),
    (r"\b(?:lies?|seems?|appears?) (?:widened|not)\b(?! \w+ed\b)|\blies (?:\w+ly )?\w+ed\b", "a verb that misfits"),
    (r"\bno\b[^.;]*, (?:\d|the (?:larg|small))", "a size of what is denied"),
    (r"\b(?:two|three|four|five|six|seven|eight|nine|ten|[2-9]) (?:[\w-]+ ){0,2}(?:tube|line|lead|nodule|lesion|rib|"
     r"fracture|kidney|mass|stone|cyst|clip|drain|catheter|lung|lobe|wire|opacity)\b(?! \w)", "one of several"),
    (r"\b(?:i|we|they) (?:do|did) (?!not\b|see\b|find\b|have\b|appear\b|show\b|so\b)\w+", "a verb lost"),
    (r"  +\S", "a gap"),
)  # fmt: skip
_COMPILED = [(re.compile(pattern, re.I), why) for pattern, why in _FAULTS]
_NO = re.compile(r"(\S+)\s+no\b(?!\s*[.,]?\s*\d)", re.I)


def faults(text: str) -> list[str]:
    """Every fault found, each with the words around it."""
    found = [f"{why}: {m.group().strip()!r}" for pattern, why in _COMPILED for m in pattern.finditer(text)]
    allowed = _BEFORE_NO.split()
    for m in _NO.finditer(text):
        word = m[1].lower()
        if word[-1] not in ".,;:(*?!-\u2013\u2014/\"'" and word not in allowed and not word.endswith("ing"):
            found.append(f"a word before 'no': {m.group()!r}")
    return found


def broken(text: str, before: str = "") -> str | None:
    """The first fault that `text` has more often than `before`, the text that was edited."""
    had = Counter(fault.split(":")[0] for fault in faults(before))
    for fault in faults(text):
        had[fault.split(":")[0]] -= 1
        if had[fault.split(":")[0]] < 0:
            return fault
    return None
