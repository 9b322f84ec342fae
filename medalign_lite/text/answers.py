"""Short answers against a gold answer: the words that differ, exchanged; nothing where the two may mean the same."""

import re
from collections.abc import Sequence

import numpy as np

from medalign_lite.text.answer_values import NUMBERS, by_name, close_sizes, find_values, other_values
from medalign_lite.text.claims import Attribute
from medalign_lite.text.facts import DEGREES
from medalign_lite.text.opposites import apart
from medalign_lite.text.reports import read_report
from medalign_lite.text.says import ECHO, REFUSES, denied, unwrap, yes_no
from medalign_lite.text.spans import NoEdit

WHOLE_ANSWER_WORDS = 8  # up to this many words an answer may be exchanged as a whole
_FILLERS = frozenset(
    "a an the is are it its there this in on at of to side sided zone and yes no not scan image picture".split()
)
_DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)}
_SHORT = {"rul": "right upper lobe", "rml": "right middle lobe", "rll": "right lower lobe", "lul": "left upper lobe",
          "lll": "left lower lobe"}  # fmt: skip
_VAGUE = re.compile(r"\W*(?:an? |the )?(?:abnormal(?:ity)?|disease|patholog(?:y|ical)|lesions?|unhealthy)\W*", re.I)
_NAMES_NONE = re.compile(r"\b(?:normal|healthy|no|not|none|unremarkable|clear)\b", re.I)
_BARE_YES_NO = re.compile(r"\W*(yes|no)\W*", re.I)
_AN = re.compile(r"[aeiou]|mri?\b|x-? ?ray", re.I)  # what is spoken with a vowel first


def normalise(text: str) -> str:
    """What decides whether two answers are the same: lower-case words without articles, hyphens or punctuation."""
    words = re.findall(r"\w+", re.sub(r"(?<=\w)-(?=\w)", "", text))
    words = [w for i, w in enumerate(words) if w.casefold() not in ("an", "the") and w != "a" and (w != "A" or i)]
    return " ".join(_DIGITS.get(w) or _SHORT.get(w, w) for w in map(str.casefold, words))  # but "panel A"


def same_answer(a: str, b: str) -> bool:
    """The same words, or the same values and nothing else beside them: "CT" and "computed tomography"."""
    if normalise(a) == normalise(b):
        return True
    said, right = ({(v.name, v.value) for v in find_values(text)} for text in (a, b))
    denies = [bool(set(normalise(text).split()) & {"no", "not", "none", "without"}) for text in (a, b)]
    return bool(said) and said == right and content(a) == content(b) and denies[0] == denies[1]


def corrections(answer: str, gold: str, question: str = "") -> list[str] | None:
    """`answer` with only what differs from `gold` exchanged, or as a whole if it is short; None where the two say the
    same. Raises NoEdit where it cannot be told whether they differ."""
    if not normalise(answer) or not normalise(gold):
        raise NoEdit("an empty answer")
    if same_answer(answer, gold):
        return None
    if _VAGUE.fullmatch(gold) and not _NAMES_NONE.search(answer):  # says no more than that something is there
        raise NoEdit("the answer may say the same as the gold answer in other words")
    if _BARE_YES_NO.fullmatch(gold):
        return _correct_yes_no(answer, gold, question)
    said, right, found = find_values(answer), find_values(gold), []
    within = {r.name for r in right} <= {s.name for s in said} and content(gold) <= content(answer)
    if right and _once(said) and _once(right) and within:
        changed = [(s, r) for s in said for r in right if s.name == r.name and s.value != r.value]
        if any(s.name == "measure" and close_sizes(s.value, r.value) for s, r in changed):
            raise NoEdit("a size that is close to the gold answer's")
        if not changed and len(said) == len(right):
            return None
        if not changed:
            raise NoEdit("the answer may say the same as the gold answer in other words")
        found = [_exchange(answer, gold, changed)]
    elif right and {r[:2] for r in right} <= {s[:2] for s in said}:  # "roughly 2 cm", "about 20 mm"
        raise NoEdit("the answer may say the same as the gold answer in other words")
    return [*found, *_whole(answer, gold)]


def falsify_answer(answer: str, rng: np.random.Generator, gold: str | None = None) -> str:
    """A right short answer made wrong: yes for no, or another of the values of `answer_values` in the place of one that
    the gold answer has too.

    Raises:
        NoEdit: where no false answer is known ("Pneumonia").
    """
    gold = answer if gold is None else gold
    if _BARE_YES_NO.fullmatch(answer):
        return _flip(answer)
    if _BARE_YES_NO.fullmatch(gold):  # only the polarity may change
        return next(iter(_whole(answer, _flip(gold))), answer)
    kept = {(v.name, v.value) for v in find_values(gold)}
    said = find_values(answer)
    alone = [a for a in said if sum(b.name == a.name for b in said) == 1 and (a.name, a.value) in kept]
    others = {a: other_values(a, answer[a.start : a.end], followed=bool(answer[a.end :].strip(" ."))) for a in alone}
    named = bool(content(gold))  # "brain oedema": the organ belongs to a name
    usable = [a for a in alone if others[a] and not (named and a.name in ("organ", "region"))]
    if not usable or set(normalise(answer).split()) & {"no", "not", "none", "without"}:  # "no kidney nodule" is true
        raise NoEdit("no false answer is known")
    a = usable[int(rng.integers(len(usable)))]
    value = others[a][int(rng.integers(len(others[a])))]
    return _put(answer, a, value)


def swap_option(answer: str, gold: str, options: Sequence[str]) -> str | None:
    """The answer with the option that it says exchanged for the gold one, by letter, text or both as it has them; None
    where it says that one. Raises NoEdit where it says none, or more than one."""
    said, right = option_of(answer, options), option_of(gold, options)
    if said is None or right is None:
        raise NoEdit("an answer that says none of the options")
    if said == right:
        return None
    return exchange_option(answer, said, right, options)


def exchange_option(answer: str, said: int, new: int, options: Sequence[str]) -> str:
    """Another option in the place of the one said."""
    letter = re.compile(rf"(?<!\w)({chr(65 + said)})(?!\w)(?=\s*(?:[).:\]\-*]|$))")
    text = re.search(rf"(?<!\w){re.escape(options[said])}(?!\w)", answer, re.I)
    if not text and not letter.search(answer):
        raise NoEdit("the option that is said cannot be exchanged")
    if text:
        answer = answer[: text.start()] + case_like_phrase(options[new], text.group()) + answer[text.end() :]
    return letter.sub(chr(65 + new), answer, count=1)


def case_like_phrase(new: str, like: str) -> str:
    """The phrase with a capital where the other had one; its own capitals stay."""
    if like[:1].isupper():
        return new[:1].upper() + new[1:]
    return new if new.isupper() else new[:1].lower() + new[1:] if not new[1:2].isupper() else new


def _correct_yes_no(answer: str, gold: str, question: str) -> list[str] | None:
    said = yes_no(answer, question)
    if said is None:
        raise NoEdit("a yes/no question answered without yes or no")
    if said == yes_no(gold):
        return None
    return [_flip(answer)] if _BARE_YES_NO.fullmatch(answer) else _whole(answer, gold)


def _flip(answer: str) -> str:
    word = _BARE_YES_NO.fullmatch(answer).span(1)
    new = "no" if answer[slice(*word)].lower() == "yes" else "yes"
    return answer[: word[0]] + case_like(new, answer[slice(*word)]) + answer[word[1] :]


def case_like(new: str, like: str) -> str:
    """`new` in the capitals of `like`."""
    if like.isupper() and len(like) > 1:
        return new.upper()
    return new.capitalize() if like[:1].isupper() else new.lower()


def like_word(value: str, said: str, name: str) -> str:
    """A side, zone or size in the form of the word it replaces: "mildly" makes "large" "markedly"."""
    if name == "size" and said.lower().endswith("ly"):
        value = DEGREES[value]
    elif name == "size" and said.lower() in ("mild", "marked", "severe"):
        value = {"small": "mild", "large": "marked"}.get(value, value)
    return case_like(value, said)


def _once(found: Sequence[Attribute]) -> bool:
    names = [a.name for a in found]
    return len(set(names)) == len(names)


def content(text: str) -> set[str]:
    """The words that carry an answer, without fillers and the words of its values."""
    for a in reversed(find_values(text)):
        text = text[: a.start] + text[a.end :]
    return set(normalise(text).split()) - _FILLERS


def _exchange(answer: str, gold: str, changed: Sequence[tuple[Attribute, Attribute]]) -> str:
    for said, right in sorted(changed, key=lambda pair: pair[0].start, reverse=True):
        answer = _put(answer, said, gold[right.start : right.end])
    return answer


def _put(answer: str, place: Attribute, new: str) -> str:
    """`new` in the place of a value, in the form of the word there, and the article in front of it that fits."""
    said = answer[place.start : place.end]
    if place.name in ("side", "zone", "size"):
        new = like_word(new, said, place.name)
    elif new.islower() or new.istitle():  # "MRI" and "X-ray" are written as they are
        first = not answer[: place.start].strip()
        new = case_like(new, said) if not said.isupper() else new.capitalize() if first else new
    front = answer[: place.start]
    article = re.search(r"\b(an?)(\s+)$", front, re.I)
    if article:
        fits = case_like("an" if _AN.match(new) else "a", article[1])
        front = front[: article.start()] + fits + article[2]
    return front + new + answer[place.end :]


def _whole(answer: str, gold: str) -> list[str]:
    """The gold answer in the place of a short one, with the answer's full stop and first capital."""
    words = [set(normalise(text).split()) for text in (answer, gold)]
    denies = [bool(w & {"no", "not", "none"}) for w in words]
    said, right = (w - _FILLERS for w in words)
    if said and right and (said <= right or right <= said) and denies[0] == denies[1]:
        raise NoEdit("the answer may say the same as the gold answer in other words")
    if max(len(answer.split()), len(gold.split())) > WHOLE_ANSWER_WORDS:
        return []
    new = " ".join(gold.split()).rstrip(".")
    new = new[0].upper() + new[1:] if answer.strip()[0].isupper() else new
    return [new + ("." if answer.rstrip().endswith(".") else "")]


def strict_match(candidate: str, gold: str) -> bool:
    """True if the gold answer's words stand in the candidate in this order, next to each other, and not negated."""
    said, wanted = words(candidate), words(gold)
    for start in range(len(said) - len(wanted) + 1):
        if wanted and said[start : start + len(wanted)] == wanted:
            return start == 0 or said[start - 1] not in ("not", "no", "without")
    return False


def words(text: str) -> list[str]:
    """Lower-case words and numbers of `text`, punctuation dropped."""
    return re.findall(r"\w+", text.lower())


# --- which of several options an answer says, by its letter, its text, or both ----------------------------------------
def option_of(text: str, options: Sequence[str]) -> int | None:
    """The place of the option that is said, A is 0; None for none, for two, and where letter and text do not agree."""
    said = unwrap(text)
    if not said or ECHO.match(said) and said.endswith("?"):
        return None
    by_text = _named(said, options)
    letters = _letters(said, options)
    if re.match(r"none of (?:the|these|them)\b|neither\b", said, re.I):
        return None
    if len(letters) > 1 or len(by_text) > 1:
        return None
    letter, name = next(iter(letters), None), next(iter(by_text), None)
    if letter is not None and name is not None and letter != name:
        return None
    if letter is None and name is not None and REFUSES.search(said):
        return None
    return name if letter is None else letter


def _letters(said: str, options: Sequence[str]) -> set[int]:
    last = chr(ord("A") + len(options) - 1)
    alone = re.fullmatch(rf"[\W_]*([A-{last}a-{last.lower()}])[\W_]*", said)
    if alone:
        return {ord(alone[1].upper()) - 65}
    stripped = said
    for option in sorted(options, key=len, reverse=True):  # "Vitamin D" is no letter
        stripped = re.sub(rf"(?<!\w){re.escape(option)}(?!\w)", " ", stripped, flags=re.I)
    marked = re.findall(
        rf"(?:^|[\s(\[])([A-{last}])(?=[).:\]])|(?:option|choice|answer|letter)\s+\(?([A-{last}])(?!\w)|"
        rf"^\(?([A-{last}])(?:\s*[-\u2013:,]|\s*$)|(?:^|[\s,(])([B-{last}])(?=$|[\s,)]|\.)",
        stripped,
    )
    pairs = re.findall(rf"(?<!\w)([A-{last}]) ?(?:and|or|,|/|&) ?([A-{last}])(?!\w)", stripped)
    return {ord(next(filter(None, found)).upper()) - 65 for found in marked} | {
        ord(c) - 65 for pair in pairs for c in pair
    }


def _named(said: str, options: Sequence[str]) -> set[int]:
    text = said
    found = {}
    for i in sorted(range(len(options)), key=lambda k: -len(options[k])):
        pattern = rf"(?<![\w-])(?:{re.escape(options[i])})(?:s|es)?(?![\w-])"
        for m in re.finditer(pattern, text, re.I):
            if not denied(text, m.start()):
                found.setdefault(i, m)
        text = re.sub(pattern, lambda m: " " * len(m.group()), text, flags=re.I)
    return set(found)


# --- whether two answers say the same ---------------------------------------------------------------------------------
PLAIN = frozenset(
    "a an the is are it its there this that in on at of to with and or but except for no not yes seen side size seem "
    "either positive present lung show ha i thi a "
    "answer final correct option choice response assistant image picture scan film patient body you we can see visible "
    "shown here do doe did contain have look appear evident noted identified observed indicate based provided given "
    "believe think be clearly about sign evidence which what where so therefore region area part located "
    "location".split()
)
_SEVERAL = re.compile(r"\b(?:multiple|several|few|many|some|numerous)\b", re.I)
_ORGAN_OF = {"lung": "lungs", "pulmonary": "lungs", "cardiac": "heart", "hepatic": "liver", "renal": "kidney",
             "kidneys": "kidney", "cerebral": "brain", "splenic": "spleen", "gastric": "stomach"}  # fmt: skip
_BOTH = re.compile(r"\b(?:both|pair|bilateral\w*)\b", re.I)
_PLACES = {"side", "zone", "organ", "region"}
_DENIALS = {"no", "not", "none", "without"}


def says_gold(text: str, gold: str) -> bool:
    """The gold answer's words stand in the text, or its values in other words; and no other value of their kinds."""
    if same_answer(text, gold):
        return True
    said, right = (by_name(find_values(t)) for t in (text, gold))
    stands = strict_match(normalise(text), normalise(gold)) or (bool(right) and content(gold) <= content(text))
    return stands and all(said.get(name) == values for name, values in right.items())


def may_agree(text: str, other: str) -> bool:
    """Both say the same values, or the words of one lie within the other; and both deny or both affirm."""
    one, two = (by_name(find_values(t)) for t in (text, other))
    mri = [("sequence" in a and "MRI" in b.get("modality", ())) for a, b in ((one, two), (two, one))]  # T2 is one
    both = any("2" in a.get("count", ()) and _BOTH.search(t) for a, t in ((one, other), (two, text)))
    vague = both or ("count" in one and _SEVERAL.search(other)) or ("count" in two and _SEVERAL.search(text))
    if same_answer(text, other) or any(mri) or vague:
        return True
    said, right = ({_ORGAN_OF.get(w, w) for w in normalise(t).split()} for t in (text, other))
    denies_ = [bool(found & _DENIALS) for found in (said, right)]
    plain = (PLAIN | _DENIALS) - {"lung"}  # an answer of its own
    said, right = said - plain, right - plain
    return denies_[0] == denies_[1] and (said <= right or right <= said)


def same_place(text: str, gold: str) -> bool:
    """Both name places, at levels of which neither excludes the other: a side and an organ, a lobe and its lung."""
    one, two = (by_name(find_values(t)) for t in (text, gold))
    places = [found.keys() & _PLACES for found in (one, two)]
    return all(places) and all(one[n] == two[n] for n in places[0] & places[1]) and not another_value(text, gold)


def same_claims(better: str, worse: str) -> bool:
    """Both are read as the same findings, and no value differs: "enlarged heart" and "cardiomegaly"."""
    if another_value(better, worse) or apart(better, worse):
        return False
    one, two = ({c.said for c in read_report(t)} for t in (better, worse))
    return bool(one) and one == two


def another_value(a: str, b: str) -> bool:
    """Both name values of a kind, and none in common."""
    one, two = (by_name(find_values(text)) for text in (a, b))
    return any(not one[name] & two[name] for name in one.keys() & two.keys())
