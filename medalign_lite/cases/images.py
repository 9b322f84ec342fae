"""Reading images and masks safely: every file gives an 8-bit RGB picture or one sentence that says why not."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 64_000_000  # 8000 x 8000: above any radiograph, below what fills a small machine's memory
SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap width and height
ORIENTATION_TAG = 0x0112


class ImageError(ValueError):
    """An image or mask that cannot be used; the message names the file, the fault and what to do."""


def read_image(path: Path | str) -> Image.Image:
    """Read one picture as mode RGB, 8 bits, upright (EXIF orientation applied).

    More than 8 bits are scaled by the picture's own smallest and largest value; transparency is put on black;
    palette and CMYK are converted. Raises ImageError for a file that is missing, empty, damaged, animated
    or multi-page, or larger than MAX_PIXELS.
    """
    path = Path(path)
    with _opened(path) as image:
        try:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
        except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, EOFError, ...
            raise ImageError(
                f"{path}: the image is damaged or incomplete ({_short(error)}); copy it again from its source."
            ) from error


def image_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in pixels of the upright picture, from its header only; raises ImageError as read_image does."""
    path = Path(path)
    with _opened(path) as image:
        try:
            sideways = image.getexif().get(ORIENTATION_TAG) in SIDEWAYS
        except Exception as error:
            raise ImageError(f"{path}: unreadable EXIF data ({_short(error)}); save the image without it.") from error
        return image.size[::-1] if sideways else image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB, 8 bits: deep grey scaled by its own range, transparency put on black."""
    if image.mode[0] in "IF":  # I, I;16, I;16B, F: more than 8 bits of grey
        return Image.fromarray(_scaled_to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    return image.convert("RGB")


def read_mask(path: Path | str, size: tuple[int, int], *, value: int | None = None) -> np.ndarray:
    """Read a lesion mask of `size` = (width, height) pixels as bool (H, W).

    Without `value` a pixel belongs to the mask where it exceeds half of the file's largest value, so 0/1 and
    0/255 files both work; with `value` where it equals that label id. Raises ImageError for an unreadable file,
    another size, or a mask that is empty or covers the whole image (neither says where a lesion is).
    """
    path = Path(path)
    levels = read_labels(path, size)
    inside = levels == value if value is not None else levels > levels.max() / 2
    name = "the mask" if value is None else f"label {value}"
    if not inside.any():
        raise ImageError(f"{path}: {name} is empty; remove the entry or draw the lesion.")
    if inside.all():
        raise ImageError(f"{path}: {name} covers the whole image; a lesion mask must leave healthy pixels.")
    return inside


def read_labels(path: Path | str, size: tuple[int, int]) -> np.ndarray:
    """The numbers stored in a mask file of `size` = (width, height) as an integer or float array (H, W).

    Palette files give their indices; colour files their grey value. Raises ImageError.
    """
    path = Path(path)
    with _opened(path) as image:
        if image.size != tuple(size):
            raise ImageError(
                f"{path}: the mask is {image.size[0]}x{image.size[1]} pixels, its image {size[0]}x{size[1]}; "
                "export the mask at the size of the image."
            )
        try:
            image.load()
            as_stored = image.mode in ("1", "P", "L") or image.mode[0] in "IF"
            levels = np.asarray(image if as_stored else image.convert("L"))
        except Exception as error:
            raise ImageError(f"{path}: the mask is damaged ({_short(error)}); export it again.") from error
    return levels.astype(np.uint8) if levels.dtype == bool else levels


def _opened(path: Path) -> Image.Image:
    """Open one still picture of sane size without decoding its pixels."""
    try:
        is_file = path.is_file()  # also keeps a folder, pipe or device from being opened
    except OSError:  # a name that is too long
        is_file = False
    if not is_file:
        raise ImageError(f"{path}: no such image file; check the path in the case list.")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes); copy it again from its source.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower limit follows
            image = Image.open(path)
        frames = getattr(image, "n_frames", 1)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: {_too_large()}") from error
    except Exception as error:
        raise ImageError(
            f"{path}: not a readable image ({_short(error)}); convert it to PNG or JPEG and try again."
        ) from error
    fault = None
    if image.width * image.height > MAX_PIXELS:
        fault = f"{image.width}x{image.height} pixels, {_too_large()}"
    elif frames > 1 and image.format != "MPO":  # MPO: a camera's JPEG with an embedded preview
        fault = f"holds {frames} frames; export the one frame that the questions are about as a PNG."
    if fault:
        image.close()
        raise ImageError(f"{path}: {fault}")
    return image


def _too_large() -> str:
    return f"more than the limit of {MAX_PIXELS // 1_000_000} megapixels; scale the image down."


def _scaled_to_8_bit(levels: np.ndarray) -> np.ndarray:
    levels = np.nan_to_num(levels.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = levels.min(), levels.max()
    span = high - low if high > low else 1.0
    return np.round((levels - low) / span * 255).astype(np.uint8)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__
