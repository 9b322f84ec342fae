"""A segmenter of the SAM family (SAM, MedSAM, SAM-HQ, SAM 2, ...; Kirillov et al. 2023) through transformers.

It draws one lesion from its box, its points or both. Nothing here knows medicine: which weights are fit for which
pictures is for the reader to judge, on the contact sheet of what they drew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForMaskGeneration, AutoProcessor

from medalign_lite.cases.case import Lesion
from medalign_lite.model.weights import ModelError, locate


@dataclass(frozen=True)
class Sam:
    """A model with its processor; called with an image and a lesion it returns bool (H, W), or None without prompt."""

    model: torch.nn.Module
    processor: Callable

    @torch.inference_mode()
    def __call__(self, image: Image.Image, lesion: Lesion) -> np.ndarray | None:
        prompt = prompt_of(lesion)
        if not prompt:
            return None
        inputs = self.processor(images=image, **prompt, return_tensors="pt").to(self.model.device)
        # A point may mean a part or the whole, so the model's own best of three is taken; a box means one thing.
        seen = {key: value.to(self.model.dtype) if value.is_floating_point() else value for key, value in inputs.items()
                if key not in ("original_sizes", "reshaped_input_sizes")}
        found = self.model(**seen, multimask_output=lesion.box is None)
        sizes = [inputs[key].cpu() for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        (masks,) = self.processor.post_process_masks(found.pred_masks.float().cpu(), *sizes)  # (1, K, H, W) bool
        best = int(found.iou_scores.flatten().argmax())
        return masks[0, best].numpy().astype(bool)


def load_sam(model: str, device: str | None = None) -> tuple[Sam, str]:
    """The segmenter in a folder or of a hub id, and its name; `device` is a GPU where there is one. Raises ModelError
    for what is missing or no model of the family, or one whose processor needs torchvision."""
    folder, name, _ = locate(model)
    offline = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(folder, **offline)
        network = AutoModelForMaskGeneration.from_pretrained(folder, use_safetensors=True, **offline)
    except ImportError as error:
        raise ModelError(f"{folder}: this model's processor needs torchvision: pip install -c constraints.txt -e "
                         "'.[gpu]', or use a model of the first SAM's kind (SAM, MedSAM), which does "
                         "without.") from error
    except (OSError, ValueError) as error:
        short = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(f"{folder}: no usable SAM-family model in safetensors ({short}).") from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Sam(network.to(device).eval(), processor), f"segmenter {name}"


def prompt_of(lesion: Lesion) -> dict:
    """The processor's arguments for one object in one image, in pixels: corners of the box, points inside."""
    prompt = {}
    if lesion.box is not None:
        x, y, width, height = lesion.box
        prompt["input_boxes"] = [[[x, y, x + width, y + height]]]
    if lesion.points:
        prompt["input_points"] = [[[list(point) for point in lesion.points]]]
        prompt["input_labels"] = [[[1] * len(lesion.points)]]
    return prompt
