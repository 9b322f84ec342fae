"""Words that a report shares with a reference text: BLEU-1 to 4 by sacrebleu, ROUGE-L by rouge_score.

For comparison with the literature only: "no effusion" and "an effusion" share most of their words. `rouge_l_f1` is not
the `rouge_l` of pycocoevalcap, which reads other tokens and weighs recall more. Sums come first, so that a bootstrap
can draw images (`stats.bootstrap`).

Scorers that others publish (SCORERS) are used as they are where they are installed, and named with why not elsewhere.
Nothing is fetched for them: weights that are not on this machine are a sentence.
"""

import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from medalign_lite.files import visible

ORDERS = (1, 2, 3, 4)  # BLEU-n: n-grams of up to n words
SMOOTHING = "exp"  # sacrebleu's own: orders without a match count half, a quarter, ... of one match
COLUMNS = (*(f"shared_{n}" for n in ORDERS), *(f"said_{n}" for n in ORDERS), "said_words", "reference_words",
           "rouge_l_f1", "texts")  # fmt: skip
SCORER = dict.fromkeys((f"bleu_{n}" for n in ORDERS), "sacrebleu") | {"rouge_l_f1": "rouge_score"}
METRICS = tuple(SCORER)


def overlap_counts(text: str, reference: str) -> dict[str, float]:
    """COLUMNS of one report: shared and said n-grams and words as sacrebleu counts them, and its ROUGE-L F1."""
    bleu, rouge = _scorers()
    seen = bleu.corpus_score([text], [[reference]])
    row = [*seen.counts, *seen.totals, seen.sys_len, seen.ref_len, rouge.score(reference, text)["rougeL"].fmeasure, 1]
    return dict(zip(COLUMNS, row, strict=True))


def overlap(sums: np.ndarray, name: str) -> np.ndarray:
    """A metric of METRICS in 0..1 from summed counts: (..., C) -> (...), NaN without texts. `bleu_n` is BLEU of the
    corpus that the sums are of (Papineni et al. 2002), `rouge_l_f1` the mean over its texts. Raises ValueError for
    another name."""
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
    bleu, _ = _scorers()
    bleu.corpus_score([""], [[""]])  # sacrebleu signs what it has scored
    return bleu.get_signature().format()


def _corpus_bleu(sums: np.ndarray, order: int) -> float:
    if not sums[-1]:
        return np.nan
    *ngrams, words, reference_words = map(int, sums[: COLUMNS.index("rouge_l_f1")])
    shared, said = ngrams[:order], ngrams[len(ORDERS) :][:order]
    score = BLEU.compute_bleu(shared, said, words, reference_words, smooth_method=SMOOTHING, max_ngram_order=order)
    return score.score / 100


@cache
def _scorers() -> tuple[BLEU, RougeScorer]:
    return BLEU(lowercase=True, smooth_method=SMOOTHING), RougeScorer(["rougeL"], use_stemmer=False)


def published_scores(
    said: Sequence[str], true: Sequence[str]
) -> tuple[dict[tuple[str, str, str], np.ndarray], list[str]]:
    """{(metric, package, variant): (N, 2), what a text adds above and below the line} of N texts against their
    references by every scorer of SCORERS that can be used here, and a sentence for each that cannot."""
    from medalign_lite.model.weights import nothing_fetched  # imports what a scorer of short answers does not need

    found, unused, refused = {}, [], OSError("nothing is fetched for a scorer")
    for package, (needs, variant, score) in SCORERS.items():
        if find_spec(package) is None:
            unused.append(f"{package} was not used: it is not installed")
            continue
        try:
            variant = f"{variant}|version:{version(package)}"
            with (nothing_fetched(), patch.object(socket.socket, "connect", side_effect=refused),
                  contextlib.redirect_stdout(sys.stderr)):
                scored = {name: np.asarray(rows, float) for name, rows in
                          score(import_module(package), list(said), list(true)).items()}
        except (Exception, SystemExit) as error:  # packages of others end as they like
            why = visible(f"{type(error).__name__}: {error}"[:200])
            unused.append(f"{package} was not used: it needs {needs} on this machine, and stopped with {why}")
            continue
        found |= {(metric, package, variant): rows if rows.ndim == 2 else np.stack([rows, np.ones_like(rows)], axis=1)
                  for metric, rows in scored.items()}
    return found, unused


def _coco(package, said: list[str], true: list[str]) -> dict:
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def words(texts: list[str]) -> dict[int, list[str]]:
        return PTBTokenizer().tokenize({n: [{"caption": " ".join(text.split())}] for n, text in enumerate(texts)})

    true, said = words(true), words(said)
    scorers = {"rouge_l": Rouge(), "cider": Cider()}
    return {metric: scorer.compute_score(true, said)[1] for metric, scorer in scorers.items()}


def _bert(package, said: list[str], true: list[str]) -> dict:
    spoken = [n for n, text in enumerate(said) if text.strip()]  # an empty text scores 0
    scores = np.zeros(len(said))
    scores[spoken] = package.score([said[n] for n in spoken], [true[n] for n in spoken], lang="en")[2].numpy()
    return {"bertscore_f1": scores}


def _radgraph(package, said: list[str], true: list[str]) -> dict:
    scorer = package.F1RadGraph(reward_level="partial", model_type="radgraph-xl")
    return {"radgraph_f1": scorer(hyps=said, refs=true)[1]}


def _chexbert(package, said: list[str], true: list[str]) -> dict:
    labels = package.F1CheXbert().get_label
    a, b = (np.array([labels(text) for text in texts]) for texts in (said, true))  # (N, 14) of 0 and 1
    return {"chexbert_f1": np.stack([2 * (a & b).sum(1), a.sum(1) + b.sum(1)], axis=1)}


def _rate(package, said: list[str], true: list[str]) -> dict:
    import torch

    return {"ratescore": package.RaTEScore(use_gpu=torch.cuda.is_available()).compute_score(said, true)}


# {package: (what it needs beside itself, what must be told beside the number, {metric: (N,) or (N, 2)} of two lists)}
SCORERS: dict[str, tuple[str, str, Callable[..., dict]]] = {
    "pycocoevalcap": ("Java", "mean|tok:PTB|beta:1.2|n:4|document frequencies of these references", _coco),
    "bert_score": ("roberta-large of the hub", "mean F1|roberta-large|no idf|no baseline", _bert),
    "radgraph": ("radgraph-xl of StanfordAIMI/RRG_scorers", "mean|partial|radgraph-xl", _radgraph),
    "f1chexbert": ("bert-base-uncased and StanfordAIMI/RRG_scorers", "micro F1 of 14 labels", _chexbert),
    "RaTEScore": ("medspacy, RaTE-NER-Deberta and BioLORD-2023-C of the hub", "mean|matrix:long", _rate),
}
