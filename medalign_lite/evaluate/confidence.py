"""How sure the model was of each thing it said: log-probabilities of claims, beside whether they are right.

A confident error is what alignment is for: a wrong statement that the model would hardly have put otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.model.batches import sampled_offsets
from medalign_lite.text.answers import correct_answer
from medalign_lite.text.claims import extract_claims, judge
from medalign_lite.text.words import NoEdit


@dataclass(frozen=True)
class Statement:
    """A claim of a report, or a short answer as a whole; `right` is None where that cannot be told.

    `start`, `end`: its characters, a negating word in front included. `logps`: log p of its tokens, in nats.
    """

    rollout: Rollout
    start: int
    end: int
    about: str  # finding, or topic of the question
    right: bool | None
    logps: tuple[float, ...]

    @property
    def mean_logp(self) -> float:
        """Mean over its tokens: a sum would call every long claim unsure."""
        return sum(self.logps) / len(self.logps)

    @property
    def text(self) -> str:
        """Its words."""
        return self.rollout.text[self.start : self.end]


def statements(rollout: Rollout, case: Case, question: Question, tokenizer) -> list[Statement]:
    """What the answer says, in reading order. Nothing for a report of a case whose facts nobody wrote down."""
    offsets = sampled_offsets(tokenizer, rollout.ids, rollout.text)
    if question.kind != "report":
        parts = [(0, len(rollout.text), question.topic, _right(rollout.text, question.answer))]
    else:
        parts = _claims(rollout.text, case.facts) if case.facts is not None else []
    return [
        Statement(rollout, start, end, about, right, logps)
        for start, end, about, right in parts
        if (logps := _inside(rollout.logps, offsets, start, end))
    ]


def _claims(text: str, facts) -> list[tuple[int, int, str, bool | None]]:
    verdicts = {"true": True, "false": False, "unverifiable": None}
    parts = []
    for claim in extract_claims(text):
        start = min(claim.start, claim.parts.get("cue", (claim.start, 0))[0])
        parts.append((start, claim.end, claim.finding, verdicts[judge(claim, facts).verdict]))
    return parts


def _right(answer: str, gold: str) -> bool | None:
    try:
        return correct_answer(answer, gold) is None
    except NoEdit:
        return None


def _inside(logps: Sequence[float], offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[float, ...]:
    return tuple(logp for logp, (a, b) in zip(logps, offsets, strict=True) if max(a, start) < min(b, end))
