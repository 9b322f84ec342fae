"""How much an answer changed in form: word edits and length."""

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


def style_counts(text: str, reference: str | None) -> dict[str, float]:
    """Columns of `metrics`: the answer's words, and its distance to the reference answer where there is one."""
    row = {"word_answers": 1, "words": len(text.split())}
    if reference is None:
        return row
    edits, longest = word_edits(text, reference), max(len(text.split()), len(reference.split()), 1)
    return row | {"edit_answers": 1, "edit_distance": edits / longest, "within_few_words": edits <= FEW_WORDS}
