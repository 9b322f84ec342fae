"""Build a small Idefics3 (the SmolVLM architecture) from configuration: tokenizer, processor, model.

The embedded base model and the tests' models are both built here; nothing is downloaded.
"""

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

PAD, UNKNOWN, BEGIN, END = "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<end_of_utterance>"
IMAGE_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>")
SPECIAL_TOKENS = (PAD, UNKNOWN, BEGIN, END, *IMAGE_TOKENS)
ROLE_TOKENS = ("User:", "Assistant:")  # one token each, so that a turn costs no more wrapping than it must

CHAT_TEMPLATE = (
    BEGIN + "{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}" + END + "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with SmolVLM's special tokens and a chat template in its spirit.

    `vocab_size` counts everything: 256 bytes, special and role tokens, merges. Any text round-trips, because every byte
    is in the alphabet. Raises ValueError when the vocabulary cannot hold the alphabet."""
    smallest = 256 + len(SPECIAL_TOKENS) + len(ROLE_TOKENS)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size} is below {smallest}: 256 bytes, special tokens and role tokens")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # trim_offsets=False: a token owns its leading space, so offsets tile the text without gaps.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(ROLE_TOKENS), special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(role, normalized=False) for role in ROLE_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, bos_token=BEGIN, eos_token=END,
        additional_special_tokens=list(IMAGE_TOKENS), padding_side="left", clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def build_processor(tokenizer, *, image_px: int = 144, patch_px: int = 12, shuffle: int = 3) -> Idefics3Processor:
    """The real Idefics3 processor: a picture becomes one `image_px` square and (image_px/patch_px/shuffle)² tokens.

    Three wrapping tokens surround the image tokens; the processor allows no fewer. Raises ValueError when the patches
    do not tile the picture."""
    side, rest = divmod(image_px, patch_px * shuffle)
    if rest or not side:
        raise ValueError(f"image_px={image_px} is not a multiple of patch_px * shuffle = {patch_px * shuffle}")
    pixels = Idefics3ImageProcessorPil(
        size={"longest_edge": image_px}, max_image_size={"longest_edge": image_px}, do_image_splitting=False
    )
    return Idefics3Processor(pixels, tokenizer, image_seq_len=side * side, chat_template=CHAT_TEMPLATE)


def build_idefics3(
    tokenizer, *, image_px: int = 144, patch_px: int = 12, shuffle: int = 3,
    vision_width: int = 192, vision_layers: int = 6, vision_heads: int = 6, vision_mlp: int = 768,
    text_width: int = 256, text_layers: int = 6, text_heads: int = 8, text_kv_heads: int = 8, text_mlp: int = 512,
    max_positions: int = 512, vocab_size: int | None = None, seed: int = 0,
) -> tuple[Idefics3ForConditionalGeneration, Idefics3Processor]:  # fmt: skip
    """A randomly initialised fp32 Idefics3 and its processor; a function of the arguments alone.

    Widths in channels, pictures in pixels, positions in tokens. A `vocab_size` above the tokenizer's adds ids that no
    text has, for a model as costly as one with a large vocabulary. The defaults give 7.4 M parameters (14.8 MB in bf16)
    and 16 image tokens. Raises ValueError through `build_processor`."""
    processor = build_processor(tokenizer, image_px=image_px, patch_px=patch_px, shuffle=shuffle)
    processor.tokenizer.model_max_length = max_positions
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
           for name, token in {"pad": PAD, "bos": BEGIN, "eos": END}.items()}
    config = Idefics3Config(
        image_token_id=processor.image_token_id, scale_factor=shuffle, tie_word_embeddings=True,
        vision_config={
            "hidden_size": vision_width, "num_hidden_layers": vision_layers, "num_attention_heads": vision_heads,
            "intermediate_size": vision_mlp, "image_size": image_px, "patch_size": patch_px,
        },
        text_config={
            "model_type": "llama", "vocab_size": vocab_size or len(tokenizer), "hidden_size": text_width,
            "num_hidden_layers": text_layers, "num_attention_heads": text_heads, "num_key_value_heads": text_kv_heads,
            "intermediate_size": text_mlp, "max_position_embeddings": max_positions, "tie_word_embeddings": True, **ids,
        },
        **ids,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Idefics3ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**ids)
    return model.eval(), processor


def save_tiny(model, processor, folder: Path) -> Path:
    """Write safetensors weights in bf16 and the processor; `load_lvlm(folder)` reads it. The model is untouched."""
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)
