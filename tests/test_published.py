"""Scorers of others: used as they are where they can be, a sentence where they cannot, and nothing is fetched."""

import shutil
import sys

import numpy as np
import pytest

from medalign_lite.evaluate import overlap as published
from medalign_lite.evaluate.overlap import SCORERS, overlap_counts, published_scores

SAID = ["There is a large left pleural effusion.", "There is cardiomegaly.", ""]
TRUE = ["There is a small left pleural effusion.", "The heart is normal. There is no effusion.", "Normal."]


def only(monkeypatch, tmp_path, package, code):
    """A package of that name which holds `code`, and no other scorer."""
    monkeypatch.delitem(sys.modules, package, raising=False)
    (tmp_path / f"{package}.py").write_text(code)
    about = tmp_path / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(published, "SCORERS", {package: SCORERS[package]})


def test_what_is_not_installed_is_a_sentence(monkeypatch):
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    found, unused = published_scores(SAID, TRUE)
    assert found == {} and unused == [f"{name} was not used: it is not installed" for name in SCORERS]


@pytest.mark.parametrize(("code", "why"), [
    ("import socket; socket.create_connection(('127.0.0.1', 9), timeout=5)", "OSError: nothing is fetched"),
    ("raise ImportError('of\\x1b another time')", r"ImportError: of\x1b another time"),
    ("def F1RadGraph(**settings):\n    raise SystemExit('no weights')", "SystemExit: no weights"),
    ("from huggingface_hub import hf_hub_download\nhf_hub_download('a/b', 'c')", "LocalEntryNotFoundError"),
])  # fmt: skip
def test_a_scorer_that_stops_or_would_fetch_is_a_sentence(monkeypatch, tmp_path, code, why):
    only(monkeypatch, tmp_path, "radgraph", code)
    found, (sentence,) = published_scores(SAID, TRUE)
    assert found == {} and why in sentence and "it needs radgraph-xl" in sentence and "\n" not in sentence


def test_labels_make_a_micro_f1(monkeypatch, tmp_path):
    only(monkeypatch, tmp_path, "f1chexbert", """class F1CheXbert:
    def get_label(self, text):
        return [int(word in text) for word in ("effusion", "cardiomegaly")]""")
    found, unused = published_scores(SAID, TRUE)
    ((metric, package, variant), rows), = found.items()
    assert (metric, package, unused) == ("chexbert_f1", "f1chexbert", []) and "version:1.0" in variant
    assert rows.tolist() == [[2, 2], [0, 2], [0, 0]]  # right, one false beside one missed, nothing on either side


def test_rouge_l_and_cider_are_those_of_the_package(monkeypatch):
    """By hand: beta 1.2, six of seven words in order; ours weighs precision and recall alike and reads other tokens."""
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed (extra: scorers)")
    if not shutil.which("java"):
        pytest.skip("its tokenizer needs Java")
    monkeypatch.setattr(published, "SCORERS", {"pycocoevalcap": SCORERS["pycocoevalcap"]})
    found, unused = published_scores(SAID, TRUE)
    rows = {metric: np.divide(*rows.T) for (metric, _, _), rows in found.items()}
    precision, recall = 2 / 3, 1 / 4
    by_hand = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert not unused and rows["rouge_l"] == pytest.approx([6 / 7, by_hand, 0])
    assert rows["cider"][0] > rows["cider"][1] > rows["cider"][2] == 0
    assert overlap_counts(SAID[1], TRUE[1])["rouge_l_f1"] != pytest.approx(rows["rouge_l"][1], abs=0.01)
