"""Reference reports as truth: what they decide, minimal edits by them, records and metrics of IU X-ray and MIMIC."""

from collections import Counter

import layouts
import numpy as np
import pytest

from medalign_lite.cases.readers import read_cases
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.edits.records import build_records, check_record
from medalign_lite.edits.truths import BY_REPORT, Report, stated
from medalign_lite.evaluate.agreement import report_counts
from medalign_lite.evaluate.metrics import Prediction, count, ratios
from medalign_lite.text.diff import remove_spans
from medalign_lite.text.reports import read_report
from medalign_lite.text.spans import NoEdit

REPORT = ("FINDINGS: Small left pleural effusion. Mild cardiomegaly. No pneumothorax. Right lower lobe consolidation. "
          "No pulmonary edema. Left chest tube in place. Possible nodule in the left upper lobe.")


@pytest.mark.parametrize(("said", "verdict"), [
    ("Left effusion.", "true"), ("Small effusion.", "true"), ("Right effusion.", "false"), ("Large effusion.", "false"),
    ("No effusion.", "false"), ("No left pneumothorax.", "true"), ("Small right pneumothorax.", "false"),
    ("Upper lobe effusion.", "unverifiable"), ("Rib fracture.", "unverifiable"), ("No fracture.", "unverifiable"),
    ("Nodule.", "unverifiable"), ("No nodule.", "unverifiable"), ("Possible effusion.", "unverifiable"),
    ("Left upper lobe consolidation.", "false"), ("Right lower lobe consolidation.", "true"),
    ("The heart size is normal.", "false"), ("The heart is enlarged.", "true"),
])  # fmt: skip
def test_only_what_the_report_states_is_decided(said, verdict):
    [claim] = read_report(said)
    assert Report(REPORT).judge(claim).verdict == verdict


@pytest.mark.parametrize(("said", "better"), [
    ("There is a small right pleural effusion.", "There is a small left pleural effusion."),
    ("No pleural effusion or pneumothorax is seen.",
     "A small left pleural effusion but no pneumothorax is seen."),
    ("No pneumothorax or pleural effusion is seen.",
     "No pneumothorax but a small left pleural effusion is seen."),
    ("There is no pleural effusion.", "There is a small left pleural effusion."),
    ("No pleural effusion.", "Small left pleural effusion."),
    ("Pleural effusion is not seen.", "A small left pleural effusion is seen."),
    ("The heart size is normal.", "The heart size is mildly increased."),
    ("The heart is not enlarged. Large pneumothorax.", "The heart is mildly enlarged. No pneumothorax."),
    ("Mild pulmonary edema.", "No pulmonary edema."),
    ("Left lower lobe consolidation. Fracture.", "Right lower lobe consolidation. Fracture."),
    ("There is no evidence of consolidation.", "There is evidence of a right lower lobe consolidation."),
    ("There is a small left effusion and pulmonary edema.", "There is a small left effusion and no pulmonary edema."),
    ("Severe cardiomegaly.", "Mild cardiomegaly."),
    ("Right upper lobe consolidation.", "Right lower lobe consolidation."),
    ("A right pneumothorax is noted.", "No pneumothorax is noted."),
    ("There is a loculated pneumothorax.", "There is no pneumothorax."),
    ("A large, lobulated, layering pneumothorax is seen.", "No pneumothorax is seen."),
    ("Fracture. Small left effusion.", None), ("The bones are normal.", None), ("", None),
])  # fmt: skip
def test_what_the_report_contradicts_is_repaired_and_nothing_else(said, better):
    edit = Report(REPORT).correct(said)
    assert (edit and edit.chosen) == better
    if edit:
        assert edit.how == BY_REPORT and edit.rejected == said
        assert remove_spans(edit.chosen, edit.spans_chosen) == remove_spans(said, edit.spans_rejected)


def test_a_right_answer_gets_one_false_claim():
    seen = Counter()
    said = "There is a small left effusion. No pneumothorax."
    for seed in range(20):
        edit = Report(REPORT).falsify(said, np.random.default_rng(seed))
        assert edit.chosen.startswith("There is a small left effusion.") and edit.source == "counterfactual"
        seen[edit.rejected] += 1
    assert "There is a small right effusion. No pneumothorax." in seen and len(seen) >= 3
    for said in ("Fracture.", "Small right effusion. No pneumothorax.", ""):
        with pytest.raises(NoEdit):
            Report(REPORT).falsify(said, np.random.default_rng(0))


def test_a_report_as_facts_leaves_doubt_and_what_it_does_not_mention_unscored():
    found = stated(read_report("Small bilateral effusions. Left effusion. Possible pneumonia. No edema."))
    assert [(f.finding, f.side, f.size, f.visible) for f in found.facts] == [
        ("effusion", "right", "small", True), ("effusion", "left", "small", True), ("pneumonia", None, None, False)]
    assert found.mentioned == {"effusion", "edema"}
    row = report_counts("Left effusion. Right pneumothorax. Fracture. Nodule.", Report(REPORT))
    assert (row["claims"], row["claims_right"], row["claims_hallucinated"], row["facts"]) == (2, 1, 1, 4)
    assert report_counts("", Report(REPORT))["facts"] == 4
    assert report_counts("Effusion.", Report(""))["claims"] == 0


def test_a_data_set_with_reports_gives_records_and_metrics(tmp_path):
    layouts.r2gen(tmp_path)
    path = tmp_path / "annotation.json"
    path.write_text(path.read_text().replace(f"The {layouts.WORDS[0]} is clear.", REPORT.removeprefix("FINDINGS: ")))
    case = next(c for c in read_cases(tmp_path).cases if "pleural effusion" in c.questions[0].answer)
    said = "There is a small right pleural effusion. No pneumothorax. Rib fracture."
    rollout = Rollout("r/greedy", case.id, case.questions[0].id, 0, said, [1], [0.0], {})
    records, rejected = build_records([rollout], [case])
    assert case.facts is None and not rejected and check_record(records[0]) is None
    assert records[0].chosen == "There is a small left pleural effusion. No pneumothorax. Rib fracture."
    assert records[0].verified["how"] == BY_REPORT
    for text, rates in ((said, (0.0, 0.0, 1.0)), (records[0].chosen, (1.0, 1 / 4, 0.0))):
        counts = count([case], [Prediction(case.id, case.questions[0].id, text)], arm="base")
        names = ["fact_precision", "fact_recall", "hallucination_rate"]
        assert tuple(ratios(counts.table.sum(axis=0), names).values()) == rates


@pytest.mark.parametrize(("reference", "said", "better"), [
    ("Lingular consolidation.", "No consolidation.", "Lingular consolidation."),
    ("There is atelectasis in the lingula.", "No atelectasis is seen.", "Atelectasis in the lingula is seen."),
    ("No fracture, osteopenic bones.", "No osteopenia.", "Osteopenia."),
    ("Small effusions bilaterally.", "No effusion on the left.", "Small effusion on the left."),
    ("Moderate right effusion.", "No effusions bilaterally.", "Moderate right effusion."),
    ("Small left effusion.", "Effusions are absent bilaterally.", "There is a small left effusion."),
    ("Cardiomediastinal silhouette is normal.", "The heart is enlarged.", "The heart is not enlarged."),
    ("Heart mildly enlarged.", "There is no cardiomegaly.", "There is mild cardiomegaly."),
    ("No acute fracture.", "Acute rib fracture.", "No acute rib fracture."),
    ("Small left effusion. IMPRESSION: Pleural effusion.", "Small right effusion.", "Small left effusion."),
    ("No effusion.", "FINDINGS: Mild edema. Small effusion. IMPRESSION: Small effusion.",
     "FINDINGS: Mild edema. No effusion. IMPRESSION: No effusion."),
])  # fmt: skip
def test_what_is_turned_keeps_its_place(reference, said, better):
    assert Report(reference).correct(said).chosen == better


@pytest.mark.parametrize(("reference", "said"), [
    ("Large left effusion.", "No effusion or scalloping."),
    ("Left effusion.", "Moderate right and small left effusions."),
    ("No effusion.", "Opacity with a large effusion and mediastinal shift."),
])  # fmt: skip
def test_what_would_take_more_than_the_finding_with_it_is_refused(reference, said):
    with pytest.raises(NoEdit):
        Report(reference).correct(said)


@pytest.mark.parametrize(("reference", "answer"), [
    ("Minimal left basilar atelectasis. Otherwise clear lungs.",
     "Moderate left basilar atelectasis. Pneumonia in the right lower lobe."),
    ("No kyphosis. No acute findings in the chest.", "Kyphosis. Acute pneumonia in the left lung."),
    ("Small hiatal hernia. Lungs grossly clear.", "Large hiatal hernia. The lungs have bilateral infiltrates."),
    ("A 6 mm nodule in the right middle lobe. No edema.", "A 6 mm nodule in the left lower lobe. Mild edema."),
    ("Right chest tube in place. No pneumothorax.", "Left chest tube in place. Small right pneumothorax."),
    ("Mild to moderate cardiomegaly. No effusion.", "Severe cardiomegaly. Small left effusion."),
    ("Interstitial edema. Small left effusion.", "Lungs clear. Small right effusion."),
    ("Tortuous thoracic aorta. Heart size normal.", "Thoracic aorta is unremarkable. Cardiomegaly is seen."),
    ("Right-sided aortic arch. Heart size normal.", "Left-sided aortic arch. The heart is enlarged."),
    ("Acute left MCA territory infarct. No hemorrhage.", "Acute right MCA territory infarct. Large hemorrhage."),
    ("Mild splenomegaly. No ascites.", "The spleen is normal in size. There is moderate ascites."),
    ("Could be early pneumonia. No effusion.", "No pneumonia. Small effusion."),
    ("Old healed fracture of the left sixth rib. No effusion.", "Acute fracture of the left sixth rib. Effusion."),
    ("ET tube tip at T3. No pneumothorax.", "The ET tube tip is at the carina. Bilateral pneumothoraces."),
    ("Left port catheter tip at the cavoatrial junction. Mild cardiomegaly.",
     "The left chest port ends in the brachiocephalic vein. Heart size is normal."),
    ("Aortic valve replacement. Normal heart size.", "Mitral valve prosthesis. Heart enlarged."),
    ("Mediastinal drains removed. No pneumothorax.", "Mediastinal drains remain. Tiny left pneumothorax."),
    ("Numerous bilateral nodules. Small left effusion.", "Solitary nodule in the right lung. A small right effusion."),
    ("Acute pancreatitis. No necrosis. No gallstones.", "There is necrosis of the tail. Gallstones are noted."),
    ("Mediastinum shifted left. Right pneumothorax.", "The mediastinum is central. Left pneumothorax."),
    ("Hyperlucent left lung. Right lung normal.", "The right lung is hyperlucent. The left lung is normal."),
    ("Right pulmonary contusion.", "The lungs are clear, with no contusion."),
    (REPORT, "Lungs are clear."),  # with a possible nodule they are not
    ("Left effusion has decreased, now small.", "Interval increase in the left effusion, now moderate."),
    ("Hyperlucent left lung. Shift to the right.", "Hyperlucent right lung. Shift to the left."),
    ("No acute infiltrate. No pneumothorax.", "Right infiltrate. Small left pneumothorax."),
])  # fmt: skip
def test_a_text_is_not_called_better_while_it_says_what_the_reference_speaks_against(reference, answer):
    try:
        edit = Report(reference).correct(answer)
    except NoEdit:
        return
    kept = [part for part in answer.split(". ") if edit and part.rstrip(".") in edit.chosen]
    assert edit is None or not kept, edit.chosen  # the disputed statement, too, was repaired
