"""Counts against answers worked out by hand, and the published LLaVA-Med scorer's known answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate import metrics
from medalign_lite.evaluate import short_answers as vqa
from medalign_lite.evaluate.metrics import COLUMNS, Margins, Prediction, TokenValues, count, ratios
from medalign_lite.evaluate.priors import COMMONEST, constant_predictions, error_table
from medalign_lite.evaluate.stats import EXTRA_METRICS, RESULT_METRICS, results
from medalign_lite.show.page import verdict
from medalign_lite.show.tables import read_results
from medalign_lite.text.facts import Fact
from medalign_lite.world import world
from medalign_lite.world.questions import questions as questions_about

PUBLISHED = Path(__file__).parents[2] / "shared" / "reference" / "llavamed_reference_cases.json"
OWN = [  # in the published file's form; worked out by hand from the rules
    {"pred": "A mass in the liver", "gt": "the liver", "pred_norm": "mass in liver", "gt_norm": "liver",
     "f1_prec_recall": [0.5, 0.3333, 1.0], "exactmatch": 0.3333},
    {"pred": "Left. Right", "gt": "left-sided", "pred_norm": "left right", "gt_norm": "left sided",
     "f1_prec_recall": [0.5, 0.5, 0.5], "exactmatch": 0.5},
    {"pred": "x-ray, 1,000", "gt": "dont", "pred_norm": "xray 1000", "gt_norm": "don't",
     "f1_prec_recall": [0.0, 0.0, 0.0], "exactmatch": 0.0},
    {"pred": "abnormal", "gt": "no", "closed": 1},
    {"pred": "nothing there", "gt": "yes", "closed": 0},
]  # fmt: skip


OWN += json.loads(PUBLISHED.read_text()) if PUBLISHED.exists() else []


@pytest.mark.parametrize("known", OWN, ids=lambda known: known["pred"] or "empty")
def test_llavamed_known_answers(known):
    if "closed" in known:
        assert vqa.llavamed_closed(known["pred"], known["gt"]) == known["closed"]
        return
    assert vqa.llavamed_normalise(known["pred"]) == known["pred_norm"]
    assert vqa.llavamed_normalise(known["gt"]) == known["gt_norm"]
    assert [round(x, 4) for x in vqa.llavamed_open(known["pred"], known["gt"])] == known["f1_prec_recall"]


@pytest.mark.parametrize(("answer", "gold", "right"), [
    ("On the left side.", "Left", True), ("It is not left.", "left", False), ("Leftover", "left", False),
    ("upper right", "right upper", False), ("", "left", False), ("left", "", False),
])  # fmt: skip
def test_strict_match(answer, gold, right):
    assert vqa.strict_match(answer, gold) is right


REPORT = Question("r", "Describe.", "", "report", "report")
EFFUSION = Fact("effusion", "left", None, "small")
NODULE = Fact("nodule", "right", "upper", "small", visible=False)


def make_case(facts=(EFFUSION,), *questions, id="a", group=None):
    return Case(id, group or id, "test", Path("x.png"), (REPORT, *questions), facts)


def measure(case, *texts, arm="base", **options):
    predictions = [Prediction(case.id, q.id, t, arm) for q, t in zip(case.questions, texts, strict=False)]
    counts = count([case], predictions, arm=arm, **options)
    return {name: float(value) for name, value in ratios(counts.table.sum(axis=0)).items()}


@pytest.mark.parametrize(("report", "precision", "recall", "hallucinated"), [
    ("There is a small left pleural effusion.", 1, 1, 0), ("There is a small right pleural effusion.", 0, 0, 1),
    ("Left effusion. There is cardiomegaly.", 0.5, 1, 0.5), ("No effusion is seen.", np.nan, 0, np.nan),
    ("Bilateral pleural effusions.", 0.5, 1, 0.5), ("There is a pleural effusion.", 1, 1, 0),
])  # fmt: skip
def test_fact_metrics_by_hand(report, precision, recall, hallucinated):
    got = measure(make_case(), report)
    names = ("fact_precision", "fact_recall", "hallucination_rate")
    np.testing.assert_allclose([got[name] for name in names], [precision, recall, hallucinated])


def test_a_wrong_zone_is_no_hallucination_size_is_scored_apart_and_what_is_unseen_not_at_all():
    got = measure(make_case((Fact("nodule", "right", "upper", "small"),)), "A small nodule in the right lower zone.")
    assert (got["fact_precision"], got["fact_recall"], got["hallucination_rate"]) == (0, 0, 0)
    got = measure(make_case(), "There is a large left pleural effusion.")
    assert (got["fact_precision"], got["size_accuracy"]) == (1, 0)
    assert measure(make_case(), "The study is unremarkable.")["fact_f1"] == 0
    case = make_case((NODULE,))
    assert np.isnan(measure(case, "A small nodule in the right upper zone.")["fact_precision"])
    assert measure(case, "A nodule in the left upper zone.")["hallucination_rate"] == 1


def test_closed_and_open_answers():
    questions = (
        Question("c", "Effusion?", "yes", "closed", "presence"), Question("s", "Which side?", "left", "closed", "side"),
        Question("h", "Nodule?", "yes", "closed", "presence", visible=False),
        Question("o", "Where?", "left lower zone", "open", "zone"),
    )
    got = measure(make_case((EFFUSION,), *questions), "", "There is no effusion.", "The left one", "no", "lower left")
    assert (got["closed_accuracy"], got["yes_ratio"]) == (0.5, 0) and got["open_recall"] == pytest.approx(2 / 3)


def test_groups_are_summed_over_images_and_without_facts_there_is_nothing_to_count():
    counts = count([make_case(None)], [Prediction("a", "r", "A nodule.")], arm="base")
    assert np.isnan(ratios(counts.table.sum(axis=0))["fact_precision"])
    assert not counts.images("fact_f1").any() and not counts.images("overclaim_lesion_hidden").any()
    cases = [make_case(id="a", group="p"), make_case(id="b", group="p"), make_case(id="c")]
    counts = count(cases, [Prediction(c.id, "r", "Left effusion.") for c in cases], arm="base")
    assert counts.groups == ("c", "p") and counts.table[:, COLUMNS.index("claims")].tolist() == [1, 2]


def test_overclaim_counts_the_one_finding_that_was_hidden():
    case = make_case((EFFUSION, Fact("fracture", "left", "mid"), NODULE))

    def rate(finding, text):
        counts = count([case], [Prediction("a", "r", text, "base", "hidden", finding)], arm="base")
        return ratios(counts.table.sum(axis=0))["overclaim_lesion_hidden"]

    text = "Left pleural effusion. No fracture."
    assert (rate("effusion", text), rate("fracture", text)) == (1, 0)
    assert rate("effusion", "Right pleural effusion.") == 1  # wherever it is put
    with pytest.raises(ValueError, match="does not say which"):
        rate(None, text)


def test_changed_cases_are_scored_by_what_their_pictures_show():
    closed = Question("c", "Effusion?", "Yes.", "closed", "presence", "effusion")
    case = make_case((EFFUSION, Fact("fracture", "left", "mid")), closed)
    said = [Prediction("a", "r", "A left rib fracture.", "base", "hidden", "effusion"),
            Prediction("a", "c", "No.", "base", "hidden", "effusion")]
    changed = metrics.changed_cases([case, make_case(id="b")], said, "hidden")
    assert [one.id for one in changed] == ["a"] and changed[0].facts == (Fact("fracture", "left", "mid"),)
    got = ratios(count(changed, said, arm="base", condition="hidden").table.sum(axis=0))
    assert (got["fact_f1"], got["closed_accuracy"], got["overclaim_lesion_hidden"]) == (1, 1, 0)


def test_perplexity_is_over_all_tokens_together():
    said = [TokenValues("a", "new", (-1.0, -2.0)), TokenValues("b", "new", (-3.0,)), TokenValues("a", "base", (-9.0,))]
    cases = [make_case(), make_case(id="b")]
    got = ratios(count(cases, [], arm="new", logp=said).table.sum(axis=0))["perplexity_under_base"]
    assert got == pytest.approx(np.exp(2))
    assert np.isnan(ratios(count(cases, [], arm="other", logp=said).table.sum(axis=0))["perplexity_under_base"])


def test_grounding_of_a_blind_model_is_zero_and_missing_images_do_not_count():
    margins = [Margins("1", "a", "base", 2.0, 2.0, 2.0), Margins("2", "a", "base", -1.0, -1.0, None),
               Margins("3", "a", "base", 1.0), Margins("4", "a", "other", 1.0, -9.0, 9.0)]
    counts = count([make_case()], [], arm="base", margins=margins)
    got = ratios(counts.table.sum(axis=0))
    assert (got["grounding_selectivity"], got["flip_rate"], got["invariance_rate"]) == (0, 0.5, 1)


def test_style_and_kl():
    case = make_case()
    texts = [Prediction("a", "r", "one two three four", "base"), Prediction("a", "r", "one two five", "aligned")]
    counts = count([case], texts, arm="aligned", kl=[TokenValues("a", "aligned", (0.1, 0.3))])
    got = ratios(counts.table.sum(axis=0))
    assert got["style_edit_distance"] == 0.5 and got["answer_words"] == 3
    assert got["kl_to_reference"] == pytest.approx(0.2)


def test_errors_name_what_is_wrong():
    case, answer = make_case(), Prediction("a", "r", "x")
    with pytest.raises(ValueError, match="two answers of base"):
        count([case], [answer, answer], arm="base")
    with pytest.raises(ValueError, match="no question zz"):
        count([case], [Prediction("a", "zz", "x")], arm="base")
    with pytest.raises(ValueError, match="unknown condition"):
        count([case], [], arm="base", condition="dark")


def test_error_table_shows_a_prior():
    heart = Fact("cardiomegaly", None, None, "large")
    cases = [make_case((heart,), id=f"h{i}") for i in range(4)] + [make_case((), id=f"n{i}") for i in range(4)]
    cases.append(make_case((EFFUSION,), id="e"))
    affirmed = {"h0", "h1", "h2", "n0", "e"}
    predictions = [Prediction(c.id, "r", "Right effusion." if c.id in affirmed else "Clear.") for c in cases]
    rows = {(r.kind, r.side, r.cofinding, r.cofinding_present): (r.false, r.images)
            for r in error_table(cases, predictions, arm="base") if r.finding == "effusion"}
    assert rows["absent", None, None, None] == (4, 8)
    assert rows["wrong side", "right", None, None] == (1, 1)
    assert rows["cofinding", None, "cardiomegaly", True] == (3, 4)
    assert rows["cofinding", None, "cardiomegaly", False] == (1, 4)


def test_error_table_by_reference_reports():
    """Who denies a finding says that it is not there; of what a report does not mention nobody knows."""
    reports = {
        "a": "No pleural effusion. The heart is enlarged.", "b": "No pleural effusion. The heart is normal in size.",
        "c": "Left pleural effusion.", "d": "The heart is enlarged.", "e": "Pleural effusion cannot be excluded.",
    }  # fmt: skip
    cases = [Case(name, name, "test", Path("x.png"), (Question("r", "Describe.", text, "report", "report"),), None)
             for name, text in reports.items()]
    predictions = [Prediction(name, "r", "There is a right pleural effusion.") for name in reports]
    rows = {(r.finding, r.kind, r.side, r.cofinding, r.cofinding_present): (r.false, r.images)
            for r in error_table(cases, predictions, arm="base")}
    assert rows["effusion", "absent", None, None, None] == (2, 2)
    assert rows["effusion", "wrong side", "right", None, None] == (1, 1)
    assert rows["effusion", "cofinding", None, "cardiomegaly", True] == (1, 1)
    assert rows["effusion", "cofinding", None, "cardiomegaly", False] == (1, 1)
    assert rows["cardiomegaly", "absent", None, None, None] == (0, 1)


def test_the_phantoms_own_reports_and_answers_score_one():
    cases, predictions = [], []
    for seed in range(80):
        facts = world.draw_facts(world.CONFOUNDED, np.random.default_rng(seed))
        questions = questions_about(facts, np.random.default_rng(seed), "test", 6)
        cases.append(Case(f"c{seed}", f"c{seed}", "test", Path("x.png"), questions, tuple(facts)))
        predictions += [Prediction(f"c{seed}", q.id, q.answer) for q in questions]
    assert {q.kind for case in cases for q in case.questions} == {"report", "closed", "open"}
    got = ratios(count(cases, predictions, arm="base").table.sum(axis=0))
    perfect = ("fact_precision", "fact_recall", "fact_f1", "size_accuracy", "closed_accuracy", "open_recall")
    assert {name: float(got[name]) for name in perfect} == dict.fromkeys(perfect, 1.0)
    assert got["hallucination_rate"] == 0 and 0.3 < got["yes_ratio"] < 0.7


@pytest.mark.parametrize(("a", "b", "edits"), [
    ("a small left effusion", "a small left effusion", 0), ("a small left effusion", "a large right effusion", 2),
    ("a small left effusion", "one large right effusion", 3), ("a b c", "b c", 1), ("a b c d", "b c d e", 2),
    ("kitten sat", "sat kitten", 2), ("", "a b c", 3), ("Left", "left", 1),
])  # fmt: skip
def test_words_changed_and_whether_they_are_at_most_two(a, b, edits):
    longest = max(len(a.split()), len(b.split()))
    for text, other in ((a, b), (b, a)):
        words = {"word_answers": 1, "words": len(text.split())}
        edited = {"edit_answers": 1, "edit_distance": edits / longest, "within_few_words": edits <= 2}
        assert metrics.style_counts(text, other) == words | edited
        assert metrics.style_counts(text, None) == words  # without a reference answer


def test_a_multiple_choice_is_scored_shown_and_has_its_baseline():
    def asked(n, split, right):
        options = ("ochre", "umber", "sepia")
        return Case(f"{split}{n}", f"{split}{n}", split, Path("x.png"), (
            Question("q", "Which is it?", options[right], "choice", "colour", options=options),))

    cases = [asked(n, "train", 1) for n in range(2)] + [asked(n, "test", n) for n in range(3)]
    held = [case for case in cases if case.split == "test"]
    answers = {"base": ("A", "A or B", "I cannot say."), "aligned": ("A", "umber", "A")}
    said = [Prediction(case.id, "q", text, arm) for arm in answers for case, text in zip(held, answers[arm])]
    found = results(cases, said, aligned="aligned", names=(*RESULT_METRICS, *EXTRA_METRICS), draws=50)
    shares = {arm: [found[arm]["test"][name]["value"] for name in ("choice_accuracy", "choice_none")]
              for arm in ("base", "aligned")}
    assert shares == {"base": pytest.approx([1 / 3, 2 / 3], abs=1e-6), "aligned": pytest.approx([2 / 3, 0], abs=1e-6)}
    assert "On 3 test images choice accuracy went from 0.333 to 0.667" in verdict(found)
    assert any("On questions choice accuracy" in line for line in read_results(found))
    usual = [p.text for p in constant_predictions(cases) if p.arm == COMMONEST]
    assert usual == ["umber"] * 3, "the option in the commonest place of the training cases"
