"""``make masks CASES= MODEL=``: a new case list in OUT/masks/ with outlines of lesions that had a box or point."""

from collections import Counter
from pathlib import Path

from medalign_lite.cases import readers
from medalign_lite.cases.case import CaseError, write_cases
from medalign_lite.cases.images import ImageError
from medalign_lite.cases.readers import read_cases
from medalign_lite.corruption.segment import Segmenter, outline_cases
from medalign_lite.files import ROOT, digest, write_json
from medalign_lite.model.weights import ModelError
from medalign_lite.run.cohort import made_files, named
from medalign_lite.run.commands import ArgumentError, exit_status
from medalign_lite.run.reproduce import parse


def make_masks(
    cases: Path, segment: Segmenter, *, name: str, out: Path, strict: bool = False, lesions: tuple[str, ...] = ()
) -> str:
    """Outline the lesions of `cases`, write the new list under `out`/masks, and return a page; raises CaseError."""
    reader, _ = readers.detect(cases)
    options = {"lesions": lesions} if lesions else {}
    found = read_cases(cases, strict, root=made_files(cases, out) if reader.MAKES_FILES else None, **options)
    if not any(case.lesions for case in found.cases):
        raise CaseError(
            f"{cases}: no lesion has a box, point or mask: this segmenter needs one. A segmenter that needs none is "
            "run from Python: segment.outline_cases(..., labels=...)"
        )
    folder = out / "masks" / digest(f"{cases.resolve()} {name}")[:12]
    made, rows = outline_cases(found.cases, segment, name=name, folder=folder)
    write_cases(folder / "cases.jsonl", made)
    write_json(folder / "masks.json", rows)
    lines = ["lesions with their mask from"]
    lines += [f"{number:8}  {origin}" for origin, number in Counter(row["mask"] for row in rows).most_common()]
    reasons = Counter(row["reason"] for row in rows if row["reason"])
    lines += ["not outlined:"] if reasons else []
    lines += [f"{number:8}  {reason}" for reason, number in reasons.most_common()]
    lines += [f"cases left out: {len(found.skipped)}", f"look at them: make cases CASES={folder / 'cases.jsonl'}"]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Exit status 0, or 2 with one sentence where nothing can be outlined."""
    from medalign_lite.corruption.sam import load_sam  # loads torch and transformers

    def work() -> None:
        values = parse(arguments)
        if not values["CASES"] or not values["MODEL"]:
            raise ArgumentError("say which: make masks CASES=path MODEL=folder-or-hub-id of a SAM-family model")
        cases, out = (ROOT / Path(values[k] or d).expanduser() for k, d in (("CASES", ""), ("OUT", "artifacts")))
        segment, name = load_sam(values["MODEL"])
        told = {"strict": values["STRICT"], "lesions": named(values["LESIONS"])}
        print(make_masks(cases, segment, name=name, out=out, **told))

    return exit_status(work, refused=(CaseError, ImageError, ModelError))
