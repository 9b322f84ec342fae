"""Which part of a vision-language model a module belongs to: vision, connector, language or head.

Read from the model object by transformers' own look-ups, so no family's names are written here, with one
exception: Qwen's vision module contains its connector.
"""

from dataclasses import dataclass

from torch import nn

TOWERS = ("vision", "connector", "language", "head")
CONNECTORS_INSIDE_VISION = ("merger", "deepstack_merger_list")  # Qwen2-VL, Qwen2.5-VL, Qwen3-VL
WRAPPER_PREFIXES = ("base_model.model.",)  # what PEFT puts before a parameter's name


@dataclass(frozen=True)
class Towers:
    """Full dotted names of the towers' root modules; everything outside them is the connector."""

    vision: str
    language: str
    head: str

    def of(self, name: str) -> str:
        """The tower of a module or parameter by its full dotted name, with or without PEFT's prefix."""
        for prefix in WRAPPER_PREFIXES:
            name = name.removeprefix(prefix)
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


def find_towers(model: nn.Module) -> Towers:
    """Locate the towers of a transformers image-text-to-text model; a model on the meta device will do.

    Raises ValueError where the vision or language tower, or the output head, cannot be told apart.
    """
    names = {id(module): name for name, module in model.named_modules()}
    parts = {
        "vision": model.get_encoder(modality="image"),
        "language": model.get_decoder(),
        "head": model.get_output_embeddings(),
    }
    for part, module in parts.items():
        if module is None or not names.get(id(module)):
            raise ValueError(
                f"{type(model).__name__} has no separate {part} module that transformers can name "
                "(get_encoder, get_decoder, get_output_embeddings); this family is not supported."
            )
    return Towers(**{part: names[id(module)] for part, module in parts.items()})


def _inside(name: str, root: str) -> bool:
    return name == root or name.startswith(root + ".")
