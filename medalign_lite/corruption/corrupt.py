"""Taking the evidence out of an image: the pixels of a mask changed, and nothing outside it (METHOD.md §6)."""

from itertools import islice

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic
from skimage.transform import resize

from medalign_lite.corruption.masks import body_of, bounds, dilate, generator, places

INSIDE = ("noise", "blur", "inpaint", "texture", "mean", "black")  # change pixels of the mask only
WHOLE = ("whole_noise", "crop")  # baselines: known to be shortcuts, need no mask
METHODS = INSIDE + WHOLE
UNSEEN = "texture"  # kept for the evaluation: no training pair may show it (pictures.corrupt_all refuses it)

SIGMA = 45.0  # standard deviation of the noise at strength 1, of 255 grey levels (the paper's)
INPAINT_PIXELS = 6000  # unknowns that biharmonic inpainting solves for; larger masks are solved at lower resolution
CALMEST_OF = 8  # healthy patches that texture chooses from


def corrupt(
    image: Image.Image, mask: np.ndarray | None, *, method: str, strength: float = 1.0, id: str, seed: int,
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
    Raises ValueError for an unknown method, negative strength, or a mask that is absent or of another size."""
    if method not in METHODS:
        raise ValueError(f"unknown corruption {method!r}; allowed are {', '.join(METHODS)}")
    if not 0 <= strength < np.inf:
        raise ValueError(f"corruption strength {strength} must be 0 or more")
    image, rng = image.convert("RGB"), generator(id, seed, "corrupt")
    if method == "crop":
        return _crop(image, strength, rng)
    if method == "whole_noise":
        mask = np.ones(image.size[::-1], bool)
    if mask is None or mask.shape != image.size[::-1] or not mask.any():
        found = "no mask" if mask is None else f"a mask {mask.shape} with {int(mask.sum())} pixels"
        raise ValueError(f"{method} on case {id} got {found}; it needs one of {image.size[::-1]} that is not empty")
    if strength == 0:
        return image.copy()
    levels = np.asarray(image, dtype=np.float64)
    levels = levels[..., :1] if (levels[..., :1] == levels).all() else levels  # (H, W, 1) for grey, else (H, W, 3)
    changed = _changed(levels, mask, method, strength, rng, avoid)
    result = np.asarray(image).copy()  # (H, W, 3)
    result[mask] = np.clip(np.round(changed[mask]), 0, 255).astype(np.uint8)
    return Image.fromarray(result)


def _changed(levels, mask, method, strength, rng, avoid) -> np.ndarray:
    """The picture (H, W, C) as `method` makes it; only the mask's pixels are read from the result."""
    if method in ("noise", "whole_noise"):
        return levels + strength * SIGMA * rng.standard_normal((*mask.shape, 1))
    if method == "blur":
        sigma = strength * 0.5 * np.sqrt(mask.sum() / np.pi)
        window, blurred = bounds(mask, margin=int(3 * sigma) + 1), levels.copy()
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
    outside = body_of(levels) & ~mask
    return levels[outside if outside.any() else slice(None)].reshape(-1, levels.shape[-1]).mean(axis=0)


def _smooth_fill(levels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Biharmonic inpainting (H, W, C), solved at a resolution where at most INPAINT_PIXELS are unknown. The rim around
    the mask counts as unknown too: it still shows the lesion's soft edge."""
    hole = dilate(mask)
    if hole.all():
        return np.broadcast_to(_healthy_mean(levels, mask), levels.shape)
    window = bounds(hole, margin=8 + max(mask.shape) // 16)
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
    Where no patch has room for the mask's shape, a smaller rectangle is repeated by reflection."""
    healthy = body_of(levels) & ~dilate(mask)
    if avoid is not None:
        healthy &= ~avoid
    detail, window = np.zeros_like(levels), bounds(mask)
    height, width = mask[window].shape
    for parts in (1, 2, 3, 4, 6):
        grain = max(1.0, 0.005 * max(mask.shape))  # all that may repeat: coarser structure would look like anatomy
        sigma = max(grain, 0.25 * np.sqrt(mask.sum() / np.pi)) if parts == 1 else grain
        shape = mask[window] if parts == 1 else np.ones((-(-height // parts), -(-width // parts)), bool)
        patches = []
        for place in islice(places(shape, healthy, rng, area=shape.sum()), CALMEST_OF):
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
