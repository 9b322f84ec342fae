"""Words that a report shares with a reference text: BLEU-1 to 4 by sacrebleu, ROUGE-L by rouge_score.

For comparison with the literature only: "no effusion" and "an effusion" share most of their words. `rouge_l_f1` is not
the `rouge_l` of pycocoevalcap (`published`), which reads other tokens and weighs recall more. Sums come first, so that
a bootstrap can draw images (`stats.bootstrap`).
"""

from functools import cache
from importlib.metadata import version

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

ORDERS = (1, 2, 3, 4)  # BLEU-n: n-grams of up to n words
SMOOTHING = "exp"  # sacrebleu's own: orders without a match count half, a quarter, ... of one match
COLUMNS = (*(f"shared_{n}" for n in ORDERS), *(f"said_{n}" for n in ORDERS), "said_words", "reference_words",
           "rouge_l_f1", "texts")  # fmt: skip
SCORER = dict.fromkeys((f"bleu_{n}" for n in ORDERS), "sacrebleu") | {"rouge_l_f1": "rouge_score"}
METRICS = tuple(SCORER)


def overlap_counts(text: str, reference: str) -> dict[str, float]:
    """COLUMNS of one report: shared and said n-grams and words as sacrebleu counts them, and its ROUGE-L F1."""
    seen = _bleu().corpus_score([text], [[reference]])
    row = [*seen.counts, *seen.totals, seen.sys_len, seen.ref_len, _rouge().score(reference, text)["rougeL"].fmeasure]
    return dict(zip(COLUMNS, [*row, 1], strict=True))


def overlap(sums: np.ndarray, name: str) -> np.ndarray:
    """A metric of METRICS in 0..1 from summed counts: (..., C) -> (...), NaN without texts.

    `bleu_n` is BLEU of the corpus that the sums are of (Papineni et al. 2002), `rouge_l_f1` the mean over
    its texts. Raises ValueError for another name.
    """
    if name not in METRICS:
        raise ValueError(f"{name!r} is no overlap metric: use one of {', '.join(METRICS)}")
    sums = np.asarray(sums, float)
    if name == "rouge_l_f1":
        total, texts = sums[..., COLUMNS.index(name)], sums[..., -1]
        return np.divide(total, texts, out=np.full_like(total, np.nan), where=texts > 0)
    return np.apply_along_axis(_corpus_bleu, -1, sums, int(name[-1]))


def variant(name: str) -> str:
    """What must be told beside the number: sacrebleu's signature, or the package, its settings and the average."""
    if name == "rouge_l_f1":
        return f"mean F1|tok:[a-z0-9]+|stemming:no|version:{version('rouge_score')}"
    _bleu().corpus_score([""], [[""]])  # sacrebleu signs what it has scored
    return _bleu().get_signature().format()


def _corpus_bleu(sums: np.ndarray, order: int) -> float:
    if not sums[-1]:
        return np.nan
    *ngrams, words, reference_words = map(int, sums[: COLUMNS.index("rouge_l_f1")])
    shared, said = ngrams[:order], ngrams[len(ORDERS) :][:order]
    score = BLEU.compute_bleu(shared, said, words, reference_words, smooth_method=SMOOTHING, max_ngram_order=order)
    return score.score / 100


@cache
def _bleu() -> BLEU:
    return BLEU(lowercase=True, smooth_method=SMOOTHING)


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], use_stemmer=False)
