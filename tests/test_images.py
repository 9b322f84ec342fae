"""Pictures of every kind come out as upright 8-bit RGB, masks as bool at the size of their image."""

import numpy as np
import pytest
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
    image = (
        Image.fromarray(np.asarray(ramp).astype(deep[mode]) * 100)
        if mode in deep
        else ramp.convert("RGB").convert(mode)
    )
    image.save(path)
    assert Image.open(path).mode == mode
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", ramp.size)
    assert np.asarray(image).std() > 10


def test_16_bit_is_scaled_by_its_own_range(tmp_path):
    levels = np.linspace(3000, 4200, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    grey = np.asarray(read_image(tmp_path / "deep.png"))[..., 0]
    assert (grey.min(), grey.max()) == (0, 255)
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_a_constant_16_bit_image_is_black(tmp_path):
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(tmp_path / "flat.png")
    assert not np.asarray(read_image(tmp_path / "flat.png")).any()


def test_transparency_goes_on_black(tmp_path):
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[:4, :, 3] = 0
    pixels[4:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    image = np.asarray(read_image(tmp_path / "clear.png"))
    assert (image[:4] == 0).all() and (image[4:] == 200).all()


def test_orientation_is_applied_and_known_from_the_header(tmp_path, ramp):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    ramp.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "turned.jpg")
    assert image.size == image_size(tmp_path / "turned.jpg") == (40, 256)
    column = np.asarray(image)[:, 20, 0].astype(int)
    assert column[0] < 20 and column[-1] > 235


@pytest.mark.parametrize("high", [1, 255])
def test_mask_of_ones_or_255(tmp_path, high):
    wanted = np.zeros((6, 9), bool)
    wanted[2:4, 3:7] = True
    Image.fromarray(wanted.astype(np.uint8) * high).save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png", (9, 6)) == wanted).all()


def test_mask_by_label_id_in_any_colour_mode(tmp_path):
    labels = np.zeros((6, 9), np.uint8)
    labels[1:3], labels[4:] = 70, 175
    for mode in ("L", "RGB", "RGBA"):
        Image.fromarray(labels).convert(mode).save(tmp_path / "labels.png")
        assert (read_mask(tmp_path / "labels.png", (9, 6), value=175) == (labels == 175)).all()
    with pytest.raises(ImageError, match="label 99 is empty"):
        read_mask(tmp_path / "labels.png", (9, 6), value=99)
