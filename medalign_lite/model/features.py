"""What the frozen vision tower makes of an image, made once and used for every prompt and every adapter.

LoRA trains the language model alone, so base and aligned see the same image features. They are looked up by the
processed pixels, and handed to the model in their place.
"""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from medalign_lite.model.batches import encode_prompts
from medalign_lite.model.lvlm import Lvlm, base_of

FROM_IMAGES = "pixel_"  # how inputs are called that the vision tower alone reads


@dataclass(frozen=True)
class Vision:
    """One image as the language model is given it.

    parts: (n, D) each, n image tokens: the connector's output, then what further layers are given (Qwen3-VL).
    about: inputs that the language model itself reads of the image, such as its grid, (1, ...) each.
    """

    parts: tuple[torch.Tensor, ...]
    about: dict[str, torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of the parts."""
        return sum(part.nbytes for part in self.parts)


class ImageEncoder:
    """The frozen vision tower and connector by themselves: images to features, and features to model inputs.

    `possible` is False from the moment on that a family turns out not to take features in place of pixels.
    """

    def __init__(self, body: nn.Module):
        self.body = body
        self.possible = "mm_encoder_outputs" in inspect.signature(body.forward).parameters

    @torch.no_grad()
    def encode(self, inputs: dict[str, torch.Tensor]) -> list[Vision] | None:
        """What each row's one image becomes, from the model's inputs; None (and not `possible`) where it cannot be."""
        ids = inputs["input_ids"]
        told, about = beside_tokens(inputs)
        counts = (ids == self.body.config.image_token_id).sum(-1).tolist()
        accepted = inspect.signature(self.body.get_image_features).parameters
        read = {name: value for name, value in told.items() if name in accepted}
        output = self.body.get_image_features(**read, return_dict=True)
        parts = [_flat(part) for part in (output.pooler_output, *(output.get("deepstack_features") or ()))]
        if len(about) != len(ids) or any(len(part) != sum(counts) for part in parts):
            self.possible = False
            return None
        self._output, self._joined = type(output), torch.is_tensor(output.pooler_output)
        rows = zip(*(part.split(counts) for part in parts), strict=True)
        return [Vision(row, one) for row, one in zip(rows, about, strict=True)]

    def inputs_of(self, visions: Sequence[Vision]) -> dict:
        """Model inputs for one row per image, in place of pixels."""
        pooled, *further = ([vision.parts[n] for vision in visions] for n in range(len(visions[0].parts)))
        deepstack = {"deepstack_features": further} if further else {}
        output = self._output(pooler_output=torch.cat(pooled)[None] if self._joined else pooled, **deepstack)
        about = {name: torch.cat([vision.about[name] for vision in visions]) for name in visions[0].about}
        return about | {"mm_encoder_outputs": {"image": output}}


def beside_tokens(inputs: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """The inputs that do not stand one per token; and, of each row's image, those of them that are not pixels.

    The list is empty where the inputs do not come one image a row.
    """
    ids = inputs["input_ids"]
    told = {name: value for name, value in inputs.items() if value.shape != ids.shape}
    about = {name: value for name, value in told.items() if not name.startswith(FROM_IMAGES)}
    if any(len(value) != len(ids) for value in about.values()):
        return told, []
    return told, [{name: value[n : n + 1] for name, value in about.items()} for n in range(len(ids))]


def _flat(features) -> torch.Tensor:
    """Features of several images, however a family groups them, as one row per image token."""
    if torch.is_tensor(features):
        return features.flatten(0, -2)
    return torch.cat([one.flatten(0, -2) for one in features])


class KeptFeatures:
    """Called with the inputs of `generate`, gives them back with kept features in place of pixels.

    `warm` fills it. Inputs of a model family that cannot be handed features, or with an image that was not warmed, come
    back unchanged: answers are the same, only slower.
    """

    def __init__(self, lvlm: Lvlm):
        self.lvlm, self.encoder = lvlm, ImageEncoder(base_of(lvlm.model).base_model)
        self._kept: dict[bytes, Vision] = {}  # by processed pixels

    @property
    def possible(self) -> bool:
        """Whether this family takes features in place of pixels, as far as is known."""
        return self.encoder.possible

    def warm(self, images: Sequence[Image.Image | Path | str], *, batch_size: int = 32) -> None:
        """Make the features of these images, in this order.

        A batch's composition moves the last bits of its features: a run that goes on after a kill must warm the same
        images in the same order before it asks.
        """
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            inputs = encode_prompts(self.lvlm.processor, batch, ["?"] * len(batch), device=self.lvlm.device)
            keys = _keys(inputs) if self.possible else None
            visions = self.encoder.encode(inputs) if keys else None
            if visions is None:
                return
            for key, vision in zip(keys, visions, strict=True):
                self._kept[key] = replace(vision, parts=tuple(part.clone() for part in vision.parts))

    def __call__(self, inputs: dict[str, torch.Tensor]) -> dict:
        """The inputs with features in place of pixels, where every image of the batch is known."""
        keys = _keys(inputs) if self.possible else None
        if keys is None or any(key not in self._kept for key in keys):
            return inputs
        rest = {name: value for name, value in inputs.items() if not name.startswith(FROM_IMAGES)}
        return rest | self.encoder.inputs_of([self._kept[key] for key in keys])


def _pixels(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in inputs.items() if name.startswith(FROM_IMAGES)}


def _keys(inputs: dict[str, torch.Tensor]) -> list[bytes] | None:
    """A digest of each row's processed pixels; None without pixels, and where they do not come one image a row."""
    pixels, rows, told = _pixels(inputs), len(inputs["input_ids"]), beside_tokens(inputs)[0]
    if "pixel_values" not in pixels or any(len(v) != rows for v in pixels.values()) or set(told) - set(pixels):
        return None
    parts = [value.cpu().contiguous().view(rows, -1).numpy() for value in pixels.values()]
    return [hashlib.blake2b(b"".join(part[n].tobytes() for part in parts)).digest() for n in range(rows)]
