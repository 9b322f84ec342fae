"""Is y+ true and y- false (METHOD §1, D5)? Asked of an edit that others made, against whatever truth a case has.

Facts and gold answers decide as they do for the rules; a reference report, read by `radiology`, decides about what it
mentions. What cannot be decided is refused: a reason to drop the edit, never a guess. `answer` is the model's own
answer, one of the two: a word of y+ that neither it nor the truth has was made up by the editor.
"""

from collections.abc import Sequence

from medalign_lite.text.answer_values import by_name, find_values
from medalign_lite.text.answers import content, normalise, same_answer
from medalign_lite.cases.case import Case, Question
from medalign_lite.text.facts import Fact
from medalign_lite.text.claims import Claim, extract_claims, judge, yes_no
from medalign_lite.text.reports import read_report
from medalign_lite.edits.report_truth import contradicted, supported
from medalign_lite.text.words import NoEdit
from medalign_lite.text.answers import strict_match
from medalign_lite.cases.case import Case
from medalign_lite.cases.case import Question

_PLAIN = frozenset(
    "a an the is are it its there this that in on at of to with and or but except for no not yes seen side size".split()
)
_DENIALS = {"no", "not", "none", "without"}


def verify_by_facts(chosen: str, rejected: str, facts: Sequence[Fact], *, answer: str) -> None:
    """Raise NoEdit unless every claim of `chosen` is true, one of `rejected` is false, and every new word of `chosen`
    lies within what was read as a claim."""
    claims = extract_claims(chosen)
    if not claims or any(judge(c, facts).verdict != "true" for c in claims):
        raise NoEdit("the better answer is not verified true by the facts")
    if not any(judge(c, facts).verdict == "false" for c in extract_claims(rejected)):
        raise NoEdit("the worse answer is not verified false by the facts")
    _check_new_words(chosen, answer, known=_read(chosen, claims))


def verify_by_gold(chosen: str, rejected: str, *, question: str, gold: str, answer: str) -> None:
    """Raise NoEdit unless `chosen` says what the gold answer says, and `rejected` says something else."""
    truth = yes_no(gold) if normalise(gold) in ("yes", "no") else None
    if truth is not None:
        if yes_no(chosen) is not truth:
            raise NoEdit("the better answer is not verified true by the gold answer")
        if yes_no(rejected) is not (not truth):
            raise NoEdit("the worse answer is not verified false by the gold answer")
    else:
        if not _says(chosen, gold):
            raise NoEdit("the better answer is not verified true by the gold answer")
        if _may_agree(rejected, gold) or _may_agree(rejected, chosen) or _same_claims(chosen, rejected):
            raise NoEdit("the worse answer may say the same as the gold answer in other words")
    _check_new_words(chosen, answer, known=f"{question} {gold}")


def verify_by_report(chosen: str, rejected: str, report: str, *, answer: str) -> None:
    """Raise NoEdit unless the reference report says every claim that `chosen` alone makes, contradicts none that it
    shares with `rejected`, and contradicts one that `rejected` alone makes.

    What both sides say and the report is silent about is not judged.
    """
    truth = read_report(report)
    better, worse = read_report(chosen), read_report(rejected)
    shared = {_key(c) for c in better} & {_key(c) for c in worse}
    if any(not supported(c, truth) for c in better if _key(c) not in shared):
        raise NoEdit("the better answer is not verified true by the reference report")
    if any(contradicted(c, truth) for c in better):
        raise NoEdit("the better answer still contradicts the reference report")
    if not any(contradicted(c, truth) for c in worse if _key(c) not in shared):
        raise NoEdit("the worse answer is not verified false by the reference report")
    _check_new_words(chosen, answer, known=f"{report} {_read(chosen, better)}")


def check_people(chosen: str, rejected: str, case: Case, question: Question) -> None:
    """Raise NoEdit where the case's own truth is against what people say; where it is silent, they decide.

    Against: facts or report contradict a claim of `chosen`, or bear out all that `rejected` alone claims; a gold answer
    says the other of yes and no, or another value (`answer_values`), than `chosen`, or the same as `rejected`.
    """
    if question.kind != "report":
        against = _gold_is_against(chosen, rejected, question.answer)
    elif case.facts is not None:
        worse = [judge(c, case.facts).verdict for c in extract_claims(rejected)]
        wrong = any(judge(c, case.facts).verdict == "false" for c in extract_claims(chosen))
        against = wrong or (bool(worse) and set(worse) == {"true"})
    else:
        truth, better = read_report(question.answer), read_report(chosen)
        alone = [c for c in read_report(rejected) if _key(c) not in {_key(b) for b in better}]
        borne_out = bool(alone) and all(supported(c, truth) for c in alone)
        against = borne_out or any(contradicted(c, truth) for c in better)
    if against:
        raise NoEdit("the case's own truth is against what people say")


def _gold_is_against(chosen: str, rejected: str, gold: str) -> bool:
    if same_answer(rejected, gold):
        return True
    if normalise(gold) in ("yes", "no"):
        return yes_no(chosen) is (not yes_no(gold)) or yes_no(rejected) is yes_no(gold)
    return _another_value(chosen, gold)


def _another_value(a: str, b: str) -> bool:
    """Both name values of a kind, and none in common."""
    one, two = (by_name(find_values(text)) for text in (a, b))
    return any(not one[name] & two[name] for name in one.keys() & two.keys())


def _read(text: str, claims: Sequence[Claim]) -> str:
    """The words that were read as claims."""
    return " ".join(text[a:b] for c in claims for a, b in [(c.start, c.end), *c.parts.values()])


def _check_new_words(chosen: str, answer: str, *, known: str) -> None:
    """What neither the answer nor the truth holds was made up."""
    said, before, there = (set(normalise(text).split()) for text in (chosen, answer, known))
    if said - before - there - _PLAIN:
        raise NoEdit("the better answer brings words that the truth does not hold")


def _says(text: str, gold: str) -> bool:
    """The gold answer's words stand in the text, or its values in other words; and no other value of their kinds."""
    if same_answer(text, gold):
        return True
    said, right = (by_name(find_values(t)) for t in (text, gold))
    stands = strict_match(normalise(text), normalise(gold)) or (bool(right) and content(gold) <= content(text))
    return stands and all(said.get(name) == values for name, values in right.items())


def _may_agree(text: str, other: str) -> bool:
    """Both say the same values, or the words of one lie within the other; and both deny or both affirm."""
    if same_answer(text, other):
        return True
    said, right = (set(normalise(t).split()) for t in (text, other))
    denies = [bool(found & _DENIALS) for found in (said, right)]
    said, right = said - _PLAIN - _DENIALS, right - _PLAIN - _DENIALS
    return denies[0] == denies[1] and (said <= right or right <= said)


def _same_claims(chosen: str, rejected: str) -> bool:
    """Both are read as the same findings, and no value differs: "enlarged heart" and "cardiomegaly"."""
    if _another_value(chosen, rejected):
        return False
    better, worse = ({_key(c) for c in read_report(t)} for t in (chosen, rejected))
    return bool(better) and better == worse


def _key(claim: Claim) -> tuple:
    return claim.finding, claim.polarity, claim.side, claim.zone, claim.size


def truth_of(case: Case, question: Question) -> str:
    """The table of facts for a report, else the reference answer."""
    if question.kind != "report" or case.facts is None:
        return question.answer
    seen = [" ".join(filter(None, (f.size, f.side, f.zone, f.finding))) for f in case.facts if f.visible]
    unseen = [f"{f.finding} (too faint to see)" for f in case.facts if not f.visible]
    return "; ".join([*seen, *unseen]) or "no finding"
