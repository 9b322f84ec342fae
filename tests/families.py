"""Tiny, randomly initialised models of eight families, each with the family's own processor; nothing is downloaded.

Every builder gives (model, processor) from configuration and a home-trained tokenizer, and `save_family` writes them
in the layout of a hub model. Pictures are 56 x 56 pixels at most, towers 32 wide and two layers deep.
"""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, PreTrainedTokenizerFast
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from medalign_lite.model.families import without_video
from studies.embedded.tiny import build_idefics3, train_tokenizer

TEXTS = ("There is a small nodule in the right upper zone. No pleural effusion is seen.",
         "Moderate consolidation of the left lower zone. The heart is not enlarged. No pneumothorax.",
         "Is there a pleural effusion? Which side is the nodule on? Describe this radiograph. Yes. No.")
TEXT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "intermediate_size": 48, "max_position_embeddings": 256,
}
VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SIGLIP = VISION | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 16}
MEAN = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
START, END = "<|im_start|>", "<|im_end|>"


def turns(image: str, *, user: str, assistant: str, end: str, begin: str = "", lead: str = "") -> str:
    """A chat template: `image` is what stands for the picture, `lead` what stands between a role and its answer."""
    return (begin + "{% for m in messages %}{{ '" + user + "' if m['role'] == 'user' else '" + assistant + lead + "' }}"
            "{% for p in m['content'] %}{{ '" + image + "' if p['type'] == 'image' else p['text'] }}{% endfor %}{{ '"
            + end + "' }}{% endfor %}{{ '" + assistant + "' if add_generation_prompt }}")


CHATML = {"user": START + "user\\n", "assistant": START + "assistant\\n", "end": END + "\\n"}
GEMMA = {"user": "<start_of_turn>user\\n", "assistant": "<start_of_turn>model\\n", "end": "<end_of_turn>\\n",
         "begin": "<bos>"}


def tokenizer_of(special: dict[str, str], *, end: str, pad: str, begin: str | None = None, more: tuple[str, ...] = ()):
    """A byte-level BPE with the family's special tokens by their names."""
    trained = train_tokenizer(TEXTS * 20, vocab_size=400)._tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained, eos_token=end, pad_token=pad, bos_token=begin, padding_side="left",
        clean_up_tokenization_spaces=False, extra_special_tokens=special,
        model_max_length=TEXT["max_position_embeddings"],
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*special.values(), *more]})
    return tokenizer


def build(name: str, tokenizer, image_processor, template: str, *, processor: dict | None = None, **config):
    """(model, processor) of the family `name`."""
    text = TEXT | config.pop("text_config", {}) | {
        "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    made = AutoConfig.for_model(name, text_config=text, eos_token_id=tokenizer.eos_token_id, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = AutoModelForImageTextToText.from_config(made)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = GenerationConfig(**ends, bos_token_id=tokenizer.bos_token_id)
    cls = without_video(PROCESSOR_MAPPING[type(made)])
    return model.eval(), cls(image_processor, tokenizer, chat_template=template, **(processor or {}))


def idefics3():
    tokenizer = train_tokenizer(TEXTS * 20, vocab_size=400)
    return build_idefics3(tokenizer, image_px=48, patch_px=8, vision_width=32, vision_layers=2, vision_heads=2,
                          vision_mlp=48, text_width=32, text_layers=2, text_heads=2, text_kv_heads=1, text_mlp=48,
                          max_positions=256, seed=7)


def llava():
    tokenizer = tokenizer_of({"image_token": "<image>"}, begin="<s>", end="</s>", pad="<pad>")
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32, **MEAN)
    vision = VISION | {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 32}
    template = turns("<image>\\n", user="USER: ", assistant=" ASSISTANT:", lead=" ", end="</s>", begin="<s>")
    return build(
        "llava", tokenizer, pixels, template, vision_config=vision, text_config={"model_type": "llama"},
        vision_feature_layer=-2,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        processor={"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
    )


def llava_onevision():
    tokenizer = tokenizer_of({"image_token": "<image>", "video_token": "<video>"}, end=END, pad="<pad>", more=(START,))
    pinpoints = [[32, 32], [32, 64], [64, 32]]
    pixels = LlavaOnevisionImageProcessorPil(size={"height": 32, "width": 32}, image_grid_pinpoints=pinpoints, **MEAN)
    return build(
        "llava_onevision", tokenizer, pixels, turns("<image>\\n", **CHATML),
        vision_config=SIGLIP | {"patch_size": 8, "vision_use_head": False}, text_config={"model_type": "qwen2"},
        image_grid_pinpoints=pinpoints, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"), vision_feature_layer=-1,
        processor={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    )


QWEN_TOKENS = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "vision_bos_token": "<|vision_start|>",
               "vision_eos_token": "<|vision_end|>"}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def qwen(name: str, *, patch: int, vision: dict, text: dict):
    tokenizer = tokenizer_of(QWEN_TOKENS, end=END, pad="<pad>", more=(START,))
    area = {"min_pixels": 2 * (2 * patch) ** 2, "max_pixels": 9 * (2 * patch) ** 2}
    ids = {part + "_token_id": tokenizer.convert_tokens_to_ids(token) for part, token in (
        ("image", "<|image_pad|>"), ("video", "<|video_pad|>"), ("vision_start", "<|vision_start|>"),
        ("vision_end", "<|vision_end|>"))}
    pixels = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, **area, **MEAN)
    return build(name, tokenizer, pixels, turns(QWEN_IMAGE, **CHATML), vision_config=vision, text_config=text, **ids)


def qwen2_5_vl():
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 32,
              "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    return qwen("qwen2_5_vl", patch=14, vision=vision, text={"rope_parameters": rope})


def qwen3_vl():
    vision = {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 32,
              "patch_size": 16, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    return qwen("qwen3_vl", patch=16, vision=vision, text={"rope_parameters": rope})


def gemma3():
    names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = tokenizer_of(names, begin="<bos>", end="<end_of_turn>", pad="<pad>", more=("<start_of_turn>",))
    pixels = Gemma3ImageProcessorPil(size={"height": 32, "width": 32}, image_seq_length=4, **MEAN)
    ids = {"boi_token_index": "<start_of_image>", "eoi_token_index": "<end_of_image>",
           "image_token_index": "<image_soft_token>"}
    model, processor = build(
        "gemma3", tokenizer, pixels, turns("<start_of_image>", **GEMMA),
        vision_config=SIGLIP | {"patch_size": 8, "vision_use_head": False},
        text_config={"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"],
                     "query_pre_attn_scalar": 16},
        mm_tokens_per_image=4, processor={"image_seq_length": 4},
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()},
    )
    connector = model.model.multi_modal_projector.mm_input_projection_weight  # starts as zeros: a blind model
    connector.data = 0.2 * torch.randn(connector.shape, generator=torch.Generator().manual_seed(1))
    return model, processor


def paligemma():
    tokenizer = tokenizer_of({"image_token": "<image>"}, begin="<bos>", end="<eos>", pad="<pad>")
    pixels = SiglipImageProcessorPil(size={"height": 32, "width": 32}, **MEAN)
    pixels.image_seq_length = 4
    # The processor itself puts <bos> behind the picture.
    template = (
        "{% for m in messages %}{% for p in m['content'] %}{{ '<image>' if p['type'] == 'image' else p['text'] }}"
        "{% endfor %}{{ '\\n' if m['role'] == 'user' else '<eos>' }}{% endfor %}"
    )
    return build(
        "paligemma", tokenizer, pixels, template,
        vision_config=SIGLIP | {"projection_dim": 32, "vision_use_head": False}, text_config={"model_type": "gemma"},
        projection_dim=32, hidden_size=32, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )


def internvl():
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}
    tokenizer = tokenizer_of(names, end=END, pad="<pad>", more=(START,))
    pixels = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False, **MEAN)
    vision = VISION | {"image_size": [32, 32], "patch_size": [8, 8]}
    return build("internvl", tokenizer, pixels, turns("<IMG_CONTEXT>\\n", **CHATML), vision_config=vision,
                 text_config={"model_type": "qwen2"}, image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
                 downsample_ratio=0.5, processor={"image_seq_length": 4})


FAMILIES = {f.__name__: f for f in (
    idefics3, llava, llava_onevision, qwen2_5_vl, qwen3_vl, gemma3, paligemma, internvl)}


def save_family(name: str, folder: Path) -> Path:
    """Write the family's tiny model and processor as a hub model would lie."""
    model, processor = FAMILIES[name]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
