"""Taking the evidence out of an image, and the same damage elsewhere as the control (METHOD.md §6).

Where a lesion is comes from the data set's own masks, polygons or boxes, from a segmenter, or from nowhere:
`Masks.source` says which.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image
from scipy import ndimage, signal
from skimage.filters import threshold_otsu
from skimage.restoration import inpaint_biharmonic
from skimage.transform import resize

from medalign_lite.cases.case import Case, Lesion, lesion_pixels
from medalign_lite.cases.images import image_size, read_mask

INSIDE = ("noise", "blur", "inpaint", "texture", "mean", "black")  # change pixels of the mask only
WHOLE = ("whole_noise", "crop")  # baselines: known to be shortcuts, need no mask
METHODS = INSIDE + WHOLE
UNSEEN = "texture"  # kept for the evaluation: no training pair may show it (evidence.corrupt_all refuses it)

SIGMA = 45.0  # standard deviation of the noise at strength 1, of 255 grey levels (the paper's)
AREA_TOLERANCE = 0.01  # how much smaller than the lesion mask its control may be
MARGIN = 0.02  # how far a control keeps from lesions, as a fraction of the longer image side
SEARCH_SIDE = 192  # pixels; placements are searched on a grid of at most this side, then checked exactly
INPAINT_PIXELS = 6000  # unknowns that biharmonic inpainting solves for; larger masks are solved at lower resolution
TRIES = 64  # placements checked exactly per turn
NO_MASK = "the case has no lesion mask or box for this"

STRETCHES = (1.0, 1.25, 0.8, 1.5, 0.67, 1.75, 0.57, 2.0, 0.5)  # width factor of a control; the height shrinks by it
CALMEST_OF = 8  # healthy patches that texture chooses from

# A placed mask may be mirrored or turned: (there, and back again).
TURNS = (
    (lambda a: a, lambda a: a),
    (np.fliplr, np.fliplr),
    (np.flipud, np.flipud),
    (lambda a: np.rot90(a, 2), lambda a: np.rot90(a, 2)),
    (lambda a: np.rot90(a, 1), lambda a: np.rot90(a, 3)),
    (lambda a: np.rot90(a, 3), lambda a: np.rot90(a, 1)),
)


@dataclass(frozen=True)
class Masks:
    """The lesion mask M and its control M°, bool (H, W) or None; `reason` says why one is missing, else "".

    `source`: "mask", "polygon" or "box" (the data set's own), the name of the segmenter that drew the mask, several of
    these joined by "and", or "none".
    """

    lesion: np.ndarray | None
    control: np.ndarray | None
    source: str
    reason: str


def corrupt(
    image: Image.Image,
    mask: np.ndarray | None,
    *,
    method: str,
    strength: float = 1.0,
    id: str,
    seed: int,
    avoid: np.ndarray | None = None,
) -> Image.Image:
    """The image (RGB) with `mask`, bool (H, W), corrupted; pixels outside it stay bit-identical for INSIDE methods.

    noise        Gaussian, the same in every channel, standard deviation `strength` x SIGMA grey levels
    blur         Gaussian, standard deviation `strength` x half the radius of a disc of the mask's area, in pixels
    inpaint      biharmonic from the mask's surroundings      | these four mix the picture and the fill:
    texture      inpaint plus the fine structure of a patch   | strength 0 leaves the picture, 1 or more
                 of body outside mask and `avoid`             | leaves only the fill
    mean, black  the mean of the body outside the mask; zero  |
    whole_noise  as noise, everywhere
    crop         a random part of 1 - .8 x min(strength, 1) of the area, scaled back to the image's size

    Depends on (id, seed) and the arguments only. `avoid`, bool (H, W): lesions that texture must not copy.
    Raises ValueError for an unknown method, negative strength, or a mask that is absent or of another size.
    """
    if method not in METHODS:
        raise ValueError(f"unknown corruption {method!r}; allowed are {', '.join(METHODS)}")
    if not 0 <= strength < np.inf:
        raise ValueError(f"corruption strength {strength} must be 0 or more")
    image, rng = image.convert("RGB"), _generator(id, seed, "corrupt")
    if method == "crop":
        return _crop(image, strength, rng)
    if method == "whole_noise":
        mask = np.ones(image.size[::-1], bool)
    if mask is None or mask.shape != image.size[::-1] or not mask.any():
        found = "no mask" if mask is None else f"a mask {mask.shape} with {int(mask.sum())} pixels"
        raise ValueError(f"{method} on case {id} got {found}; it needs one of {image.size[::-1]} that is not empty")
    if strength == 0:
        return image.copy()
    levels = _levels(image)  # (H, W, 1) for grey images, else (H, W, 3)
    changed = _changed(levels, mask, method, strength, rng, avoid)
    result = np.asarray(image).copy()  # (H, W, 3)
    result[mask] = np.clip(np.round(changed[mask]), 0, 255).astype(np.uint8)
    return Image.fromarray(result)


def lesion_mask(case: Case, select: Collection[str] | None = None) -> np.ndarray | None:
    """The union of the case's lesions at image size, bool (H, W), or None where it has none that is asked for.

    Counts every fact with a mask and every lesion that is outlined; `select` keeps those findings or labels, small and
    capital letters alike.
    Raises ImageError or CaseError for an unusable mask.
    """
    size = image_size(case.image)
    parts = [read_mask(case.folder / fact.mask, size) for fact in _chosen_facts(case, select)]
    parts += [lesion_pixels(lesion, folder=case.folder, size=size) for lesion in _chosen_lesions(case, select)]
    return np.logical_or.reduce(parts) if parts else None


def mask_source(case: Case, select: Collection[str] | None = None) -> str:
    """Where lesion_mask takes its pixels from, as `Masks.source`."""
    names = ["mask"] if _chosen_facts(case, select) else []
    for lesion in _chosen_lesions(case, select):
        names += [lesion_source(lesion)] if lesion_source(lesion) not in names else []
    return " and ".join(names) or "none"


def lesion_source(lesion: Lesion) -> str:
    """Where the pixels of one lesion come from, as `Masks.source`."""
    if lesion.mask:
        return lesion.made_by or "mask"
    return "polygon" if lesion.polygons else "box" if lesion.box else "none"


def find_masks(case: Case, image: Image.Image, *, select: Collection[str] | None = None, seed: int) -> Masks:
    """The masks of a preference pair about `select` (None: all lesions); the control keeps off every lesion."""
    source = mask_source(case, select)
    lesion = lesion_mask(case, select)
    if lesion is None:
        pointed = any(_is_chosen(lesion.label, select) for lesion in case.lesions)
        reason = "only points mark the lesion: `make masks` outlines it" if pointed else NO_MASK
        return Masks(None, None, source, reason)
    control = control_mask(lesion, body_mask(image), lesions_dilated=dilate(lesion_mask(case)), id=case.id, seed=seed)
    reason = "" if control is not None else "no place in the body holds the mask clear of the lesions"
    return Masks(lesion, control, source, reason)


def body_mask(image: Image.Image) -> np.ndarray:
    """The patient in the picture, bool (H, W): all but the dark surround and what stands apart in it (letters)."""
    return _body(np.asarray(image.convert("L"), dtype=np.float64)[..., None])


def _body(levels: np.ndarray) -> np.ndarray:
    grey = levels.mean(axis=-1)
    smooth = ndimage.gaussian_filter(grey, 0.01 * max(grey.shape))
    if smooth.max() - smooth.min() < 1:
        return np.ones(grey.shape, bool)
    bright = smooth > 0.4 * threshold_otsu(smooth)  # lungs are darker than tissue but not black
    labels, _ = ndimage.label(bright)
    largest = np.argmax(np.bincount(labels.ravel())[1:]) + 1
    return ndimage.binary_fill_holes(_close(labels == largest, 0.03 * max(grey.shape)))


def _close(mask: np.ndarray, radius: float) -> np.ndarray:
    """Fill gaps narrower than twice `radius` pixels: thin dark walls beside a lung, which would let its air out."""
    pad = int(radius) + 1
    grown = ndimage.distance_transform_edt(~np.pad(mask, pad)) <= radius
    return (ndimage.distance_transform_edt(grown) > radius)[pad:-pad, pad:-pad]


def dilate(mask: np.ndarray) -> np.ndarray:
    """The mask, bool (H, W), grown by MARGIN of the longer image side (a pixel at least)."""
    return ndimage.distance_transform_edt(~mask) <= max(1.0, MARGIN * max(mask.shape))


def control_mask(
    lesion: np.ndarray, body: np.ndarray, *, lesions_dilated: np.ndarray, id: str, seed: int
) -> np.ndarray | None:
    """The lesion mask moved to a random place in the body: as it is if it fits, else mirrored, turned or stretched.

    All masks bool (H, W). The result has no pixel in `lesions_dilated` and the lesion mask's area within
    AREA_TOLERANCE; None where nothing fits.
    """
    allowed = body & ~lesions_dilated
    shape = lesion[_bounds(lesion)]
    rng = _generator(id, seed, "control")
    stretched = (_stretch(shape, factor) for factor in STRETCHES)
    place = next((p for s in stretched for p in _places(s, allowed, rng, area=shape.sum())), None)
    if place is None:
        return None
    moved = np.zeros_like(lesion)
    moved[place.window] = place.shape & allowed[place.window]
    return moved


@dataclass(frozen=True)
class _Place:
    """Where a shape fits: turned to bool (h, w), in this window (rows, columns), with the way back."""

    shape: np.ndarray
    window: tuple[slice, slice]
    turn_back: Callable[[np.ndarray], np.ndarray]


def _places(shape: np.ndarray, allowed: np.ndarray, rng: np.random.Generator, *, area: int) -> Iterator[_Place]:
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
                yield _Place(turned, window, turn_back)


def _stretch(shape: np.ndarray, factor: float) -> np.ndarray:
    """The shape, bool (h, w), `factor` times as wide and as much lower."""
    if factor == 1:
        return shape
    height, width = max(1, round(shape.shape[0] / factor)), max(1, round(shape.shape[1] * factor))
    return resize(shape, (height, width), order=0, anti_aliasing=False)


def _changed(levels, mask, method, strength, rng, avoid) -> np.ndarray:
    """The picture (H, W, C) as `method` makes it; only the mask's pixels are read from the result."""
    if method in ("noise", "whole_noise"):
        return levels + strength * SIGMA * rng.standard_normal((*mask.shape, 1))
    if method == "blur":
        sigma = strength * 0.5 * np.sqrt(mask.sum() / np.pi)
        window, blurred = _bounds(mask, margin=int(3 * sigma) + 1), levels.copy()
        blurred[window] = _blur(levels[window], sigma)
        return blurred
    mix = min(strength, 1.0)
    if method in ("mean", "black"):
        fill = _healthy_mean(levels, mask) if method == "mean" else 0.0
    else:
        fill = _smooth_fill(levels, mask)
        if method == "texture":
            fill = fill + _healthy_detail(levels, mask, rng, avoid)
    return (1 - mix) * levels + mix * fill


def _blur(levels: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(levels, (sigma, sigma, 0), mode="nearest", truncate=3)


def _healthy_mean(levels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean (C,) of the body outside the mask."""
    outside = _body(levels) & ~mask
    return levels[outside if outside.any() else slice(None)].reshape(-1, levels.shape[-1]).mean(axis=0)


def _smooth_fill(levels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Biharmonic inpainting (H, W, C), solved at a resolution where at most INPAINT_PIXELS are unknown.

    The rim around the mask counts as unknown too: it still shows the lesion's soft edge.
    """
    hole = dilate(mask)
    if hole.all():
        return np.broadcast_to(_healthy_mean(levels, mask), levels.shape)
    window = _bounds(hole, margin=8 + max(mask.shape) // 16)
    known, hole = levels[window], hole[window]
    step = max(1, int(np.ceil(np.sqrt(hole.sum() / INPAINT_PIXELS))))
    pad = [(0, -side % step) for side in hole.shape]
    blocks = [(side + extra) // step for side, (_, extra) in zip(hole.shape, pad, strict=True)]
    shape = (blocks[0], step, blocks[1], step)
    free = np.pad(~hole, pad, mode="edge").reshape(shape).astype(np.float64)
    count = free.sum(axis=(1, 3))  # healthy pixels per block
    fill = np.empty_like(known)
    for channel in range(known.shape[-1]):
        padded = np.pad(known[..., channel], pad, mode="edge").reshape(shape)
        mean = (padded * free).sum(axis=(1, 3)) / np.maximum(count, 1)
        solved = inpaint_biharmonic(mean / 255, count == 0) * 255 if (count == 0).any() else mean
        large = resize(solved, (blocks[0] * step, blocks[1] * step), order=1, mode="edge", anti_aliasing=False)
        fill[..., channel] = large[: hole.shape[0], : hole.shape[1]]
    result = levels.copy()
    result[window] = fill
    return result


def _healthy_detail(levels, mask, rng, avoid) -> np.ndarray:
    """The fine structure of a healthy patch, the calmest of a few, brought to the mask (H, W, C); 0 where none fits.

    Where no patch has room for the mask's shape, a smaller rectangle is repeated by reflection.
    """
    healthy = _body(levels) & ~dilate(mask)
    if avoid is not None:
        healthy &= ~avoid
    detail, window = np.zeros_like(levels), _bounds(mask)
    height, width = mask[window].shape
    for parts in (1, 2, 3, 4, 6):
        grain = max(1.0, 0.005 * max(mask.shape))  # all that may repeat: coarser structure would look like anatomy
        sigma = max(grain, 0.25 * np.sqrt(mask.sum() / np.pi)) if parts == 1 else grain
        shape = mask[window] if parts == 1 else np.ones((-(-height // parts), -(-width // parts)), bool)
        patches = []
        for place in islice(_places(shape, healthy, rng, area=shape.sum()), CALMEST_OF):
            patch = levels[place.window]
            fine = patch - _blur(patch, sigma)
            patches.append((fine[place.shape].std(), place.turn_back(fine)))
        if patches:
            _, fine = min(patches, key=lambda entry: entry[0])
            missing = ((0, height - fine.shape[0]), (0, width - fine.shape[1]), (0, 0))
            detail[window] = np.pad(fine, missing, mode="symmetric")
            break
    return detail


def _crop(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    side = np.sqrt(1 - 0.8 * min(strength, 1.0))
    width, height = (max(1, round(side * length)) for length in image.size)
    left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
    return image.crop((left, top, left + width, top + height)).resize(image.size, Image.Resampling.BICUBIC)


def _levels(image: Image.Image) -> np.ndarray:
    """The picture as float64 (H, W, C), C = 1 where its three channels are equal."""
    levels = np.asarray(image, dtype=np.float64)
    grey = (levels[..., :1] == levels).all()
    return levels[..., :1] if grey else levels


def _bounds(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return tuple(slice(max(0, found[0] - margin), found[-1] + 1 + margin) for found in (rows, columns))


def _generator(id: str, seed: int, purpose: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{purpose}\0{id}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def _chosen_facts(case: Case, select: Collection[str] | None) -> list:
    return [fact for fact in case.facts or () if fact.mask is not None and _is_chosen(fact.finding, select)]


def _chosen_lesions(case: Case, select: Collection[str] | None) -> list:
    return [lesion for lesion in case.lesions if lesion.outlined and _is_chosen(lesion.label, select)]


def _is_chosen(name: str, select: Collection[str] | None) -> bool:
    return select is None or name.lower() in {wanted.lower() for wanted in select}
