"""How sure the model was of each thing it said: log-probabilities of claims, beside whether they are right.

A confident error is what alignment is for: a wrong statement that the model would hardly have put otherwise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.edits.truths import Facts, Gold, Report, truth_of
from medalign_lite.model.batches import sampled_offsets


@dataclass(frozen=True)
class Statement:
    """A claim of a report, or a short answer as a whole; `right` is None where that cannot be told. `start`, `end`: its
    characters, a negating word in front included. `logps`: log p of its tokens, in nats."""

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
    """What the answer says, in reading order; what cannot be told is neither right nor wrong."""
    offsets = sampled_offsets(tokenizer, rollout.ids, rollout.text)
    return [
        Statement(rollout, start, end, about, right, logps)
        for start, end, about, right in _parts(rollout.text, truth_of(case, question), question)
        if (logps := _inside(rollout.logps, offsets, start, end))
    ]


def _parts(text: str, truth: Facts | Gold | Report, question: Question) -> Iterator[tuple[int, int, str, bool | None]]:
    if isinstance(truth, Gold):
        yield 0, len(text), question.topic, truth.right(text)
        return
    for claim in truth.read(text):
        start = min(claim.start, claim.parts.get("cue", (claim.start, 0))[0])
        yield start, claim.end, claim.finding, {"true": True, "false": False}.get(truth.judge(claim).verdict)


def _inside(logps: Sequence[float], offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[float, ...]:
    return tuple(logp for logp, (a, b) in zip(logps, offsets, strict=True) if max(a, start) < min(b, end))
