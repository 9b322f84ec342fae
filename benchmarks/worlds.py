"""What is measured: models by their shape, and preference pairs with answers of given lengths."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medalign_lite.cases.readers import read_cases
from medalign_lite.files import ROOT
from medalign_lite.model.lvlm import EMBEDDED, Lvlm, attach_lora, load_lvlm
from medalign_lite.train.pairs import Pair
from studies.embedded.tiny import build_idefics3, save_tiny

SAMPLES = ROOT / "data_samples" / "cases"
QUESTION = "Write a report of this view."
SWAPS = {"left": "right", "right": "left", "small": "large", "no": "a", "is": "was", "on": "in", "this": "that"}


@dataclass(frozen=True)
class Shape:
    """A random model of SmolVLM's architecture; pictures in pixels, widths in channels. Image tokens: (image_px / 28)²
    at a shuffle of 2 patches of 14 pixels."""

    vocab_size: int
    image_px: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    text_mlp: int

    @property
    def image_tokens(self) -> int:
        """Tokens that a picture becomes."""
        return (self.image_px // 28) ** 2


# The vocabulary of Qwen3-VL; 576 tokens of image and 24 of prompt around them
MID = Shape(vocab_size=151_936, image_px=672, vision_width=256, vision_layers=6, text_width=512, text_layers=6,
            text_mlp=1536)
# What the growth curves start from: each varies one number of it
SMALL = Shape(vocab_size=32_768, image_px=336, vision_width=192, vision_layers=2, text_width=256, text_layers=4,
              text_mlp=768)


def make_model(folder: Path, shape: Shape | None) -> Path:
    """A folder with a random model of this shape, made once; None stands for the embedded model."""
    if shape is None:
        return EMBEDDED
    place = Path(folder) / "-".join(map(str, asdict(shape).values()))
    if not (place / "config.json").exists():
        tokenizer = load_lvlm(EMBEDDED, device="cpu", four_bit=False).processor.tokenizer
        model, processor = build_idefics3(
            tokenizer, patch_px=14, shuffle=2, vision_heads=shape.vision_width // 64,
            vision_mlp=4 * shape.vision_width, text_heads=shape.text_width // 64, text_kv_heads=shape.text_width // 64,
            max_positions=2048, seed=7, **asdict(shape),
        )
        save_tiny(model, processor, place)
    return place


def load_policy(folder: Path, shape: Shape | None, *, four_bit: bool, rank: int = 16) -> Lvlm:
    """The model with adapters that do something, the same for the same arguments: fresh ones give ln 2 to any code."""
    lvlm = load_lvlm(make_model(folder, shape), four_bit=four_bit)
    policy = attach_lora(lvlm, rank=rank, alpha=2.0 * rank)
    random = torch.Generator().manual_seed(5)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data = (0.02 * torch.randn(parameter.shape, generator=random)).to(parameter)
    return policy


def make_pairs(tokenizer, count: int, lengths: tuple[int, int], *, edit_at: float = 0.5) -> list[Pair]:
    """Pairs about the sample radiographs whose answers have from `lengths[0]` to `lengths[1]` tokens, evenly spread.
    One word of y+, `edit_at` of the way through, is another in y-; the lesion image is the clean one with noise in a
    quarter of it."""
    cases = read_cases(SAMPLES).cases
    words = " ".join(case.questions[0].answer for case in cases).split()
    found = []
    for n, length in enumerate(np.linspace(*lengths, count).round().astype(int)):
        start = 37 * n % len(words)
        chosen = (words[start:] + words)[:length]
        while len(tokenizer(" ".join(chosen))["input_ids"]) > length - 1:  # whole words, the end token beside them
            chosen.pop()
        picture = Image.open(cases[n % len(cases)].image).convert("RGB")
        found.append(_pair(f"r{n}", chosen, picture.rotate(n // len(cases)), edit_at, seed=n))
    return found


def _pair(name: str, words: list[str], picture: Image.Image, edit_at: float, *, seed: int) -> Pair:
    place = int(edit_at * len(words))
    middle = min((n for n, word in enumerate(words) if word in SWAPS), key=lambda n: abs(n - place))
    start = len(" ".join(words[:middle])) + (middle > 0)
    other = SWAPS[words[middle]]
    pixels, random = np.asarray(picture).copy(), np.random.default_rng(seed)
    box = pixels[: len(pixels) // 2, : pixels.shape[1] // 2]
    box[:] = np.clip(box + random.normal(0, 45, box.shape), 0, 255).astype(np.uint8)
    return Pair(
        name, QUESTION, " ".join(words), " ".join([*words[:middle], other, *words[middle + 1 :]]),
        ((start, start + len(words[middle]), "side"),), ((start, start + len(other), "side"),),
        clean=picture, lesion=Image.fromarray(pixels),
    )
