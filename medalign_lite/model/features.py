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

from medalign_lite.cases.images import read_image
from medalign_lite.model.batches import encode_prompts, padded, unpadded
from medalign_lite.model.lvlm import Lvlm, base_of

Identity = tuple[str, tuple[int, int]]  # of a picture: its digest and its size
FROM_IMAGES = "pixel_"  # how inputs are called that the vision tower alone reads


@dataclass(frozen=True)
class Vision:
    """One image as the language model is given it.

    parts: (n, D) each, n image tokens: the connector's output, then what further layers are given (Qwen3-VL).
    about: inputs that the language model itself reads of the image, such as its grid, (1, ...) each."""

    parts: tuple[torch.Tensor, ...]
    about: dict[str, torch.Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of the parts."""
        return sum(part.nbytes for part in self.parts)


class ImageEncoder:
    """The frozen vision tower and connector by themselves: images to features, and features to model inputs. `possible`
    is False from the moment on that a family turns out not to take features in place of pixels."""

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
        given = (output.pooler_output, *(output.get("deepstack_features") or ()))  # grouped as the family likes
        parts = [part.flatten(0, -2) if torch.is_tensor(part) else torch.cat([one.flatten(0, -2) for one in part])
                 for part in given]
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
    """The inputs that do not stand one per token; and, of each row's image, those of them that are not pixels. The list
    is empty where the inputs do not come one image a row."""
    ids = inputs["input_ids"]
    told = {name: value for name, value in inputs.items() if value.shape != ids.shape}
    about = {name: value for name, value in told.items() if not name.startswith(FROM_IMAGES)}
    if any(len(value) != len(ids) for value in about.values()):
        return told, []
    return told, [{name: value[n : n + 1] for name, value in about.items()} for n in range(len(ids))]


class KeptFeatures:
    """Inputs of `generate` with kept features in place of pixels: an image is opened, cut, scaled and seen once. `warm`
    fills it with what images are, by their content. A prompt depends on its image by the size alone."""

    def __init__(self, lvlm: Lvlm):
        self.lvlm, self.encoder = lvlm, ImageEncoder(base_of(lvlm.model).base_model)
        self._kept: dict[Identity, Vision] = {}
        self._files: dict[Path, Identity] = {}
        self._prompts: dict[tuple[str, tuple[int, int]], dict[str, torch.Tensor]] = {}  # a row each, not padded

    def warm(self, images: Sequence[Image.Image | Path | str], *, batch_size: int = 32) -> None:
        """Make the features of these images, in this order. A batch's composition moves the last bits of its features:
        a run that goes on after a kill must warm the same images in the same order before it asks."""
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            inputs = encode_prompts(self.lvlm.processor, batch, ["?"] * len(batch), device=self.lvlm.device)
            visions = self.encoder.encode(inputs) if self.encoder.possible and _an_image_a_row(inputs) else None
            if visions is None:
                return
            for image, vision in zip(batch, visions, strict=True):
                self._kept[self._identify(image)] = replace(vision, parts=tuple(part.clone() for part in vision.parts))

    def inputs(self, images: Sequence[Image.Image | Path | str | None], questions: Sequence[str]) -> dict | None:
        """Left-padded prompts with features; None for an image that was not warmed, or a family that takes none. Raises
        ValueError as `encode_prompts` does."""
        pictures = [self._identify(image) for image in images] if None not in images else [None]
        if any(picture not in self._kept for picture in pictures):
            return None
        keys = [(question, picture[1]) for question, picture in zip(questions, pictures, strict=True)]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._prompts}
        if new:  # as the processor writes them beside such an image
            made = encode_prompts(self.lvlm.processor, list(new.values()), [question for question, _ in new],
                                  device=self.lvlm.device)
            self._prompts |= zip(new, unpadded(made), strict=True)
        prompts = padded([self._prompts[key] for key in keys], tokenizer=self.lvlm.processor.tokenizer, side="left")
        return prompts | self.encoder.inputs_of([self._kept[picture] for picture in pictures])

    def _identify(self, image: Image.Image | Path | str) -> Identity:
        if isinstance(image, Image.Image):
            return identify(image)
        path = Path(image)
        if path not in self._files:
            self._files[path] = identify(read_image(path))
        return self._files[path]


def identify(image: Image.Image) -> Identity:
    """A digest of the pixels, and the size: images of equal pixels are one picture."""
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest(), image.size


def _an_image_a_row(inputs: dict[str, torch.Tensor]) -> bool:
    """Whether pixels come one image a row, and nothing beside them."""
    pixels = {name: value for name, value in inputs.items() if name.startswith(FROM_IMAGES)}
    one_each = all(len(value) == len(inputs["input_ids"]) for value in pixels.values())
    return "pixel_values" in pixels and one_each and not set(beside_tokens(inputs)[0]) - set(pixels)
