"""Corruption stays inside its mask and depends on (id, seed) only; controls match their lesion and keep clear of it."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from medalign_lite.cases.case import Case, Lesion
from medalign_lite.corruption.corrupt import INSIDE, METHODS, SIGMA, corrupt
from medalign_lite.corruption.masks import body_mask, control_mask, dilate, find_masks, lesion_mask, mask_source
from medalign_lite.text.facts import Fact

SIDE = 96


def draw_body(seed=0):
    """A bright disc-shaped body with two dark lungs and film grain on black, RGB (SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    grey = np.where(np.hypot(x, y) < 44, 150.0, 2.0)
    grey[(np.hypot(x - 18, y) < 14) | (np.hypot(x + 18, y) < 14)] = 60.0
    grey += np.random.default_rng(seed).normal(0, 4, grey.shape) * (grey > 10)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


def draw_blob(seed, share):
    """A ragged mask of about `share` of the pixels, bool (SIDE, SIDE)."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 6)
    return field > np.quantile(field, 1 - share)


def disc(x, y, radius):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(columns - x, rows - y) <= radius


masks = st.builds(draw_blob, st.integers(0, 2**31), st.floats(0.001, 0.7))


@given(mask=masks, method=st.sampled_from(INSIDE), strength=st.floats(0, 3), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_outside_pixels_are_identical_and_the_result_repeats(mask, method, strength, seed):
    image = draw_body()
    how = {"method": method, "strength": strength, "id": "case", "seed": seed}
    first, again = corrupt(image, mask, **how), corrupt(image, mask, **how)
    assert (first.mode, first.size) == (image.mode, image.size)
    assert (np.asarray(first)[~mask] == np.asarray(image)[~mask]).all() and first.tobytes() == again.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_strength_starts_at_nothing_and_grows(method):
    image, mask = draw_body(), disc(30, 48, 9)
    apart = []
    for strength in (0, 0.05, 0.3, 1):
        changed = corrupt(image, mask, method=method, strength=strength, id="a", seed=1)
        apart.append(np.abs(np.asarray(changed, float) - np.asarray(image, float)).mean())
    assert apart[0] == 0 and apart[1] < apart[3] and apart[2] < 1.05 * apart[3]


@pytest.mark.parametrize("method", ["noise", "whole_noise", "crop"])
def test_random_methods_depend_on_id_and_seed(method):
    image, mask = draw_body(), disc(30, 48, 9)
    results = {corrupt(image, mask, method=method, id=i, seed=s).tobytes() for i in "ab" for s in (1, 2)}
    assert len(results) == 4


def test_noise_has_the_stated_deviation_and_is_grey():
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    noisy = np.asarray(corrupt(grey, np.ones((200, 200), bool), method="noise", strength=0.5, id="a", seed=1), float)
    assert abs(noisy.std() / (0.5 * SIGMA) - 1) < 0.03 and (noisy[..., 0] == noisy[..., 2]).all()


@pytest.mark.parametrize("method", ["inpaint", "texture"])
def test_fills_remove_a_bright_lesion(method):
    healthy = np.asarray(draw_body(), float)
    lesion = disc(30, 48, 6)
    sick = healthy.copy()
    sick[lesion] = 230
    image = Image.fromarray(sick.astype(np.uint8))
    filled = np.asarray(corrupt(image, lesion, method=method, id="a", seed=1), float)
    assert abs(filled[lesion].mean() - healthy[lesion].mean()) < 10


def test_texture_keeps_the_grain_that_inpainting_loses():
    image, mask = draw_body(), disc(48, 75, 8)
    grain = {}
    for method in ("inpaint", "texture"):
        filled = np.asarray(corrupt(image, mask, method=method, id="a", seed=1), float)[..., 0]
        grain[method] = np.abs(np.diff(filled)[mask[:, 1:] & mask[:, :-1]]).mean()
    assert grain["texture"] > 2 * grain["inpaint"]


def test_texture_copies_nothing_from_lesions_to_avoid():
    pixels = np.asarray(draw_body()).copy()
    checked = (np.indices((SIDE, SIDE)).sum(axis=0) % 2).astype(bool)
    elsewhere = disc(48, 48, 40) & ~disc(48, 48, 24)
    pixels[elsewhere & checked] = 255
    mask = disc(48, 48, 6)
    filled = corrupt(Image.fromarray(pixels), mask, method="texture", id="a", seed=1, avoid=elsewhere)
    assert np.asarray(filled)[mask].max() < 255


def test_a_large_mask_is_filled_quickly():
    image = draw_body().resize((1024, 1024))
    mask = np.zeros((1024, 1024), bool)
    mask[300:800, 250:800] = True
    for method in INSIDE:
        start = time.process_time()
        corrupt(image, mask, method=method, id="a", seed=1)
        assert time.process_time() - start < 3, method


def test_corrupt_says_what_it_cannot_do():
    image = draw_body()
    with pytest.raises(ValueError, match="allowed are noise, blur"):
        corrupt(image, disc(9, 9, 3), method="haze", id="a", seed=1)
    with pytest.raises(ValueError, match="must be 0 or more"):
        corrupt(image, disc(9, 9, 3), method="noise", strength=-1, id="a", seed=1)
    for mask in (None, np.zeros((SIDE, SIDE), bool), np.ones((4, 4), bool)):
        with pytest.raises(ValueError, match="case a got"):
            corrupt(image, mask, method="noise", id="a", seed=1)
    assert corrupt(image, None, method="crop", id="a", seed=1).size == image.size


def test_body_includes_lungs_not_letters_and_a_huge_lesion_has_no_control():
    pixels = np.asarray(draw_body()).copy()
    pixels[2:8, 2:6] = 255
    body = body_mask(Image.fromarray(pixels))
    assert body[disc(48, 48, 40)].all() and not body[2:8, 2:6].any() and body_mask(Image.new("RGB", (9, 9))).all()
    body, huge = disc(48, 48, 44), disc(48, 48, 35)
    assert control_mask(huge, body, lesions_dilated=dilate(huge), id="a", seed=1) is None


@given(lesion=st.builds(draw_blob, st.integers(0, 2**31), st.floats(0.002, 0.2)), seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_a_control_has_the_area_and_keeps_clear(lesion, seed):
    body, dilated = disc(48, 48, 44), dilate(lesion)
    control = control_mask(lesion, body, lesions_dilated=dilated, id="case", seed=seed)
    if control is None:
        return
    assert abs(control.sum() - lesion.sum()) <= 0.01 * lesion.sum()
    assert not (control & dilated).any() and not (control & ~body).any()
    assert (control == control_mask(lesion, body, lesions_dilated=dilated, id="case", seed=seed)).all()


@pytest.fixture
def case(tmp_path):
    draw_body().save(tmp_path / "a.png")
    Image.fromarray(disc(30, 40, 5)).save(tmp_path / "effusion.png")
    return Case(id="a", group="a", split="test", image=tmp_path / "a.png", questions=(), folder=tmp_path,
                facts=(Fact("effusion", "left", size="small", mask="effusion.png"), Fact("fracture", "left")),
                lesions=(Lesion("Nodule", (60.0, 60.0, 8.0, 4.0)),))


def test_masks_unite_what_is_asked_for_keep_off_every_lesion_and_say_what_is_missing(case):
    assert (lesion_mask(case, ["effusion"]) == disc(30, 40, 5)).all() and lesion_mask(case, {"nodule"}).sum() == 32
    assert lesion_mask(case).sum() == 32 + disc(30, 40, 5).sum() and lesion_mask(case, ["fracture"]) is None
    sources = [mask_source(case, select) for select in (["effusion"], ["nodule"], None, ["fracture"])]
    assert sources == ["mask", "box", "mask and box", "none"]
    found = find_masks(case, draw_body(), select=["nodule"], seed=3)
    assert not (found.control & dilate(lesion_mask(case))).any() and (found.source, found.reason) == ("box", "")
    missing = find_masks(case, draw_body(), select=["fracture"], seed=3)
    assert missing.lesion is missing.control is None and missing.source == "none" and missing.reason
