"""The reader of real reports against labels that other people gave: the indexing of the Indiana University collection.

    python -m benchmarks.labelled_reports indiana_reports.csv --half odd [--write]

The file is the collection's reports as one table (uid, MeSH, Problems, image, indication, comparison, findings,
impression); it is not part of the kit. Indexers of the National Library of Medicine wrote for each report what it
states, as MeSH headings with qualifiers. A heading counts as a finding of ours where the two mean the same (INDEXED);
a report is right about a finding where both name it or neither does. `--half` takes reports of odd or even uid: rules
are mended on the even ones and measured on the odd ones. `--write` puts the table into docs/READING.md.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from benchmarks.claims_bench import PAGE, write_figures
from medalign_lite.text.reports import read_report

COMMAND = "python -m benchmarks.labelled_reports"
INDEXED = {  # ours -> headings, each with a qualifier that must be there too, if any
    "cardiomegaly": ("Cardiomegaly", "Cardiac Shadow/enlarged", "Heart/enlarged"),
    "effusion": ("Pleural Effusion",),
    "pneumothorax": ("Pneumothorax", "Hydropneumothorax"),
    "atelectasis": ("Pulmonary Atelectasis",),
    "edema": ("Pulmonary Edema",),
    "vascular congestion": ("Pulmonary Congestion",),
    "consolidation": ("Consolidation",),
    "pneumonia": ("Pneumonia",),
    "opacity": ("Opacity", "Infiltrate", "Airspace Disease", "Density/lung", "Markings/lung", "Cicatrix/lung",
                "Lung Diseases, Interstitial", "Pulmonary Fibrosis"),
    "nodule": ("Nodule",),
    "granuloma": ("Calcified Granuloma", "Granulomatous Disease", "Granuloma"),
    "fracture": ("Fractures, Bone",),
    "emphysema": ("Pulmonary Emphysema", "Emphysema", "Bullous Emphysema", "Pulmonary Disease, Chronic Obstructive"),
    "hyperinflation": ("Lung/hyperdistention", "Lung, Hyperlucent", "Diaphragm/flattened"),
    "kyphosis": ("Kyphosis",),
    "hernia": ("Hernia, Hiatal",),
    "costophrenic blunting": ("Costophrenic Angle/blunted",),
    "pleural thickening": ("Thickening/pleura",),
    "raised diaphragm": ("Diaphragm/elevated", "Diaphragmatic Eventration"),
    "scoliosis": ("Scoliosis",),
    "degenerative change": ("Thoracic Vertebrae/degenerative", "Spine/degenerative", "Lumbar Vertebrae/degenerative",
                            "Osteophyte", "Spondylosis", "Arthritis"),
    "osteopenia": ("Bone Diseases, Metabolic", "Osteoporosis"),
    "aortic disease": ("Atherosclerosis", "Aorta/tortuous", "Aorta, Thoracic/tortuous"),
    "clips": ("Surgical Instruments",),
    "tube, line or device": ("Catheters, Indwelling", "Tube, Inserted", "Implanted Medical Device", "Stents",
                             "Medical Device"),
}  # fmt: skip
TOGETHER = {name: "tube, line or device" for name in (
    "pacemaker", "endotracheal tube", "tracheostomy", "enteric tube", "chest tube", "central line", "drain", "stent",
    "valve", "other device")}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelled_reports", description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="indiana_reports.csv")
    parser.add_argument("--half", choices=("odd", "even"), help="reports of odd or even uid alone")
    parser.add_argument("--errors", action="store_true", help="print every report and finding that disagree")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    given = parser.parse_args(arguments)
    counts, reports = {name: Counter() for name in INDEXED}, 0
    with given.table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if given.half and int(row["uid"]) % 2 != (given.half == "odd"):
                continue
            headings, text = row["MeSH"].split(";"), f"FINDINGS: {row['findings']}\nIMPRESSION: {row['impression']}"
            if headings == ["No Indexing"]:
                continue
            reports += 1
            affirmed, doubted = findings_of(text)
            for name in INDEXED:
                labelled = any(_is(heading, wanted) for heading in headings for wanted in INDEXED[name])
                counts[name][labelled, "yes" if name in affirmed else "maybe" if name in doubted else "no"] += 1
                if given.errors and labelled != (name in affirmed):
                    print(f"{row['uid']} {name}: {'indexed' if labelled else 'read'}\n  {row['MeSH']}\n  {text}\n")
    text = "\n".join(table(counts, reports))
    print(text)
    if given.write:
        write_figures(COMMAND, text)
    return 0


def findings_of(text: str) -> tuple[set[str], set[str]]:
    """What the report affirms, and what it doubts and never affirms."""
    claims = [(TOGETHER.get(c.finding, c.finding), c.polarity) for c in read_report(text)]
    affirmed = {name for name, polarity in claims if polarity == "present"}
    return affirmed, {name for name, polarity in claims if polarity == "uncertain"} - affirmed


def table(counts: dict[str, Counter], reports: int) -> list[str]:
    """A row for each finding that was indexed, and all of them together; doubted findings count as not affirmed."""
    rows = {name: found for name, found in counts.items() if any(labelled for labelled, _ in found)}
    rows["all of these"] = sum(rows.values(), Counter())
    lines = [f"{reports} reports.", "", "| finding | indexed | affirmed | both | precision | recall | F1 | doubted, "
             "and indexed |", "|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for name, found in rows.items():
        indexed, both = sum(n for (labelled, _), n in found.items() if labelled), found[True, "yes"]
        affirmed = both + found[False, "yes"]
        precision, recall, f1 = _share(both, affirmed), _share(both, indexed), _share(2 * both, affirmed + indexed)
        doubted = f"{found[True, 'maybe']} of {found[True, 'maybe'] + found[False, 'maybe']}"
        lines.append(f"| {name} | {indexed} | {affirmed} | {both} | {precision} | {recall} | {f1} | {doubted} |")
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else "–"


def _is(heading: str, wanted: str) -> bool:
    """The heading is the wanted one and has its qualifier."""
    parts, (name, *qualifiers) = [part.strip() for part in heading.split("/")], wanted.split("/")
    return parts[0] == name and set(qualifiers) <= set(parts[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
