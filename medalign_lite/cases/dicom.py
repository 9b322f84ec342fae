"""DICOM to an 8-bit picture and nothing else: of the header only the values that are named here ever leave.

Grey goes stored values -> modality LUT -> window (VOI LUT) -> MONOCHROME1 inverted -> 8 bits, as DICOM PS3.3 C.7.6.3,
C.11.1 and C.11.2 say; without a window the 0.1 and 99.9 % quantiles take its place. Colour is brought to RGB.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medalign_lite.cases.images import MAX_PIXELS, ImageError

NEEDS = "reading DICOM needs pydicom: pip install -c constraints.txt -e '.[dicom]'"
MAGIC = b"DICM"  # at byte 128
# What leaves of the header: coded values from these lists, so that nothing typed by hand can come along.
ALLOWED = {
    "Modality": "CR CT DX ES GM IO MG MR NM OP OT PT PX RF SC SM US XA XC".split(),
    "BodyPartExamined": "ABDOMEN ANKLE ARM BRAIN BREAST CHEST CSPINE ELBOW EXTREMITY FOOT HAND HEAD HEART HIP KNEE LEG "
    "LSPINE NECK PELVIS SHOULDER SKULL SPINE TSPINE WRIST".split(),
    "ViewPosition": "AP PA LL RL RLD LLD RLO LLO".split(),
}
BURNED_IN = "burned-in text is declared by the file: look at the picture before it is shared"
UNSTATED = "the file does not say whether text is burned in: look at the picture before it is shared"
NO_WINDOW = "no window in the file: the grey values between its 0.1 and 99.9 % quantiles are shown"
QUANTILES = (0.001, 0.999)
TOP_LEVEL = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "VOILUTSequence",
             "WindowCenter", "WindowWidth", "VOILUTFunction", "PhotometricInterpretation", "BitsStored",
             "BitsAllocated", "PixelRepresentation")  # fmt: skip


@dataclass(frozen=True)
class DicomPicture:
    """One frame: `pixels` uint8 (H, W) or (H, W, 3), `about` its allowed header values, `notes` what to look at.

    `patient` says which files belong together and must not be written anywhere; it is kept out of the repr.
    """

    pixels: np.ndarray
    about: str
    notes: tuple[str, ...]
    patient: str | None = field(repr=False)


def is_dicom(path: Path) -> bool:
    """True for a file with DICOM's preamble."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == MAGIC
    except OSError:
        return False


def read_dicom(path: Path, frame: int | None = None) -> DicomPicture:
    """Read one frame, counted from 1; it may be left out where there is only one.

    Raises ImageError, whose message names the file, for what is no DICOM picture, is damaged, compressed in a way that
    no installed package reads (the message names one that does), or has another number of frames.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ImageError(f"{path}: {NEEDS}") from error
    try:
        with _quiet(), np.errstate(all="ignore"):
            dataset = pydicom.dcmread(path)
            index = _frame_index(dataset, frame, path)
            pixels, notes = _render(dataset, index, path)
            about = " ".join(["DICOM", *_allowed(dataset)])
            return DicomPicture(pixels, about, (*notes, *_burned_in(dataset)), _patient(dataset))
    except ImageError:
        raise
    except pydicom.errors.InvalidDicomError as error:
        raise ImageError(f"{path}: no DICOM file (its preamble is missing); export it again.") from error
    except Exception as error:  # pydicom raises whatever the damaged value leads to; its text may quote the header
        raise ImageError(
            f"{path}: the DICOM file is damaged or not a picture ({type(error).__name__}); export it again."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without pydicom's warnings and log lines: they quote the header."""
    logger = logging.getLogger("pydicom")  # its children take their level from it
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _frame_index(dataset, frame: int | None, path: Path) -> int:
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError(f"{path}: a DICOM file without pixel data (a report or plan); leave it out.")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        raise ImageError(
            f"{path}: more than the limit of {MAX_PIXELS // 1_000_000} megapixels; scale the picture down."
        )
    if frame is None and frames > 1:
        raise ImageError(f"{path}: holds {frames} frames; say which one in a column `frame`, counted from 1.")
    if frame is not None and not 1 <= frame <= frames:
        raise ImageError(f"{path}: there is no frame {frame}; it holds {frames}, counted from 1.")
    return (frame or 1) - 1


def _decode(dataset, index: int, path: Path) -> np.ndarray:
    from pydicom.pixels import pixel_array

    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        return pixel_array(dataset, index=index if frames > 1 else None)
    except Exception as error:
        uid = dataset.file_meta.get("TransferSyntaxUID")
        if uid is None or not uid.is_compressed:
            raise
        raise ImageError(f"{path}: {_why_not_decoded(uid)}") from error


def _why_not_decoded(uid) -> str:
    from pydicom.pixels import get_decoder

    try:
        lacking = get_decoder(uid).missing_dependencies
    except NotImplementedError:
        return f"compressed as {uid.name}, which pydicom does not read; export it uncompressed."
    if lacking:
        return f"compressed as {uid.name}: damaged, or not read without one of these: {'; '.join(lacking)}."
    return f"compressed as {uid.name}, and the pixel data are damaged; export it again."


def _render(dataset, index: int, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The frame as uint8 and the notes on how it came about."""
    from pydicom.pixels import apply_color_lut

    levels = _decode(dataset, index, path)
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(levels, dataset)
        return (colours >> 8 if colours.dtype == np.uint16 else colours).astype(np.uint8)[..., :3], ()
    if levels.ndim == 3 and levels.shape[-1] == 3:
        return (levels >> max(0, int(dataset.BitsStored) - 8)).astype(np.uint8), ()
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"{path}: colours stored as {photometric!r}, which is not read; export it as RGB or grey.")
    grey, notes = _windowed(levels, _settings(dataset, index), _padding(dataset))
    return np.round(255 * (1 - grey if photometric == "MONOCHROME1" else grey)).astype(np.uint8), notes


def _settings(dataset, index: int):
    """The values that the grey scale depends on, for this frame: of the header, or of its functional groups."""
    from pydicom import Dataset

    found = Dataset()
    found.file_meta = dataset.file_meta  # says in which byte order a table of the modality LUT is
    for name in TOP_LEVEL:
        if name in dataset:
            found[name] = dataset[name]
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for group in [*(dataset.get("SharedFunctionalGroupsSequence") or []), *per_frame[index : index + 1]]:
        for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(sequence) or []:
                found.update(item)
    return found


def _windowed(levels: np.ndarray, settings, padding: set[int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Grey values in 0..1 as float (H, W), dark to bright as the window says, before any inversion."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(levels, settings).astype(np.float64)
    if settings.get("VOILUTSequence"):
        return _looked_up(values, settings), ()
    if _has_window(settings):
        low, high = apply_voi_lut(np.array([-1e9, 1e9]), settings)  # what the window's two ends become
        return _between(apply_voi_lut(values, settings), low, high), ()
    counted = values[~np.isin(levels, list(padding))] if padding else values
    low, high = np.quantile(counted if counted.size else values, QUANTILES)
    return _between(values, low, high), (f"window: {NO_WINDOW}",)


def _looked_up(values: np.ndarray, settings) -> np.ndarray:
    """Grey in 0..1 by the first VOI LUT (PS3.3 C.11.2.1.1); pydicom's own wraps indices above 255 in one of 8 bits."""
    item = settings.VOILUTSequence[0]
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    table = item.LUTData
    if isinstance(table, bytes):
        wide = len(table) >= 2 * (count or 2**16)
        order = "<" if settings.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(table, f"{order}u2" if wide else "u1")
    table = np.ravel(table)[: count or 2**16].astype(np.float64)
    index = np.clip(np.round(values) - first, 0, len(table) - 1).astype(np.int64)
    return _between(table[index], 0, 2**bits - 1)


def _has_window(settings) -> bool:
    """True for a centre and a width of at least one grey value; the first is taken where there are several."""
    stated = [settings.get(name) for name in ("WindowCenter", "WindowWidth")]
    centre, width = ([] if value in (None, "") else np.ravel(np.array(value, dtype=float)) for value in stated)
    return len(centre) > 0 and len(width) > 0 and width[0] >= 1


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((np.nan_to_num(values) - low) / (high - low if high > low else 1.0), 0, 1)


def _padding(dataset) -> set[int]:
    value = dataset.get("PixelPaddingValue")
    return set() if value is None else {int(value)}


def _allowed(dataset) -> list[str]:
    values = ((name, str(dataset.get(name, "")).strip().upper()) for name in ALLOWED)
    return [value for name, value in values if value in ALLOWED[name]]


def _burned_in(dataset) -> tuple[str, ...]:
    stated = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if stated == "NO":
        return ()
    return (f"burned-in text: {BURNED_IN if stated == 'YES' else UNSTATED}",)


def _patient(dataset) -> str | None:
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        if str(dataset.get(name) or "").strip():
            return f"{name} {dataset.get('IssuerOfPatientID', '')} {str(dataset.get(name)).strip()}"
    return None
