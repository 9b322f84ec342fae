"""An edit: two answers, one true and one false, that differ in their spans only."""

from collections.abc import Sequence
from dataclasses import dataclass

from medalign_lite.cases.case import Question
from medalign_lite.text.diff import diff_spans
from medalign_lite.text.facts import Fact
from medalign_lite.text.spans import Span


@dataclass(frozen=True)
class Edit:
    """A pair that differs in its spans only.

    `evidence`: findings to be seen in the image that the edited true statement is about; empty where it is about
    something absent. `how`: what decided which of the two is true.
    """

    chosen: str
    rejected: str
    spans_chosen: tuple[Span, ...]
    spans_rejected: tuple[Span, ...]
    source: str  # "corrected" | "counterfactual"
    evidence: tuple[str, ...]
    how: str


def asked(question: Question | None, facts: Sequence[Fact]) -> tuple[str, ...]:
    """The question's finding, if it is there to be seen."""
    return tuple(f.finding for f in facts if question and f.visible and f.finding == question.finding)[:1]


def edit_of(chosen: str, rejected: str, source: str, evidence: tuple[str, ...], how: str) -> Edit:
    """The edit of two texts, whoever wrote them, with the spans in which they differ."""
    spans_chosen, spans_rejected = diff_spans(chosen, rejected)
    return Edit(chosen, rejected, spans_chosen, spans_rejected, source, evidence, how)
