"""Word edits by hand."""

import pytest

from medalign_lite.evaluate.metrics import style_counts, word_edits


@pytest.mark.parametrize(("a", "b", "edits"), [
    ("a small left effusion", "a large right effusion", 2), ("a b c", "b c", 1), ("a b c d", "b c d e", 2),
    ("kitten sat", "sat kitten", 2), ("", "a b c", 3), ("Left", "left", 1),
])  # fmt: skip
def test_word_edits(a, b, edits):
    assert word_edits(a, b) == word_edits(b, a) == edits


@pytest.mark.parametrize(("text", "edits", "few"), [
    ("a small left effusion", 0, True), ("a large left effusion", 1, True), ("a large right effusion", 2, True),
    ("one large right effusion", 3, False),
])  # fmt: skip
def test_within_two_words(text, edits, few):
    got = style_counts(text, "a small left effusion")
    assert got == {"word_answers": 1, "words": 4, "edit_answers": 1, "edit_distance": edits / 4,
                   "within_few_words": few}  # fmt: skip


def test_without_a_reference_answer_only_words_are_counted():
    assert style_counts("a small left effusion", None) == {"word_answers": 1, "words": 4}
