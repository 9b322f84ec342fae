"""The phantom's reports and questions say what the table of facts says, in the words of their bank."""

import re
from collections import Counter

import numpy as np
import pytest

from medalign_lite.text.facts import FINDINGS, SIDES, SIZES, ZONES, Fact
from medalign_lite.world.questions import REPORT_PROMPTS, ask, questions
from medalign_lite.world.text import BANKS, report

ZONED = ("nodule", "consolidation", "fracture")
SIZED = ("nodule", "consolidation", "effusion", "pneumothorax", "cardiomegaly")


def random_facts(rng: np.random.Generator, rate: float = 0.3, visible: float = 0.9) -> tuple[Fact, ...]:
    """A random table of facts with the attributes that apply to each finding."""

    def pick(options, when):
        return str(rng.choice(options)) if when else None

    return tuple(Fact(f, pick(SIDES, f != "cardiomegaly"), pick(ZONES, f in ZONED), pick(SIZES, f in SIZED),
                      visible=bool(rng.random() < visible))
                 for f in FINDINGS if rng.random() < rate)


@pytest.mark.parametrize("bank", BANKS)
def test_reports_state_every_visible_fact_and_no_invisible_one(bank):
    rng = np.random.default_rng(1)
    for _ in range(200):
        facts = random_facts(rng)
        made = report(facts, rng, bank)
        seen, unseen = ({f.finding for f in facts if f.visible is v} for v in (True, False))
        polarity = {}
        for start, end, finding, says in made.spans:
            assert 0 <= start < end <= len(made.text) and finding not in polarity
            polarity[finding] = says
        assert {f for f, says in polarity.items() if says == "present"} == seen and not unseen & set(polarity)
        assert len(made.text.split()) <= 80 and "[" not in made.text and "{" not in made.text and "  " not in made.text


def test_some_normals_are_left_unsaid_and_the_pool_says_more_normals_first():
    rng = np.random.default_rng(2)
    said = np.mean([len(report((), rng, "base").spans) / len(FINDINGS) for _ in range(300)])
    assert 0.70 < said < 0.80
    rng = np.random.default_rng(3)
    length = {bank: np.mean([len(report(random_facts(rng), rng, bank).text.split()) for _ in range(200)])
              for bank in BANKS}
    assert length["pool"] > 1.25 * length["base"]
    for _ in range(50):
        says = [s[3] for s in report(random_facts(rng), rng, "pool").spans]
        assert says == sorted(says)


def test_banks_share_words_and_hold_out_combinations():
    rng = np.random.default_rng(4)
    words, sentences = ({b: set() for b in BANKS} for _ in range(2))
    for bank in BANKS:
        for _ in range(500):
            text = report(random_facts(rng), rng, bank).text
            single = [s for s in re.split(r"(?<=\.) ", text) if " or " not in s]
            sentences[bank] |= {s for s in single if not re.search("lungs|pleural spaces|ribs|heart|Heart|cardiac", s)}
            asked = questions(random_facts(rng), rng, bank, 8)
            words[bank] |= set(re.findall(r"[\w-]+", (text + " ".join(q.text + q.answer for q in asked)).lower()))
    assert words["pool"] | words["test"] <= words["base"]
    assert not any(sentences[a] & sentences[b] for a, b in (("base", "pool"), ("base", "test"), ("pool", "test")))


def test_closed_answers_are_balanced_for_each_finding():
    rng = np.random.default_rng(5)
    counts = Counter((q.finding, q.answer) for _ in range(1500) for q in ask(random_facts(rng), rng, "base", 8)
                     if q.kind == "closed")
    for finding in FINDINGS:
        yes, no = counts[finding, "Yes."], counts[finding, "No."]
        assert 0.44 < yes / (yes + no) < 0.56, finding


@pytest.mark.parametrize("bank", BANKS)
def test_questions_are_distinct_answered_by_the_facts_and_never_about_the_invisible(bank):
    rng = np.random.default_rng(7)
    for _ in range(150):
        facts = random_facts(rng)
        asked = questions(facts, rng, bank, 8)
        assert asked[0].kind == "report" and asked[0].text in REPORT_PROMPTS[bank]
        assert len({q.text for q in asked}) == len({q.id for q in asked}) == len(asked) <= 9
        hidden = {f.finding for f in facts if not f.visible}
        truth = {f.finding: f for f in facts}
        for q in asked[1:]:
            assert q.finding not in hidden and q.visible and q.kind in ("closed", "open")
            assert (q.answer in ("Yes.", "No.")) == (q.kind == "closed")
            if q.topic in ("presence", "absence"):
                assert q.answer == ("Yes." if (q.finding in truth) == (q.topic == "presence") else "No.")
            if q.topic == "side":
                assert q.answer == f"On the {truth[q.finding].side}."
            if q.topic == "zone":
                assert q.answer == f"In the {truth[q.finding].zone} zone."
            if q.topic == "premise":
                assert q.finding not in truth and q.answer.startswith("There is no ")


def test_twins_differ_in_one_fact_and_in_the_answer():
    rng = np.random.default_rng(8)
    pairs = {}
    for case in range(200):
        for q in ask(random_facts(rng), rng, "test", 10):
            if q.topic == "twin":
                pairs.setdefault((case, q.id[:-2]), []).append(q)
    assert len(pairs) > 50
    for a, b in pairs.values():
        assert {a.answer, b.answer} == {"Yes.", "No."} and a.text != b.text
        assert len(set(a.text.split()) ^ set(b.text.split())) <= 6


def test_unknown_banks_and_repeated_findings_are_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown phrase bank 'train'"):
        report((), rng, "train")
    with pytest.raises(ValueError, match="at most one fact a finding"):
        report((Fact("nodule", "left", "mid", "small"),) * 2, rng, "base")
