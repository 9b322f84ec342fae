"""The fourteen CheXpert labels of a report: positive, negative, uncertain or not mentioned.

Mentions are put together as Irvin et al. (2019) do: one positive mention makes the label positive; else one uncertain
mention makes it uncertain; else one negative mention makes it negative; without a mention it stays empty. "No Finding"
is positive where nothing is positive or uncertain but support devices, and else not mentioned; findings without a
label of their own (emphysema, a hernia) count against it. Heart failure is a mention of edema and makes cardiomegaly
uncertain. As there, a label is mentioned where it or, for the heart and the mediastinum, its organ is named: "the lungs
are clear" mentions none. Ours, not theirs: signs that only hint at a label (`lexicon.HINTS`: congestion, a blunted
angle, a deformed rib) make it uncertain at most.
"""

import sys
from collections.abc import Iterable

from medalign_lite.text.claims import Claim
from medalign_lite.text.lexicon import CHEXPERT, HINTS, LABEL_OF
from medalign_lite.text.reports import read_report

_STATE = {"present": "positive", "absent": "negative", "uncertain": "uncertain"}
_NAMED_BY_ORGAN = ("cardiomegaly", "enlarged mediastinum")
_STRONGEST = ("positive", "uncertain", "negative")


def label_report(report: str) -> dict[str, str | None]:
    """Each label, in the order of `CHEXPERT`: "positive" | "uncertain" | "negative" | None (not mentioned)."""
    return aggregate(read_report(report))


def aggregate(claims: Iterable[Claim]) -> dict[str, str | None]:
    """The labels that claims of one report make together."""
    said: dict[str, set[str]] = {label: set() for label in CHEXPERT}
    clean = True
    for claim in claims:
        label, state = LABEL_OF.get(claim.finding), _STATE[claim.polarity]
        if state == "positive" and claim.finding in HINTS:
            state = "uncertain"
        clean = clean and (state == "negative" or label == "Support Devices")
        if label and ("organ" not in claim.parts or claim.finding in _NAMED_BY_ORGAN):
            said[label].add(state)
        if claim.finding == "heart failure" and state != "negative":
            said["Cardiomegaly"].add("uncertain")
    labels = {label: next((s for s in _STRONGEST if s in states), None) for label, states in said.items()}
    return labels | {"No Finding": "positive" if clean else None}


def as_text(report: str) -> str:
    """The claims of a report and its labels, as two tables."""
    claims = read_report(report)
    rows = [("finding", "polarity", "side", "zone", "size", "time", "words")]
    for c in claims:
        words = " ".join(report[c.start : c.end].split())
        rows.append((c.finding, c.polarity, c.side or "-", c.zone or "-", c.size or "-", c.temporal or "-", words))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[-1]]) for row in rows]
    labels = [f"{label:<28}{state or 'not mentioned'}" for label, state in aggregate(claims).items()]
    return "\n".join([*lines, "", *labels])


def main(arguments: list[str]) -> int:
    """Print the reading of the report on standard input; exit status 2 where there is none."""
    report = "" if arguments else sys.stdin.read()
    if not report.strip():
        command = "python -m medalign_lite labels < report.txt"
        print(f"error: no report on standard input; run `{command}`", file=sys.stderr)
        return 2
    print(as_text(report))
    return 0
