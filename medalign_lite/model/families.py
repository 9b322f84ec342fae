"""What model families do differently, each difference in one function; the rest of the package names no family.

Which part of a model a module belongs to (vision, connector, language or head) is read from the model object by
transformers' own look-ups, with one exception: Qwen's vision module contains its connector.
"""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from medalign_lite.model.weights import ModelError

PROMPT_BOTH_WAYS = ("paligemma",)  # the tokens of the prompt see each other, the answer's look back only
IMAGE_BOTH_WAYS = ("gemma3",)  # the tokens of one image see each other
THREE_POSITIONS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")  # time, row and column of each token
WRITES_NEWLINE = ("PaliGemmaProcessor",)  # ends every prompt with a newline of its own
TOWERS = ("vision", "connector", "language", "head")
CONNECTORS_INSIDE_VISION = ("merger", "deepstack_merger_list")  # Qwen2-VL, Qwen2.5-VL, Qwen3-VL
PEFT_PREFIX = "base_model.model."  # before a parameter's name


@dataclass(frozen=True)
class Towers:
    """Full dotted names of the towers' root modules; everything outside them is the connector."""

    vision: str
    language: str
    head: str

    def of(self, name: str) -> str:
        """The tower of a module or parameter by its full dotted name, with or without PEFT's prefix."""
        name = name.removeprefix(PEFT_PREFIX)
        if _inside(name, self.head):
            return "head"
        if _inside(name, self.language):
            return "language"
        if _inside(name, self.vision) and not set(CONNECTORS_INSIDE_VISION) & set(name.split(".")):
            return "vision"
        return "connector"

    def linears(self, model: nn.Module, kind: type = nn.Linear) -> dict[str, list[str]]:
        """Names of the layers whose class is exactly `kind`, by tower."""
        found = {tower: [] for tower in TOWERS}
        for name, module in model.named_modules():
            if type(module) is kind:
                found[self.of(name)].append(name)
        return found


def loose_share(model: nn.Module) -> float:
    """Share of the language tower's matrices that are no linear layers, so that neither 4 bit nor adapters reach them:
    the experts of a mixture, which are one tensor a layer."""
    language, counts = find_towers(model).language, [0, 0]
    for name, module in model.named_modules():
        if _inside(name, language) and not isinstance(module, (nn.Embedding, nn.modules.conv._ConvNd)):
            for parameter in module.parameters(recurse=False):
                counts[isinstance(module, nn.Linear)] += parameter.numel() if parameter.ndim > 1 else 0
    return counts[0] / max(1, sum(counts))


def find_towers(model: nn.Module) -> Towers:
    """Locate the towers of a transformers image-text-to-text model; a model on the meta device will do. Raises
    ModelError where the vision or language tower, or the output head, cannot be told apart."""
    names = {id(module): name for name, module in model.named_modules()}
    parts = {}
    for part, ask in (("vision", lambda: model.get_encoder(modality="image")), ("language", model.get_decoder),
                      ("head", model.get_output_embeddings)):
        try:
            parts[part] = ask()
        except Exception:  # families that were never meant to be asked answer in many ways
            parts[part] = None
        if not names.get(id(parts[part])):
            raise ModelError(f"{type(model).__name__} has no separate {part} module that transformers can name "
                             "(get_encoder, get_decoder, get_output_embeddings); this family is not supported.")
    return Towers(**{part: names[id(module)] for part, module in parts.items()})


def _inside(name: str, root: str) -> bool:
    return name == root or name.startswith(root + ".")


def without_video(processor_class: type) -> type:
    """The processor class without its video part: transformers builds that only beside torchvision, and nobody here
    shows a video."""
    kept = [name for name in processor_class.get_attributes() if name != "video_processor"]
    if len(kept) == len(processor_class.get_attributes()):
        return processor_class
    return type(processor_class.__name__, (processor_class,), {"get_attributes": classmethod(lambda cls: kept)})


def limit_side(processor, max_side: int) -> bool:
    """Show the model no picture of more than `max_side`² pixels, or longer than that, whichever the family counts.
    Families that show every picture at sizes of their own are left as they are: False then."""
    pixels = processor.image_processor
    size = dict(getattr(pixels, "size", None) or {})
    if (size.get("longest_edge") or 0) <= max_side:
        return False
    most = max_side**2 if _counts_pixels(pixels) else max_side
    pixels.size = {name: min(value, most) for name, value in size.items() if value}
    return True


def _counts_pixels(image_processor) -> bool:
    """Whether its "longest_edge" is an area: with one of 1024 it then shows less than half of a larger picture."""
    picture, before = Image.new("RGB", (256, 256)), image_processor.size
    try:
        image_processor.size = {"shortest_edge": 1, "longest_edge": 1024}
        return image_processor(picture, return_tensors="pt")["pixel_values"].numel() < 3 * 256**2 / 2
    finally:
        image_processor.size = before


def patches_of(config, image_tokens: int) -> int:
    """Patches that the vision tower sees of a picture which becomes so many image tokens."""
    vision = config.vision_config
    merged = getattr(vision, "spatial_merge_size", None) or getattr(config, "scale_factor", None)
    if merged:
        return image_tokens * merged**2
    sides = (vision.image_size, vision.patch_size)
    pixels, patch = (side[0] if isinstance(side, (list, tuple)) else side for side in sides)
    return (pixels // patch) ** 2


def image_tokens_of(config, max_side: int) -> int | None:
    """Tokens of the largest picture that `limit_side` lets through, from the configuration; None where its processor
    must be asked."""
    if config.model_type not in ("qwen3_vl", "qwen2_5_vl", "qwen2_vl"):
        return None
    return (max_side // (config.vision_config.patch_size * config.vision_config.spatial_merge_size)) ** 2


def processor_text(processor, prompt: str) -> str:
    """The prompt as this processor wants it: without the newline that it adds by itself."""
    return prompt.removesuffix("\n") if type(processor).__name__ in WRITES_NEWLINE else prompt


def answer_token_type(processor) -> int:
    """What `token_type_ids` say of an answer's token: 0 for text, 1 where 0 means that it may look ahead."""
    return 1 if type(processor).__name__ in WRITES_NEWLINE else 0


def token_positions(body: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Position ids of one unpadded sequence with its image, (1, T), or (3, T) where a family counts in three."""
    ids = inputs["input_ids"]  # (1, T)
    if body.config.model_type in THREE_POSITIONS:
        told = {name: inputs[name] for name in ("mm_token_type_ids", "image_grid_thw")}
        return body.get_rope_index(ids, **told)[0][:, 0]
    first = 1 if body.config.model_type in PROMPT_BOTH_WAYS else 0
    return torch.arange(first, first + ids.shape[1], device=ids.device)[None]


def mutual_blocks(body: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """(T,): tokens of one sequence with the same number from 0 on see each other both ways, those with -1 look back."""
    family, ids = body.config.model_type, inputs["input_ids"]
    backwards = torch.full_like(ids[0], -1)
    if family in PROMPT_BOTH_WAYS:
        return torch.where(inputs["token_type_ids"][0] == 0, 0, backwards)
    if family in IMAGE_BOTH_WAYS:
        inside = inputs["token_type_ids"][0] == 1
        starts = inside & ~torch.cat([inside.new_zeros(1), inside[:-1]])
        return torch.where(inside, starts.long().cumsum(0) - 1, backwards)
    return backwards


def select_positions(body: nn.Module, rows: Tensor) -> None:
    """Tell the model which rows of its cached prompts go on, each as often as it is named: how far positions lag is
    kept by row."""
    if getattr(body, "rope_deltas", None) is not None:
        body.rope_deltas = body.rope_deltas[rows]


def why_unshared(body: nn.Module, *, longest: int) -> str | None:
    """What keeps this model from sharing a prefix between rows of up to `longest` tokens; None where nothing does."""
    text = body.config.get_text_config()
    if text._attn_implementation not in ("sdpa", "eager"):
        return f"its attention ({text._attn_implementation}) takes no mask of our own"
    if hasattr(body, "get_rope_index") and body.config.model_type not in THREE_POSITIONS:
        return f"families.token_positions does not know how {body.config.model_type} counts positions"
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds - {"full_attention", "sliding_attention"}:
        return f"layers of type {', '.join(sorted(kinds))} do not look back through a mask alone"
    window = text.sliding_window if "sliding_attention" in kinds else None
    if window is not None and longest > window:
        return f"a sequence is longer than its sliding window of {window} tokens"
    return None
