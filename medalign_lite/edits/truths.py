"""What is true of a case, and what it decides: a table of facts, a gold answer, or a reference report.

    truth = truth_of(case, question)      Facts | Gold | Report
    truth.read(text)                      the claims of a text, as this truth can judge them
    truth.judge(claim)                    true, false or unverifiable
    truth.correct(answer)                 y+ for a wrong answer; None where nothing in it is wrong
    truth.falsify(answer, rng)            y- for a right one
    truth.verify(better, worse, answer)   raises NoEdit unless better is true and worse is false
    truth.is_against(better, worse)       what people say, against what is known

Facts are complete: what they do not hold is not there. A report is not: what it does not mention may still be there, so
only what it states is decided, and a denial decides about no more than it names (`contradicts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medalign_lite.cases.case import Case, Question
from medalign_lite.edits.repair import Edit, article_fit, asked, corrected, edit_of, false_worlds, turns
from medalign_lite.text.answer_values import by_name, find_values
from medalign_lite.text.answers import (
    PLAIN,
    another_value,
    corrections,
    exchange_option,
    falsify_answer,
    may_agree,
    normalise,
    option_of,
    same_answer,
    same_claims,
    same_place,
    says_gold,
    swap_option,
)
from medalign_lite.text.claims import Claim, Verdict, judge
from medalign_lite.text.disputes import disputes
from medalign_lite.text.facts import FINDINGS, Fact
from medalign_lite.text.grammar import broken
from medalign_lite.text.opposites import alike, opposed
from medalign_lite.text.qualifiers import ATTRIBUTES, VAGUE, Stated, contradicts, drops, stated, supports
from medalign_lite.text.reports import extract_claims, read_report
from medalign_lite.text.says import denies_what_is_asked, is_no_answer, yes_no
from medalign_lite.text.spans import NoEdit, make_changes
from medalign_lite.text.turns import turned_round

BY_FACTS = "claims against the table of facts"
BY_GOLD = "gold answer"
BY_REPORT = "claims against the reference report"
TRUE, FALSE, UNKNOWN = Verdict("true"), Verdict("false", ("finding",)), Verdict("unverifiable")


# --- the three truths -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Facts:
    """A table that holds all there is: a synthetic picture's."""

    facts: tuple[Fact, ...]
    how: str = BY_FACTS
    complete: bool = True  # what it does not hold is not there

    @property
    def words(self) -> str:
        """The truth, for people."""
        seen = [" ".join(filter(None, (f.size, f.side, f.zone, f.finding))) for f in self.facts if f.visible]
        unseen = [f"{f.finding} (too faint to see)" for f in self.facts if not f.visible]
        return "; ".join([*seen, *unseen]) or "no finding"

    @property
    def stated(self) -> Stated:
        """All findings of the world are decided."""
        return Stated(self.facts, frozenset(FINDINGS))

    def read(self, text: str) -> tuple[Claim, ...]:
        """The claims of a text."""
        return extract_claims(text)

    def judge(self, claim: Claim) -> Verdict:
        """By the table."""
        return judge(claim, self.facts)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What is there to be seen."""
        seen = (f for f in self.facts if f.visible)
        return tuple(Claim(f.finding, "present", f.side, f.zone, f.size, 0, 0, {}) for f in seen)

    def says(self, claim: Claim) -> bool:
        """The table bears it out."""
        return self.judge(claim).verdict == "true"

    def wrong(self, text: str) -> list[Claim]:
        """The claims of a text that are false. Raises NoEdit for one that cannot be judged."""
        judged = [(claim, self.judge(claim).verdict) for claim in self.read(text)]
        if any(verdict == "unverifiable" for _, verdict in judged):
            raise NoEdit("a claim about what cannot be seen")
        return [claim for claim, verdict in judged if verdict == "false"]

    def correct(self, answer: str) -> Edit | None:
        """Raises NoEdit where something said cannot be seen, or has no minimal repair."""
        chosen = corrected(answer, self)
        return None if chosen == answer else self._edit(chosen, answer, "corrected")

    def falsify(self, answer: str, rng: np.random.Generator) -> Edit:
        """The answer agrees with a table in which one stated fact has another side, zone or size, is gone, or one
        denied finding is there. Raises NoEdit where the answer is not right, or no variant can be verified."""
        claims = extract_claims(answer)
        if any(not self.says(c) for c in claims):
            raise NoEdit("a claim that is not verified true")
        worlds = [world for c in claims for world in false_worlds(c, self.facts, rng)]
        for i in rng.permutation(len(worlds)):
            try:
                rejected = corrected(answer, Facts(worlds[i]))
            except NoEdit:
                continue
            if any(self.judge(c).verdict == "false" for c in extract_claims(rejected)):
                return self._edit(answer, rejected, "counterfactual")
        raise NoEdit("no false variant can be verified")

    def _edit(self, chosen: str, rejected: str, source: str) -> Edit:
        return edit_of(chosen, rejected, source, self.evidence(chosen, rejected), self.how)

    def evidence(self, true: str, false: str) -> tuple[str, ...]:
        """Visible findings of which the two texts say different things."""
        said = [{c.said for c in extract_claims(t)} for t in (true, false)]
        differ = {claim[0] for claim in said[0] ^ said[1]}
        return tuple(sorted({f.finding for f in self.facts if f.visible} & differ))

    def verify(self, better: str, worse: str, answer: str) -> None:
        """Every claim of `better` is true, one of `worse` false; what is taken away was false or stays said."""
        claims, others = extract_claims(better), extract_claims(worse)
        if not claims or any(self.judge(c).verdict != "true" for c in claims):
            raise NoEdit("the better answer is not verified true by the facts")
        if not any(self.judge(c).verdict == "false" for c in others):
            raise NoEdit("the worse answer is not verified false by the facts")
        true = [c for c in others if self.judge(c).verdict == "true"]
        _check_removed(claims, true, true)
        _check_new_words(better, answer, known=_read_words(better, claims))

    def is_against(self, better: str, worse: str) -> bool:
        """The facts contradict a claim of `better`, or bear out all that `worse` claims."""
        found = [self.judge(c).verdict for c in extract_claims(worse)]
        wrong = any(self.judge(c).verdict == "false" for c in extract_claims(better))
        return wrong or (bool(found) and set(found) == {"true"})


@dataclass(frozen=True)
class Report:
    """A reference report, read once."""

    report: str
    how: str = BY_REPORT
    complete: bool = False

    @property
    def words(self) -> str:
        """The report."""
        return self.report

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """What it says."""
        return read_report(self.report)

    @cached_property
    def stated(self) -> Stated:
        """As a table, as far as it goes."""
        return stated(self.claims)

    def read(self, text: str) -> tuple[Claim, ...]:
        """The claims of a text."""
        return read_report(text)

    def judge(self, claim: Claim) -> Verdict:
        """By what it states."""
        if contradicts(self.claims, claim):
            return FALSE
        return TRUE if supports(self.claims, claim) else UNKNOWN

    def evidence(self, true: str, false: str) -> tuple[str, ...]:
        """Nothing is outlined for a report's statements."""
        return ()

    def says(self, claim: Claim) -> bool:
        """It states it."""
        return supports(self.claims, claim)

    def wrong(self, text: str) -> list[Claim]:
        """The claims of a text that the report contradicts."""
        return [claim for claim in read_report(text) if contradicts(self.claims, claim)]

    def correct(self, answer: str) -> Edit | None:
        """What the report contradicts is repaired; what it does not mention stays. Raises NoEdit."""
        chosen = corrected(answer, self)
        other = opposed(self.report, chosen)
        chosen = make_changes(chosen, [*other, *(c for o in other for c in article_fit(chosen, o.start, o.new))])
        if chosen == answer:
            return None
        if broken(chosen, answer):
            raise NoEdit("no repair of a word that is whole English")
        self.verify(chosen, answer, answer)
        return edit_of(chosen, answer, "corrected", (), self.how)

    def falsify(self, answer: str, rng: np.random.Generator) -> Edit:
        """One claim that the report bears out is made false. Raises NoEdit."""
        claims = read_report(answer)
        right = [claim for claim in claims if supports(self.claims, claim)]
        if not right:
            raise NoEdit("the reference report says nothing of what the answer claims")
        if any(contradicts(self.claims, claim) for claim in claims):
            raise NoEdit("the answer is not right")
        for i in rng.permutation(len(right)):
            variants = list(turns(answer, right[i], claims))
            for k in rng.permutation(len(variants)):
                rejected = make_changes(answer, variants[k][1])
                try:
                    self.verify(answer, rejected, answer)
                except NoEdit:
                    continue
                return edit_of(answer, rejected, "counterfactual", (), self.how)
        raise NoEdit("no false variant can be verified")

    def verify(self, better: str, worse: str, answer: str) -> None:
        """The report says every claim that `better` alone makes, contradicts none of them all and contradicts one that
        `worse` alone makes; what it bears out in `worse` stays. What both say and it is silent about is not judged."""
        claims, others = read_report(better), read_report(worse)
        shared = {_key(c) for c in claims} & {_key(c) for c in others}
        if any(not supports(self.claims, c) for c in claims if _key(c) not in shared):
            raise NoEdit("the better answer is not verified true by the reference report")
        if any(contradicts(self.claims, c) for c in claims):
            raise NoEdit("the better answer still contradicts the reference report")
        against = disputes(self.report, better)
        if against:
            raise NoEdit(f"the better answer says what the reference report speaks against: {against}")
        if opposed(self.report, better):
            raise NoEdit("the better answer says another word than the reference report of the same thing")
        turned = bool(opposed(self.report, worse))
        if not turned and not any(contradicts(self.claims, c) for c in others if _key(c) not in shared):
            raise NoEdit("the worse answer is not verified false by the reference report")
        open_ones = [c for c in others if not contradicts(self.claims, c)]
        _check_removed(claims, open_ones, [c for c in open_ones if supports(self.claims, c)])
        _check_new_words(better, answer, known=f"{self.report} {_read_words(better, claims)} {alike(self.report)}")

    def is_against(self, better: str, worse: str) -> bool:
        """The report contradicts a claim of `better`, or bears out all that `worse` alone claims."""
        claims = read_report(better)
        alone = [c for c in read_report(worse) if _key(c) not in {_key(b) for b in claims}]
        borne_out = bool(alone) and all(supports(self.claims, c) for c in alone)
        return borne_out or any(contradicts(self.claims, c) for c in claims)


@dataclass(frozen=True)
class Gold:
    """The right answer to a question; facts, where there are some, give the evidence."""

    question: Question
    facts: tuple[Fact, ...] = ()
    how: str = BY_GOLD
    complete: bool = False

    @property
    def words(self) -> str:
        """The answer."""
        return self.question.answer

    def read(self, text: str) -> tuple[Claim, ...]:
        """The claims of a text."""
        return read_report(text)

    def correct(self, answer: str) -> Edit | None:
        """Raises NoEdit where it cannot be told whether the two differ."""
        ways, reason = self._ways(answer), NoEdit("a long answer that differs from the gold answer")
        if ways is None:
            return None
        for chosen in ways:
            try:
                return self._edit(chosen, answer, "corrected")
            except NoEdit as why:
                reason = why
        raise reason

    def _ways(self, answer: str) -> list[str] | None:
        """Better answers, the one that keeps least to say first; None where it says what the gold answer says."""
        if is_no_answer(answer, self.question.text):
            raise NoEdit("an answer that does not answer: a refusal, an echo or a question")
        if self.words.strip() and is_no_answer(self.words):
            raise NoEdit("a gold answer that does not answer")
        if self.question.options:
            swapped = swap_option(answer, self.words, self.question.options)
            return None if swapped is None else [swapped]
        found = corrections(answer, self.words, self.question.text)
        return None if found is None else [*found, *turned_round(answer, self.words)]

    def right(self, answer: str) -> bool | None:
        """Whether an answer is right; None where that cannot be told."""
        try:
            return self._ways(answer) is None
        except NoEdit:
            return None

    def falsify(self, answer: str, rng: np.random.Generator) -> Edit:
        """The other of yes and no, or another value. Raises NoEdit."""
        if self._ways(answer) is not None:
            raise NoEdit("the answer is not right")
        if self.question.options:
            right = option_of(self.words, self.question.options)
            others = [i for i in range(len(self.question.options)) if i != right]
            other = others[int(rng.integers(len(others)))]
            return self._edit(answer, exchange_option(answer, right, other, self.question.options), "counterfactual")
        try:
            return self._edit(answer, falsify_answer(answer, rng, self.words), "counterfactual")
        except NoEdit:
            if not self.facts or not extract_claims(answer):
                raise
            return Facts(self.facts).falsify(answer, rng)

    def _edit(self, chosen: str, rejected: str, source: str) -> Edit:
        self.verify(chosen, rejected, rejected if source == "corrected" else chosen)
        if source == "corrected" and broken(chosen, rejected):
            raise NoEdit("no repair that is whole English")
        return edit_of(chosen, rejected, source, self.evidence(chosen, rejected), self.how)

    def evidence(self, true: str, false: str) -> tuple[str, ...]:
        """The question's finding, if it is there to be seen."""
        return asked(self.question, self.facts)

    def verify(self, better: str, worse: str, answer: str) -> None:
        """`better` says what the gold answer says, `worse` something else."""
        truth = yes_no(self.words) if normalise(self.words) in ("yes", "no") else None
        if self.question.options:
            said = [option_of(text, self.question.options) for text in (better, worse, self.words)]
            if said[0] != said[2] or said[1] in (None, said[2]):
                raise NoEdit("the two answers are not verified by the gold option")
        elif truth is not None:
            if yes_no(better, self.question.text) is not truth:
                raise NoEdit("the better answer is not verified true by the gold answer")
            if yes_no(worse, self.question.text) is not (not truth):
                raise NoEdit("the worse answer is not verified false by the gold answer")
        elif not says_gold(better, self.words):
            raise NoEdit("the better answer is not verified true by the gold answer")
        elif (
            any(may_agree(worse, right) for right in (self.words, better))
            or same_place(worse, self.words)
            or same_claims(better, worse)
        ):
            raise NoEdit("the worse answer may say the same as the gold answer in other words")
        self._check_beside(better)

    def _check_beside(self, better: str) -> None:
        """What is said beside the gold answer is the question's, or the table's; nobody knows whether more is true."""
        known = f"{self.question.text} {self.words}"
        if normalise(self.words) == "no" and denies_what_is_asked(better, self.question.text):
            return
        if self.facts and any(Facts(self.facts).judge(c).verdict != "true" for c in extract_claims(better)):
            raise NoEdit("the better answer brings claims that the facts do not hold")
        if not self.facts:
            asked_of = {c.finding for c in read_report(known)}
            values = by_name(find_values(known))
            same = [better[v.start : v.end] for v in find_values(better) if v.value in values.get(v.name, ())]
            parts = [part for c in read_report(better) if c.finding in asked_of for part in c.parts.items()]
            words = [better[a:b] for name, (a, b) in parts if name not in ATTRIBUTES]
            _check_new_words(better, "", known=" ".join([known, *words, *same]))

    def is_against(self, better: str, worse: str) -> bool:
        """It says the other of yes and no, or another value, than `better`, or the same as `worse`."""
        if same_answer(worse, self.words):
            return True
        if normalise(self.words) in ("yes", "no"):
            truth = yes_no(self.words)
            return yes_no(better, self.question.text) is (not truth) or yes_no(worse, self.question.text) is truth
        return another_value(better, self.words)


def truth_of(case: Case, question: Question) -> Facts | Gold | Report:
    """What decides about answers to this question."""
    if question.kind != "report":
        return Gold(question, case.facts or ())
    return Report(question.answer) if case.facts is None else Facts(case.facts)


def edit_answer(truth: Facts | Gold | Report, answer: str, rng: np.random.Generator, share: float = 1.0) -> Edit:
    """A wrong answer corrected; of the right ones a share made wrong. Raises NoEdit with the reason."""
    edit = truth.correct(answer)
    if edit:
        return edit
    if rng.random() >= share:
        raise NoEdit("a right answer, left out of the counterfactual share")
    return truth.falsify(answer, rng)


def _key(claim: Claim) -> tuple:
    return (*claim.said, claim.qualifiers, claim.kind)


def _check_removed(better: Sequence[Claim], worse: Sequence[Claim], true: Sequence[Claim]) -> None:
    """What an edit takes away is judged as what it adds: of the worse answer's claims that are not wrong each finding
    and denial stays said, and of those that are `true` each attribute too."""
    said = {(c.finding, c.polarity) for c in better}
    if any((c.finding, c.polarity) not in said for c in worse if c.finding not in VAGUE) or drops(better, true):
        raise NoEdit("the better answer leaves out something that is not wrong")


def _read_words(text: str, claims: Sequence[Claim]) -> str:
    return " ".join(text[a:b] for c in claims for a, b in [(c.start, c.end), *c.parts.values()])


def _check_new_words(better: str, answer: str, *, known: str) -> None:
    """What neither the answer nor the truth holds was made up."""
    said, before, there = ({w.removesuffix("s") for w in normalise(text).split()} for text in (better, answer, known))
    if said - before - there - PLAIN:
        raise NoEdit("the better answer brings words that the truth does not hold")
