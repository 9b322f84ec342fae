"""The pictures of a preference pair: its evidence corrupted, and the same damage beside it (METHOD.md §6).

Pairs about the same findings of the same image share their two pictures, so each is made once:

    rows = corrupt_all([(case, ("effusion",)), (case, None)], folder, method="noise", seed=7)

One row a job, in order: `lesion`, `control` and their masks as PNG names relative to `folder`, or None; `source` says
where the lesion mask came from and `reason` why a picture is missing; then pixel counts of the two masks, the mean
change in grey levels inside each, and how many pixels changed outside them (0).
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, CaseError
from medalign_lite.cases.images import ImageError, read_image
from medalign_lite.cases.pictures import save_png, without_colour
from medalign_lite.corruption.corrupt import INSIDE, UNSEEN, corrupt
from medalign_lite.corruption.masks import Masks, dilate, find_masks, lesion_mask

NOTHING_THERE = "the pair is about no finding in the image: there is nothing to corrupt"
Job = tuple[Case, tuple[str, ...] | None]  # a case, and the findings (or lesion labels) that its pair is about


def corrupt_all(jobs: Sequence[Job], folder: Path, *, method: str, **options) -> list[dict]:
    """As `corrupt_pictures`, for what training learns from. Raises ValueError for a method that is not one of
    `corrupt.INSIDE`, or the one that is kept for the evaluation."""
    allowed = [name for name in INSIDE if name != UNSEEN]
    if method == UNSEEN:
        raise ValueError(f"{method!r} is the evaluation's: training must never see it; use {', '.join(allowed)}")
    if method not in allowed:
        raise ValueError(f"{method!r} does not stay inside a lesion mask; allowed are {', '.join(allowed)}")
    return corrupt_pictures(jobs, folder, method=method, **options)


def corrupt_pictures(
    jobs: Sequence[Job], folder: Path, *, method: str, seed: int, workers: int | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> list[dict]:
    """A row for each job, its pictures written to `folder`; `say` is told now and then how far it is. `seed` and the
    names of case and findings decide all that is random, so `workers` and order change nothing."""
    distinct = {(case.id, findings): (case, findings) for case, findings in jobs}
    for name in ("lesion", "control", "masks"):
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    work = partial(corrupt_evidence, folder=Path(folder), method=method, seed=seed)
    rows = {}
    with ProcessPoolExecutor(min(workers or os.cpu_count(), max(len(distinct), 1))) as pool:
        for key, row in zip(distinct, pool.map(work, distinct.values(), chunksize=4), strict=True):
            rows[key] = row
            if len(rows) % 100 == 0 or len(rows) == len(distinct):
                say(f"corrupting: {len(rows)} of {len(distinct)} pictures")
    return [rows[case.id, findings] for case, findings in jobs]


def corrupt_evidence(job: Job, *, folder: Path, method: str, seed: int) -> dict:
    """The row of one job (see above). A mask or image that cannot be used is the row's `reason`, not an error."""
    case, findings = job
    if findings is None:
        return _row(Masks(None, None, "none", NOTHING_THERE))
    name = evidence_id(case, findings)
    try:
        image = read_image(case.image)
        masks = find_masks(case, image, select=findings, seed=seed)
        avoid = None if masks.lesion is None else dilate(lesion_mask(case))
    except (ImageError, CaseError) as error:
        return _row(Masks(None, None, "none", str(error)))
    row = _row(masks)
    for place, mask in (("lesion", masks.lesion), ("control", masks.control)):
        if mask is None:
            continue
        changed = corrupt(image, mask, method=method, id=name, seed=seed, avoid=avoid)
        row[place], row[f"{place}_mask"] = f"{place}/{name}.png", f"masks/{name}-{place}.png"
        save_png(without_colour(np.asarray(changed)), folder / row[place])
        save_png(mask.astype(np.uint8) * 255, folder / row[f"{place}_mask"])
        difference = np.abs(np.asarray(changed, float) - np.asarray(image, float)).mean(axis=-1)  # (H, W)
        row[f"{place}_change"] = round(float(difference[mask].mean()), 3)
        row["changed_outside"] += int((difference[~mask] > 0).sum())
    return row


def evidence_id(case: Case, findings: Sequence[str]) -> str:
    """A file name for the pictures of these findings of a case, and what their randomness goes by."""
    name = f"{case.id}-{'+'.join(sorted(findings))}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', name)[:48].strip('-')}-{digest}"


def _row(masks: Masks) -> dict:
    areas = {f"{place}_pixels": 0 if mask is None else int(mask.sum())
             for place, mask in (("lesion", masks.lesion), ("control", masks.control))}
    nothing = dict.fromkeys(("lesion", "control", "lesion_mask", "control_mask"))
    changes = {"lesion_change": None, "control_change": None, "changed_outside": 0}
    return nothing | {"source": masks.source, "reason": masks.reason} | areas | changes
