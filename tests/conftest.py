"""Shared fixtures: a tiny, randomly initialised Idefics3 in a folder, built once per session and never downloaded."""

import numpy as np
import pytest
from PIL import Image

from studies.embedded.tiny import build_idefics3, save_tiny, train_tokenizer

TEXTS = (
    "There is a small nodule in the right upper zone. No pleural effusion is seen.",
    "Moderate consolidation of the left lower zone. The heart is not enlarged. No pneumothorax.",
    "Is there a pleural effusion? Which side is the nodule on? Describe this radiograph. Yes. No.",
)
VISION = {"image_px": 48, "patch_px": 8, "shuffle": 3, "vision_width": 64, "vision_layers": 2, "vision_heads": 2}
TEXT = {"text_width": 64, "text_layers": 2, "text_heads": 2, "text_kv_heads": 2, "text_mlp": 64, "max_positions": 256}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model folder in the layout of any hub model: 4 image tokens, 64-wide towers, 400 tokens of vocabulary."""
    tokenizer = train_tokenizer(TEXTS * 20, vocab_size=400)
    model, processor = build_idefics3(tokenizer, vision_mlp=64, **VISION, **TEXT, seed=7)
    return save_tiny(model, processor, tmp_path_factory.mktemp("tiny_lvlm"))


@pytest.fixture(scope="session")
def pictures():
    """Four RGB pictures of 64 x 64 pixels that differ everywhere."""
    noise = np.random.default_rng(7).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    return tuple(Image.fromarray(pixels) for pixels in noise)
