"""Reports against facts, every count worked out by hand; `test_metrics` has the ratios."""

import pytest

from medalign_lite.edits.truths import Facts
from medalign_lite.evaluate.agreement import report_counts
from medalign_lite.text.facts import Fact

EFFUSION = Fact("effusion", "left", None, "small")
NODULE = Fact("nodule", "right", "upper", "small")
FRACTURE = Fact("fracture", "left", "mid")
UNSEEN = Fact("nodule", "right", "upper", "small", visible=False)
FACTS = (EFFUSION, NODULE, FRACTURE)
MIXED = "A large left pleural effusion. A small nodule in the left upper zone. There is a right pneumothorax."


def counted(report, facts, *names):
    row = report_counts(report, Facts(tuple(facts)))
    return tuple(row.get(name) for name in names)


@pytest.mark.parametrize(("level", "right"), [("_finding", 2), ("_side", 1), ("", 1), ("_size", 0)])
def test_each_level_asks_for_more(level, right):
    """The effusion errs in size, the nodule in side, the pneumothorax is no fact."""
    assert counted(MIXED, FACTS, f"claims_right{level}", f"facts_found{level}") == (right, right)
    assert counted(MIXED, FACTS, "claims", "facts", "claims_hallucinated") == (3, 3, 2)


def test_zone_level_lies_between_side_and_size():
    report = "A small nodule in the right lower zone."
    assert counted(report, (NODULE,), "claims_right_side", "claims_right", "claims_right_size") == (1, 0, 0)


@pytest.mark.parametrize(("report", "facts", "expected"), [  # matched, false, missing, location, severity
    (MIXED, FACTS, (0, 1, 1, 1, 1)),
    ("A small left pleural effusion. A small nodule in the right upper zone. A left rib fracture.", FACTS,
     (3, 0, 0, 0, 0)),
    ("A large nodule in the left upper zone.", (NODULE,), (0, 0, 0, 1, 1)),  # one pair with two errors
    ("A small nodule in the right lower zone.", (NODULE,), (0, 0, 0, 1, 0)),
    ("A small left effusion. The left effusion is small.", (EFFUSION,), (1, 0, 0, 0, 0)),  # twice is no error
    ("Bilateral pleural effusions.", (EFFUSION,), (1, 1, 0, 0, 0)),
    ("No pleural effusion.", (EFFUSION,), (0, 0, 1, 0, 0)),
    ("There is cardiomegaly.", (), (0, 1, 0, 0, 0)),
    ("A small left pleural effusion. A small nodule in the right upper zone.", FACTS, (2, 0, 1, 0, 0)),
    ("A small left pleural effusion. A large nodule in the left upper zone.", (EFFUSION, NODULE), (1, 0, 0, 1, 1)),
    ("A large nodule in the left lower zone. A small nodule in the right upper zone.",
     (NODULE, Fact("nodule", "left", "lower", "large")), (2, 0, 0, 0, 0)),  # paired with the fewest errors
    ("The study is unremarkable.", (), (0, 0, 0, 0, 0)),
    ("A small nodule in the right upper zone.", (UNSEEN,), (0, 0, 0, 0, 0)),
    ("The study is unremarkable.", (UNSEEN,), (0, 0, 0, 0, 0)),
])  # fmt: skip
def test_errors_by_type_and_the_share_of_matches_among_matches_and_errors(report, facts, expected):
    names = ("false_findings", "missing_findings", "location_errors", "severity_errors")
    assert counted(report, facts, *names) == expected[1:]
    ratio = (expected[0] / sum(expected), 1) if any(expected) else (None, None)
    assert counted(report, facts, "match_ratio", "match_reports") == ratio


def test_attributes_are_judged_where_they_are_stated():
    names = ("attributes", "attributes_stated", "sides", "sides_right", "zones", "zones_right")
    assert counted("A nodule on the right.", (NODULE,), *names) == (3, 1, 1, 1, 0, 0)
    assert counted("A small nodule in the left upper zone.", (NODULE,), *names) == (3, 3, 1, 0, 1, 1)
    assert counted("There is a pleural effusion.", (EFFUSION,), *names) == (2, 0, 0, 0, 0, 0)  # facts without a zone


@pytest.mark.parametrize(("report", "mentions", "false"), [
    ("A large right pleural effusion.", 1, 0),  # wrong side and size: CHAIR asks for the object alone
    ("Bilateral pleural effusions.", 1, 0),  # two claims, one mention
    ("There is cardiomegaly. A right pneumothorax.", 2, 2),
    ("A left effusion. A right pneumothorax.", 2, 1),
    ("A right pneumothorax. The pneumothorax is large.", 2, 2),
    ("No pneumothorax. No cardiomegaly.", 0, 0),  # denied
    ("A nodule in the left upper zone.", 0, 0),  # not visible: neither true nor false
])  # fmt: skip
def test_chair_counts_affirmed_mentions(report, mentions, false):
    got = counted(report, (EFFUSION, UNSEEN), "mentions", "mentions_false", "reports", "reports_false")
    assert got == (mentions, false, 1, false > 0)
