"""Real reports: the table of hard cases, sections, sentences, offsets, labels, agreement with the phantom's reader."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_text import random_facts

from medalign_lite.files import ROOT
from medalign_lite.text.form import find_report_sentences, find_sections, normalise
from medalign_lite.text.labels import aggregate, as_text, label_report
from medalign_lite.text.lexicon import CHEXPERT, FINDINGS, HINTS, LABEL_OF, ORGANS
from medalign_lite.text.reports import extract_claims, read_report
from medalign_lite.world.text import BANKS, report

HARD_CASES = [json.loads(line) for line in (Path(__file__).parent / "claims_hard_cases.jsonl").read_text().splitlines()]


def hard_case(row):
    limit = row.get("known_limit")
    marks = [pytest.mark.xfail(strict=True, reason=limit)] if limit else []
    return pytest.param(row, marks=marks, id=f"{row['group']}: {row['text'][:60]}".replace("\n", " "))


@pytest.mark.parametrize("row", [hard_case(row) for row in HARD_CASES])
def test_hard_case(row):
    """Every expected claim is read, what it states agrees, and nothing else is read."""
    read = list(read_report(row["text"]))
    for expected in row["claims"]:
        fitting = [c for c in read if all(getattr(c, name) == value for name, value in expected.items())]
        assert fitting, f"{expected} is not among {read}"
        read.remove(fitting[0])
    assert not read


def test_the_table_is_large_and_names_what_the_lexicon_knows():
    assert len({row["text"] for row in HARD_CASES}) == len(HARD_CASES) >= 300
    assert sum("known_limit" in row for row in HARD_CASES) <= 10
    assert {c["finding"] for row in HARD_CASES for c in row["claims"]} <= set(FINDINGS)
    assert set(LABEL_OF) | HINTS <= set(FINDINGS)
    assert {f for _, denied in ORGANS.values() for f in denied} <= set(FINDINGS)
    assert set(LABEL_OF.values()) == set(CHEXPERT) - {"No Finding"}


REPORT = """\
                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old woman with CHF and a right PICC // pneumothorax? edema?

 COMPARISON:  Chest radiograph with large left pneumothorax.

 FINDINGS:

 Right PICC terminates in the right atrium.  There has been interval
 improvement in pulmonary edema.  Small bilateral pleural effusions, left
 greater than right, are stable.  Retrocardiac opacity likely reflects
 atelectasis, though pneumonia is not excluded.  Heart size is 15.5 cm.

 IMPRESSION:

 1. Improving edema.
 2. No pneumothorax.
"""


def test_only_asserting_sections_are_read_and_characters_are_those_of_the_report():
    read = [(c.finding, c.polarity, c.side, c.temporal) for c in read_report(REPORT)]
    assert read == [("central line", "present", "right", None), ("edema", "present", None, "better"),
                    ("effusion", "present", "bilateral", "unchanged"), ("opacity", "present", None, None),
                    ("atelectasis", "uncertain", None, None), ("pneumonia", "uncertain", None, None),
                    ("edema", "present", None, "better"), ("pneumothorax", "absent", None, None)]
    for claim in read_report(REPORT):
        said = {name: " ".join(REPORT[a:b].lower().split()) for name, (a, b) in claim.parts.items()}
        assert claim.start <= claim.parts["finding"][0] < claim.parts["finding"][1] <= claim.end
        if claim.finding == "effusion":
            assert said == {"finding": "pleural effusions", "size": "small", "side": "bilateral"}
        if claim.finding == "pneumonia":
            assert said == {"finding": "pneumonia", "cue": "not excluded"}


@pytest.mark.parametrize(("text", "kept"), [
    ("Findings: A. Indication: B.", ["A."]),
    ("INDICATION: B.\n\nClear lungs.", ["Clear lungs."]),  # goes on without a header
    ("HISTORY: B. COMPARISON: B. FINDINGS: A. IMPRESSION: A.", ["A.", "A."]),
    ("CHEST, TWO VIEWS\nHISTORY: B\nIMPRESSION: A", ["A"]),  # a title is no sentence
    ("A, and no header at all.", ["A, and no header at all."]),
    ("**Clinical Indication:** B.\n**Findings:** A.", ["A."]),
    ("Indication\nB\nFindings\nA", ["A"]),
    ("", [""]),
])
def test_sections(text, kept):
    assert [text[a:b].strip(" *\n") for a, b in find_sections(text)] == kept


@pytest.mark.parametrize(("text", "sentences"), [
    ("One. Two.", ["One", "Two"]),
    ("1.5 cm nodule. Seen by Dr. X.", ["1.5 cm nodule", "Seen by Dr. X"]),
    ("wrapped\nline. Next", ["wrapped\nline", "Next"]),
    ("No PTX\nSmall effusion", ["No PTX", "Small effusion"]),
    ("1. One\n2. Two", ["1", "One", "2", "Two"]),
    ("One.Two", ["One", "Two"]),
    ("a) one; two", ["a) one; two"]),
])
def test_sentences(text, sentences):
    assert [text[a:b].strip() for a, b in find_report_sentences(text)] == sentences


def test_a_plain_copy_keeps_the_characters():
    text = "Small  XXXX left\n effusoin [**2101**] ___ ’s"
    sentence = normalise(text, 0, len(text))
    assert sentence.text == "small left effusion 's"
    at = sentence.text.index("effusion")
    assert text[slice(*sentence.span(at, at + 8))] == "effusoin"
    assert len(sentence.text) == len(sentence.starts) == len(sentence.ends)


@pytest.mark.parametrize("bank", BANKS)
def test_both_readers_agree_on_phantom_reports(bank):
    """What the phantom's reports say of the five findings that both name alike, the two readers read alike."""
    shared = ("effusion", "pneumothorax", "cardiomegaly", "fracture", "pacemaker")
    rng = np.random.default_rng(5)
    for _ in range(200):
        text = report(random_facts(rng, 0.35), rng, bank).text
        said = [[(c.finding, c.polarity, c.side, c.size) for c in read(text)] for read in (extract_claims, read_report)]
        ours, theirs = ([claim for claim in claims if claim[0] in shared] for claims in said)
        assert sorted(map(str, ours)) == sorted(map(str, theirs)), text


@pytest.mark.parametrize(("text", "label", "state"), [
    ("No effusion. Small effusion.", "Pleural Effusion", "positive"),
    ("Possible effusion. No effusion.", "Pleural Effusion", "uncertain"),
    ("Possible effusion. Small effusion.", "Pleural Effusion", "positive"),
    ("No effusion.", "Pleural Effusion", "negative"),
    ("Cardiomegaly.", "Pleural Effusion", None),
    ("No effusion. Right PICC.", "No Finding", "positive"),
    ("No effusion. Possible edema.", "No Finding", None),
    ("Hiatal hernia.", "No Finding", None),
    ("Mild CHF.", "Edema", "positive"),
    ("Mild CHF.", "Cardiomegaly", "uncertain"),
    ("Blunting of the left costophrenic angle.", "Pleural Effusion", "uncertain"),
    ("The lungs are clear.", "Consolidation", None),
    ("Heart size is normal.", "Cardiomegaly", "negative"),
    ("The mediastinum is widened.", "Enlarged Cardiomediastinum", "positive"),
    ("Right PICC. The ETT has been removed.", "Support Devices", "positive"),
    ("A 6 mm nodule.", "Lung Lesion", "positive"),
    ("", "No Finding", "positive"),
])
def test_mentions_are_put_together_as_in_chexpert(text, label, state):
    labels = label_report(text)
    assert tuple(labels) == CHEXPERT and labels[label] == state
    assert aggregate(read_report(text)) == labels


def test_the_command_prints_claims_and_labels():
    command = [sys.executable, "-m", "medalign_lite", "labels"]
    done = subprocess.run(command, input=REPORT, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == as_text(REPORT).strip()
    assert "Pleural Effusion            positive" in done.stdout and "atelectasis   uncertain" in done.stdout
    empty = subprocess.run(command, input=" ", cwd=ROOT, capture_output=True, text=True)
    assert empty.returncode == 2 and "no report on standard input" in empty.stderr


WORDS = st.sampled_from(
    "no not without cannot be excluded may represent likely versus unchanged new resolved removed has been is are seen "
    "right left bilateral greater than small effusion pneumothorax opacity PICC heart lungs clear normal enlarged and "
    "or but with , . ; : ? \n FINDINGS: INDICATION: XXXX ___ 1. history of evaluate for effusoin \u0130 "
    "\U0001fac1".split(" ")
)


@given(st.lists(WORDS, max_size=40))
def test_any_word_salad_is_read_with_characters_inside_it(words):
    text = " ".join(words)
    for claim in read_report(text):
        assert 0 <= claim.start < claim.end <= len(text)
        inside = {name: span for name, span in claim.parts.items() if name not in ("cue", "organ")}
        assert all(claim.start <= a < b <= claim.end for a, b in inside.values())
        assert claim.finding in FINDINGS and claim.polarity in ("present", "absent", "uncertain")
