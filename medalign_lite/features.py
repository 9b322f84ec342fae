"""What the frozen vision tower makes of an image, made once and used for every prompt and every adapter.

LoRA trains the language model alone, so base and aligned see the same image features. They are looked up by the
processed pixels, and handed to the model in their place.
"""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling

from medalign_lite.batches import encode_prompts
from medalign_lite.lvlm import Lvlm, base_of

FROM_IMAGES = "pixel_"  # how inputs are called that the vision tower alone reads


class KeptFeatures:
    """Called with the inputs of `generate`, gives them back with kept features in place of pixels.

    `warm` fills it. Inputs of a model family that cannot be handed features, or with an image that was not warmed, come
    back unchanged: answers are the same, only slower.
    """

    def __init__(self, lvlm: Lvlm):
        self.lvlm, self.body = lvlm, base_of(lvlm.model).base_model
        self.possible = "mm_encoder_outputs" in inspect.signature(self.body.forward).parameters
        self._kept: dict[bytes, torch.Tensor] = {}  # processed pixels -> (image tokens, D)

    @torch.no_grad()
    def warm(self, images: Sequence[Image.Image | Path | str], *, batch_size: int = 32) -> None:
        """Make the features of these images, in this order.

        A batch's composition moves the last bits of its features: a run that goes on after a kill must warm the same
        images in the same order before it asks.
        """
        for start in range(0, len(images) if self.possible else 0, batch_size):
            batch = images[start : start + batch_size]
            inputs = encode_prompts(self.lvlm.processor, batch, ["?"] * len(batch), device=self.lvlm.device)
            pixels, keys = _pixels(inputs), _keys(inputs)
            if keys is None:
                self.possible = False
                return
            output = self.body.get_image_features(**pixels, return_dict=True)
            if output.get("deepstack_features") is not None or len(output.pooler_output) != len(batch):
                self.possible = False
                return
            self._kept |= {key: value.clone() for key, value in zip(keys, output.pooler_output, strict=True)}

    def __call__(self, inputs: dict[str, torch.Tensor]) -> dict:
        """The inputs with features in place of pixels, where every image of the batch is known."""
        keys = _keys(inputs) if self.possible else None
        if keys is None or any(key not in self._kept for key in keys):
            return inputs
        features = BaseModelOutputWithPooling(pooler_output=[self._kept[key] for key in keys])
        rest = {name: value for name, value in inputs.items() if not name.startswith(FROM_IMAGES)}
        return rest | {"mm_encoder_outputs": {"image": features}}


def _pixels(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in inputs.items() if name.startswith(FROM_IMAGES)}


def _keys(inputs: dict[str, torch.Tensor]) -> list[bytes] | None:
    """A digest of each row's processed pixels; None without pixels, and where they do not come one image a row."""
    pixels, rows = _pixels(inputs), len(inputs["input_ids"])
    aligned = [*pixels, "input_ids", "attention_mask"]
    if "pixel_values" not in pixels or any(len(v) != rows for v in pixels.values()) or set(inputs) - set(aligned):
        return None
    parts = [value.cpu().contiguous().view(rows, -1).numpy() for value in pixels.values()]
    return [hashlib.blake2b(b"".join(part[n].tobytes() for part in parts)).digest() for n in range(rows)]
