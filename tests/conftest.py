"""Shared fixtures: a tiny, randomly initialised Idefics3 in a folder, built once per session and never downloaded."""

import numpy as np
import pytest
import torch
from PIL import Image

from studies.embedded.tiny import build_idefics3, save_tiny, train_tokenizer

VISION = {"image_px": 48, "patch_px": 8, "shuffle": 3, "vision_width": 64, "vision_layers": 2, "vision_heads": 2}
TEXT = {"text_width": 64, "text_layers": 2, "text_heads": 2, "text_kv_heads": 2, "text_mlp": 64, "max_positions": 256}

LONG = ("report_runs", "full_preset", "base_model", "perf", "laboratory", "human_editor", "own_answers", "parallel",
        "rounds", "models")  # files that take longest: two processes end together where these begin first


def pytest_collection_modifyitems(items):
    """The long files first (with --no-loadscope-reorder), the rest as it stands."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model folder in the layout of any hub model: 4 image tokens, 64-wide towers, 400 tokens of vocabulary."""
    from families import TEXTS

    tokenizer = train_tokenizer(TEXTS * 20, vocab_size=400)
    model, processor = build_idefics3(tokenizer, vision_mlp=64, **VISION, **TEXT, seed=7)
    return save_tiny(model, processor, tmp_path_factory.mktemp("tiny_lvlm"))


@pytest.fixture(scope="session")
def pictures():
    """Four RGB pictures of 64 x 64 pixels that differ everywhere."""
    noise = np.random.default_rng(7).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    return tuple(Image.fromarray(pixels) for pixels in noise)


@pytest.fixture
def picture(tmp_path):
    """The file of a grey picture of 64 x 64 pixels that differ everywhere."""
    path = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    return path


def adapter_gradient(lvlm, loss):
    """Gradient of a scalar loss by all adapters, as one vector."""
    adapters = [p for p in lvlm.model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, adapters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def stirred(lvlm, scale=0.1):
    """The model, its adapters moved to where they do something: fresh ones change nothing."""
    random = torch.Generator().manual_seed(5)
    for name, parameter in lvlm.model.named_parameters():
        if "lora_B" in name:
            parameter.data = scale * torch.randn(parameter.shape, generator=random)
    return lvlm
