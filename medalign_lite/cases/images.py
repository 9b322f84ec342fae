"""Reading images and masks safely: every file gives an 8-bit RGB picture or one sentence that says why not.

Formats are those of FORMATS and go through Pillow, TIFF too. Limits are asked of the header, before pixels are decoded.
"""

import re
import sys
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")  # none of them starts a program
MAX_PIXELS = 64_000_000  # 8000 x 8000: above any radiograph, below what fills a small machine's memory
TOO_LARGE = f"more than the limit of {MAX_PIXELS // 1_000_000} megapixels; scale the image down."
MAX_WIDE = 16_000_000  # pixels of a picture in colour with more than 8 bits, which is taken apart in memory
MAX_BYTES = 2**29  # of a picture's file
MAX_RATIO = 200  # of the sides: processors of real models refuse longer strips
SIDEWAYS = {5, 6, 7, 8}  # EXIF orientations that swap width and height
ORIENTATION_TAG, BITS_TAG, PHOTOMETRIC_TAG, SAMPLE_FORMAT_TAG = 0x0112, 258, 262, 339
OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}  # raw modes of 16 bits


class ImageError(ValueError):
    """An image or mask that cannot be used; the message names the file, the fault and what to do."""


def read_image(source: Path | str | bytes, frame: int | None = None) -> Image.Image:
    """Read one picture, a file or its bytes, as mode RGB, 8 bits, upright (EXIF orientation applied).

    `frame` counts from 1 and may be left out where there is one. More than 8 bits are scaled by the picture's own
    smallest and largest value; transparency is put on black; palette and CMYK are converted. Raises ImageError for
    what is missing, empty, damaged, has several frames and none is named, is larger than MAX_PIXELS or MAX_BYTES, a
    strip beyond MAX_RATIO, or holds colours that Pillow does not show."""
    with _opened(source, frame) as image:
        try:
            if (wide := _wide(image, source, frame)) is not None:
                return wide
            inverted = _tag(image, PHOTOMETRIC_TAG) == 0 and image.mode[0] in "IF"  # Pillow inverts 8 bits only
            image.load()
            shown = to_rgb(ImageOps.exif_transpose(image))
            return ImageOps.invert(shown) if inverted else shown
        except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, EOFError, ...
            raise ImageError(f"{_name(source)}: the image is damaged or incomplete ({short_of(error)}); copy it again "
                             "from its source.") from error


def image_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in pixels of the upright picture, from its header only; raises ImageError as read_image does."""
    with _opened(path) as image:
        try:
            sideways = image.getexif().get(ORIENTATION_TAG) in SIDEWAYS
        except Exception as error:
            raise ImageError(f"{path}: unreadable EXIF data ({short_of(error)}); save the image without it.") from error
        return image.size[::-1] if sideways else image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB, 8 bits: deep grey scaled by its own range, transparency put on black."""
    if image.mode[0] in "IF":  # I, I;16, I;16B, F: more than 8 bits of grey
        return Image.fromarray(_scaled_to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGB", image.size)
        black.paste(image, mask=image.getchannel("A"))
        return black
    return image.convert("RGB")


def read_mask(path: Path | str, size: tuple[int, int], *, value: int | None = None) -> np.ndarray:
    """Read a lesion mask of `size` = (width, height) pixels as bool (H, W).

    Without `value` a pixel belongs to the mask where its grey (of its colour, also in a palette) exceeds half of the
    file's largest, so 0/1 and 0/255 files both work; a shape that is drawn by transparency alone is read as that. With
    `value` it belongs where the stored number equals that label id. Raises ImageError for an unreadable file, another
    size, or a mask that is empty or covers the whole image (neither says where a lesion is)."""
    levels = read_labels(path, size, by_colour=value is None)
    inside = levels == value if value is not None else levels > levels.max() / 2
    name = "the mask" if value is None else f"label {value}"
    if not inside.any():
        raise ImageError(f"{path}: {name} is empty; remove the entry or draw the lesion.")
    if inside.all():
        raise ImageError(f"{path}: {name} covers the whole image; a lesion mask must leave healthy pixels.")
    return inside


def read_labels(path: Path | str, size: tuple[int, int], *, by_colour: bool = False) -> np.ndarray:
    """The numbers stored in a mask file of `size` = (width, height) as an integer or float array (H, W). Palette files
    give their indices, colour files their grey value; `by_colour` takes the grey of a palette's colours and the shape
    of transparency instead. Raises ImageError."""
    with _opened(path) as image:
        if image.size != tuple(size):
            raise ImageError(f"{path}: the mask is {image.size[0]}x{image.size[1]} pixels, its image "
                             f"{size[0]}x{size[1]}; export the mask at the size of the image.")
        try:
            image.load()
            if by_colour and image.has_transparency_data:
                grey, alpha = (np.asarray(channel) for channel in image.convert("RGBA").convert("LA").split())
                return alpha if (grey == grey[0, 0]).all() else np.where(alpha > 0, grey, 0)
            as_stored = image.mode in ("1", "L") or image.mode[0] in "IF" or (image.mode == "P" and not by_colour)
            levels = np.asarray(image if as_stored else image.convert("RGB").convert("L"))
        except Exception as error:
            raise ImageError(f"{path}: the mask is damaged ({short_of(error)}); export it again.") from error
    return levels.astype(np.uint8) if levels.dtype == bool else levels


def _opened(source: Path | str | bytes, frame: int | None = None) -> Image.Image:
    """Open one still picture of sane size at `frame`, without decoding its pixels."""
    name = _name(source)
    if not isinstance(source, bytes):
        check_file(Path(source))
    elif not source or len(source) > MAX_BYTES:
        raise ImageError(f"{name}: {len(source)} bytes are no picture.")
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):  # ours is lower
            image = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a camera's JPEG with a preview
            if frame is not None and 1 < frame <= frames:
                image.seek(frame - 1)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {TOO_LARGE}") from error
    except Exception as error:
        why = f"not a readable image ({short_of(error)}); convert it to PNG or JPEG and try again."
        raise ImageError(f"{name}: {why}") from error
    try:
        frame_index(name, frame, frames, ", or export it as a PNG")
        if fault := _fault(image):
            raise ImageError(f"{name}: {fault}")
    except ImageError:
        image.close()
        raise
    return image


def frame_index(name: str | Path, frame: int | None, frames: int, instead: str = "") -> int:
    """The index of a frame, which counts from 1 and may be left out where there is one; raises ImageError."""
    if frame is None and frames > 1:
        way = f"say which one in a column `frame`, counted from 1{instead}."
        raise ImageError(f"{name}: holds {frames} frames; {way}")
    if frame is not None and not 1 <= frame <= frames:
        raise ImageError(f"{name}: there is no frame {frame}; it holds {frames}, counted from 1.")
    return (frame or 1) - 1


def check_file(path: Path) -> None:
    """Raise ImageError unless `path` is a regular file of sane size: a folder, pipe or device is not opened."""
    try:
        is_file, size = path.is_file(), path.is_file() and path.stat().st_size
    except (OSError, ValueError, RuntimeError):  # a name that is too long or no text, a link that leads to itself
        is_file, size = False, 0
    if not is_file:
        raise ImageError(f"{path}: no such image file; check the path in the case list.")
    if size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes); copy it again from its source.")
    if size > MAX_BYTES:
        raise ImageError(f"{path}: more than {MAX_BYTES // 2**20} MB; scale the image down.")


def _fault(image: Image.Image) -> str:
    """Why this picture is not read, or ""."""
    if image.width * image.height > MAX_PIXELS:
        return f"{image.width}x{image.height} pixels, {TOO_LARGE}"
    if max(image.size) > MAX_RATIO * min(image.size):
        return f"{image.width}x{image.height} pixels is a strip, and no picture that a model reads; crop it."
    bits, signs = _tag(image, BITS_TAG) or (8,), _tag(image, SAMPLE_FORMAT_TAG) or (1,)
    if image.mode == "LAB" or (max(bits) <= 8 and 2 in signs):
        return "colours as LAB, or signed 8-bit values, which are not shown rightly; export it as PNG."
    return ""


def _tag(image: Image.Image, number: int):
    return getattr(image, "tag_v2", {}).get(number)  # TIFF alone has them


def _wide(image: Image.Image, source, frame: int | None) -> Image.Image | None:
    """Colour (or grey with transparency) of 16 bits, scaled by its own range; None for any other picture. Pillow hands
    out the upper byte of each such value. Unpacked in the other byte order the same file gives the lower."""
    modes = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile]
    if not modes or image.mode[0] in "IF" or ";16" not in str(modes[0]):
        return None
    if image.width * image.height > MAX_WIDE:
        raise ValueError(f"16-bit colour of more than {MAX_WIDE // 1_000_000} megapixels; save it with 8 bits")
    grey = modes[0].startswith("LA")  # there Pillow knows one byte order only: the four bytes are read as four channels
    with _opened(source, frame) as other:
        swapped = ["RGBA" if grey else re.sub(";16(.)", lambda m: ";16" + OTHER_BYTE[m[1]], mode) for mode in modes]
        other.tile = [tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))
                      for tile, mode in zip(other.tile, swapped, strict=True)]
        low = np.asarray(ImageOps.exif_transpose(other)).astype(np.uint16)
    if grey:
        levels = low[..., ::2] << 8 | low[..., 1::2]
    else:
        levels = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16) << 8 | low
    colours = _scaled_to_8_bit(levels[..., : 1 if grey else 3])
    if levels.shape[-1] in (2, 4):
        colours = np.round(colours * (levels[..., -1:] / np.float32(2**16 - 1))).astype(np.uint8)
    return Image.fromarray(colours.repeat(3, axis=-1) if grey else colours)


def _scaled_to_8_bit(levels: np.ndarray) -> np.ndarray:
    """uint8 of the same shape, from the smallest to the largest finite value; others become black."""
    if levels.dtype == np.uint16:  # through a table: no copy in floats
        low, high = int(levels.min()), int(levels.max())
        scaled = np.round((np.arange(2**16) - low).clip(0) / max(high - low, 1) * 255)
        return scaled.clip(0, 255).astype(np.uint8)[levels]
    finite = np.isfinite(levels)
    if not finite.all():
        levels = np.where(finite, levels, levels[finite].min() if finite.any() else 0)
    low, high = float(levels.min()), float(levels.max())
    scaled = levels.astype(np.float32 if levels.size > 2**24 else np.float64)
    scaled -= low  # in place: a large picture is held once
    scaled /= high - low if high > low else 1.0
    scaled *= 255
    return np.round(scaled, out=scaled).astype(np.uint8)


def _name(source: Path | str | bytes) -> str:
    return "the picture" if isinstance(source, bytes) else str(source)


def short_of(error: Exception) -> str:
    """What an error says, its first line and 120 characters at most; its type where it says nothing."""
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__
