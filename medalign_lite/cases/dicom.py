"""DICOM to an 8-bit picture and nothing else: of the header only the values that are named here ever leave.

Grey goes stored values -> modality LUT -> window (VOI LUT) -> MONOCHROME1 inverted -> 8 bits, as DICOM PS3.3 C.7.6.3,
C.11.1 and C.11.2 say; without a window the 0.1 and 99.9 % quantiles take its place. Colour is brought to RGB.
"""

import logging
import re
import warnings
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from medalign_lite.cases.images import MAX_BYTES, MAX_PIXELS, ImageError, check_file, frame_index

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
UNUSABLE = "an optional value of the header that is empty or cannot be used, so it counts as absent"
PLACEHOLDER = "PatientID is a word for everybody, so pictures go together by study (a column `patient` is surer)"
QUANTILES = (0.001, 0.999)
DEFLATED = "1.2.840.10008.1.2.1.99"
# Words that de-identification puts in the place of a number.
NOBODY = re.compile(
    r"ANON[A-Z]*|DE?IDENT[A-Z]*|DEID|UNKNOWN|UNBEKANNT|UNDEFINED|NONE|NULL|NA|NN|NIL|NOTAVAILABLE|REMOVED|REDACTED|DELETED|"
    r"MASKED|HIDDEN|BLANK|EMPTY|PATIENT|PATIENTID|SUBJECT|TEST|DUMMY|DEFAULT|PSEUDONYM[A-Z]*|CONFIDENTIAL|ID|X+|0+"
)
TOP_LEVEL = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "VOILUTSequence",
             "WindowCenter", "WindowWidth", "VOILUTFunction", "PhotometricInterpretation", "BitsStored",
             "BitsAllocated", "PixelRepresentation")  # fmt: skip


@dataclass(frozen=True)
class DicomPicture:
    """One frame: `pixels` uint8 (H, W) or (H, W, 3), `about` its allowed header values, `notes` what to look at.
    `patient` says which files belong together and must not be written anywhere; it is kept out of the repr."""

    pixels: np.ndarray
    about: str
    notes: tuple[str, ...]
    patient: str | None = field(repr=False)


def is_dicom(path: Path) -> bool:
    """True for a file with DICOM's preamble."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(132)[128:] == MAGIC
    except (OSError, ValueError):
        return False


def read_dicom(path: Path, frame: int | None = None) -> DicomPicture:
    """Read one frame, counted from 1; it may be left out where there is only one. Raises ImageError, whose message
    names the file, for what is no DICOM picture, is damaged, compressed in a way that no installed package reads (the
    message names one that does), or has another number of frames."""
    try:
        import pydicom
    except ImportError as error:
        raise ImageError(f"{path}: {NEEDS}") from error
    check_file(path)
    logger = logging.getLogger("pydicom")  # its children take their level from it
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # pydicom's log lines and warnings quote the header
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            _check_deflated(path)
            dataset = pydicom.dcmread(path)
            notes: list[str] = []
            pixels = _render(dataset, _checked_frame(dataset, frame, path), path, notes)
            patient = _patient(dataset, notes)
            told = {name: str(dataset.get(name, "")).strip().upper() for name in (*ALLOWED, "BurnedInAnnotation")}
            about = " ".join(["DICOM", *(told[name] for name in ALLOWED if told[name] in ALLOWED[name])])
            if told["BurnedInAnnotation"] != "NO":
                notes.append(f"burned-in text: {BURNED_IN if told['BurnedInAnnotation'] == 'YES' else UNSTATED}")
            return DicomPicture(pixels, about, tuple(dict.fromkeys(notes)), patient)
    except ImageError:
        raise
    except pydicom.errors.InvalidDicomError as error:
        raise ImageError(f"{path}: no DICOM file (its preamble is missing); export it again.") from error
    except Exception as error:  # pydicom raises whatever the damaged value leads to; its text may quote the header
        raise ImageError(f"{path}: the DICOM file is damaged or not a picture ({type(error).__name__}); export it "
                         "again.") from error
    finally:
        logger.setLevel(before)


def _checked_frame(dataset, frame: int | None, path: Path) -> int:
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError(f"{path}: a DICOM file without pixel data (a report or plan); leave it out.")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
        most = MAX_PIXELS // 1_000_000
        raise ImageError(f"{path}: more than the limit of {most} megapixels; scale the picture down.")
    return frame_index(path, frame, frames)


def _check_deflated(path: Path) -> None:
    """Raise ImageError for a file that is packed as a whole and unpacks to more than MAX_BYTES."""
    from pydicom.filereader import read_file_meta_info

    if not is_dicom(path) or str(read_file_meta_info(path).get("TransferSyntaxUID", "")) != DEFLATED:
        return
    with path.open("rb") as stream:
        start = stream.read(144)
        stream.seek(144 + int.from_bytes(start[140:144], "little"))  # behind the group of meta values
        unpacker, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
        packed = stream.read()
    while packed and unpacked <= MAX_BYTES and not unpacker.eof:
        unpacked += len(unpacker.decompress(packed, 2**24))
        packed = unpacker.unconsumed_tail
    if unpacked > MAX_BYTES:
        raise ImageError(f"{path}: unpacks to more than {MAX_BYTES // 2**20} MB; scale the picture down.")


def _decode(dataset, index: int, path: Path) -> np.ndarray:
    """The stored values (H, W), or (H, W, 3), of the size that the header says."""
    from pydicom.pixels import pixel_array

    frames, size = int(dataset.get("NumberOfFrames") or 1), (int(dataset.Rows), int(dataset.Columns))
    uid = dataset.file_meta.get("TransferSyntaxUID")
    try:
        if uid is not None and uid.is_compressed:
            _check_codestream(dataset, index, frames, size)
        levels = pixel_array(dataset, index=index if frames > 1 else None)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except Exception as error:
        if uid is None or not uid.is_compressed:
            raise
        raise ImageError(f"{path}: {_why_not_decoded(uid)}") from error
    if levels.shape[:2] != size or levels.shape[2:] not in ((), (3,)):
        raise ImageError(f"{path}: pixels of shape {levels.shape} where the header says {size}; export it again.")
    return levels


def _check_codestream(dataset, index: int, frames: int, size: tuple[int, int]) -> None:
    """Raise ImageError where a compressed frame itself says another size than the header: it is not decoded."""
    from pydicom.encaps import get_frame

    try:
        with Image.open(BytesIO(get_frame(dataset.PixelData, index, number_of_frames=frames)),
                        formats=("JPEG", "JPEG2000")) as image:  # fmt: skip
            stated = image.size[::-1]
    except Exception:  # RLE, JPEG-LS and the like, which Pillow does not know, or damage, which the decoder tells
        return
    if stated != size:
        raise ImageError(f"its compressed pixels are {stated}, the header says {size}; export it again.")


def _why_not_decoded(uid) -> str:
    from pydicom.pixels import get_decoder

    try:
        lacking = get_decoder(uid).missing_dependencies
    except NotImplementedError:
        return f"compressed as {uid.name}, which pydicom does not read; export it uncompressed."
    if lacking:
        return f"compressed as {uid.name}: damaged, or not read without one of these: {'; '.join(lacking)}."
    return f"compressed as {uid.name}, and the pixel data are damaged; export it again."


def _render(dataset, index: int, path: Path, notes: list[str]) -> np.ndarray:
    """The frame as uint8; adds to `notes` how it came about."""
    levels = _decode(dataset, index, path)
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        return _by_palette(levels, dataset)
    if levels.ndim == 3:
        return (levels >> max(0, int(dataset.BitsStored) - 8)).astype(np.uint8)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"{path}: colours stored as {photometric!r}, which is not read; export it as RGB or grey.")
    grey = _windowed(levels, _settings(dataset, index), _padding(dataset, levels), notes)
    return np.round(255 * (1 - grey if photometric == "MONOCHROME1" else grey)).astype(np.uint8)


def _by_palette(levels: np.ndarray, dataset) -> np.ndarray:
    """Colours (H, W, 3) of a palette; one of 16 bits may hold 8-bit values (common in ultrasound)."""
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(levels, dataset)[..., :3]
    if colours.dtype == np.uint16:
        count, first, _ = (int(value) for value in dataset.RedPaletteColorLookupTableDescriptor)
        whole = apply_color_lut(np.arange(first, first + (count or 2**16)).astype(levels.dtype), dataset)
        colours = colours >> 8 if whole.max() > 255 else colours
    return colours.astype(np.uint8)


def _settings(dataset, index: int):
    """The values that the grey scale depends on, for this frame: of the header, or of its functional groups."""
    from pydicom import Dataset

    found = Dataset()
    found.file_meta = dataset.file_meta  # says in which byte order a table of the modality LUT is
    for name in TOP_LEVEL:
        if name in dataset:
            found[name] = dataset.get_item(name)  # as stored: what cannot be read is told by whoever needs it
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for group in [*(dataset.get("SharedFunctionalGroupsSequence") or []), *per_frame[index : index + 1]]:
        for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(sequence) or []:
                found.update(item)
    return found


def _windowed(levels: np.ndarray, settings, padding: np.ndarray, notes: list[str]) -> np.ndarray:
    """Grey values in 0..1 as float (H, W), dark to bright as the window says, before any inversion."""
    values = levels.astype(np.float64)
    slope, intercept = (_number(settings, name, notes) for name in ("RescaleSlope", "RescaleIntercept"))
    if (table := _table(settings, "ModalityLUTSequence", notes)) is not None:
        values = _looked_up(values, *table)
    elif slope is not None or intercept is not None:
        values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
    if (table := _table(settings, "VOILUTSequence", notes)) is not None:
        return _between(_looked_up(values, *table), 0, 2 ** table[2] - 1)
    centre, width = (_number(settings, name, notes) for name in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None and width > 0:
        stated = str(settings.get("VOILUTFunction") or "").strip().upper()
        if stated not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") and "VOILUTFunction" in settings:
            notes.append(f"VOILUTFunction: {UNUSABLE}")
        return _through_window(values, centre, width, stated)
    notes.append(f"window: {NO_WINDOW}")
    counted = values[~padding]
    return _between(values, *np.quantile(counted if counted.size else values, QUANTILES))


def _through_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3; a linear window narrower than 1, which has no meaning there, counts as exact."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function != "LINEAR_EXACT" and width >= 1:
        centre, width = centre - 0.5, width - 1
    return np.clip((values - centre) / width + 0.5, 0, 1) if width else (values > centre).astype(np.float64)


def _number(settings, name: str, notes: list[str]) -> float | None:
    """The first number of an optional value, with a point or a comma; None and a note where there is nothing usable."""
    if name not in settings:
        return None
    try:
        value = settings[name].value
    except Exception:  # not the number that it should be: pydicom tells in many ways
        value = settings.get_item(name).value
    try:
        text = value.decode("ascii") if isinstance(value, bytes) else value
        first = text.split("\\")[0] if isinstance(text, str) else np.ravel(np.array(text, dtype=object))[0]
        number = float(str(first).strip().replace(",", "."))
        if np.isfinite(number) and not (name == "RescaleSlope" and number == 0):
            return number
    except (ValueError, IndexError, UnicodeDecodeError):
        pass
    notes.append(f"{name}: {UNUSABLE}")
    return None


def _table(settings, name: str, notes: list[str]) -> tuple[np.ndarray, int, int] | None:
    """(values, the input of the first, bits) of the first look-up table of a sequence (PS3.3 C.11.1.1, C.11.2.1.1)."""
    if name not in settings:
        return None
    try:
        item = settings[name].value[0]
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        values = item.LUTData
        if isinstance(values, bytes):
            wide = len(values) >= 2 * (count or 2**16)
            order = "<" if settings.file_meta.TransferSyntaxUID.is_little_endian else ">"
            values = np.frombuffer(values, f"{order}u2" if wide else "u1")
        values = np.ravel(values)[: count or 2**16].astype(np.float64)
        if values.size and 0 < bits <= 16:
            return values, first, bits
    except Exception:  # whatever an empty or damaged item leads to
        pass
    notes.append(f"{name}: {UNUSABLE}")
    return None


def _looked_up(values: np.ndarray, table: np.ndarray, first: int, bits: int) -> np.ndarray:
    return table[np.clip(np.round(np.nan_to_num(values)) - first, 0, len(table) - 1).astype(np.int64)]


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((np.nan_to_num(values) - low) / (high - low if high > low else 1.0), 0, 1)


def _padding(dataset, levels: np.ndarray) -> np.ndarray:
    """Where the stored values are PixelPaddingValue, or between it and PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    ends = [_number(dataset, name, []) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(levels.shape, bool)
    signed = levels.dtype.kind == "i"  # then the ends may stand in the header as if they were not
    half, whole = 2 ** (8 * levels.dtype.itemsize - 1), 2 ** (8 * levels.dtype.itemsize)
    ends = [end - whole if signed and end >= half else end for end in ends if end is not None]
    return (levels >= min(ends)) & (levels <= max(ends))


def _patient(dataset, notes: list[str]) -> str | None:
    """What files of one patient share: the PatientID, and where that is nobody's the study or the series."""
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = str(dataset.get(name) or "").strip()
        if name == "PatientID" and value and NOBODY.fullmatch(re.sub(r"[\W_]+", "", value).upper()):
            notes.append(f"patient: {PLACEHOLDER}")
        elif value:
            return f"{name} {dataset.get('IssuerOfPatientID', '')} {value}"
    return None
