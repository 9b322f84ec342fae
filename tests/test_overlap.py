"""BLEU and ROUGE-L from sums: by hand, and equal to what the packages say of whole texts."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from medalign_lite.evaluate.overlap import COLUMNS, METRICS, ORDERS, overlap, overlap_counts, variant

SAID = ("There is a small effusion on the left.", "The heart is enlarged.", "", "No nodule, no nodule, no nodule.")
TRUE = ("A small effusion is on the left.", "The heart is not enlarged.", "No effusion is seen.", "No nodule is seen.")


def sums(said, true):
    rows = [overlap_counts(*pair) for pair in zip(said, true, strict=True)]
    return np.array([[row[name] for name in COLUMNS] for row in rows])


@pytest.mark.parametrize("order", ORDERS)
def test_bleu_from_sums_is_the_packages_corpus_bleu(order):
    whole = BLEU(lowercase=True, max_ngram_order=order).corpus_score(list(SAID), [list(TRUE)]).score / 100
    assert overlap(sums(SAID, TRUE).sum(axis=0), f"bleu_{order}") == pytest.approx(whole, abs=1e-12) and 0 < whole < 1


def test_bleu_1_and_rouge_l_by_hand():
    one = sums(["The heart is large."], ["The heart is not very large."])[0]  # 5 of 5 tokens, 5 against 7 long
    assert overlap(one, "bleu_1") == pytest.approx(np.exp(1 - 7 / 5))
    each = [RougeScorer(["rougeL"]).score(true, said)["rougeL"].fmeasure for said, true in zip(SAID, TRUE)]
    assert overlap(sums(SAID, TRUE).sum(axis=0), "rouge_l_f1") == pytest.approx(np.mean(each))
    by_hand = 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)
    assert overlap(sums(["a b c"], ["a x c y"])[0], "rouge_l_f1") == pytest.approx(by_hand)


def test_sums_of_any_shape_give_scores_of_that_shape():
    table = sums(SAID, TRUE)
    for name in METRICS:
        assert overlap(np.stack([table, table]), name).shape == (2, len(SAID))
        assert overlap(table[:2], name) == pytest.approx([float(overlap(row, name)) for row in table[:2]])
        assert np.isnan(overlap(np.zeros(len(COLUMNS)), name))


def test_each_number_tells_its_variant():
    assert all(part in variant("bleu_4") for part in ("case:lc", "tok:13a", "smooth:exp", "version:"))
    assert "stemming:no" in variant("rouge_l_f1")
    with pytest.raises(ValueError, match="use one of bleu_1"):
        overlap(np.zeros(len(COLUMNS)), "cider")
