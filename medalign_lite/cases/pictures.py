"""Any picture file as an 8-bit PNG named by its pixels: DICOM, NIfTI, TIFF of any depth, PNG, JPEG.

The PNG holds pixels only: no header, no EXIF, and a name that says nothing about a patient.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from medalign_lite.cases.dicom import is_dicom, read_dicom
from medalign_lite.cases.images import MAX_PIXELS, ImageError, read_image

DICOM = (".dcm", ".dicom")
NIFTI = (".nii", ".nii.gz")
TIFF = (".tif", ".tiff")
VOLUME_QUANTILES = (0.005, 0.995)  # of the volume: a slice keeps its brightness beside the others


@dataclass(frozen=True)
class Picture:
    """A saved picture: `name` of 16 hexadecimal digits over its pixels, `path` of the PNG, and what is known of it.

    `patient` says which pictures belong together; it may be an identifier and must not be written anywhere.
    """

    name: str
    path: Path
    size: tuple[int, int]  # width, height
    about: str
    notes: tuple[str, ...] = ()
    patient: str | None = field(default=None, repr=False)


def save_picture(source: Path, folder: Path, frame: int | None = None) -> Picture:
    """Read `source` (one frame or slice, counted from 1) and write it to `folder`/<name>.png, unless it is there.

    Raises ImageError, which names `source`.
    """
    pixels, about, notes, patient = _read(source, frame)
    pixels = _without_colour(pixels)
    name = sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
    path = folder / f"{name}.png"
    if not path.is_file():
        save_png(pixels, path)
    return Picture(name, path, pixels.shape[1::-1], about, notes, patient)


def save_png(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 (H, W) or (H, W, 3) as a PNG that holds nothing else, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    Image.fromarray(pixels).save(partial, format="PNG", compress_level=1)
    partial.replace(path)


def is_volume(path: Path) -> bool:
    """True for a NIfTI file, by its name."""
    return path.name.lower().endswith(NIFTI)


def _read(source: Path, frame: int | None) -> tuple[np.ndarray, str, tuple[str, ...], str | None]:
    if is_volume(source):
        return _read_nifti(source, frame), "NIfTI slice", (), str(source.absolute())  # a volume is one patient's
    if source.is_file() and (is_dicom(source) or source.suffix.lower() in DICOM):
        found = read_dicom(source, frame)
        return found.pixels, found.about, found.notes, found.patient
    if source.suffix.lower() in TIFF:
        return _read_tiff(source, frame), "picture", (), None
    if frame not in (None, 1):
        raise ImageError(f"{source}: there is no frame {frame}; it holds one picture.")
    return np.asarray(read_image(source)), "picture", (), None


def _read_tiff(source: Path, frame: int | None) -> np.ndarray:
    """A page of a TIFF as uint8; more than 8 bits are scaled by the page's own smallest and largest value."""
    import tifffile

    if not source.is_file() or source.stat().st_size == 0:
        return np.asarray(read_image(source))  # raises, with the sentence for a missing or empty file
    try:
        with tifffile.TiffFile(source) as file:
            pages = file.pages
            index = _index(source, frame, len(pages))
            page = pages[index]
            if page.imagewidth * page.imagelength > MAX_PIXELS:
                raise ImageError(f"{source}: more than {MAX_PIXELS // 1_000_000} megapixels; scale the image down.")
            levels, inverted = page.asarray(), page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    except ImageError:
        raise
    except Exception as error:  # a damaged file raises whatever its values lead to
        short = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ImageError(f"{source}: not a readable TIFF ({short}); export it as PNG.") from error
    if levels.ndim not in (2, 3) or (levels.ndim == 3 and levels.shape[-1] < 3):
        raise ImageError(f"{source}: a TIFF page of shape {levels.shape} is no picture; export it as PNG.")
    shown = levels[..., :3] if levels.ndim == 3 else levels
    if shown.dtype == bool:
        shown = shown.astype(np.uint8) * 255
    elif shown.dtype != np.uint8:
        low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
        shown = _to_8_bit(shown, low, high)
    return 255 - shown if inverted else shown


def _read_nifti(source: Path, frame: int | None) -> np.ndarray:
    """An axial slice as uint8, shown as radiologists do: front on top, the patient's right on the left."""
    try:
        import nibabel
    except ImportError as error:
        raise ImageError(
            f"{source}: reading NIfTI needs nibabel: pip install -c constraints.txt -e '.[nifti]'"
        ) from error
    if not source.is_file() or source.stat().st_size == 0:
        return np.asarray(read_image(source))  # raises, with the sentence for a missing or empty file
    try:
        volume = nibabel.as_closest_canonical(nibabel.load(source))  # axes to the right, the front, the head
        if len(volume.shape) != 3 or np.prod(volume.shape, dtype=np.int64) > 16 * MAX_PIXELS:
            raise ImageError(f"{source}: a NIfTI file of shape {volume.shape}; one volume of three axes is read.")
        index = _index(source, frame, volume.shape[2])
        values = np.asarray(volume.dataobj)
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise ImageError(f"{source}: NIfTI values of type {values.dtype} are no grey values.")
        values = np.nan_to_num(values.astype(np.float32), posinf=0.0, neginf=0.0)
        low, high = np.quantile(values, VOLUME_QUANTILES)
        return _to_8_bit(values[::-1, ::-1, index].T, low, high)
    except ImageError:
        raise
    except Exception as error:
        short = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ImageError(f"{source}: not a readable NIfTI file ({short}); export it again.") from error


def _index(source: Path, frame: int | None, count: int) -> int:
    if frame is None and count > 1:
        raise ImageError(f"{source}: holds {count} frames; say which one in a column `frame`, counted from 1.")
    if not 1 <= (frame or 1) <= count:
        raise ImageError(f"{source}: there is no frame {frame}; it holds {count}, counted from 1.")
    return (frame or 1) - 1


def _to_8_bit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    span = high - low if high > low else 1.0
    scaled = (np.nan_to_num(values.astype(np.float64)) - low) / span
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _without_colour(pixels: np.ndarray) -> np.ndarray:
    """(H, W) in place of (H, W, 3) where the three are equal."""
    grey = pixels.ndim == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    return np.ascontiguousarray(pixels[..., 0] if grey else pixels)
