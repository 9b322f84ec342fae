"""Outlines by a segmenter: bounded by what the data says, named, refused where they cannot be; SAM's own pipeline."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import encoded, put, record
from transformers import SamConfig, SamModel, SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from medalign_lite.cases.case import write_cases
from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.corruption.masks import find_masks, lesion_mask, mask_source
from medalign_lite.model.weights import ModelError
from medalign_lite.run.masks import load_sam, main, outline_cases

WIDTH, HEIGHT = 60, 40
LESIONS = {
    "boxed": [{"label": "Mass", "box": [10, 8, 12, 10]}], "pointed": [{"label": "Mass", "points": [[30.5, 20.5]]}],
    "drawn": [{"label": "Mass", "polygons": [[5, 5, 15, 5, 15, 15, 5, 15]]}], "bare": [],
}


@pytest.fixture
def listed(tmp_path):
    """A cases.jsonl with a lesion by box, by point, by polygon, and a case without any."""
    lines = []
    for number, (name, lesions) in enumerate(LESIONS.items()):
        levels = np.random.default_rng(number).integers(90, 160, (HEIGHT, WIDTH), dtype=np.uint8)
        put(tmp_path, f"images/{name}.png", encoded(levels))
        lines.append(json.dumps(record(name, lesions=lesions)))
    put(tmp_path, "cases.jsonl", "\n".join(lines))
    return tmp_path / "cases.jsonl"


def disc(image, lesion):
    """A disc of radius 8 about the lesion's point, or its box's corner, or (30, 20)."""
    x, y = lesion.points[0] if lesion.points else lesion.box[:2] if lesion.box else (30, 20)
    rows, columns = np.mgrid[: image.height, : image.width]
    return np.hypot(columns + 0.5 - x, rows + 0.5 - y) <= 8


def outlined(listed, segment, **options):
    made, rows = outline_cases(read_cases(listed).cases, segment, name="disc", folder=listed.parent / "made", **options)
    return {case.id: case for case in made}, {row["id"]: row for row in rows}


def test_without_a_segmenter_a_point_gives_no_grounding_row_and_says_why(listed):
    cases = {case.id: case for case in read_cases(listed).cases}
    sources = {"boxed": "box", "pointed": "none", "drawn": "polygon", "bare": "none"}
    assert {name: mask_source(case) for name, case in cases.items()} == sources
    pointed, bare = (find_masks(cases[name], read_image(cases[name].image), select=["Mass"], seed=1)
                     for name in ("pointed", "bare"))
    assert pointed.lesion is bare.lesion is None
    assert "only points" in pointed.reason and "no lesion mask" in bare.reason


def test_an_outline_stays_in_its_box_covers_its_point_and_is_named(listed):
    cases, rows = outlined(listed, disc)
    assert {name: row["mask"] for name, row in rows.items()} == {"boxed": "disc", "pointed": "disc", "drawn": "polygon"}
    mask = lesion_mask(cases["boxed"])
    assert mask.any() and not mask[:8].any() and not mask[:, :10].any()  # a quarter of the disc lies in the box
    assert lesion_mask(cases["pointed"])[20, 30] and mask_source(cases["pointed"]) == "disc"
    assert cases["bare"].lesions == () and cases["drawn"].lesions[0].made_by is None


def test_outlined_cases_are_kept_and_read_back_whole(listed):
    cases, _ = outlined(listed, disc)
    write_cases(listed.parent / "made" / "cases.jsonl", cases.values())
    assert read_cases(listed.parent / "made", strict=True).cases == tuple(cases.values())
    for name, case in cases.items():
        before = np.asarray(read_image(listed.parent / f"images/{name}.png"))
        assert (np.asarray(read_image(case.image)) == before).all()


@pytest.mark.parametrize(("segment", "reason"), [
    (lambda image, lesion: None, "found nothing"), (lambda image, lesion: np.zeros((HEIGHT, WIDTH), bool), "empty"),
    (lambda image, lesion: np.ones((HEIGHT, WIDTH), bool), "more than 60%"),
    (lambda image, lesion: disc(image, lesion) & (np.mgrid[:HEIGHT, :WIDTH][0] < 15), "misses the given point"),
])
def test_a_poor_outline_is_refused_and_counted(listed, segment, reason):
    cases, rows = outlined(listed, segment)
    assert reason in rows["pointed"]["reason"] and rows["pointed"]["mask"] == "none"
    assert lesion_mask(cases["pointed"]) is None and cases["pointed"].lesions[0].points == ((30.5, 20.5),)


def test_a_mask_of_another_shape_is_the_segmenters_mistake(listed):
    with pytest.raises(ValueError, match=r"disc returned bool \(60, 40\)"):
        outlined(listed, lambda image, lesion: disc(image, lesion).T)


def test_labels_are_sought_where_the_gold_answer_speaks_of_them(listed):
    listed.write_text(listed.read_text().replace('"id": "bare"', '"id": "bare", "source": "x"'))
    cases, rows = outlined(listed, disc, labels=("mass", "nodule"))
    assert mask_source(cases["bare"]) == "disc" and rows["bare"]["label"] == "mass"
    listed.write_text(listed.read_text().replace('"answer": "Yes"', '"answer": "No"'))
    cases, rows = outlined(listed, disc, labels=("mass",))
    assert cases["bare"].lesions == () and "bare" not in rows


@pytest.fixture(scope="session")
def sam(tmp_path_factory):
    """The folder of a SAM of random weights, 64 pixels wide."""
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "output_channels": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 64, "patch_size": 8, "mlp_dim": 32, "window_size": 4, "global_attn_indexes": [1],
              "num_pos_feats": 4}  # fmt: skip
    prompt = {"hidden_size": 8, "image_size": 64, "patch_size": 8, "mask_input_channels": 4, "image_embedding_size": 8}
    decoder = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 16,
               "iou_head_hidden_dim": 16, "attention_downsample_rate": 1}  # fmt: skip
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    folder = tmp_path_factory.mktemp("sam") / "tiny-sam"
    SamModel(config).save_pretrained(folder)
    size = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    SamProcessor(SamImageProcessorPil(**size, mask_size={"longest_edge": 16})).save_pretrained(folder)
    return folder


def test_sam_draws_what_its_decoder_says_of_the_box_at_the_image_scale(sam, listed):
    segment, name = load_sam(str(sam), device="cpu")
    assert name == "segmenter tiny-sam"
    case = next(case for case in read_cases(listed).cases if case.id == "boxed")
    image = read_image(case.image)
    drawn = segment(image, case.lesions[0])
    assert drawn.dtype == bool and drawn.shape == (HEIGHT, WIDTH)
    scale = 64 / WIDTH  # the longest side becomes 64 pixels, the rest is padding
    pixels = segment.processor(images=image, return_tensors="pt")["pixel_values"]
    box = torch.tensor([[[10, 8, 22, 18]]]) * torch.tensor([scale, 43 / HEIGHT, scale, 43 / HEIGHT])
    with torch.inference_mode():
        low = segment.model(pixel_values=pixels, input_boxes=box, multimask_output=False).pred_masks[0, 0]
    full = torch.nn.functional.interpolate(low[None], (64, 64), mode="bilinear", align_corners=False)
    full = torch.nn.functional.interpolate(full[..., :43, :64], (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    assert (drawn == (full[0, 0] > 0).numpy()).mean() > 0.99


def test_sam_takes_its_own_best_of_three_for_a_point_and_needs_a_prompt(sam, listed):
    segment, _ = load_sam(str(sam), device="cpu")
    cases = {case.id: case for case in read_cases(listed).cases}
    lesion = cases["pointed"].lesions[0]
    image = read_image(cases["pointed"].image)
    prompt = {"input_points": [[[[30.5, 20.5]]]], "input_labels": [[[1]]]}
    inputs = segment.processor(images=image, **prompt, return_tensors="pt")
    with torch.inference_mode():
        found = segment.model(inputs["pixel_values"], inputs["input_points"].float(), inputs["input_labels"])
    sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
    masks = segment.processor.post_process_masks(found.pred_masks, *sizes)
    assert found.iou_scores.shape[-1] == 3
    assert (segment(image, lesion) == masks[0][0, found.iou_scores.argmax()].numpy()).all()
    assert segment(image, cases["drawn"].lesions[0]) is None


def test_the_command_writes_a_list_that_names_its_masks(sam, listed, capsys):
    arguments = [f"CASES={listed}", f"MODEL={sam}", f"OUT={listed.parent / 'out'}"]
    assert main(arguments) == 0
    page = capsys.readouterr().out
    folder = Path(page.split("CASES=")[1].split("/cases.jsonl")[0])
    rows = json.loads((folder / "masks.json").read_text())
    assert [row["id"] for row in rows] == ["boxed", "pointed", "drawn"]
    found = read_cases(folder, strict=True)
    sources = {case.id: mask_source(case) for case in found.cases}
    assert [sources[row["id"]] for row in rows] == [row["mask"] for row in rows]
    assert main(arguments[:1]) == 2 and "make masks CASES=" in capsys.readouterr().err


def test_what_is_no_sam_is_a_sentence(tmp_path, sam):
    with pytest.raises(ModelError, match="no model folder"):
        load_sam("nowhere")
    put(tmp_path, "half/config.json", (sam / "config.json").read_text())
    put(tmp_path, "half/preprocessor_config.json", "{}")
    with pytest.raises(ModelError, match="SAM-family"):
        load_sam(str(tmp_path / "half"))
