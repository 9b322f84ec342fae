"""``make masks CASES= MODEL=``: outlines for lesions that the data marks by a box or a point only, by any segmenter.

A segmenter is a function of an image and a lesion that returns bool (H, W), or None where it finds nothing. `load_sam`
gives one of the SAM family (SAM, MedSAM, SAM-HQ, SAM 2, ...; Kirillov et al. 2023), which draws a lesion from its box,
its points or both. Nothing here knows medicine: which weights are fit for which pictures is for the reader to judge, on
the contact sheet of what they drew. Trust goes to the data set's marks first (METHOD.md §6): what has a mask or polygon
is left alone, a box stays and bounds what is drawn inside it, and an outline that misses a given point is refused. The
result is a new case list with its own copies of the images in `OUT/masks/`; every mask made here carries the
segmenter's name (`Lesion.made_by`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from medalign_lite.cases.case import Case, CaseError, Lesion, lesion_pixels, write_cases
from medalign_lite.cases.images import ImageError, read_image, read_mask
from medalign_lite.cases.pictures import save_picture, save_png
from medalign_lite.corruption.masks import lesion_source
from medalign_lite.files import digest, path_of, write_json
from medalign_lite.model.weights import ModelError, locate
from medalign_lite.run.cohort import read_set
from medalign_lite.run.commands import ArgumentError, command
from medalign_lite.run.reproduce import parse
from medalign_lite.text.facts import Fact
from medalign_lite.text.says import yes_no

if TYPE_CHECKING:
    import torch

Segmenter = Callable[[Image.Image, Lesion], np.ndarray | None]
LARGEST = 0.6  # of the image; an outline above this is the body or the background, not a lesion


def outline_cases(
    cases: Iterable[Case], segment: Segmenter, *, name: str, folder: Path, labels: Collection[str] = ()
) -> tuple[list[Case], list[dict]]:
    """The cases with outlines from `segment`, and one row a lesion: {"id", "label", "mask", "reason"}. Images and masks
    are written to `folder`. In a case without any lesion each of `labels` that its positive gold answers speak of is
    asked for, with neither box nor point. `mask` of a row is where the pixels come from ("none" where there are none),
    `reason` why no outline was drawn, else "". Raises ValueError where `segment` returns something else than bool (H,
    W) or None."""
    made, rows = [], []
    for case in cases:
        image = read_image(case.image)
        case = copy_case(case, folder)
        said = " ".join(f"{q.text} {q.answer}" for q in case.questions if yes_no(q.answer) is not False)
        spoken = [label for label in labels if re.search(rf"\b{re.escape(label)}\b", said, re.IGNORECASE)]
        sought = tuple(Lesion(label) for label in spoken) if not (case.lesions or case.facts) else ()
        kept = []
        for lesion in (*case.lesions, *sought):
            outlined, reason = lesion, ""
            if not lesion.mask and not lesion.polygons:
                outlined, reason = _outline(image, lesion, segment, name, folder)
            rows.append({"id": case.id, "label": lesion.label, "mask": lesion_source(outlined), "reason": reason})
            kept += [outlined] if outlined.outlined or outlined.points else []
        made.append(replace(case, lesions=tuple(kept)))
    return made, rows


def copy_case(case: Case, folder: Path) -> Case:
    """The case with its image, hidden image and masks written anew to `folder`, named by their pixels."""
    folder = folder.resolve()
    size = read_image(case.image).size

    def copied(entry: Fact | Lesion) -> Fact | Lesion:
        if entry.mask is None:
            return entry
        label_id = entry.label_id if isinstance(entry, Lesion) else None
        pixels = read_mask(case.folder / entry.mask, size, value=label_id)
        entry = replace(entry, mask=_save_mask(pixels, folder))
        return replace(entry, label_id=None) if isinstance(entry, Lesion) else entry

    return replace(
        case, image=save_picture(case.image, folder / "images").path,
        hidden=None if case.hidden is None else save_picture(case.hidden, folder / "images").path,
        facts=None if case.facts is None else tuple(copied(fact) for fact in case.facts),
        lesions=tuple(copied(lesion) for lesion in case.lesions), folder=folder,
    )


def _outline(image: Image.Image, lesion: Lesion, segment: Segmenter, name: str, folder: Path) -> tuple[Lesion, str]:
    """The lesion with its outline and "", or as it was and why."""
    pixels = segment(image, lesion)
    if pixels is None:
        return lesion, "the segmenter found nothing"
    if pixels.dtype != bool or pixels.shape != image.size[::-1]:
        raise ValueError(f"{name} returned {pixels.dtype} {pixels.shape}; a mask is bool {image.size[::-1]} or None")
    if lesion.box is not None:
        pixels = pixels & lesion_pixels(replace(lesion, mask=None), folder=folder, size=image.size)
    if not pixels.any():
        return lesion, "the outline is empty" + (" inside the box" if lesion.box else "")
    if pixels.mean() > LARGEST:
        return lesion, f"the outline covers more than {LARGEST:.0%} of the image"
    if not all(pixels[int(y), int(x)] for x, y in lesion.points):
        return lesion, "the outline misses the given point"
    return replace(lesion, mask=_save_mask(pixels, folder), made_by=name), ""


def _save_mask(pixels: np.ndarray, folder: Path) -> str:
    name = f"masks/{sha256(repr(pixels.shape).encode() + np.packbits(pixels).tobytes()).hexdigest()[:16]}.png"
    save_png(pixels.astype(np.uint8) * 255, folder / name)
    return name


@dataclass(frozen=True)
class Sam:
    """A model of the SAM family with its processor; called with an image and a lesion it returns bool (H, W), or None
    without prompt."""

    model: torch.nn.Module
    processor: Callable

    def __call__(self, image: Image.Image, lesion: Lesion) -> np.ndarray | None:
        import torch

        prompt = {}  # for one object in one image, in pixels: corners of the box, points inside
        if lesion.box is not None:
            x, y, width, height = lesion.box
            prompt["input_boxes"] = [[[x, y, x + width, y + height]]]
        if lesion.points:
            prompt["input_points"] = [[[list(point) for point in lesion.points]]]
            prompt["input_labels"] = [[[1] * len(lesion.points)]]
        if not prompt:
            return None
        inputs = self.processor(images=image, **prompt, return_tensors="pt").to(self.model.device)
        seen = {key: value.to(self.model.dtype) if value.is_floating_point() else value for key, value in inputs.items()
                if key not in ("original_sizes", "reshaped_input_sizes")}
        with torch.inference_mode():
            # A point may mean a part or the whole, so the model's own best of three is taken; a box means one thing.
            found = self.model(**seen, multimask_output=lesion.box is None)
        sizes = [inputs[key].cpu() for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        (masks,) = self.processor.post_process_masks(found.pred_masks.float().cpu(), *sizes)  # (1, K, H, W) bool
        best = int(found.iou_scores.flatten().argmax())
        return masks[0, best].numpy().astype(bool)


def load_sam(model: str, device: str | None = None) -> tuple[Sam, str]:
    """The segmenter in a folder or of a hub id, and its name; `device` is a GPU where there is one. Raises ModelError
    for what is missing or no model of the family, or one whose processor needs torchvision."""
    import torch
    from transformers import AutoModelForMaskGeneration, AutoProcessor

    from medalign_lite.model.loading import OFFLINE, first_line

    folder, name, _ = locate(model)
    try:
        processor = AutoProcessor.from_pretrained(folder, **OFFLINE)
        network = AutoModelForMaskGeneration.from_pretrained(folder, use_safetensors=True, **OFFLINE)
    except ImportError as error:
        raise ModelError(f"{folder}: this model's processor needs torchvision: pip install -c constraints.txt -e "
                         "'.[gpu]', or use a model of the first SAM's kind (SAM, MedSAM), which does "
                         "without.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no usable SAM-family model in safetensors ({first_line(error)[:160]}).") from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Sam(network.to(device).eval(), processor), f"segmenter {name}"


@command(refused=(CaseError, ImageError, ModelError))
def main(arguments: list[str]) -> None:
    """Outline the lesions of CASES, write the new list under OUT/masks, and print a page. Exit status 0, or 2 with one
    sentence where nothing can be outlined."""
    values = parse(arguments)
    if not values["CASES"] or not values["MODEL"]:
        raise ArgumentError("say which: make masks CASES=path MODEL=folder-or-hub-id of a SAM-family model")
    cases, out = map(path_of, (values["CASES"], values["OUT"] or "artifacts"))
    segment, name = load_sam(values["MODEL"])
    found = read_set(cases, out, strict=values["STRICT"], lesions=values["LESIONS"])
    if not any(case.lesions for case in found.cases):
        raise CaseError(f"{cases}: no lesion has a box, point or mask: this segmenter needs one. A segmenter that "
                        "needs none is run from Python: masks.outline_cases(..., labels=...)")
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
    print("\n".join(lines))
