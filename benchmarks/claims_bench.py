"""How the reader of real reports does on the table of hard cases, and how fast; beside medspaCy and negspaCy.

The table is our own (`tests/claims_hard_cases.jsonl`) and our rules were written with it in view: what the others get
on it says where rules differ, not who is better on reports nobody has seen. Every reader is given the same mentions;
asked is only whether each is denied, doubted or affirmed.

    python benchmarks/claims_bench.py                     ours, and the others where .venv-peers holds them
    .venv-peers/bin/python benchmarks/claims_bench.py --peers < mentions.json     (called by the line above)
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests" / "claims_hard_cases.jsonl"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
PAGE = ROOT / "docs" / "READING.md"
COMMAND = "make reader-bench"
INSTALL = "python3 -m venv .venv-peers && .venv-peers/bin/pip install medspacy==1.3.1 negspacy==1.0.4"


def mentions() -> list[dict]:
    """The texts of the table with the characters, expected polarity and our polarity of each mention that is named.
    Left out: what is read from an organ ("the lungs are clear"), which names no finding, and what we do not find."""
    from medalign_lite.text.reports import read_report

    rows = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        read = [c for c in read_report(case["text"]) if "organ" not in c.parts]
        asked = []
        for expected in case["claims"]:
            same = [c for c in read if c.finding == expected["finding"]]
            fitting = sorted(same, key=lambda c: expected.get("side") not in (None, c.side))
            if fitting:
                read.remove(fitting[0])
                gone = expected.get("temporal") == "resolved"
                asked.append([*fitting[0].parts["finding"], expected["polarity"], fitting[0].polarity, gone])
        left_out = len(case["claims"]) - len(asked)
        rows.append({"text": case["text"], "group": case["group"], "mentions": asked, "left_out": left_out})
    return rows


def ask_peers(rows: list[dict]) -> dict[str, list[list[str]]]:
    """medspaCy's ConText and negspaCy's NegEx on the given mentions: a polarity for each."""
    import spacy
    from medspacy.context import ConText  # noqa: F401  registers the component
    from negspacy.negation import Negex  # noqa: F401
    from spacy.util import filter_spans

    def run(pipes: dict[str, dict], read: Callable) -> list[list[str]]:
        nlp, answers = spacy.blank("en"), []
        for name, config in pipes.items():
            nlp.add_pipe(name, config=config)
        for row in rows:
            doc = nlp.make_doc(row["text"])
            spans = [doc.char_span(a, b, label="FINDING", alignment_mode="expand") for a, b, *_ in row["mentions"]]
            doc.ents = filter_spans([s for s in spans if s])
            for _, component in nlp.pipeline:
                doc = component(doc)
            by_token = {token: ent for ent in doc.ents for token in range(ent.start, ent.end)}
            answers.append([read(by_token[s.start]) for s in spans])
        return answers

    return {
        "medspaCy ConText": run({"medspacy_pyrush": {}, "medspacy_context": {}}, lambda ent: (
            "absent" if ent._.is_negated else "uncertain" if ent._.is_uncertain else "present")),
        "negspaCy NegEx": run({"sentencizer": {}, "negex": {"chunk_prefix": ["no"]}}, lambda ent: (
            "absent" if ent._.negex else "present")),
    }


def main() -> None:
    """Print how often each reader agrees with the table, and our speed; with the others there, into the page."""
    rows = mentions()
    answers = {"medalign_lite": [[m[3] for m in row["mentions"]] for row in rows]}
    if PEERS.exists():
        done = subprocess.run([PEERS, __file__, "--peers"], input=json.dumps(rows), capture_output=True, text=True,
                              check=True)
        answers |= json.loads(done.stdout.splitlines()[-1])
    text = "\n".join([*_table(rows, answers), "", *_speed(rows)])
    print(text)
    if not PEERS.exists():
        print(f"\nnothing to compare with, {PAGE.name} stays as it is: {INSTALL} (about 280 MB) puts both beside ours")
        return
    write_figures(COMMAND, text)


def write_figures(command: str, text: str) -> None:
    """Put the text into the page in place of what the command wrote there before."""
    begin, end = f"<!-- figures: {command} -->", "<!-- end of figures -->"
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    if not found:
        raise ValueError(f"{PAGE} has no line {begin}")
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _table(rows: list[dict], answers: dict[str, list[list[str]]]) -> list[str]:
    """Markdown: how often each reader agrees with the table, by kind of case."""
    def denied(polarity: str) -> bool:
        return polarity == "absent"

    total = sum(len(row["mentions"]) for row in rows)
    left_out = sum(row["left_out"] for row in rows)
    lines = [f"{total} named mentions of {len(rows)} texts, given to every reader; left out: {left_out} (see below).",
             "", "| agreement with the table | mentions |" + "".join(f" {name} |" for name in answers),
             "|---|---:|" + "---:|" * len(answers)]
    for name, chosen, asked in (
        ("denied or not, all", lambda row, m: True, denied),
        ("denied or not, without what is gone", lambda row, m: not m[4], denied),
        ("denied or not, scope of negation", lambda row, m: row["group"].startswith("negation"), denied),
        ("denied or not, only looks denied", lambda row, m: row["group"].startswith("pseudo"), denied),
        ("denied, doubted or affirmed, all", lambda row, m: True, str),
        ("denied, doubted or affirmed, uncertainty", lambda row, m: row["group"] == "uncertainty", str),
    ):
        at = [(i, k, m) for i, row in enumerate(rows) for k, m in enumerate(row["mentions"]) if chosen(row, m)]
        shares = [sum(asked(m[2]) == asked(said[i][k]) for i, k, m in at) / len(at) for said in answers.values()]
        lines.append(f"| {name} | {len(at)} |" + "".join(f" {share:.1%} |" for share in shares))
    return lines


def _speed(rows: list[dict]) -> list[str]:
    """Markdown: sentences a second of one core, the best of five rounds."""
    from medalign_lite.text.form import find_report_sentences
    from medalign_lite.text.reports import extract_claims, read_report

    cases = [json.loads(line) for line in (ROOT / "data_samples" / "cases" / "cases.jsonl").open(encoding="utf-8")]
    phantom = [q["answer"] for case in cases for q in case["questions"] if q["kind"] == "report"]
    table = [row["text"] for row in rows] * 3
    lines = ["| reader | texts | sentences | sentences a second of one core |", "|---|---|---:|---:|"]
    for name, about, reader, texts in (
        ("`reports.read_report`", "the table, three times", read_report, table),
        ("`reports.extract_claims`", "the phantom's reports", extract_claims, phantom),
    ):
        sentences, seconds = sum(len(find_report_sentences(text)) for text in texts), []
        for _ in range(5):
            start = time.process_time()
            for text in texts:
                reader(text)
            seconds.append(time.process_time() - start)
        lines.append(f"| {name} | {about} | {sentences} | {sentences / min(seconds):,.0f} |")
    return lines


if __name__ == "__main__":
    if "--peers" in sys.argv:
        print(json.dumps(ask_peers(json.load(sys.stdin))))
    else:
        main()
