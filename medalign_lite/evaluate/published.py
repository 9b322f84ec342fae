"""Scorers that others publish for reports: used as they are where they are installed, and named with why not elsewhere.

Nothing is fetched for them: weights that are not on this machine are a sentence. A score is a ratio of sums over texts,
so that a bootstrap can draw groups.
"""

import contextlib
import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from unittest.mock import patch

import numpy as np

from medalign_lite.files import visible

Texts = Sequence[str]
Ratios = dict[str, np.ndarray]  # {metric: (N, 2)}: what a text adds above and below the line


def published_scores(said: Texts, true: Texts) -> tuple[dict[tuple[str, str, str], np.ndarray], list[str]]:
    """{(metric, package, variant): (N, 2)} of N texts against their references by every scorer of SCORERS that can be
    used here, and a sentence for each that cannot."""
    found, unused = {}, []
    for package, (needs, variant, ratios) in SCORERS.items():
        if find_spec(package) is None:
            unused.append(f"{package} was not used: it is not installed")
            continue
        try:
            with _nothing_fetched(), contextlib.redirect_stdout(sys.stderr):
                scored = ratios(import_module(package), list(said), list(true))
        except (Exception, SystemExit) as error:  # packages of others end as they like
            why = visible(f"{type(error).__name__}: {error}"[:200])
            unused.append(f"{package} was not used: it needs {needs} on this machine, and stopped with {why}")
            continue
        variant = f"{variant}|version:{version(package)}"
        found |= {(metric, package, variant): rows for metric, rows in scored.items()}
    return found, unused


@contextlib.contextmanager
def _nothing_fetched():
    from medalign_lite.model.weights import nothing_fetched  # imports what a scorer of short answers does not need

    refused = OSError("nothing is fetched for a scorer")
    with nothing_fetched(), patch.object(socket.socket, "connect", side_effect=refused):
        yield


def _coco(package, said: list[str], true: list[str]) -> Ratios:
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def words(texts: list[str]) -> dict[int, list[str]]:
        return PTBTokenizer().tokenize({n: [{"caption": " ".join(text.split())}] for n, text in enumerate(texts)})

    true, said = words(true), words(said)
    scorers = {"rouge_l": Rouge(), "cider": Cider()}
    return {metric: _mean(scorer.compute_score(true, said)[1]) for metric, scorer in scorers.items()}


def _bert(package, said: list[str], true: list[str]) -> Ratios:
    spoken = [n for n, text in enumerate(said) if text.strip()]  # an empty text scores 0
    scores = np.zeros(len(said))
    scores[spoken] = package.score([said[n] for n in spoken], [true[n] for n in spoken], lang="en")[2].numpy()
    return {"bertscore_f1": _mean(scores)}


def _radgraph(package, said: list[str], true: list[str]) -> Ratios:
    scorer = package.F1RadGraph(reward_level="partial", model_type="radgraph-xl")
    return {"radgraph_f1": _mean(scorer(hyps=said, refs=true)[1])}


def _chexbert(package, said: list[str], true: list[str]) -> Ratios:
    labels = package.F1CheXbert().get_label
    a, b = (np.array([labels(text) for text in texts]) for texts in (said, true))  # (N, 14) of 0 and 1
    return {"chexbert_f1": np.stack([2 * (a & b).sum(1), a.sum(1) + b.sum(1)], axis=1)}


def _rate(package, said: list[str], true: list[str]) -> Ratios:
    import torch

    scorer = package.RaTEScore(use_gpu=torch.cuda.is_available())
    return {"ratescore": _mean(scorer.compute_score(said, true))}


def _mean(scores: Sequence[float]) -> np.ndarray:
    return np.stack([np.asarray(scores, float), np.ones(len(scores))], axis=1)


# {package: (what it needs beside itself, what must be told beside the number, how it is called)}
SCORERS: dict[str, tuple[str, str, Callable[..., Ratios]]] = {
    "pycocoevalcap": ("Java", "mean|tok:PTB|beta:1.2|n:4|document frequencies of these references", _coco),
    "bert_score": ("roberta-large of the hub", "mean F1|roberta-large|no idf|no baseline", _bert),
    "radgraph": ("radgraph-xl of StanfordAIMI/RRG_scorers", "mean|partial|radgraph-xl", _radgraph),
    "f1chexbert": ("bert-base-uncased and StanfordAIMI/RRG_scorers", "micro F1 of 14 labels", _chexbert),
    "RaTEScore": ("medspacy, RaTE-NER-Deberta and BioLORD-2023-C of the hub", "mean|matrix:long", _rate),
}
