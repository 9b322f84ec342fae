"""A sentence that answers a question, turned round."""

import re
from collections.abc import Iterator

from medalign_lite.text.answers import case_like
from medalign_lite.text.phrases import affirm, deny, phrase_of, with_article
from medalign_lite.text.reports import read_report
from medalign_lite.text.spans import Change, make_changes

_LEAD = re.compile(r"\b(?:yes|no)(?=[,.;:]|$)", re.I)
_TURNS = {  # what makes yes of no in the main clause, and no of yes; verbs that carry the answer
    True: ((r"\b(?:do not|don't|cannot|can't|can not) see (?:any )?", "see "),
           (r"\bthere (is|are) no (?=evidence|signs?)", r"there \1 "), (r"(?<=\w) not\b|(?<=\w)n't\b", ""),
           (r"\b(see|show|find) no (?=evidence|signs?)", r"\1 ")),
    False: ((r"\bthere (is|are) (?:an? |some |any )?", r"there \1 no "),
            (r"\b(is|are|was|were|can|has been)\b", r"\1 not"), (r"\b(appear|contain|show|look)s\b", r"does not \1")),
}  # fmt: skip


def turned_round(answer: str, gold: str) -> Iterator[str]:
    """A sentence that answers a question, as it says the gold answer: yes and no exchanged with the verb or the noun
    phrase; another finding in the place of the one it names."""
    said, right = read_report(answer), read_report(gold)
    if not re.fullmatch(r"\W*(?:yes|no)\W*", gold, re.I):
        if len(said) == len(right) == 1 and {said[0].polarity, right[0].polarity} == {"present"}:
            begin, end = phrase_of(answer, said[0])
            noun = gold.strip(" .")
            noun = noun if noun.isupper() else noun[0].lower() + noun[1:]
            noun = with_article(noun) if re.match(r"(?:an?|the)\b", answer[begin:], re.I) else noun
            yield answer[:begin] + case_like(noun[0], answer[begin:]) + noun[1:] + answer[end:]
        return
    yes, lead = gold.strip(" .").lower() == "yes", _LEAD.search(answer)
    first = [Change(*lead.span(), case_like("yes" if yes else "no", lead.group()))] if lead else []
    rest = lead.end() if lead else 0
    if not re.search(r"[,;]|\b(?:and|but|which|with)\b|\.\s*\w", answer[rest:].strip(" ,.;:")):
        for pattern, new in _TURNS[yes]:
            turned, count = re.subn(pattern, new, answer[rest:], count=1)
            if count:
                yield make_changes(answer[:rest], first) + turned
    for claim in said:
        ways = affirm(answer, claim, said, None) if yes else deny(answer, claim, said)
        for way in ways if (claim.polarity == "absent") is yes else ():
            if not lead or all(change.start > lead.start() for change in {*way} - {*first}):
                yield make_changes(answer, {*first, *way})
