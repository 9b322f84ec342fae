"""Pictures of every kind come out as upright 8-bit RGB, masks as bool at the size of their image."""

import numpy as np
import pytest
from layouts import encoded, png_by_hand
from PIL import Image

from medalign_lite.cases.images import ImageError, image_size, read_image, read_mask


@pytest.fixture
def ramp():
    """Grey levels 0 to 255 that differ in every pixel of a row."""
    return Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (40, 1)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path, ramp, mode):
    path = tmp_path / "picture.tif"
    deep = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    made = Image.fromarray(np.asarray(ramp).astype(deep[mode]) * 100) if mode in deep else ramp.convert("RGB")
    (made if mode in deep else made.convert(mode)).save(path)
    assert Image.open(path).mode == mode
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", ramp.size) and np.asarray(image).std() > 10


def test_one_level_of_16_bits_is_black_and_transparency_goes_on_black():
    assert not np.asarray(read_image(encoded(np.full((8, 8), 900, np.uint16)))).any()
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[:4, :, 3], pixels[4:, :, 3] = 0, 255
    image = np.asarray(read_image(encoded(pixels)))
    assert (image[:4] == 0).all() and (image[4:] == 200).all()


def test_orientation_is_applied_and_known_from_the_header(tmp_path, ramp):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    ramp.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "turned.jpg")
    assert image.size == image_size(tmp_path / "turned.jpg") == (40, 256)
    column = np.asarray(image)[:, 20, 0].astype(int)
    assert column[0] < 20 and column[-1] > 235


def test_mask_by_label_id_in_any_colour_mode(tmp_path):
    labels = np.zeros((6, 9), np.uint8)
    labels[1:3], labels[4:] = 70, 175
    for mode in ("L", "RGB", "RGBA"):
        Image.fromarray(labels).convert(mode).save(tmp_path / "labels.png")
        assert (read_mask(tmp_path / "labels.png", (9, 6), value=175) == (labels == 175)).all()


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_is_scaled_by_its_own_range_too(channels):
    levels = np.full((6, 9, channels), 2**16 - 1)
    colours = 1 if channels == 2 else 3
    levels[..., :colours] = np.random.default_rng(channels).integers(100, 4096, (6, 9, colours))
    low, high = levels[..., :colours].min(), levels[..., :colours].max()
    shown = np.round((levels[..., :colours] - low) / (high - low) * 255)

    def read():
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
        return np.asarray(read_image(png_by_hand((9, 6), 16, {2: 4, 3: 2, 4: 6}[channels], rows)))

    assert (read() == np.broadcast_to(shown, (6, 9, 3))).all()
    if channels != 3:
        levels[2:4, :, -1] = 0
        assert not read()[2:4].any()


GREY = np.round(np.linspace(0, 4095, 40 * 60)).reshape(40, 60).astype(np.uint16)
RGB = np.random.default_rng(3).integers(0, 255, (40, 60, 3), dtype=np.uint8)
EIGHT = np.round(GREY / 4095 * 255)
TIFFS = {  # what is written, how, and what is shown
    "planar": (RGB.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, RGB),
    "turned": (RGB, {"photometric": "rgb", "extratags": [(274, "H", 1, 3, True)]}, RGB[::-1, ::-1]),
    "white is 0": (GREY, {"photometric": "miniswhite"}, 255 - EIGHT),
    "12 bits in 16, colour": (np.stack([GREY] * 3, -1), {"photometric": "rgb"}, EIGHT),
    "12 bits in 16, big-endian": (np.stack([GREY] * 3, -1), {"photometric": "rgb", "byteorder": ">"}, EIGHT),
    "one infinite value": (np.where(GREY == 9, np.inf, GREY).astype(np.float32), {}, np.where(GREY == 9, 0, EIGHT)),
    "CMYK": (np.concatenate([255 - RGB, RGB[..., :1] * 0], -1), {"photometric": "separated"}, RGB),
    "signed 16": (GREY.astype(np.int16) - 2000, {}, EIGHT),
}


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_is_shown_as_pillow_and_its_tags_say_whichever_way_a_case_came(tmp_path, name):
    from medalign_lite.cases.pictures import save_picture

    tifffile = pytest.importorskip("tifffile")
    levels, options, right = TIFFS[name]
    tifffile.imwrite(tmp_path / "x.tif", levels, **{"photometric": "minisblack"} | options)
    shown = np.asarray(read_image(tmp_path / "x.tif"))
    assert (np.abs(shown - np.atleast_3d(right).astype(float)) <= 1).all()
    assert image_size(tmp_path / "x.tif") == (60, 40)
    with Image.open(save_picture(tmp_path / "x.tif", tmp_path).path) as image:
        assert (np.asarray(image.convert("RGB")) == shown).all()


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate"])
def test_compressed_tiff_is_read(tmp_path, ramp, compression):
    ramp.save(tmp_path / "x.tif", compression=compression)
    assert np.abs(np.asarray(read_image(tmp_path / "x.tif"))[..., 0] - np.asarray(ramp).astype(float)).max() < 6


def test_what_is_not_shown_rightly_or_no_model_reads_is_refused_in_a_sentence(tmp_path):
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.eps")  # reading it would start a program
    Image.new("L", (4001, 20)).save(tmp_path / "strip.png")
    Image.new("L", (4000, 20)).save(tmp_path / "long.png")
    for name, words in (("lab.tif", "LAB"), ("x.eps", "not a readable image"), ("strip.png", "a strip")):
        with pytest.raises(ImageError, match=words):
            read_image(tmp_path / name)
    assert read_image(tmp_path / "long.png").size == (4000, 20)


@pytest.mark.parametrize("form", ["ones", "255", "white first in a palette", "red in a palette", "alpha alone",
                                  "alpha of grey"])
def test_a_mask_is_read_by_its_colours_or_its_transparency(tmp_path, form):
    wanted = np.zeros((6, 9), bool)
    wanted[2:4, 3:7] = True
    if form in ("ones", "255"):
        image = Image.fromarray(wanted.astype(np.uint8) * (1 if form == "ones" else 255))
    elif "palette" in form:
        image = Image.fromarray((wanted if form[0] == "r" else ~wanted).astype(np.uint8), mode="P")
        image.putpalette([255, 255, 255, 0, 0, 0] if form[0] == "w" else [0, 0, 0, 200, 0, 0])
    else:
        image = Image.new("RGBA", (9, 6), (90, 10, 10, 0)) if form == "alpha alone" else Image.new("LA", (9, 6))
        image.putalpha(Image.fromarray(wanted.astype(np.uint8) * 255))
    image.save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png", (9, 6)) == wanted).all()
