"""Makes the cases that are shipped in `data_samples/cases` again, with their data card (`make samples`)."""

import argparse
from collections import Counter
from pathlib import Path

from medalign_lite.cases.readers import read_cases
from medalign_lite.world.dataset import render_folder
from medalign_lite.world.render import SIZE, VISIBLE_CNR

COUNTS = {"train": 8, "val": 4, "test": 8, "shifted": 4}
SEED = 7
QUESTIONS = 6

CARD = """# Phantom chest radiographs: {cases} cases to open and look at

Procedural frontal radiographs with exact truth, made by this project (Apache-2.0). No patient was imaged. The first
people of each split of the world that `make reproduce` renders whole; made again by `make samples` (seed {seed}).

| | |
|---|---|
| images | `images/*.png`, {size} x {size} pixels, 8 bit; the patient's right is on the left of the image |
| the same without lesions | `hidden/*.png` |
| the same without one finding, and with it on the other side | `changed/*.png`, of the test splits |
| lesion masks | `masks/<case>-<finding>.png`, 0 or 255 |
| facts, questions, answers, reports | `cases.jsonl`, one case a line (see `medalign_lite/cases/case.py`) |
| splits | {splits} |
| findings | {findings} |
| cannot be seen | {invisible} findings have a contrast-to-noise ratio below {threshold:g}; nobody is held to them |

How they are made: `medalign_lite/world/` (anatomy as thickness maps, findings, Beer-Lambert transmission, scatter,
quantum noise, tone). What they are good for: testing methods against exact truth. What they are not: evidence about
any patient, disease or product.
"""


def main() -> None:
    """Render the cases, and write the card, counted from the cases themselves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data_samples/cases"))
    folder = parser.parse_args().out
    render_folder(folder, COUNTS, seed=SEED, questions=QUESTIONS)
    cases = read_cases(folder).cases
    facts = [fact for case in cases for fact in case.facts]
    splits, findings = Counter(case.split for case in cases), Counter(fact.finding for fact in facts)
    text = CARD.format(
        cases=len(cases), seed=SEED, size=SIZE, splits=", ".join(f"{name} {n}" for name, n in splits.items()),
        findings=", ".join(f"{name} {n}" for name, n in sorted(findings.items())),
        invisible=sum(not fact.visible for fact in facts), threshold=VISIBLE_CNR,
    )  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
