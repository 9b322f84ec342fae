"""Which of several options an answer says, by its letter, its text, or both."""

import re
from collections.abc import Sequence

from medalign_lite.text.says import ECHO, REFUSES, denied, unwrap


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
        rf"(?:^|[\s(\[])([A-{last}])(?=[).:\]])|(?:option|choice|answer|"
        rf"letter)\s+\(?([A-{last}])(?!\w)|^\(?([A-{last}])(?:\s*[-\u2013:,]|\s*$)"
        rf"|(?:^|[\s,(])([B-{last}])(?=$|[\s,)]|\.)",
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
