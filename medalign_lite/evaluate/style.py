"""How much an answer changed in form: word edits, length, and how likely the base finds the new wording."""

import math
from collections.abc import Iterable, Sequence

FEW_WORDS = 2  # an answer this many word edits from the base's is a minimal change


def word_edits(a: str, b: str) -> int:
    """Word-level Levenshtein distance: the fewest insertions, deletions and exchanges of words."""
    left, right = a.split(), b.split()
    previous = list(range(len(right) + 1))
    for i, word in enumerate(left, 1):
        row = [i]
        for j, other in enumerate(right, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (word != other)))
        previous = row
    return previous[-1]


def edit_distance(a: str, b: str) -> float:
    """`word_edits` over the longer text's words: 0 the same, 1 nothing shared."""
    return word_edits(a, b) / max(len(a.split()), len(b.split()), 1)


def style_counts(text: str, reference: str | None) -> dict[str, float]:
    """Columns of `metrics`: the answer's words, and its distance to the reference answer where there is one."""
    row = {"word_answers": 1, "words": len(text.split())}
    if reference is None:
        return row
    edits, longest = word_edits(text, reference), max(len(text.split()), len(reference.split()), 1)
    return row | {"edit_answers": 1, "edit_distance": edits / longest, "within_few_words": edits <= FEW_WORDS}


def perplexity(answers: Iterable[Sequence[float]]) -> float:
    """exp of the mean negative log-probability per token, over all tokens of all answers together.

    answers: for each answer, log p of its tokens in nats. Under the base model and for new answers it says how foreign
    their wording is. NaN without tokens.
    """
    logps = [logp for answer in answers for logp in answer]
    return math.exp(-math.fsum(logps) / len(logps)) if logps else math.nan
