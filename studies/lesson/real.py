"""Five real pictures of SLAKE, made small, in the kit's layout: CT, MRI and X-ray to look at beside the phantom.

    python -m studies.lesson.real path/to/SLAKE [data_samples/real]

Then `make cases CASES=data_samples/real`. SLAKE is CC BY 4.0: whoever passes the folder on keeps its README with it.
"""

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

from medalign_lite.cases.case import Case, Lesion, lesion_pixels, write_cases
from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.files import ROOT

CHOSEN = {  # the first of their kind in the order of the data set, with a lesion large enough to be seen
    "xmlab105": "CT of the chest, lung cancer", "xmlab234": "CT of the abdomen, liver cancer",
    "xmlab442": "MRI of the head, tumour with oedema", "xmlab185": "chest X-ray, pneumothorax",
    "xmlab386": "chest X-ray, effusion",
}  # fmt: skip
SIDE = 256  # pixels of the longer side, at most
README = """# Five pictures of SLAKE, made small

{rows}

Source: SLAKE, a semantically-labeled knowledge-enhanced dataset for medical visual question answering; Bo Liu,
Li-Ming Zhan, Li Xu, Lin Ma, Yan Yang, Xiao-Ming Wu; IEEE International Symposium on Biomedical Imaging 2021.
Licence: Creative Commons Attribution 4.0 International (https://creativecommons.org/licenses/by/4.0/).
Changes: scaled to at most {side} pixels a side, masks to the same size, one file a lesion; English questions kept as
they are. The rest of this repository is under its own licence.

Real people were imaged; the pictures bear no names. They are here to look at, not to measure anything: five cases
decide nothing, and the embedded model has never seen their like. Not for clinical use.
"""


def main(arguments: list[str]) -> int:
    """Write pictures, masks, cases.jsonl and README.md."""
    if not arguments:
        print("error: give the folder of SLAKE: python -m studies.lesson.real path/to/SLAKE", file=sys.stderr)
        return 2
    out = Path(arguments[1]) if arguments[1:] else ROOT / "data_samples/real"
    found = {case.id: case for case in read_cases(Path(arguments[0]), check_files=False).cases}
    if missing := sorted(set(CHOSEN) - set(found)):
        print(f"error: {arguments[0]} has no {', '.join(missing)}: is it the whole of SLAKE?", file=sys.stderr)
        return 1
    write_cases(out / "cases.jsonl", [make_small(found[name], out) for name in CHOSEN])
    rows = "\n".join(["| case | what |", "|---|---|", *(f"| {name} | {what} |" for name, what in CHOSEN.items())])
    (out / "README.md").write_text(README.format(rows=rows, side=SIDE), encoding="utf-8")
    print(f"{len(CHOSEN)} cases in {out}: `make cases CASES={out}` shows them")
    return 0


def make_small(case: Case, out: Path) -> Case:
    """The case with its picture and masks scaled to SIDE and written under `out`."""
    image = read_image(case.image)
    scale = min(1, SIDE / max(image.size))
    size = tuple(round(side * scale) for side in image.size)
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    image.convert("L").resize(size, Image.Resampling.LANCZOS).save(out / "images" / f"{case.id}.png", optimize=True)
    lesions = []
    for number, lesion in enumerate(case.lesions):
        if lesion.mask is None:
            lesions.append(replace(lesion, box=tuple(round(value * scale, 1) for value in lesion.box)))
            continue
        name = f"masks/{case.id}-{number}.png"
        pixels = lesion_pixels(lesion, folder=case.folder, size=image.size)
        Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(out / name, optimize=True)
        lesions.append(Lesion(lesion.label, mask=name))
    return replace(case, image=out / "images" / f"{case.id}.png", lesions=tuple(lesions), folder=out, source="slake")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
