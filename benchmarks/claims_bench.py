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
INSTALL = "python3 -m venv .venv-peers && .venv-peers/bin/pip install medspacy==1.3.1 negspacy==1.0.4"


def mentions() -> list[dict]:
    """The texts of the table with the characters, expected polarity and our polarity of each mention that is named.

    Left out: what is read from an organ ("the lungs are clear"), which names no finding, and mentions that our reader does not find.
    """
    from medalign_lite.radiology import read_report

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
        rows.append({"text": case["text"], "group": case["group"], "mentions": asked})
    return rows


def ask_peers(rows: list[dict]) -> dict[str, list[list[str]]]:
    """medspaCy's ConText and negspaCy's NegEx on the given mentions: a polarity for each."""
    import spacy
    from medspacy.context import ConText  # noqa: F401  registers the component
    from negspacy.negation import Negex  # noqa: F401
    from spacy.util import filter_spans

    def run(build: Callable, read: Callable) -> list[list[str]]:
        nlp = build()
        answers = []
        for row in rows:
            doc = nlp.make_doc(row["text"])
            spans = [doc.char_span(a, b, label="FINDING", alignment_mode="expand") for a, b, *_ in row["mentions"]]
            doc.ents = filter_spans([s for s in spans if s])
            for _, component in nlp.pipeline:
                doc = component(doc)
            by_token = {token: ent for ent in doc.ents for token in range(ent.start, ent.end)}
            answers.append([read(by_token[s.start]) for s in spans])
        return answers

    def context():
        nlp = spacy.blank("en")
        nlp.add_pipe("medspacy_pyrush")
        nlp.add_pipe("medspacy_context")
        return nlp

    def negex():
        nlp = spacy.blank("en")
        nlp.add_pipe("sentencizer")
        nlp.add_pipe("negex", config={"chunk_prefix": ["no"]})
        return nlp

    def context_says(ent):
        return "absent" if ent._.is_negated else "uncertain" if ent._.is_uncertain else "present"

    return {
        "medspaCy ConText": run(context, context_says),
        "negspaCy NegEx": run(negex, lambda ent: "absent" if ent._.negex else "present"),
    }


def main() -> None:
    """Print the accuracy of each reader by kind of case, and our speed."""
    rows = mentions()
    answers = {"medalign_lite": [[m[3] for m in row["mentions"]] for row in rows]}
    if PEERS.exists():
        done = subprocess.run(
            [PEERS, __file__, "--peers"], input=json.dumps(rows), capture_output=True, text=True, check=True
        )
        answers |= json.loads(done.stdout.splitlines()[-1])
    total = sum(len(row["mentions"]) for row in rows)
    print(f"{total} named mentions of {len(rows)} texts. The table is our own: the others have never seen it, our rules have.\n")
    kinds = {
        "denied or not, all": lambda row, m: True,
        "denied or not, without what is gone": lambda row, m: not m[4],
        "denied or not, scope of negation": lambda row, m: row["group"].startswith("negation"),
        "denied or not, false negations": lambda row, m: row["group"].startswith("pseudo"),
    }
    print(f"{'':40}{'mentions':>10}" + "".join(f"{name:>20}" for name in answers))
    for kind, chosen in kinds.items():
        print(_line(kind, rows, answers, chosen, lambda p: p == "absent"))
    print(_line("denied, doubted or affirmed, all", rows, answers, lambda row, m: True, lambda p: p))
    print(_line("the same, uncertainty", rows, answers, lambda row, m: row["group"] == "uncertainty", lambda p: p))
    if not PEERS.exists():
        print(f"\nnothing to compare with: {INSTALL} (about 280 MB) puts medspaCy and negspaCy beside ours")
    _speed(rows)


def _line(name: str, rows: list[dict], answers: dict, chosen: Callable, asked: Callable) -> str:
    pairs = {reader: [] for reader in answers}
    for i, row in enumerate(rows):
        for k, m in enumerate(row["mentions"]):
            if chosen(row, m):
                for reader, said in answers.items():
                    pairs[reader].append(asked(m[2]) == asked(said[i][k]))
    count = len(next(iter(pairs.values())))
    return f"{name:40}{count:>10}" + "".join(f"{sum(right) / count:>20.1%}" for right in pairs.values())


def _speed(rows: list[dict]) -> None:
    """Sentences a second of one core, the best of five rounds."""
    from medalign_lite.claims import extract_claims, find_sentences
    from medalign_lite.radiology import read_report
    from medalign_lite.sections import find_report_sentences

    cases = [json.loads(line) for line in (ROOT / "data_samples" / "cases" / "cases.jsonl").open(encoding="utf-8")]
    phantom = [q["answer"] for case in cases for q in case["questions"] if q["kind"] == "report"]
    table = [row["text"] for row in rows] * 3
    print()
    for name, reader, splitter, texts in (
        ("real reports: read_report on the table", read_report, find_report_sentences, table),
        ("phantom reports: extract_claims", extract_claims, find_sentences, phantom),
    ):
        sentences, seconds = sum(len(splitter(text)) for text in texts), []
        for _ in range(5):
            start = time.process_time()
            for text in texts:
                reader(text)
            seconds.append(time.process_time() - start)
        print(f"{name:40}{sentences / min(seconds):>10,.0f} sentences a second ({sentences} sentences, one core)")


if __name__ == "__main__":
    if "--peers" in sys.argv:
        print(json.dumps(ask_peers(json.load(sys.stdin))))
    else:
        main()
