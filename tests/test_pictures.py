"""DICOM, NIfTI, TIFF and deep PNG as 8-bit pictures: the grey scale by hand, and nothing of the header is kept."""

import io
import json
import warnings
from pathlib import Path

import layouts
import numpy as np
import pandas
import pydicom
import pydicom.data
import pytest
from layouts import SIZE, put
from PIL import Image

from medalign_lite.cases.case import CaseError, count_notes, find_leaks, write_cases
from medalign_lite.cases.dicom import read_dicom
from medalign_lite.cases.images import ImageError
from medalign_lite.cases.pictures import save_picture
from medalign_lite.cases.readers import read_cases, table

SHIPPED = Path(pydicom.data.__file__).parent
TEST_FILES = SHIPPED / "test_files"


def levels(number, frames=1):
    return np.random.default_rng(number).integers(0, 4096, (frames, *SIZE[::-1]), dtype=np.uint16)


def shown(tmp_path, frame=None, **changes):
    put(tmp_path, "x.dcm", layouts.dicom(5, **changes))
    return read_dicom(tmp_path / "x.dcm", frame)


def linear(values, centre, width):
    """DICOM PS3.3 C.11.2.1.2.1, scaled to 0..255."""
    return np.round(255 * np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1))


def test_rescale_then_window_then_inversion(tmp_path):
    values = levels(5)[0] * 2.0 - 1000
    plain = shown(tmp_path, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[1500, 40], WindowWidth=[3000, 400])
    assert np.abs(plain.pixels - linear(values, 1500, 3000)).max() <= 1
    inverted = shown(tmp_path, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1500, WindowWidth=3000,
                     PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    assert np.abs(inverted.pixels - (255.0 - linear(values, 1500, 3000))).max() <= 1
    assert plain.notes == () and plain.about == "DICOM DX CHEST PA"


def test_a_lookup_table_goes_before_the_window_whose_decimal_comma_is_a_point(tmp_path):
    item = pydicom.Dataset()
    item.LUTDescriptor = [4096, 0, 8]
    item.LUTData = (255 - np.arange(4096) // 16).astype(np.uint16).tobytes()
    picture = shown(tmp_path, VOILUTSequence=[item])
    assert (picture.pixels == 255 - levels(5)[0] // 16).all()
    content = layouts.dicom(5, WindowCenter="2048.5")
    put(tmp_path, "y.dcm", content.replace(b"2048.5", b"2048,5"))
    assert (read_dicom(tmp_path / "y.dcm").pixels == shown(tmp_path, WindowCenter=2048.5).pixels).all()


@pytest.mark.parametrize("width", [None, 0])
def test_without_a_usable_window_quantiles_are_shown_and_said(tmp_path, width):
    picture = shown(tmp_path, WindowWidth=width, PixelPaddingValue=0)
    low, high = np.quantile(levels(5)[0], (0.001, 0.999))
    assert np.abs(picture.pixels - np.round(255 * np.clip((levels(5)[0] - low) / (high - low), 0, 1))).max() <= 1
    assert "no window in the file" in picture.notes[0]


def test_frames_are_counted_from_one(tmp_path):
    put(tmp_path, "x.dcm", layouts.dicom(5, frames=3))
    second = read_dicom(tmp_path / "x.dcm", 2).pixels
    assert np.abs(second - linear(levels(5, 3)[1], 2048, 4096)).max() <= 1
    for frame, sentence in ((None, "holds 3 frames"), (0, "no frame 0"), (4, "no frame 4; it holds 3")):
        with pytest.raises(ImageError, match=sentence):
            read_dicom(tmp_path / "x.dcm", frame)


@pytest.mark.parametrize(("value", "words"), [("YES", "is declared"), (None, "does not say"), ("NO", None)])
def test_burned_in_text_is_warned_of(tmp_path, value, words):
    notes = shown(tmp_path, BurnedInAnnotation=value).notes
    assert notes == () if words is None else words in notes[0]


def test_header_values_leave_only_from_the_allowed_lists(tmp_path):
    about = shown(tmp_path, Modality="SUE", BodyPartExamined="CHEST", ViewPosition="SECRET^SUE").about
    assert about == "DICOM CHEST" and "MRN" not in repr(shown(tmp_path))


def test_the_shipped_files_are_shown_or_refused_in_a_sentence(tmp_path, caplog):
    files = [path for path in sorted(SHIPPED.rglob("*")) if path.is_file() and path.suffix == ".dcm"]
    kept, refused = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom's warnings quote header values
        for path in files:
            try:
                kept[path.name] = save_picture(path, tmp_path)
            except ImageError as error:
                refused[path.name] = str(error)
    assert len(kept) >= 50 and len(kept) + len(refused) == len({path.name for path in files}) and not caplog.text
    same = ("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm",
            "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm")  # fmt: skip
    assert len({kept[name].name for name in same}) == 1  # one picture, in six transfer syntaxes
    assert "pylibjpeg-libjpeg" in refused["JPGExtended.dcm"] and "JPEG Extended" in refused["JPGExtended.dcm"]
    assert "holds 30 frames" in refused["examples_ybr_color.dcm"]
    assert "without pixel data" in refused["reportsi.dcm"] and "damaged" in refused["MR_truncated.dcm"]
    assert "preamble" in refused["no_meta.dcm"]


def test_colours_are_those_of_the_file(tmp_path):
    expected = pydicom.dcmread(TEST_FILES / "SC_rgb_rle.dcm").pixel_array
    for name in ("SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm", "SC_rgb_jpeg_gdcm.dcm"):
        picture = read_dicom(TEST_FILES / name)
        assert picture.pixels.dtype == np.uint8 and np.abs(picture.pixels.astype(int) - expected).max() <= 1, name


def test_deep_png_and_tiff_pages_keep_their_order_of_grey(tmp_path):
    deep = levels(3)[0] * 16
    put(tmp_path, "deep.png", layouts.encoded(deep))
    put(tmp_path, "deep.tif", layouts.paged([levels(4)[0], deep]))
    expected = np.round((deep - deep.min()) / float(deep.max() - deep.min()) * 255)
    for name, frame in (("deep.png", None), ("deep.tif", 2)):
        assert (read(save_picture(tmp_path / name, tmp_path / "made", frame)) == expected).all()
    with pytest.raises(ImageError, match="holds 2 frames"):
        save_picture(tmp_path / "deep.tif", tmp_path / "made")


def read(picture):
    return np.asarray(Image.open(picture.path))


def test_a_nifti_slice_shows_the_front_on_top_and_the_patients_right_on_the_left(tmp_path):
    volume = np.zeros((12, 10, 4), np.float32)  # to the right, to the front, to the head
    volume[10:, :, 2] = 1  # the patient's right
    volume[:, 8:, 2] = 2  # the front
    put(tmp_path, "x.nii.gz", layouts.nifti(volume))
    pixels = read(save_picture(tmp_path / "x.nii.gz", tmp_path / "made", 3))
    assert pixels.shape == (10, 12) and (pixels[:2] == 255).all() and (pixels[4:, :2] > pixels[4:, 4:].max()).all()


def test_nothing_of_a_patient_is_kept(tmp_path):
    folder = tmp_path / "Secret^Sue"
    layouts.dicom_table(folder)
    (folder / "alpine" / "IM0.dcm").rename(folder / "alpine" / "SUE.dcm")
    csv = (folder / "questions.csv").read_text().replace("alpine/IM0.dcm", "alpine/SUE.dcm")
    put(folder, "questions.csv", csv + "Sue/gone.dcm,,Q?,yes,\nborrow/(it's Sue).jpg,,Q?,yes,\n../Sue.dcm,,Q?,yes,\n")
    put(folder, "borrow/(it's Sue).jpg", b"no picture")
    found = read_cases(folder, root=tmp_path / "made")
    write_cases(tmp_path / "made" / "cases.jsonl", found.cases)
    kept = b"".join(path.name.encode() + path.read_bytes() for path in (tmp_path / "made").rglob("*") if path.is_file())
    kept += json.dumps([found.skipped, found.dropped, found.notes]).encode()
    assert len(found.cases) == 3 and len(found.skipped) == 3
    assert not [word for word in (b"Secret", b"SUE", b"Sue", b"MRN", b"1970") if word in kept]
    assert found.cases[0].group == found.cases[1].group != found.cases[2].group  # MRN-0 has two pictures


def test_a_table_says_what_is_wrong_by_line(tmp_path):
    layouts.dicom_table(tmp_path / "set")
    put(tmp_path / "set", "questions.csv", "\n".join([
        "image,frame,question,answer,report,split,kind,label,x,y,width,height,patient",
        "alpine/IM0.dcm,,Is it?,yes,,test,,,,,,,", "alpine/IM0.dcm,,Is it?,yes,,train,,,,,,,",
        "alpine/IM0.dcm,,Is it?,,,test,,,,,,,", "alpine/IM0.dcm,,,,,,,spot,2,3,5,6,",
        "alpine/IM0.dcm,,,,,,,spot,2,3,five,6,", "borrow/IM0.dcm,1,Which?,the left,,,essay,,,,,,",
        "cactus/IM0.dcm,,Which?,the left,,,,,,,,,", "cactus/IM0.dcm,two,Which?,the left,,,,,,,,,",
        "cactus/IM0.dcm,1,Which?,the left,,,,,,,,,A", "cactus/IM0.dcm,1,Which?,the left,,,,,,,,,B",
    ]))  # fmt: skip
    found = read_cases(tmp_path / "set", root=tmp_path / "made")
    (case,) = found.cases
    assert (case.split, [q.kind for q in case.questions], case.lesions[0].box) == ("test", ["closed"], (2, 3, 5, 6))
    assert [entry["reason"] for entry in found.dropped] == [
        "questions.csv line 4 dropped: a question without an answer",
        "questions.csv line 6 dropped: width is 'five', which is not a number",
    ]
    reasons = {entry["id"].split()[-1]: entry["reason"] for entry in found.skipped}
    assert "kind is 'essay'" in reasons["7"] and "holds 3 frames" in reasons["8"]
    assert "'two' is not a whole number" in reasons["9"] and "several patients" in reasons["10"]
    assert "left out: its image is held out in test" in found.notes[0]["reason"]


def test_a_folder_of_dicom_without_a_table_says_what_to_write(tmp_path):
    put(tmp_path, "=a()/IM0", layouts.dicom(1))
    with pytest.raises(CaseError, match=r"write questions\.csv into the folder.*make cases"):
        read_cases(tmp_path, root=tmp_path / "made")
    template = table.template(tmp_path)
    assert template == 'image,frame,question,answer,report\n"./=a()/IM0",,,,\n'  # a formula to no spreadsheet
    put(tmp_path, "questions.csv", template.replace(",,,,", ",,Is it?,yes,"))
    assert len(read_cases(tmp_path, root=tmp_path / "made").cases) == 1


def test_a_data_frame_gives_what_its_table_gives(tmp_path):
    layouts.mixed_table(tmp_path / "set")
    frame = pandas.read_json(tmp_path / "set" / "questions.jsonl", lines=True)
    found = table.read_frame(frame, folder=tmp_path / "set", root=tmp_path / "made")
    assert found.cases == read_cases(tmp_path / "set", root=tmp_path / "made").cases
    write_cases(tmp_path / "made" / "cases.jsonl", found.cases)
    assert read_cases(tmp_path / "made").cases == tuple(found.cases)


def test_a_picture_of_a_table_loses_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "Secret Sue"
    put(tmp_path, "x.png", layouts.encoded(layouts.pixels(1, "RGB"), exif=exif))
    assert b"Secret" not in save_picture(tmp_path / "x.png", tmp_path / "made").path.read_bytes()


OPTIONAL = {  # a header value that is there and says nothing, and the note on it
    "empty slope and intercept": ({"RescaleSlope": None, "RescaleIntercept": None}, "RescaleSlope"),
    "slope of nothing": ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope"),
    "empty function": ({"VOILUTFunction": ""}, "VOILUTFunction"),
    "unknown function": ({"VOILUTFunction": "CURVED"}, "VOILUTFunction"),
    "no data in the VOI LUT": ({"VOILUTSequence": [pydicom.Dataset()]}, "VOILUTSequence"),
    "no item in the modality LUT": ({"ModalityLUTSequence": []}, "ModalityLUTSequence"),
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_value_that_is_empty_or_unusable_counts_as_absent_and_is_said(tmp_path, name):
    values, noted = OPTIONAL[name]
    dataset = pydicom.dcmread(io.BytesIO(layouts.dicom(5)))
    for key, value in values.items():
        setattr(dataset, key, value)
    dataset.save_as(tmp_path / "y.dcm")
    picture = read_dicom(tmp_path / "y.dcm")
    assert (picture.pixels == shown(tmp_path).pixels).all()
    assert any(noted in note and "counts as absent" in note for note in picture.notes)


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "LINEAR"])
def test_a_window_may_be_narrower_than_one(tmp_path, function):
    picture = shown(tmp_path, RescaleSlope=0.0002, RescaleIntercept=0, WindowCenter=0.3, WindowWidth=0.2,
                    VOILUTFunction=function)  # fmt: skip
    assert np.abs(picture.pixels - np.round(255 * np.clip((levels(5)[0] * 0.0002 - 0.2) / 0.2, 0, 1))).max() <= 1
    assert not any("no window" in note for note in picture.notes)


def test_a_range_of_padding_does_not_count_where_there_is_no_window(tmp_path):
    values = np.minimum(levels(5)[0], 1000)
    values[:4] = np.linspace(4000, 4095, 24)
    picture = shown(tmp_path, WindowWidth=None, PixelPaddingValue=4095, PixelPaddingRangeLimit=4000,
                    PixelData=values.tobytes())  # fmt: skip
    assert picture.pixels[4:].max() == 255 and picture.pixels[4:].min() == 0


@pytest.mark.parametrize(("top", "shift"), [(255, 0), (65535, 8)])
def test_a_palette_of_16_bits_may_hold_8_bit_values(tmp_path, top, shift):
    colours = np.linspace(0, top, 256).astype(np.uint16)
    names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
    palette = {f"{name}Data": colours.tobytes() for name in names} | {f"{n}Descriptor": [256, 0, 16] for n in names}
    picture = shown(tmp_path, PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, HighBit=7,
                    PixelData=layouts.pixels(1).tobytes(), **palette)  # fmt: skip
    assert (picture.pixels[..., 0] == (colours >> shift)[layouts.pixels(1)]).all()


def test_pixels_of_another_shape_than_the_header_says_and_packed_bombs_are_a_sentence(tmp_path, monkeypatch):
    packed = layouts.encoded(Image.fromarray(layouts.pixels(1)).resize((900, 700)), "JPEG2000", no_jp2=True)
    dataset = pydicom.dcmread(io.BytesIO(layouts.dicom(5, BitsAllocated=8, BitsStored=8, HighBit=7)))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate([packed])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "other.dcm")
    with pytest.raises(ImageError, match=r"compressed pixels are \(700, 900\), the header says"):
        read_dicom(tmp_path / "other.dcm")
    dataset = pydicom.dcmread(io.BytesIO(layouts.dicom(5)))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.PixelData = bytes(2**20)
    dataset.save_as(tmp_path / "bomb.dcm")
    monkeypatch.setattr("medalign_lite.cases.dicom.MAX_BYTES", 2**19)
    with pytest.raises(ImageError, match="unpacks to more than"):
        read_dicom(tmp_path / "bomb.dcm")


def asked_in_a_table(tmp_path, header, rows):
    put(tmp_path, "set/questions.csv", "\n".join([header, *rows]))
    return read_cases(tmp_path / "set", root=tmp_path / "made")


@pytest.mark.parametrize("name", ["ANONYMOUS", "anon", "De-Identified", "0000", "XXX", "N/A", "unknown^"])
def test_a_word_for_everybody_is_no_patient(tmp_path, name):
    for n in range(4):
        put(tmp_path, f"set/{n}.dcm", layouts.dicom(n, patient=name, StudyInstanceUID=f"1.2.{n // 2}"))
    rows = [f"{n}.dcm,Is it?,yes,{'test' if n > 1 else 'train'}" for n in range(4)]
    found = asked_in_a_table(tmp_path, "image,question,answer,split", rows)
    groups = [case.group for case in found.cases]
    assert groups[0] == groups[1] != groups[2] == groups[3] and not find_leaks(found.cases)
    assert "a column `patient`" in count_notes(found.notes)


def test_one_real_patient_for_everybody_is_said_and_the_column_decides(tmp_path):
    for n in range(4):
        put(tmp_path, f"set/{n}.dcm", layouts.dicom(n, patient="STUDY-7"))
    rows = [f"{n}.dcm,Is it?,yes" for n in range(4)]
    found = asked_in_a_table(tmp_path, "image,question,answer", rows)
    assert len({case.group for case in found.cases}) == 1 and "fill in a column `patient`" in count_notes(found.notes)
    found = asked_in_a_table(tmp_path, "image,question,answer,patient", [f"{row},p{row[0]}" for row in rows])
    assert len({case.group for case in found.cases}) == 4


def test_groups_are_joined_by_pixels_by_the_column_and_by_the_header(tmp_path):
    for n, patient in enumerate(("A", "A", "B", "C", "D")):
        put(tmp_path, f"set/{n}.dcm", layouts.dicom(n, patient=patient))
    put(tmp_path, "set/copy.dcm", layouts.dicom(2, patient="C2"))
    rows = ["0.dcm,a?,yes,ann", "1.dcm,b?,yes,", "2.dcm,c?,yes,bob"]
    rows += ["copy.dcm,d?,yes,", "3.dcm,e?,yes,bob", "4.dcm,f?,yes,"]
    found = asked_in_a_table(tmp_path, "image,question,answer,patient", rows)
    group = {question.text: case.group for case in found.cases for question in case.questions}
    assert group["a?"] == group["b?"] and group["c?"] == group["d?"] == group["e?"] and len(set(group.values())) == 3


ROWS = "0.png,Is it?,yes", "1.png,Is it?,yes", "2.png,Is it?,yes"
STRAY = '0.png,"Is the 5" tube in?",yes', '1.png,Is it?,"no', '2.png,"a ""tube""\nhere?",yes'
BOXES = "0.png;spot;2,5;3;5,5;6", "1.png;spot;2;3;5;6", "2.png;spot;2;3;5;6"
FLOATS = "0.png,1.0,Is it?,yes", "1.png,,Is it?,yes", "2.png,1,Is it?,no"
SPREADSHEETS = {  # of three good pictures: the header, the rows, the line end, how many are kept
    "stray quotes": ("image,question,answer", STRAY, "\n", 1),
    "frames as floats": ("image,frame,question,answer", FLOATS, "\n", 3),
    "decimal commas": ("image;label;x;y;width;height", BOXES, "\n", 3),
    "old line ends": ("image;question;answer", [row.replace(",", ";") for row in ROWS], "\r", 3),
    "names in capitals": ("IMAGE,Question , Answer", ROWS, "\r\n", 3),
    "backslashes": ("image,question,answer", [".\\" + ROWS[0], "sub\\..\\" + ROWS[1], ROWS[2]], "\n", 3),
    "one row that is no UTF-8": ("image,question,answer", ["0.png,Is it \udcff?,yes", *ROWS[1:]], "\n", 2),
    "too many fields": ("image,question,answer", ["0.png,Is it, or not?,yes", *ROWS[1:]], "\n", 2),
}


@pytest.mark.parametrize("name", SPREADSHEETS)
def test_a_bad_row_costs_itself_and_spreadsheets_may_write_as_they_do(tmp_path, name):
    header, rows, end, kept = SPREADSHEETS[name]
    text = end.join([header, *rows, ""])
    for n in range(3):
        put(tmp_path, f"set/{n}.png", layouts.png(n))
    put(tmp_path, "set/questions.csv", text.encode("utf-8", errors="surrogateescape"))
    found = read_cases(tmp_path / "set", root=tmp_path / "made")
    assert len(found.cases) == kept and all("questions.csv line" in entry["id"] for entry in found.skipped)
    if name == "decimal commas":
        assert found.cases[0].lesions[0].box == (2.5, 3, 5.5, 6) and found.cases[0].questions[0].answer == "Yes"
    if name == "stray quotes":
        assert found.cases[0].questions[0].text == 'a "tube"\nhere?' and len(found.skipped) == 2


def test_lists_beside_the_table_are_named(tmp_path):
    layouts.dicom_table(tmp_path / "set")
    put(tmp_path, "set/labels.csv", "image,label\n")
    put(tmp_path, "set/labels.xlsx", b"PK")
    found = read_cases(tmp_path / "set", root=tmp_path / "made")
    assert [entry["reason"].split(":")[0] for entry in found.notes] == ["labels.csv not read", "labels.xlsx not read"]
