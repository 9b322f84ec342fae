"""The gates of the reader, the edits and the scorers: texts whose right reading is written beside them (tests/texts).

    python -m benchmarks.gates [--write] [--data DIR ...]

`--write` puts the figures into docs/GATES.md with every row that fails. `--data`: SLAKE or VQA-RAD as published; their
own questions and gold answers are then answered as models answer, and what the editor makes of that is counted.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Question
from medalign_lite.cases.readers import read_cases
from medalign_lite.edits.truths import Gold, Report
from medalign_lite.evaluate.agreement import report_counts
from medalign_lite.files import ROOT
from medalign_lite.text.answers import option_of
from medalign_lite.text.grammar import broken
from medalign_lite.text.reports import read_report
from medalign_lite.text.says import yes_no
from medalign_lite.text.spans import NoEdit

TEXTS = ROOT / "tests" / "texts"
PAGE = ROOT / "docs" / "GATES.md"
BEFORE = TEXTS / "before.json"  # what commit b632397 made of the same texts
LEFT_OUT: dict[str, str] = {}  # rows whose label is doubted, with the reason; README.md of the texts says them too
ERRORS = ("claims_hallucinated", "mentions_false", "false_findings", "location_errors", "severity_errors")
SAYS = {True: "yes", False: "no", None: "neither"}


def rows(name: str) -> list[dict]:
    """The texts of a gate."""
    lines = (TEXTS / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    return [row for row in map(json.loads, filter(None, lines)) if row.get("id") not in LEFT_OUT]


def corrected(answer: str, report: str) -> tuple[str | None, str]:
    """(y+ or None, why none)."""
    try:
        edit = Report(report).correct(answer)
    except NoEdit as reason:
        return None, str(reason)
    return (edit.chosen, "") if edit else (None, "not contradicted")


def true_pairs() -> Iterator[tuple[str, bool, str]]:
    """(id, passed, what went wrong) of a true statement: no edit, and nothing false counted."""
    for row in rows("true_pairs"):
        better, why = corrected(row["statement"], row["reference"])
        counts = report_counts(row["statement"], Report(row["reference"]))
        wrong = [name for name in ERRORS if counts.get(name)]
        told = better or ("" if why == "not contradicted" else why) or ", ".join(wrong)
        yield row["id"], not told, f"{row['reference']} / {row['statement']} -> {told}"


def repairs() -> Iterator[tuple[str, str, str]]:
    """(id, outcome, texts): "listed", "same claims" as a listed one, "other", or the reason of none."""
    for row in rows("repairs"):
        better, why = corrected(row["answer"], row["reference"])
        yield row["id"], outcome(better, row), f"{row['reference']} / {row['answer']} -> {better or why}"


def outcome(better: str | None, row: dict) -> str:
    """How a repaired answer stands to those that are acceptable."""
    if better is None:
        return "refused"
    if broken(better, row["answer"]):
        return "broken"
    if " ".join(better.casefold().split()).rstrip(".") in (
        " ".join(text.casefold().split()).rstrip(".") for text in row["repaired"]):
        return "listed"
    said = Counter(c.said for c in read_report(better))
    return "same claims" if any(said == Counter(c.said for c in read_report(t)) for t in row["repaired"]) else "other"


def closed_answers() -> Iterator[tuple[str, bool, str]]:
    """(id, passed, texts) of yes, no and neither."""
    for row in rows("closed_answers"):
        said = SAYS[yes_no(row["answer"], row["question"])]
        yield row["id"], said == row["says"], f"{row['question']} / {row['answer']!r}: {said}, right is {row['says']}"


def multiple_choice() -> Iterator[tuple[str, bool, str]]:
    """(id, passed, texts) of one option of several."""
    for row in rows("multiple_choice"):
        said = option_of(row["answer"], list(row["options"].values()))
        letter = None if said is None else list(row["options"])[said]
        told = f"{row['options']} / {row['answer']!r}: {letter}, right is {row['says']}"
        yield row["id"], letter == row["says"], told


def reader_words() -> Iterator[tuple[str, bool, str]]:
    """(id, passed, texts) of what a sentence says of a finding."""
    for row in rows("reader_words"):
        said = {c.polarity for c in read_report(row["text"]) if c.finding == row["finding"]}
        right = {"none": set(), "resolved": {"absent"}}.get(row["status"], {row["status"]})
        yield row["id"], said == right, f"{row['text']} / {row['finding']}: {sorted(said)}, right is {sorted(right)}"


def against_itself() -> Iterator[tuple[str, bool, str]]:
    """(id, passed, text) of every text as its own reference: all right, nothing false, nothing missing."""
    for name, keys in (("true_pairs", ("reference", "statement")), ("repairs", ("reference", "answer"))):
        for row in rows(name):
            for key in keys:
                counts = report_counts(row[key], Report(row[key]))
                whole = counts.get("match_ratio", 1) == 1 and counts["sizes"] == counts["sizes_right"]
                wrong = counts["missing_findings"] + sum(counts.get(error, 0) for error in ERRORS)
                yield row["id"], whole and not wrong, row[key]


def read_by_eye() -> Iterator[tuple[str, bool, str]]:
    """(set, passed, texts) of better texts that people read: what was read as true may be made, and nothing else."""
    read: dict[tuple[str, str], set[str | None]] = {}
    for row in rows("read_by_eye"):
        found = read.setdefault((row["reference"], row["answer"]), {None})
        found |= {row["better"]} if row["by_eye"] == "true" else set()
    for row in rows("read_by_eye"):
        better, _ = corrected(row["answer"], row["reference"])
        made = better in read[row["reference"], row["answer"]]
        passed = made if row["by_eye"] == "true" else better != row["better"]
        yield f"set {row['set']}", passed, f"{row['reference']} / {row['answer']} -> {better}"


@cache
def fresh_better(kind: str, question: str, reference: str, answer: str) -> str | None:
    """What the editor makes of a fresh answer."""
    truth = Report(reference) if kind == "report" else Gold(Question("q", question, reference, kind, kind))
    try:
        edit = truth.correct(answer)
    except NoEdit:
        return None
    return edit.chosen if edit else None


def _made(row: dict) -> str | None:
    return fresh_better(*(row[name] for name in ("kind", "question", "reference", "answer")))


def fresh() -> Iterator[tuple[str, bool, str]]:
    """(set, passed, texts) of fresh answers: what is made of them was read as true."""
    for row in rows("fresh"):
        better = _made(row)
        read = (None, row["now"], row["first"] if row["by_eye"] == "true" else None)
        yield row["set"], better in read, f"{row['reference']} / {row['answer']} -> {better}"


def fresh_rates() -> list[str]:
    """How many fresh wrong answers were repaired before anything was mended by their set, as a table, and now."""
    seen: dict[str, Counter] = {}
    for row in rows("fresh"):
        wanted, read = row["repair"] is not None, row["by_eye"]
        kinds = {"answers": True, "wanted": wanted, "good": wanted and read == "true", read: True,
                 "now": wanted and _made(row)}  # fmt: skip
        seen.setdefault(row["set"], Counter()).update(name for name, holds in kinds.items() if holds and name)
    told = ("Fresh sets by one writer who saw neither code nor rows: wrong answers that a careful person would repair "
            "(the writer says which), and what was made of them when each set was first run. Set A was run before its "
            "kinds of difficulty were mended, B after A's were and C after B's; after C only what was false or broken "
            "was mended. False and broken count edits of all answers, right ones too. Last: made now.")
    lines = [f"| {n} | {c['answers']} | {c['wanted']} | {c['good']} | {c['good'] / c['wanted']:.0%} | {c['false']} | "
             f"{c['broken']} | {c['now']} |" for n, c in seen.items()]  # fmt: skip
    head = ["| set | answers | repairable | repaired | share | false | broken | now |", "|---|" + "---:|" * 7]
    return ["", told, "", *head, *lines]


def first_readings() -> list[str]:
    """What was found when each set was first read, as a table."""
    seen: dict[int, Counter] = {}
    for row in rows("read_by_eye"):
        if row["set"]:  # 0: read since, of a pair whose better text is another now
            seen.setdefault(row["set"], Counter())[row["by_eye"]] += 1
    lines = [f"| {n} | {found.total()} | {found['false']} | {found['broken']} |" for n, found in seen.items()]
    told = ("Better texts read by eye, set by set, as they were first made. Set 1 is by the author of the code, "
            "as it is now; each other set by someone who had seen neither code nor other sets. What a set brought to "
            "light was mended before the next was read.")
    return ["", told, "", "| set | read | false | broken |", "|---|---:|---:|---:|", *lines]


GATES = {
    "a true statement is left as it is": true_pairs, "yes, no, neither": closed_answers,
    "the option that is said": multiple_choice, "words of reports": reader_words,
    "a report against itself": against_itself, "a better text is one that was read": read_by_eye,
    "a fresh answer's too": fresh,
}  # fmt: skip


def model_like(question: Question) -> Iterator[str]:
    """How models answer this question: right and wrong, bare and in a sentence, and not at all."""
    gold = question.answer.strip().rstrip(".")
    yield from (gold, f"The answer is {gold}.", f"Answer: {gold}", question.text,
                "I cannot determine this from the image.")
    if gold.lower() in ("yes", "no"):
        other = "No" if gold.lower() == "yes" else "Yes"
        yield from (other, f"{other}, that is so.", f"Final answer: {other}")
    else:
        yield from ("MRI", "the left lung", "Pneumonia", f"It shows {gold} on the right side.")


def on_data(folder: Path, seed: int = 7) -> tuple[Counter, list[str]]:
    """(outcomes counted, every y+ and y- that the grammar check finds broken) over a data set's own questions."""
    found, faulty, rng = Counter(), [], np.random.default_rng(seed)
    for case in read_cases(folder, check_files=False).cases:
        for question in case.questions:
            for answer in model_like(question):
                try:
                    truth = Gold(question)
                    edit = truth.correct(answer) or truth.falsify(answer, rng)
                except NoEdit as reason:
                    found[f"refused: {str(reason)[:70]}"] += 1
                    continue
                found[edit.source] += 1
                if fault := broken(edit.chosen, answer) or broken(edit.rejected, answer):
                    faulty.append(f"{question.text} / {edit.chosen!r} / {edit.rejected!r}: {fault}")
    return found, faulty


def page(data: Sequence[Path]) -> str:
    """docs/GATES.md."""
    lines = ["# Gates", "", "Written by `make gates` from tests/texts; the rows that fail are listed below.", "",
             "| gate | rows | right | share |", "|---|---:|---:|---:|"]
    repaired = list(repairs())
    bad = [(key, result, told) for key, result, told in repaired if result not in ("listed", "same claims")]
    failing: dict[str, list[str]] = {}
    for name, gate in GATES.items():
        found = list(gate())
        failing[name] = [f"`{key}` {told}" for key, passed, told in found if not passed]
        lines.append(_row(name, len(found), len(failing[name])))
    failing["a wrong answer is repaired"] = [f"`{key}` ({result}) {told}" for key, result, told in bad]
    lines.append(_row("a wrong answer is repaired", len(repaired), len(bad)))
    counted = Counter(result for _, result, _ in repaired)
    outcomes = ", ".join(f"{name} {number}" for name, number in counted.most_common())
    before = json.loads(BEFORE.read_text(encoding="utf-8"))
    was = before["repaired"]
    lost = [f"- `{key}` {told}" for key, _, told in bad if key in was]
    lines += ["", f"Repairs by outcome: {outcomes}.", *fresh_rates(), *first_readings(), "",
              f"Before (commit {before['commit']}): {before['figures']}",
              f"{len(lost)} of the {len(was)} that were repaired as listed then are refused or other now:",
              "", *lost]
    for folder in data:
        counts, faulty = on_data(folder)
        lines += ["", f"## {folder.name}: model-like answers to its own questions", "",
                  *(f"- {number} {name}" for name, number in counts.most_common()), "",
                  f"{len(faulty)} of {counts['corrected'] + counts['counterfactual']} pairs hold a broken phrase.",
                  *(f"- {row}" for row in faulty[:40])]
    for name, some in failing.items():
        lines += ["", f"## {name}: {len(some)} rows", "", *(f"- {row}" for row in some)]
    return "\n".join(lines) + "\n"


def _row(name: str, rows: int, failing: int) -> str:
    return f"| {name} | {rows} | {rows - failing} | {(rows - failing) / rows:.1%} |"


def main(arguments: Sequence[str]) -> int:
    """Print the page, or write it."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.gates", description=__doc__, allow_abbrev=False)
    made.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    made.add_argument("--data", type=Path, nargs="*", default=[], help="folders of SLAKE or VQA-RAD as published")
    given = made.parse_args(arguments)
    text = page(given.data)
    if given.write:
        PAGE.write_text(text, encoding="utf-8", newline="\n")
    print(text if not given.write else text.split("\n## ")[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
