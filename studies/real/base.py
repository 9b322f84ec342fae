"""A small base for real images: the embedded model, all of it, goes on with a data set's own questions and answers.

It learns from one half of the training images and never meets the other, which alignment learns from: of the answers
that a model has been taught nothing is left to repair.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from medalign_lite.cases.case import Case, prompt_of
from medalign_lite.cases.images import read_image
from medalign_lite.dials import EMBEDDED
from medalign_lite.files import ROOT, kept
from medalign_lite.model.lvlm import load_processor
from studies.embedded.tiny import save_tiny
from studies.embedded.train import (
    IMAGE_PX,
    Run,
    Writer,
    jitter,
    language_loss,
    left_to_do,
    open_trained,
    pixel_values,
    see,
)

ROOM = 32  # pixels by which a crop is smaller, at most


@dataclass(frozen=True)
class TuneSettings:
    """`passes` over the images, each with `questions` of each image, in batches of so many images."""

    passes: int = 56
    images: int = 16
    questions: int = 4
    rate: float = 5e-4
    weight_decay: float = 0.05
    checkpoint_every: int = 50
    seed: int = 7


def tuned_base(cases: Sequence[Case], folder: Path, settings: TuneSettings) -> Path:
    """The folder of the tuned model, made or gone on with. Raises ValueError for fewer images than a batch holds."""
    if len(cases) < settings.images:
        raise ValueError(f"{len(cases)} images are too few to make a base from: give MODEL=, or {settings.images}")
    return kept(folder / "model", lambda part: save_tiny(*_tuned(cases, folder / "tuning", settings), part))


def _tuned(cases: Sequence[Case], work: Path, settings: TuneSettings) -> tuple:
    torch.manual_seed(settings.seed)
    model, processor = open_trained(ROOT / EMBEDDED), load_processor(str(ROOT / EMBEDDED))
    model.train()
    model.set_attn_implementation("eager")  # the fused kernel's backward pass is slow on CPUs
    writer, pictures = Writer(processor), np.stack([_larger(case) for case in cases])
    steps = len(cases) // settings.images * settings.passes
    run = Run(work, {"model": model}, steps=steps, rate=settings.rate, settings=settings)
    (work / "settings.json").write_text(json.dumps(asdict(settings)))
    for epoch, indices in left_to_do(run, len(cases), settings.images):
        rng = np.random.default_rng([settings.seed, epoch, int(indices[0]), run.step])
        lessons = [(slot, prompt_of(q), q.answer) for slot, index in enumerate(indices)
                   for q in _some(cases[index].questions, settings.questions, rng)]
        pixels = _cropped(pictures[indices], rng)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = model.model.connector(see(model, pixels))
            loss = language_loss(model, tokens, writer.rows(lessons))
        norm = run.update(loss)
        if run.step % 20 == 0:
            run.note(loss=loss, norm=norm)
    return model.eval(), processor


def _larger(case: Case) -> np.ndarray:
    """The picture in grey, (H, W) uint8, by ROOM larger than the model sees it."""
    side = (IMAGE_PX + ROOM,) * 2
    return np.asarray(read_image(case.image).convert("L").resize(side, Image.Resampling.LANCZOS))


def _some(questions: Sequence, count: int, rng: np.random.Generator) -> list:
    return [questions[i] for i in rng.permutation(len(questions))[:count]]


def _cropped(pictures: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """(B, 3, IMAGE_PX, IMAGE_PX): one random square for the batch, and another exposure for each; never mirrored."""
    side = IMAGE_PX + int(rng.integers(ROOM + 1))
    top, left = rng.integers(IMAGE_PX + ROOM - side + 1, size=2)
    shown = pixel_values(pictures[:, top : top + side, left : left + side])
    shown = F.interpolate(shown, size=(IMAGE_PX, IMAGE_PX), mode="bilinear", antialias=True, align_corners=False)
    return jitter(shown, torch.Generator().manual_seed(int(rng.integers(2**31))))
