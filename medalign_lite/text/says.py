"""What an answer says to a closed question: yes, no or neither; seen through its wrappers.

Neither is an answer of its own: a refusal, an echo, a question, "cannot be determined". Who does not answer is not
taken to say no. A leaning ("probably not") counts as what it leans to; a yes that the next sentence takes back is
neither.
"""

import json
import re

from medalign_lite.text.answer_values import find_values
from medalign_lite.text.lexicon import DEVICES
from medalign_lite.text.reports import read_report

_HIDDEN = re.compile(r"<think>.*?(?:</think>|$)|<\|[^|>]*\|>|```\w*|\\boxed\{([^}]*)\}|</?\w+[^<>]*>", re.S | re.I)
_LEAD_IN = re.compile(
    r"(?:(?:assistant|response|output|prediction|a|reply)\s*:|(?:the |my )?(?:final |correct |short |best )?(?:answer|"
    r"choice|option|response)(?: to (?:the|this|your) question)?\s*(?:(?:is|would be|should be|must be|"
    r"will be)\s*[:-]?|[:=\u2014-]+)|(?:so|thus|hence|therefore|sure|well|okay|ok|certainly|of course)[,.!:]|"
    r"(?:based on|looking at|from|according to|in) (?:the|this) (?:\w+ )?(?:image|picture|scan|film|radiograph|"
    r"x-ray)(?: provided)?,|i (?:would |do |can )?(?:say|think|believe|answer|conclude)(?: that| with)?(?: it is|"
    r" it's)?(?= (?:yes|no)\b|:)|that(?:'s| is)? a(?= (?:yes|no)\b)|it(?:'s| is) a(?= (?:yes|no)\b)|"
    r"(?:final )?(?:answer|verdict|conclusion)\s*[:-])\s*", re.I)
_MARKS = " \t\r\n*_#>`\"'\u201c\u201d\u2018\u2019[]{}():;,."
_SEE = r"see(?! (?:any|an?|evidence|signs?|one|obvious|definite)\b(?! image| picture))"  # "I see no image": a refusal
REFUSES = re.compile(
    r"\b(?:(?:can ?no|ca n|can'|could ?n'?|wo n'?|won'|unable|not able|am not|do ?n'?|does ?n'?)t?\s*(?:to |"
    r"possible to )?(?:\w+ )?(?:" + _SEE + r"|view|access|open|answer|tell|say|determine|judge|assess|know|provide|"
    r"interpret|analy[sz]e|be (?:determined|sure|certain|said|assessed|judged|answered|told)|decide|make out|"
    r"diagnose|comment|help|assist)|(?:image|picture|photo|scan|film)s? (?:is|are|was|were) (?:not|n't) "
    r"(?:available|provided|attached|visible|shown|given|included|readable|clear|diagnostic)|no (?:image|picture|"
    r"photo|idea|answer|conclusion|comment|opinion)|film is not available|(?:did|have|has) not (?:receive|reach)\w*|"
    r"(?:not|isn't|unclear) (?:sure|certain|clear|known|determinable|possible to)|(?:hard|difficult|impossible) to "
    r"(?:say|tell|determine|judge|know)|sorry|apolog\w+|as an ai|you (?:want|wish|ask|would like)|the question "
    r"(?:is|asks)|consult (?:a|your|with)|undetermined|indeterminate|inconclusive|unknown|uncertain|equivocal|"
    r"unclear|ask your|(?:may|might|could) or (?:may|might|could) not|(?:can(?:not|'t)|cannot be) (?:exclude|rule "
    r"out|excluded|ruled out)|not (?:be )?excluded|possibl[ey]|perhaps|maybe|might be|may be|could be|maybe not|"
    r"difficult question|need(?:s|ed)? (?:more|further)|insufficient|it depends|n/a|either|both possib)\b", re.I)
_CANNOT = re.compile(
    r"\b(?:i|we|it|this|that) (?:cannot|can't|can not|could not|couldn't|am unable to|am not able to|do not|don't) "
    r"(?:\w+ )?(?:be )?(?:" + _SEE + r"|view|access|answer|tell|say|determined?|judged?|assess\w*|know|provide|"
    r"interpret|diagnose|help)\b|\bsorry\b|\bas an ai\b|\b(?:cannot|can't) be (?:determined|answered|assessed|said|"
    r"told)\b|\bno (?:image|picture) (?:was|is|has)\b", re.I)
_YES = r"(?:yes|yeah|yep|yup|affirmative|correct|true|right|indeed|absolutely|definitely|certainly|sure)"
_NO = r"(?:no|nope|nah|negative|incorrect|false|wrong|never)"
_LEAN = (
    r"(?:(?:most |very |quite |almost |rather )?(?:probably|likely|certainly|definitely|clearly|surely|presumably|"
    r"apparently|i (?:think|believe|suppose|guess))[, ]+)*"
)
_FIRST = re.compile(
    rf"{_LEAN}(?:(?P<yes>{_YES})|(?P<no>{_NO}|not|none|neither|unlikely|not really|not at all))(?![\w-])", re.I)
_NOT_AN_ANSWER = re.compile(
    r"(?:no doubt|not only|not just|without (?:a )?doubt|no question)\b,?(?: about it,?)?\s*", re.I)
_FOLLOWED = re.compile(r"(?:yes|no)\s*(?:/|or|and)\s*(?:yes|no)\b|(?:yes\s+no|no\s+yes)\b", re.I)
_SO = re.compile(r"(?:it (?:appears|seems|looks)|i (?:think|believe|suppose|guess|would say)|probably) so\b", re.I)
_NOT_SO = re.compile(
    r"i doubt (?:it|that|so)\b|there (?:does not|doesn't|do not|don't) (?:appear|seem) to be (?:one|any)\b|i (?:do "
    r"not|don't) see (?:one|any)(?=\W|$)(?! \w)|i (?:do not|don't) (?:think|believe) so\b|it (?:does not|doesn't) "
    r"(?:appear|seem|look) so\b", re.I)
ECHO = re.compile(
    r"(?:is|are|was|were|does|do|did|can|could|has|have|what|which|where|how|why|who|should|would|will)\b", re.I)
_DENIES = re.compile(
    r"\b(?:no|not|none|nothing|nowhere|neither|nor|never|without|absent|absence|free of|free from|lacks?|\w+n't|cannot|"
    r"rather than|instead of|negative|excluded|ruled out|resolved|removed|resected|fails|devoid|unlikely|fails to)\b",
    re.I,
)
_ASKS_ABSENCE = re.compile(
    r"\b(?:absent|absence|free of|free from|without|no|not|negative|lack\w*|devoid|rule[d]? "
    r"out|missing|removed|resected|never|\w+n't)\b", re.I)
_NORMAL = re.compile(
    r"\b(?:normal|unremarkable|healthy|clear|intact|within normal limits|symmetric\w*|preserved|"
    r"well[- ]expanded|fully expanded|(?<!the )midline(?! shift)|central(?! (?:line|venous|cath\w+)))\b", re.I)
_ABNORMAL = re.compile(r"\b(?:abnormal\w*|diseases?d?|patholog\w*|lesions?|unhealthy|wrong|problems?|disorder)\b", re.I)
_BRIEF = re.compile(
    r"(?:it|they|he|she|there|this|that|these|those|i|we|you)(?: \w+)? (?:is|are|was|were|does|do|did|can|could|has|"
    r"have|will|would)(?P<not> not|n't)?(?: (?:so|indeed|true|there|seen|present|one))?\W*(?:,.*)?", re.I)
_STOP = frozenset(
    "a an the is are was were be been does do did has have had this that these those there here it its in on at of to "
    "and or for with by from image picture scan film radiograph x-ray view show shows showing shown see seen visible "
    "evidence any patient some evident present patient's i can you what which where who how yes no not as part side "
    "which's located".split()
)
_SAME = (  # words that mean one thing, read alike in question and answer
    (re.compile(r"\bspleno-?megaly\b", re.I), "enlarged spleen"),
    (re.compile(r"\bhepato-?megaly\b", re.I), "enlarged liver"),
    (re.compile(r"\b(?:cerebral |brain )?infarct(?:s|ions?)?\b|\bcva\b", re.I), "stroke"),
    (re.compile(r"\benhanc(?:es|ing|ed)\b", re.I), "enhancement"),
)
_IS = re.compile(r"\b(?:is|are|looks?|appears?|seems?) (?!noted|seen|present|visible|identified|observed)")
_NON = re.compile(r"\bnon-?([a-z]{5,})", re.I)  # "nonobstructive" denies an obstruction that was asked for
_FREE_OF = re.compile(r"\b(?:(?:free|clear|devoid) (?:of|from)|without|absence of|lack of)\s+(?P<what>[^?]+)", re.I)
_DENIED_TAIL = re.compile(r"\b(?:without|fails? to|does not|doesn't|lacks?)\s+([^,.;]+)", re.I)
_ANY_DEVICE = re.compile(r"\b(?:devices?|hardware)\b", re.I)
_CJK = re.compile(r"[\u4e00-\u9fff]")
_ZH_NEITHER = re.compile(
    "无法|不能确定|不确定|不清楚|不知道|看不清|难以|可能|也许|或许|抱歉|对不起|没有图像|没有提供|请|[?？吗呢]"
)
_ZH_NO = re.compile("不是|没有|沒有|不存在|不包含|不能|不可以|不会|不正常|不健康|未见|未发现|无|否|不|没|非|错")
_ZH_YES = re.compile("是|有|存在|包含|能|可以|会|正常|健康|可见|对|在|正确|肯定|显示")


def unwrap(text: str) -> str:
    """The answer itself: without thoughts, tags, marks, JSON around it and "The final answer is"."""
    text = re.sub(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]", "", text)  # marks that nobody sees
    text = _HIDDEN.sub(lambda m: f" {m[1] or ''} ", text).strip()
    if text.startswith("{"):
        try:
            found = json.loads(text)
            keys = ("answer", "response", "final_answer", "choice")
            text = str(next((found[key] for key in found if key.lower() in keys), ""))
        except (ValueError, AttributeError, RecursionError):
            pass
    if len(text) > 400:  # the last line of a long reasoning is its answer
        last = re.search(r"(?:final answer|the answer is|answer)\s*[:=-]?\s*([^\n]{1,300})\s*$", text[-400:], re.I)
        text = last[1] if last else text
    text = re.sub(r"[*_`#]{1,3}|^\s*[-\u2022]\s+", "", text).replace("\u2019", "'")
    for _ in range(4):
        text = text.strip(_MARKS.replace("(", "").replace(")", "").replace("[", "").replace(".", "")).lstrip(". ")
        found = _LEAD_IN.match(text)
        if not found or found.end() == len(text):
            break
        text = text[found.end() :]
    return text.strip()


def yes_no(text: str, question: str = "") -> bool | None:
    """Yes, no or (None) neither. The question tells what a sentence without the word says to it."""
    question = _alike(question) if re.search(r"\w", question) else ""
    said = _alike(_without(unwrap(text), question)).lstrip("([{")
    said = _NON.sub(lambda m: f"no {m[1]}" if _content(m[1]) & _content(question) else m[0], said)
    said = re.sub(r"\b(?:there(?:'s| is) )?no (?:question|doubt) (?:that|but)\s+", "", said, flags=re.I)
    if not re.search(r"\w", said):
        return None
    if _CJK.search(said):
        return _chinese(said, question)
    if _FOLLOWED.match(said) or len({w.lower() for w in re.findall(r"answer\s*:\s*(yes|no)\b", text, re.I)}) > 1:
        return None
    if _SO.match(said) or _NOT_AN_ANSWER.match(said):
        return True
    if _NOT_SO.match(said):
        return False
    first = _FIRST.match(said)
    if first and first["no"] and re.match(r"no(?:t|ne|ne of| one)?\b", first["no"], re.I) and REFUSES.match(said):
        return None
    if first and (first["yes"] or first["no"]):
        word, rest = bool(first["yes"]), said[first.end() :].strip(" ,.:;!-\u2014")
        plain = re.match(r"(?:yes|no)\b", first["yes"] or first["no"], re.I)
        behind = re.match(r"\W*(?:yes|no)(?=\W*$|\s*[.,!])", said[first.end() :], re.I)
        if re.match(r"(?:no|neither|not)$", first["no"] or "", re.I) and re.match(
            r" \w", said[first.end() :]
        ):  # "no nodules": a determiner
            return next(found for found in (_statement(said, question), False) if found is not None)
        loose = re.match(r"(?:right|true|correct|sure)\b", first["yes"] or "", re.I) and rest
        if not plain and loose and not re.match(r"[\s]*[,.!;:]", said[first.end() :]):
            first = None
        elif behind and plain:
            other = behind.group().lower().endswith("yes")
            return word if other is word else None
        else:
            return _unless_taken_back(word, rest, question)
    if (
        said.rstrip(" \"'").endswith("?")
        or (question and _plain(said) == _plain(question))
        or (ECHO.match(said) and not re.search(r"[.,;]", said.rstrip(".")))
    ):
        return None
    if REFUSES.search(said):
        return None
    return _statement(said, question)


def _alike(text: str) -> str:
    for pattern, word in _SAME:
        text = pattern.sub(word, text)
    return text


def is_no_answer(text: str, question: str = "") -> bool:
    """A refusal, an echo of the question, another question, or nothing."""
    said = unwrap(text)
    left = _without(said, question) if len(said) <= len(question) + 24 else said
    refused = bool(REFUSES.match(said) or _CANNOT.search(said))
    return refused or not re.search(r"\w", left) or said.rstrip(" \"'").endswith("?")


def _without(said: str, question: str) -> str:
    """What is left of an answer that repeats the question first."""
    words = re.findall(r"\w+", question)
    found = re.search(r"\W+".join(map(re.escape, words)), said, re.I) if len(words) > 2 else None
    if not found or not re.fullmatch(r"\W*(?:q|question)?\W*", said[: found.start()], re.I):
        return said
    rest = unwrap(re.sub(r"^\W*(?:a|answer)\s*:\s*", "", said[found.end() :], flags=re.I))
    return rest if re.search(r"\w", rest) and rest.lower() not in ("a", "answer") else ""


def _chinese(said: str, question: str) -> bool | None:
    for word, other in (("异常", "正常"), ("正常", "异常")):
        if said.startswith(word) and (word in question) != (other in question):
            return word in question
    if _ZH_NEITHER.search(said) or re.search("是否|有没有|是不是", said.replace("答案是否", "答案否")):
        return None
    first = re.split("[,，。;；.、 ]", said.replace("答案是否", "否").removeprefix("答案是").removeprefix("答案"))[0]
    if _ZH_NO.search(first):
        return False
    return True if _ZH_YES.search(first) else None


def _unless_taken_back(word: bool, rest: str, question: str) -> bool | None:
    """The leading yes or no, unless what follows says the other of the same thing."""
    if not rest:
        return word
    if re.match(r"(?:but|wait|actually|or|however)\b", rest, re.I) and re.search(
        rf"\b(?:{'no' if word else 'yes'})\b", rest[:40], re.I
    ):
        return None
    again = re.search(r"(?:^|[.;] )(?:no|(yes))[,.]", rest, re.I)
    if again and bool(re.search(r"(?:^|[.;] )yes[,.]", rest, re.I)) is not word:
        return None
    if re.search(r"\b(?:i am not sure|not certain|cannot be determined|hard to say|can(?:not|'t) tell)\b", rest, re.I):
        return None
    first = re.split(r"(?<=[.;!?])\s", rest)[0]
    said = _statement(first, question) if question and _meets(first, question) else None
    subject = _content(_NORMAL.sub("", _ABNORMAL.sub("", question)))
    if said is None and subject != _content(question) and subject & _content(first):  # "Is it normal?" "Yes, enlarged."
        said = _by_normal(first, question)
    return word if said is None or said is word else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _content(text: str) -> set[str]:
    return {re.sub(r"(?:es|s|ed|ic|ous)$", "", w)[:7] for w in re.findall(r"[a-z][\w'-]+", text.lower())} - {
        w[:7] for w in _STOP
    }


def _meets(text: str, question: str) -> bool:
    """Whether a sentence speaks of what was asked, in the question's own words."""
    asked = {c.finding for c in read_report(question.rstrip("?") + ".")} - {"abnormality"}
    said = {c.finding for c in read_report(text)}
    return bool(asked & said) or (bool(_content(question)) and _content(question) <= _content(text))


def denies_what_is_asked(said: str, question: str) -> bool:
    """One clause that denies all that the question asks about, and maybe more closely: "no effusion on the left"."""
    rest = re.sub(r"^.{0,30}?\bno[,.] ", "", unwrap(said), flags=re.I)
    alone = not re.search(r"[,;]|\b(?:and|but|which|with)\b|\.\s*\w", rest.strip(" .")) and bool(_DENIES.search(rest))
    return alone and bool(_content(question)) and _content(question) <= _content(rest)


def _statement(said: str, question: str) -> bool | None:
    """What a sentence without yes or no says: by its findings, its values, normal or abnormal, else by denial."""
    text = said.rstrip(".!") + "."
    brief = _BRIEF.fullmatch(said.strip(" .!"))
    if brief and len(said.split(",")[0].split()) <= 5:
        return not brief["not"]
    if re.match(r"(?:there (?:is|are) none|none|i see (?:nothing|none))\b", said, re.I):
        return False
    word = re.search(r"\b(?:absent|false|incorrect|negative|true|correct|present|positive)\b", said, re.I)
    if _by_values(text, question) is False:
        return False
    if not question and len({c.polarity for c in read_report(text)}) > 1:
        return None
    for judge in (_by_findings, _by_normal, _by_values):
        found = judge(text, question)
        if found is not None:
            return found
    denied = bool(_DENIES.search(said))
    if word and len(said.split()) <= 3:
        return (word.group().lower() in ("true", "correct", "present", "positive")) is not bool(
            re.search(r"\bnot\b", said, re.I)
        )
    asks_absence = bool(_ASKS_ABSENCE.search(question))
    free_of = _FREE_OF.search(question)
    if free_of and not denied and _content(free_of["what"]) & _content(said):
        return False
    if denied:
        return asks_absence if not question or _content(said) & _content(question) or len(said.split()) < 6 else None
    if question and len(_content(said) & _content(question)) >= max(1, len(_content(question)) // 2):
        is_what = _IS.search(said)
        if is_what and not _content(said[is_what.end() :]) & _content(question):  # "Is it straight?" "It is bent."
            return None
        return not asks_absence
    return None


def _by_findings(text: str, question: str) -> bool | None:
    claims = read_report(text)
    if not question:
        found = {c.polarity for c in claims}
        return {frozenset({"present"}): True, frozenset({"absent"}): False}.get(frozenset(found))
    asked = {
        c.finding: c.polarity == "absent"
        for c in read_report(re.sub(r"^\s*(?:is|are|does|do|can)\b", "", question.rstrip("? "), flags=re.I) + ".")
    }
    same = {
        (c.polarity == "present") is not (asked[c.finding] or bool(_ASKS_ABSENCE.search(question)))
        for c in claims
        if c.finding in asked and c.polarity != "uncertain"
    }
    if _ANY_DEVICE.search(question) and any(c.finding in DEVICES and c.polarity == "present" for c in claims):
        return True
    if same == {True} and _denies_more(text, question):
        return False
    if len(same) == 1 and not _place_differs(text, question, same):
        return same.pop()
    if len(same) == 1 and same == {True}:
        return False
    return None


def _place_differs(text: str, question: str, same: set[bool]) -> bool:
    """A side, zone or size was asked for, and the answer gives another."""
    asked, said = (
        {(v.name, v.value) for v in find_values(t) if v.name in ("side", "zone", "size")} for t in (question, text)
    )
    names = {n for n, _ in asked} & {n for n, _ in said}
    return same == {True} and any(
        {v for n, v in asked if n == name}.isdisjoint({v for n, v in said if n == name}) for name in names
    )


def _by_values(text: str, question: str) -> bool | None:
    kinds = ("modality", "sequence", "plane", "side", "zone", "organ", "region", "size")
    asked = [v for v in find_values(question) if v.name in kinds]
    said = [(v.name, v.value, denied(text, v.start)) for v in find_values(text)]
    for v in asked:
        same = [denied for name, value, denied in said if (name, value) == (v.name, v.value)]
        others = [denied for name, value, denied in said if name == v.name and value != v.value]
        if same and v.name not in ("organ", "region"):
            return not all(same) and not _denies_more(text, question)
        if others and not same and not all(others) and v.name not in ("organ", "region"):
            return False
    return None


def _denies_more(text: str, question: str) -> bool:
    """What the question says beside its findings and values is denied: "fails to reach the stomach"."""
    tail = _DENIED_TAIL.search(text)
    values = [text[v.start : v.end] for v in find_values(text) if v.name in ("side", "zone", "size")]
    return bool(tail) and bool((_content(tail[1]) & _content(question)) - _content(" ".join(values)))


def denied(text: str, at: int) -> bool:
    """Whether a word directly in front of a place denies it."""
    return bool(re.search(r"\b(?:not|no|rather than|instead of|isn't|neither|nor)(?: \w+){0,3} ?$", text[:at], re.I))


def _by_normal(text: str, question: str) -> bool | None:
    normal, abnormal = _NORMAL.search(question), _ABNORMAL.search(question)
    if not normal and not abnormal:
        plainly = _NORMAL.search(text) and not _DENIES.search(text) and not _ASKS_ABSENCE.search(question)
        return False if plainly and _content(text) & _content(question) else None
    present = any(c.polarity == "present" for c in read_report(text))
    says_normal = _NORMAL.search(text) and not re.search(
        r"\b(?:not|n't|isn't|no longer|ab)\s*(?:\w+ )?(?:normal|clear|healthy|intact|unremarkable|midline)", text, re.I
    )
    says_not = (
        present
        or _ABNORMAL.search(text)
        and not _DENIES.search(text)
        or re.search(r"\b(?:not|isn't|aren't)\b[^.]*\b(?:normal|clear|healthy|intact|midline)", text, re.I)
    )
    if says_normal and not says_not:
        return bool(normal)
    if says_not and not says_normal:
        return bool(abnormal) and not normal
    if _DENIES.search(text) and (_ABNORMAL.search(text) or any(c.polarity == "absent" for c in read_report(text))):
        return bool(normal)
    return None
