"""The reader gives back exactly what the phantom's reports state, and copes with text that is not so tidy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_text import random_facts

from medalign_lite.text.claims import find_attributes, judge
from medalign_lite.text.facts import FINDINGS, Fact
from medalign_lite.text.reports import extract_claims, find_negations
from medalign_lite.text.says import yes_no
from medalign_lite.world.text import BANKS, report


def read(text):
    """[(finding, polarity, side, zone, size)] of a text."""
    return [(c.finding, c.polarity, c.side, c.zone, c.size) for c in extract_claims(text)]


def polarities(text):
    return [(c.finding, c.polarity) for c in extract_claims(text)]


@pytest.mark.parametrize("bank", BANKS)
def test_phantom_reports_are_read_back_exactly(bank):
    rng = np.random.default_rng(11)
    for _ in range(300):
        facts = random_facts(rng, 0.35)
        made = report(facts, rng, bank)
        claims = extract_claims(made.text)
        assert sorted((c.finding, c.polarity) for c in claims) == sorted(span[2:] for span in made.spans), made.text
        meets = [any(c.start < b and a < c.end and c.finding == f for a, b, f, _ in made.spans)
                 for c in claims if "organ" not in c.parts]
        assert all(meets), made.text
        truth = {f.finding: f for f in facts}
        for c in claims:
            assert judge(c, facts).verdict == "true"
            if c.polarity == "present":
                fact = truth[c.finding]
                assert (c.side, c.zone, c.size) == (fact.side, fact.zone, fact.size), made.text
            for name, (start, end) in c.parts.items():
                assert 0 <= start < end <= len(made.text), name


@pytest.mark.parametrize(("text", "expected"), [
    ("No effusion but a small left pneumothorax.", ["effusion absent", "pneumothorax present"]),
    ("No effusion and a small left pneumothorax.", ["effusion absent", "pneumothorax present"]),
    ("No effusion; pneumothorax on the left.", ["effusion absent", "pneumothorax present"]),
    ("Neither effusion nor pneumothorax is seen.", ["effusion absent", "pneumothorax absent"]),
    ("Pneumothorax and effusion are not seen.", ["pneumothorax absent", "effusion absent"]),
    ("An effusion is not seen and a nodule is present.", ["effusion absent", "nodule present"]),
    ("The film does not show a nodule.", ["nodule absent"]),
    ("A nodule can't be seen.", ["nodule absent"]),
    ("Without pneumothorax.", ["pneumothorax absent"]),
    ("Pneumothorax is absent.", ["pneumothorax absent"]),
    ("The heart is not enlarged.", ["cardiomegaly absent"]),
    ("The heart is markedly enlarged.", ["cardiomegaly present"]),
    ("Normal heart size.", ["cardiomegaly absent"]),
    ("No, there is a large effusion.", ["effusion present"]),
    ("No. Effusion is present.", ["effusion present"]),
    ("There is no evidence of no effusion", ["effusion absent"]),
    ("No change in the right effusion.", ["effusion present"]),
    ("Pericardial effusion.", []),
    ("The pleural spaces are clear.", ["effusion absent", "pneumothorax absent"]),
    ("The lungs are not clear.", []),
    ("", []),
    ("🫁 <b>No</b> nodule \u202e\u0645", ["nodule absent"]),
])
def test_polarity_and_scope(text, expected):
    assert [f"{f} {p}" for f, p in polarities(text)] == expected


def test_attributes_go_to_their_own_mention_and_all_mentions_are_read():
    assert read("A nodule in the right upper zone and a large left effusion, no pneumothorax.") == [
        ("nodule", "present", "right", "upper", None), ("effusion", "present", "left", None, "large"),
        ("pneumothorax", "absent", None, None, None),
    ]
    assert [c[2] for c in read("Nodule right effusion.")] == [None, "right"]
    assert read("On the left there is a small effusion.") == [("effusion", "present", "left", None, "small")]
    assert polarities("No effusion. A small right effusion.") == [("effusion", "absent"), ("effusion", "present")]
    assert [c[2] for c in read("A nodule in the right zone of the left lung.")] == ["right", "left"]
    assert sorted(read("The lungs are clear except for a small nodule in the left upper zone.")) == [
        ("atelectasis", "absent", None, None, None), ("consolidation", "absent", None, None, None),
        ("nodule", "present", "left", "upper", "small"),
    ]


def test_parts_say_where():
    text = "There is no nodule. A moderate-sized nodule in the upper zone of the left lung is seen."
    first, second = extract_claims(text)
    assert {k: text[a:b] for k, (a, b) in first.parts.items()} == {"finding": "nodule", "cue": "no"}
    assert {k: text[a:b] for k, (a, b) in second.parts.items()} == {
        "finding": "nodule", "size": "moderate-sized", "zone": "upper", "side": "left",
    }  # fmt: skip
    assert text[second.start : second.end] == "moderate-sized nodule in the upper zone of the left lung"


FACTS = (Fact("nodule", "left", "upper", "small"), Fact("effusion", "right", size="large", visible=False))


@pytest.mark.parametrize(("text", "verdict", "wrong"), [
    ("A small nodule in the left upper zone.", "true", ()),
    ("A nodule.", "true", ()),
    ("A small nodule in the right lower zone.", "false", ("side", "zone")),
    ("A large nodule on the left.", "false", ("size",)),
    ("No nodule.", "false", ("finding",)),
    ("No nodule in the right upper zone.", "true", ()),
    ("No nodule in the left upper zone.", "false", ("finding",)),
    ("A right effusion.", "unverifiable", ()),
    ("A left effusion.", "unverifiable", ()),
    ("No effusion.", "unverifiable", ()),
    ("No effusion on the left.", "true", ()),
    ("A pneumothorax.", "false", ("finding",)),
    ("No pneumothorax.", "true", ()),
])
def test_judgement(text, verdict, wrong):
    (claim,) = extract_claims(text)
    assert judge(claim, FACTS) == (verdict, wrong)


@pytest.mark.parametrize(("text", "expected"), [
    ("Yes.", True), ("yes, on the left", True), ("No", False), ("No nodule.", False),
    ("There is no nodule.", False),
    ("There is a nodule.", True), ("It is not present", False), ("Absent", False), ("Not seen.", False),
    ("not true", False), ("true", True), ("Left", None), ("yes and no", None), ("", None), ("2", None),
    ("A nodule and no effusion", None), ("\u200fYes", True),
])  # fmt: skip
def test_yes_no(text, expected):
    assert yes_no(text) is expected


def test_words_of_short_answers():
    words = {"In the Right mid zone.": [("side", "right"), ("zone", "mid")], "Markedly": [("size", "large")]}
    assert {text: [(a.name, a.value) for a in find_attributes(text)] for text in words} == words
    text = "It does not show it; no air."
    assert [text[a:b] for a, b in find_negations(text)] == ["not", "no"]


WORDS = st.sampled_from(
    "no not a A the right left upper zone small large nodule effusion pneumothorax heart enlarged is seen and or but"
    " , . ; clear lungs except for without in on of".split()
)


@given(st.lists(WORDS, max_size=25))
def test_any_word_salad_is_read_with_offsets_inside_the_text(words):
    text = " ".join(words)
    for c in extract_claims(text):
        assert 0 <= c.start < c.end <= len(text)
        assert all(0 <= a < b <= len(text) for a, b in c.parts.values())
        assert c.finding in FINDINGS and c.polarity in ("present", "absent", "uncertain")
    yes_no(text)
