"""Bad images, masks, boxes and case lists: a clear sentence each, and never the loss of a good case."""

import json
import os
import re

import layouts
import numpy as np
import pytest
from layouts import encoded, png_by_hand
from PIL import Image

from medalign_lite.cases.case import CaseError
from medalign_lite.cases.images import ImageError, read_image, read_mask
from medalign_lite.cases.readers import read_cases

SIZE = (40, 32)  # width, height


def png(mode="L", size=SIZE):
    pixels = np.random.default_rng(7).integers(0, 255, size[::-1], dtype=np.uint8)
    return encoded(Image.fromarray(pixels).convert(mode))


BAD_IMAGES = {
    "zero bytes": (b"", "empty .0 bytes."), "text": (b"this is no image at all", "not a readable image"),
    "truncated": (png()[:300], "damaged or incomplete"), "header only": (png()[:20], "not a readable image|damaged"),
    "animated": (layouts.paged([np.full((4, 4), level, np.uint8) for level in (10, 90, 200)], "GIF"), "3 frames"),
    **{name: (png_by_hand((side, side), 8, 0, bytes(99)), "64 megapixels") for name, side in
       (("large", 9000), ("bomb", 100_000))},
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_is_one_sentence_with_file_and_fault(tmp_path, name):
    content, sentence = BAD_IMAGES[name]
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError, match=sentence) as caught:
        read_image(tmp_path / "x.png")
    assert "x.png" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_opened(tmp_path, make):
    make(tmp_path / "x.png")
    for path in (tmp_path / "x.png", tmp_path / "absent.png"):
        with pytest.raises(ImageError, match="no such image file"):
            read_image(path)


@pytest.mark.parametrize(("pixels", "sentence"), [
    (np.zeros((10, 10), np.uint8), "10x10 pixels, its image 40x32"), (np.zeros((32, 40), np.uint8), "is empty"),
    (np.full((32, 40), 255, np.uint8), "covers the whole image"),
])
def test_bad_mask(tmp_path, pixels, sentence):
    Image.fromarray(pixels).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=sentence):
        read_mask(tmp_path / "m.png", SIZE)


@pytest.fixture
def folder(tmp_path):
    """A case folder with one good image and mask; `list_cases` writes its list."""
    spot = np.zeros((32, 40), np.uint8)
    spot[4:9, 5:9] = 255
    layouts.put(tmp_path, "cases/images/a.png", png())
    layouts.put(tmp_path, "cases/m.png", encoded(spot))
    return tmp_path / "cases"


def record(name, **changes):
    return layouts.record(name, **{"image": "images/a.png"} | changes)


def without(key):
    return {name: value for name, value in record("bad").items() if name != key}


def list_cases(folder, *lines, end=b"\n"):
    content = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    (folder / "cases.jsonl").write_bytes(end.join(content) + end)


BAD_CASES = {
    "no image": (without("image"), "without image"), "no questions": (without("questions"), "without questions"),
    "mistyped key": (record("bad", lesion=[]), "unknown lesion"),
    "unknown split": (record("bad", split="dev"), "allowed are train, val, test, shifted"),
    "duplicate id": (record("good"), "used before"), "id as path": (record("../bad"), "cannot name a file"),
    "id of another type": (record(7), "id must be text"),
    "leaves the folder": (record("bad", image="../secret.png"), "leaves the case folder"),
    "absolute path": (record("bad", image="/etc/passwd"), "leaves the case folder"),
    "zero in path": (record("bad", image="a\0.png"), "zero character"),
    "link out of the folder": (record("bad", image="link.png"), "leaves the case folder"),
    "path too long": (record("bad", image="a" * 5000), "no such image file"),
    "missing image": (record("bad", image="images/none.png"), "no such image file"),
    "damaged image": (record("bad", image="damaged.png"), "damaged or incomplete"),
    "unknown finding": (record("bad", facts=[{"finding": "dragon"}]), "allowed are nodule"),
    "unknown side": (record("bad", facts=[{"finding": "nodule", "side": "top"}]), "allowed are right, left"),
    "fact mask too small": (record("bad", facts=[{"finding": "nodule", "mask": "small.png"}]), "its image 40x32"),
    "hidden of another size": (record("bad", hidden="small.png"), "render both alike"),
    "moved of another size": (record("bad", facts=[{"finding": "nodule", "moved": "small.png"}]), "render both alike"),
    "removed elsewhere": (record("bad", facts=[{"finding": "nodule", "removed": "../a.png"}]), "leaves the case"),
    "no usable question": (record("bad", questions=[{"id": "q"}]), "no usable question.*without answer"),
    "invalid UTF-8": (b'{"id": "bad\xff"}', "not valid UTF-8"),
    "half a line": (json.dumps(record("bad")).encode()[:60], "may be cut off"),
    "no number": (record("bad", facts=[{"finding": "nodule", "cnr": float("nan")}]), "nan, which is not a number"),
    "a number without end": (record("bad", facts=[{"finding": "nodule", "cnr": float("inf")}]), "too large"),
    "a list": (b"[1, 2]", "a JSON list where an object"), "deep nesting": (b"[" * 100_000, "may be cut off"),
    "half a character": (b'{"id": "\\ud800"}', "without group|lone surrogate"),
}


@pytest.mark.parametrize("name", BAD_CASES)
def test_a_bad_case_is_skipped_with_its_reason_and_the_rest_is_read(folder, name):
    bad, sentence = BAD_CASES[name]
    (folder.parent / "secret.png").write_bytes(png())
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "small.png").write_bytes(png(size=(9, 9)))
    (folder / "damaged.png").write_bytes(png()[:300])
    list_cases(folder, record("good"), bad, record("other"))
    found = read_cases(folder)
    assert [case.id for case in found.cases] == ["good", "other"]
    (entry,) = found.skipped
    assert re.search(sentence, entry["reason"])
    with pytest.raises(CaseError, match="STRICT=1"):
        read_cases(folder, strict=True)


BAD_LESIONS = {
    "outside": ({"label": "Mass", "box": [30, 20, 20, 20]}, "leaves the image"),
    "negative corner": ({"label": "Mass", "box": [-5, 2, 4, 4]}, "leaves the image"),
    "negative size": ({"label": "Mass", "box": [9, 9, -4, 3]}, "negative or reversed"),
    "reversed corners": ({"label": "Mass", "box": [9, 9, 4, -3]}, "negative or reversed"),
    "no area": ({"label": "Mass", "box": [9, 9, 0, 3]}, "negative or reversed"),
    "whole image": ({"label": "Mass", "box": [0, 0, 40, 32]}, "covers the whole image"),
    "three numbers": ({"label": "Mass", "box": [1, 2, 3]}, r"not \[x, y, width, height\]"),
    "text": ({"label": "Mass", "box": [1, 2, 3, "4"]}, "not a number"),
    "neither": ({"label": "Mass"}, "neither box nor mask"), "no label": ({"box": [1, 2, 3, 4]}, "without label"),
    "mask outside": ({"label": "Mass", "mask": "../m.png"}, "leaves the case folder"),
    "no mask file": ({"label": "Mass", "mask": "none.png"}, "no such image file"),
    "box beside mask": ({"label": "Mass", "mask": "m.png", "box": [20, 20, 5, 5]}, "nothing of the mask"),
    "id not in mask": ({"label": "Mass", "mask": "m.png", "label_id": 3}, "label 3 is empty"),
}


@pytest.mark.parametrize("name", BAD_LESIONS)
def test_a_bad_lesion_is_dropped_and_the_case_kept(folder, name):
    bad, sentence = BAD_LESIONS[name]
    list_cases(folder, record("a", lesions=[bad, {"label": "Nodule", "mask": "m.png"}]))
    found = read_cases(folder)
    assert [lesion.label for lesion in found.cases[0].lesions] == ["Nodule"]
    assert re.search(sentence, found.dropped[0]["reason"])
    with pytest.raises(CaseError, match="STRICT=1"):
        read_cases(folder, strict=True)


def test_a_bad_question_is_dropped_and_the_case_kept(folder):
    good = record("a")["questions"][0]
    bad = [{**good, "kind": "essay"}, {**good, "id": "q2", "answer": " "}, good, {**good, "id": "q3", "visible": 1}, 5]
    list_cases(folder, record("a", questions=[*bad, good]))
    found = read_cases(folder)
    assert [question.id for question in found.cases[0].questions] == ["q1"]
    assert len(found.dropped) == 5 and found.skipped == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\r\n\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark_are_fine(folder, end, mark):
    list_cases(folder, record("a"), record("b"), end=end)
    file = folder / "cases.jsonl"
    file.write_bytes(mark + file.read_bytes())
    assert [case.id for case in read_cases(file, strict=True).cases] == ["a", "b"]


@pytest.mark.parametrize(
    "answer",
    ["yes 🫁👩🏽‍⚕️", "نعم، في الرئة \u200fاليمنى", "<script>alert(1)</script> & <b>no</b>", "line\u2028two\r\nthree"],
)
def test_any_text_passes_through_untouched(folder, answer):
    ask = {**record("a")["questions"][0], "answer": answer, "text": answer}
    list_cases(folder, record("a", questions=[ask]))
    question = read_cases(folder, strict=True).cases[0].questions[0]
    assert question.answer == question.text == answer


def test_a_list_without_a_usable_case_is_an_error(folder):
    (folder / "cases.jsonl").write_bytes(b"")
    with pytest.raises(CaseError, match="the list is empty"):
        read_cases(folder)
    list_cases(folder, record("a", image="none.png"))
    with pytest.raises(CaseError, match="a: .*no such image file.*Correct the list"):
        read_cases(folder)
