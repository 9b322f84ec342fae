"""Where the evidence is: the lesion mask M of a case, and M°, the same shape elsewhere in the body (METHOD.md §6).

A lesion's pixels come from the data set's own masks, polygons or boxes, from a segmenter, or from nowhere:
`Masks.source` says which.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage, signal
from skimage.filters import threshold_otsu
from skimage.transform import resize

from medalign_lite.cases.case import Case, Lesion, lesion_pixels
from medalign_lite.cases.images import image_size, read_mask
from medalign_lite.text.facts import Fact

AREA_TOLERANCE = 0.01  # how much smaller than the lesion mask its control may be
MARGIN = 0.02  # how far a control keeps from lesions, as a fraction of the longer image side
SEARCH_SIDE = 192  # pixels; placements are searched on a grid of at most this side, then checked exactly
TRIES = 64  # placements checked exactly per turn
NO_MASK = "the case has no lesion mask or box for this"
STRETCHES = (1.0, 1.25, 0.8, 1.5, 0.67, 1.75, 0.57, 2.0, 0.5)  # width factor of a control; the height shrinks by it

# A placed mask may be mirrored or turned: (there, and back again).
TURNS = (
    (lambda a: a, lambda a: a), (np.fliplr, np.fliplr), (np.flipud, np.flipud),
    (lambda a: np.rot90(a, 2), lambda a: np.rot90(a, 2)), (lambda a: np.rot90(a, 1), lambda a: np.rot90(a, 3)),
    (lambda a: np.rot90(a, 3), lambda a: np.rot90(a, 1)),
)


@dataclass(frozen=True)
class Masks:
    """The lesion mask M and its control M°, bool (H, W) or None; `reason` says why one is missing, else "". `source`:
    "mask", "polygon" or "box" (the data set's own), the name of the segmenter that drew the mask, several of these
    joined by "and", or "none"."""

    lesion: np.ndarray | None
    control: np.ndarray | None
    source: str
    reason: str


def lesion_mask(case: Case, select: Collection[str] | None = None) -> np.ndarray | None:
    """The union of the case's lesions at image size, bool (H, W), or None where it has none that is asked for: every
    fact with a mask and every lesion that is outlined; `select` keeps those findings or labels, small and capital
    letters alike. Raises ImageError or CaseError for an unusable mask."""
    size, (facts, lesions) = image_size(case.image), _chosen(case, select)
    parts = [read_mask(case.folder / fact.mask, size) for fact in facts]
    parts += [lesion_pixels(lesion, folder=case.folder, size=size) for lesion in lesions]
    return np.logical_or.reduce(parts) if parts else None


def mask_source(case: Case, select: Collection[str] | None = None) -> str:
    """Where lesion_mask takes its pixels from, as `Masks.source`."""
    facts, lesions = _chosen(case, select)
    names = ["mask" for _ in facts] + [lesion_source(lesion) for lesion in lesions]
    return " and ".join(dict.fromkeys(names)) or "none"


def lesion_source(lesion: Lesion) -> str:
    """Where the pixels of one lesion come from, as `Masks.source`."""
    if lesion.mask:
        return lesion.made_by or "mask"
    return "polygon" if lesion.polygons else "box" if lesion.box else "none"


def find_masks(case: Case, image: Image.Image, *, select: Collection[str] | None = None, seed: int) -> Masks:
    """The masks of a preference pair about `select` (None: all lesions); the control keeps off every lesion."""
    source, lesion = mask_source(case, select), lesion_mask(case, select)
    if lesion is None:
        pointed = any(_is_chosen(lesion.label, select) for lesion in case.lesions)
        reason = "only points mark the lesion: `make masks` outlines it" if pointed else NO_MASK
        return Masks(None, None, source, reason)
    control = control_mask(lesion, body_mask(image), lesions_dilated=dilate(lesion_mask(case)), id=case.id, seed=seed)
    reason = "" if control is not None else "no place in the body holds the mask clear of the lesions"
    return Masks(lesion, control, source, reason)


def body_mask(image: Image.Image) -> np.ndarray:
    """The patient in the picture, bool (H, W): all but the dark surround and what stands apart in it (letters)."""
    return body_of(np.asarray(image.convert("L"), dtype=np.float64)[..., None])


def body_of(levels: np.ndarray) -> np.ndarray:
    """The same, of grey levels (H, W, C)."""
    grey = levels.mean(axis=-1)
    smooth = ndimage.gaussian_filter(grey, 0.01 * max(grey.shape))
    if smooth.max() - smooth.min() < 1:
        return np.ones(grey.shape, bool)
    bright = smooth > 0.4 * threshold_otsu(smooth)  # lungs are darker than tissue but not black
    labels, _ = ndimage.label(bright)
    largest = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    # Gaps narrower than twice `radius` are closed: thin dark walls beside a lung, which would let its air out.
    radius = 0.03 * max(grey.shape)
    pad = int(radius) + 1
    grown = ndimage.distance_transform_edt(~np.pad(largest, pad)) <= radius
    return ndimage.binary_fill_holes((ndimage.distance_transform_edt(grown) > radius)[pad:-pad, pad:-pad])


def dilate(mask: np.ndarray) -> np.ndarray:
    """The mask, bool (H, W), grown by MARGIN of the longer image side (a pixel at least)."""
    return ndimage.distance_transform_edt(~mask) <= max(1.0, MARGIN * max(mask.shape))


def control_mask(
    lesion: np.ndarray, body: np.ndarray, *, lesions_dilated: np.ndarray, id: str, seed: int
) -> np.ndarray | None:
    """The lesion mask moved to a random place in the body: as it is if it fits, else mirrored, turned or stretched. All
    masks bool (H, W). The result has no pixel in `lesions_dilated` and the lesion mask's area within AREA_TOLERANCE;
    None where nothing fits."""
    allowed = body & ~lesions_dilated
    shape = lesion[bounds(lesion)]
    rng = generator(id, seed, "control")
    stretched = (_stretch(shape, factor) for factor in STRETCHES)
    place = next((p for s in stretched for p in places(s, allowed, rng, area=shape.sum())), None)
    if place is None:
        return None
    moved = np.zeros_like(lesion)
    moved[place.window] = place.shape & allowed[place.window]
    return moved


@dataclass(frozen=True)
class Place:
    """Where a shape fits: turned to bool (h, w), in this window (rows, columns), with the way back."""

    shape: np.ndarray
    window: tuple[slice, slice]
    turn_back: Callable[[np.ndarray], np.ndarray]


def places(shape: np.ndarray, allowed: np.ndarray, rng: np.random.Generator, *, area: int) -> Iterator[Place]:
    """Random places, plain ones first, where the allowed part of `shape` is `area` pixels within AREA_TOLERANCE."""
    low, high = (1 - AREA_TOLERANCE) * area, (1 + AREA_TOLERANCE) * area
    for turn, turn_back in TURNS:
        turned = turn(shape)
        if any(np.greater(turned.shape, allowed.shape)) or not low <= turned.sum() <= high:
            continue
        step = max(1, min(-(-max(allowed.shape) // SEARCH_SIDE), min(turned.shape) // 4))
        small, ground = turned[::step, ::step], allowed[::step, ::step]
        covered = signal.fftconvolve(ground.astype(np.float32), small[::-1, ::-1].astype(np.float32), mode="valid")
        spots = np.argwhere(covered >= (1 - 2 * AREA_TOLERANCE) * small.sum() - 0.5) * step
        for top, left in rng.permutation(spots)[:TRIES]:
            window = (slice(top, top + turned.shape[0]), slice(left, left + turned.shape[1]))
            ground_here = allowed[window]
            if ground_here.shape == turned.shape and low <= (turned & ground_here).sum() <= high:
                yield Place(turned, window, turn_back)


def _stretch(shape: np.ndarray, factor: float) -> np.ndarray:
    """The shape, bool (h, w), `factor` times as wide and as much lower."""
    if factor == 1:
        return shape
    height, width = max(1, round(shape.shape[0] / factor)), max(1, round(shape.shape[1] * factor))
    return resize(shape, (height, width), order=0, anti_aliasing=False)


def bounds(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns that hold the mask, with a margin in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return tuple(slice(max(0, found[0] - margin), found[-1] + 1 + margin) for found in (rows, columns))


def generator(id: str, seed: int, purpose: str) -> np.random.Generator:
    """Randomness that depends on these three alone."""
    digest = hashlib.sha256(f"{purpose}\0{id}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _chosen(case: Case, select: Collection[str] | None) -> tuple[list[Fact], list[Lesion]]:
    """The facts with a mask and the lesions with an outline that are asked for."""
    facts = [fact for fact in case.facts or () if fact.mask is not None and _is_chosen(fact.finding, select)]
    return facts, [lesion for lesion in case.lesions if lesion.outlined and _is_chosen(lesion.label, select)]


def _is_chosen(name: str, select: Collection[str] | None) -> bool:
    return select is None or name.lower() in {wanted.lower() for wanted in select}
