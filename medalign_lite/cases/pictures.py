"""Any picture file as an 8-bit PNG named by its pixels: DICOM, NIfTI, and what `images` reads.

The PNG holds pixels only: no header, no EXIF, and a name that says nothing about a patient.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from medalign_lite.cases.dicom import is_dicom, read_dicom
from medalign_lite.cases.images import ImageError, check_file, frame_index, read_image, short_of
from medalign_lite.files import whole

DICOM = (".dcm", ".dicom")
NIFTI = (".nii", ".nii.gz")
MAX_VOXELS = 150_000_000  # of a volume: 512 x 512 x 572
VOLUME_QUANTILES = (0.005, 0.995)  # of the volume: a slice keeps its brightness beside the others


@dataclass(frozen=True)
class Picture:
    """A saved picture: `name` of 16 hexadecimal digits over its pixels, `path` of the PNG, and what is known of it.
    `patient` says which pictures belong together; it may be an identifier and must not be written anywhere."""

    name: str
    path: Path
    size: tuple[int, int]  # width, height
    about: str
    notes: tuple[str, ...] = ()
    patient: str | None = field(default=None, repr=False)


def save_picture(source: Path | bytes, folder: Path, frame: int | None = None) -> Picture:
    """Read `source`, a file or its bytes (one frame or slice, counted from 1), and write it to `folder`/<name>.png. A
    file that is there already is kept. Raises ImageError, which names `source`."""
    pixels, about, notes, patient = _read(source, frame)
    pixels = without_colour(pixels)
    name = sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]
    path = folder / f"{name}.png"
    if not path.is_file():
        save_png(pixels, path)
    return Picture(name, path, pixels.shape[1::-1], about, notes, patient)


def without_colour(pixels: np.ndarray) -> np.ndarray:
    """(H, W) in place of (H, W, 3) where the three are equal."""
    grey = pixels.ndim == 3 and (pixels[..., :1] == pixels).all()
    return np.ascontiguousarray(pixels[..., 0] if grey else pixels)


def save_png(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 (H, W) or (H, W, 3) as a PNG that holds nothing else, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path, synced=False) as part:
        Image.fromarray(pixels).save(part, format="PNG", compress_level=1)


def is_volume(path: Path) -> bool:
    """True for a NIfTI file, by its name."""
    return path.name.lower().endswith(NIFTI)


def _read(source: Path | bytes, frame: int | None) -> tuple[np.ndarray, str, tuple[str, ...], str | None]:
    if not isinstance(source, bytes):
        check_file(source)
        if is_volume(source):
            return _read_nifti(source, frame), "NIfTI slice", (), str(source.absolute())  # a volume is one patient's
        if is_dicom(source) or source.suffix.lower() in DICOM:
            found = read_dicom(source, frame)
            return found.pixels, found.about, found.notes, found.patient
    return np.asarray(read_image(source, frame)), "picture", (), None


def _read_nifti(source: Path, frame: int | None) -> np.ndarray:
    """An axial slice as uint8, shown as radiologists do: front on top, the patient's right on the left."""
    try:
        import nibabel
    except ImportError as error:
        needs = "reading NIfTI needs nibabel: pip install -c constraints.txt -e '.[nifti]'"
        raise ImageError(f"{source}: {needs}") from error
    try:
        stored = nibabel.load(source)
        shape = stored.shape
        if len(shape) != 3 or not 0 < np.prod(shape, dtype=np.float64) <= MAX_VOXELS:
            most = MAX_VOXELS // 10**6
            raise ImageError(f"{source}: of shape {shape}; one volume of up to {most} million voxels is read.")
        if stored.get_data_dtype().kind not in "iuf":
            raise ImageError(f"{source}: NIfTI values of type {stored.get_data_dtype()} are no grey values.")
        volume = nibabel.as_closest_canonical(stored)  # axes to the right, the front, the head
        index = frame_index(source, frame, volume.shape[2])
        values = volume.get_fdata(caching="unchanged", dtype=np.float32)
        values = np.nan_to_num(values, copy=False, posinf=0.0, neginf=0.0)
        low, high = np.quantile(values.ravel(order="K")[:: max(1, values.size // 2**24)], VOLUME_QUANTILES)
        scaled = (values[::-1, ::-1, index].T.astype(np.float64) - low) / (high - low if high > low else 1.0)
        return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{source}: not a readable NIfTI file ({short_of(error)}); export it again.") from error
