"""Loading in 4 bit, its errors, the CPU guard, LoRA on the language model alone."""

import copy
import json
import re
import shutil
import socket

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from bitsandbytes.nn.modules import has_avx512bf16
from conftest import stirred
from families import save_family
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, Idefics3ForConditionalGeneration

from medalign_lite.model import loading as module
from medalign_lite.model import lvlm
from medalign_lite.model.batches import encode, encode_prompts, image_tokens
from medalign_lite.model.families import find_towers, loose_share
from medalign_lite.model.loading import compute_dtype
from medalign_lite.model.lvlm import adapters_digest, adapters_off, attach_lora, load_adapter, load_lvlm, save_adapter
from medalign_lite.model.weights import ModelError, weights_digest

FAMILIES = "idefics3 smolvlm llava llava_onevision qwen2_5_vl qwen3_vl gemma3 paligemma internvl".split()
LORA = {"rank": 4, "alpha": 8, "seed": 3}


@pytest.fixture
def loaded(tiny_folder):
    return load_lvlm(tiny_folder, device="cpu")


@pytest.fixture
def copied(tiny_folder, tmp_path):
    """A copy of the model folder that a test may damage."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def batch(loaded, pictures):
    asked, said = ["Is there a nodule?", "Which side?"], ["Yes.", "No nodule."]
    return encode(loaded.processor, pictures[:2], asked, said, device=loaded.device)


def four_bit_layers(loaded):
    return [module for module in loaded.model.modules() if isinstance(module, Linear4bit)]


def logits(loaded, pictures):
    with torch.no_grad():
        return loaded.model(**batch(loaded, pictures).inputs).logits


def lora_gradients(loaded, pictures):
    """Gradients of a mean log-prob by parameter, taken in training mode."""
    loaded.model.train()
    loaded.model.zero_grad()
    loaded.model(**batch(loaded, pictures).inputs).logits.log_softmax(-1)[..., 5].mean().backward()
    loaded.model.eval()
    return {n: p.grad.clone() for n, p in loaded.model.named_parameters() if p.requires_grad}


def test_both_towers_are_four_bit_and_the_rest_is_dense(loaded, tiny_folder):
    assert loaded.four_bit == {"vision": 12, "connector": 0, "language": 14}
    assert type(loaded.model.lm_head) is torch.nn.Linear
    assert type(loaded.model.model.connector.modality_projection.proj) is torch.nn.Linear
    assert {(layer.weight.quant_type, layer.weight.quant_state.nested, layer.compute_dtype)
            for layer in four_bit_layers(loaded)} == {("nf4", True, torch.float32)}
    assert loaded.revision == weights_digest(tiny_folder) and loaded.name == tiny_folder.name
    assert not loaded.model.training
    dense = load_lvlm(tiny_folder, device="cpu", four_bit=False)
    assert dense.four_bit == {"vision": 0, "connector": 0, "language": 0}


def test_a_partly_quantised_tower_is_an_error(tiny_folder, monkeypatch):
    config, skip = module.BitsAndBytesConfig, "model.text_model.layers.1"
    monkeypatch.setattr(module, "BitsAndBytesConfig", lambda llm_int8_skip_modules, **rest: config(
        llm_int8_skip_modules=[*llm_int8_skip_modules, skip], **rest))
    with pytest.raises(ModelError, match="7 of 14 linear layers of the language tower"):
        load_lvlm(tiny_folder, device="cpu")


def test_kept_weights_are_those_of_the_four_bits_bit_for_bit(loaded):
    for layer in four_bit_layers(loaded)[:4]:
        x = torch.randn(2, 3, layer.in_features, requires_grad=True)
        ours, theirs = layer(x), Linear4bit.forward(layer, x)
        assert type(layer.forward) is not type(Linear4bit.forward) and torch.equal(ours, theirs)
        gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, theirs)]
        assert torch.equal(*gradients)
        packed = layer.weight
        layer.weight = torch.nn.Parameter(packed.data, requires_grad=False)  # as a merge puts other weights there
        layer.weight.quant_state = copy.copy(packed.quant_state)
        layer.weight.quant_state.offset = packed.quant_state.offset * 2  # the same codes with scales of another size
        assert not torch.equal(layer(x), ours)
        layer.weight = packed
        assert torch.equal(layer(x), ours)


def test_cpu_guard(loaded, pictures):
    """Without the guard an AVX512-BF16 machine repacks weights in eval mode, and the later gradients are wrong."""
    assert not any(layer.support_avx512bf16_for_cpu for layer in four_bit_layers(loaded))
    policy = attach_lora(loaded, **LORA)
    before = lora_gradients(policy, pictures)
    policy.model.train()
    train = logits(policy, pictures)
    policy.model.eval()
    prompts = encode_prompts(policy.processor, pictures[:1], ["Is there a nodule?"])
    policy.model.generate(**prompts, max_new_tokens=2, do_sample=False)
    assert torch.equal(logits(policy, pictures), train)
    after = lora_gradients(policy, pictures)
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert any(gradient.abs().sum() > 0 for gradient in after.values())


@pytest.mark.skipif(not has_avx512bf16(), reason="the hazard needs an AVX512-BF16 processor")
def test_the_hazard_that_the_guard_is_for(loaded, pictures):
    for layer in four_bit_layers(loaded):
        layer.support_avx512bf16_for_cpu = True
        layer.__dict__.pop("forward", None)  # as in a model too large for its weights to be kept dequantised
    loaded.model.train()
    train = logits(loaded, pictures)
    loaded.model.eval()
    assert not torch.equal(logits(loaded, pictures), train)


def test_nothing_talks_to_the_network(tiny_folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("network access")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("ALLOW_NETWORK", raising=False)
    save_adapter(attach_lora(load_lvlm(tiny_folder, device="cpu"), **LORA), tmp_path / "adapter")
    load_adapter(load_lvlm(tiny_folder, device="cpu"), tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"hf download acme/tiny-vlm --local-dir models/tiny-vlm"):
        load_lvlm("acme/tiny-vlm")


def test_no_such_folder_and_no_control_character_that_reaches_a_terminal():
    assert str(ModelError("m\x1b[2J \ud800é")) == "m\\x1b[2J \\ud800é"
    with pytest.raises(ModelError, match="no model folder './nowhere/at/all'"):
        load_lvlm("./nowhere/at/all")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_text(folder, **changes):
    path = folder / "config.json"
    edit_json(path, text_config=json.loads(path.read_text())["text_config"] | changes)


def edit_tensors(path, change):
    """Write the file's tensors again as `change(name, tensor)` makes them; None leaves one out."""
    made = {name: change(name, tensor) for name, tensor in load_file(path).items()}
    save_file({name: tensor for name, tensor in made.items() if tensor is not None}, path, metadata={"format": "pt"})


LAST = "model.text_model.layers.1.mlp.up_proj.weight"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
DOUBLE = "{% set n = namespace(a='x') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}"


def template(folder, begin):
    path = folder / "chat_template.jinja"
    path.write_text(begin + path.read_text())


def end_no_turn(folder):
    """A template that ends no answer, and a model that knows another end than the tokenizer."""
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<end_of_utterance>", ""))
    edit_json(folder / "generation_config.json", eos_token_id=1)


def lose_a_shard(folder):
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


DAMAGES = {
    "lacks its processor": lambda f: (f / "processor_config.json").unlink(),
    "lacks its tokenizer": lambda f: (f / "tokenizer.json").unlink(),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "only pickle weights": lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
    "lacks 1 of its weight files, first model-00002": lose_a_shard,
    "no config.json": lambda f: (f / "config.json").unlink(),
    "model.safetensors cannot be read as safetensors": lambda f: (f / "model.safetensors").write_bytes(
        (f / "model.safetensors").read_bytes()[:20_000]),
    "1 tensors are missing or misshapen, the first model.text_model.layers.1.mlp.up_proj": lambda f: edit_tensors(
        f / "model.safetensors", lambda name, tensor: None if name == LAST else tensor),
    f"{LAST} holds numbers that are not finite": lambda f: edit_tensors(
        f / "model.safetensors", lambda name, tensor: tensor * torch.nan if name == LAST else tensor),
    "num_hidden_layers is 1000000000, which no weights fill": lambda f: edit_text(f, num_hidden_layers=10**9),
    "weights, and the files hold": lambda f: edit_text(f, intermediate_size=10**12),
    "is quantised already, by 'fp8'": lambda f: edit_json(
        f / "config.json", quantization_config={"quant_method": "fp8"}),
    "chat template does not end": lambda f: template(f, LOOP),
    "chat template does not end within": lambda f: template(f, DOUBLE),
    "its chat template ends no answer": end_no_turn,
    "is damaged": lambda f: (f / "config.json").write_text('{"a":' * 10**5),
    "does not describe an image-text-to-text": lambda f: edit_json(f / "config.json", model_type="gpt17"),
    "knows without running the model's own code": lambda f: edit_json(
        f / "config.json", model_type="novel", auto_map={"AutoConfig": "novel.Config"}),
    "config.json is damaged": lambda f: (f / "config.json").write_text("{"),
    "processor cannot be loaded": lambda f: (f / "tokenizer.json").write_text("{"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_folder_says_what_is_wrong(copied, message):
    DAMAGES[message](copied)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        load_lvlm(copied, device="cpu")
    assert str(copied) in str(caught.value) or "template ends no answer" in message


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 10**5])
def test_an_index_of_anything_else_is_damaged(copied, text):
    (copied / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match="index.json is damaged"):
        load_lvlm(copied, device="cpu")


def test_a_hidden_file_is_no_weight(copied, tiny_folder):
    (copied / "._model.safetensors").write_bytes(b"AppleDouble")
    assert load_lvlm(copied, device="cpu").revision == weights_digest(tiny_folder)


def test_what_a_folder_names_is_not_followed(copied, pictures, monkeypatch):
    """Attention by a kernel from a hub; a processor class that the folder has, whatever the model's type is."""
    plain = logits(load_lvlm(copied, device="cpu"), pictures)
    monkeypatch.setattr(socket.socket, "connect", None)
    edit_json(copied / "config.json", attn_implementation="acme/kernels", experts_implementation="acme/more")
    again = load_lvlm(copied, device="cpu")
    assert again.model.config._attn_implementation == "sdpa" and torch.equal(logits(again, pictures), plain)
    edit_json(copied / "processor_config.json", processor_class="LlavaProcessor")
    assert type(lvlm.load_processor(copied)).__name__ == "LlavaProcessor"


def test_logits_that_are_more_than_the_heads_are_refused(tiny_folder, monkeypatch):
    forward = Idefics3ForConditionalGeneration.forward

    def capped(self, *arguments, **options):
        output = forward(self, *arguments, **options)
        output.logits = 0.1 * output.logits.tanh()
        return output

    monkeypatch.setattr(Idefics3ForConditionalGeneration, "forward", capped)
    with pytest.raises(ModelError, match="soft-capping"):
        load_lvlm(tiny_folder, device="cpu")


class Experts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4, 64, 64))


def test_experts_outside_linear_layers_are_counted(loaded):
    assert loose_share(loaded.model) == 0
    loaded.model.model.text_model.layers[0].experts = Experts()
    assert 0.1 < loose_share(loaded.model) < 0.9
    with pytest.warns(UserWarning, match="experts of a mixture, which no adapter reaches"):
        attach_lora(loaded, **LORA)


def test_a_floor_under_the_tokens_of_a_picture(tmp_path):
    """`max_side` limits areas where a family counts areas; a picture of which nothing is left is refused."""
    folder = save_family("qwen2_5_vl", tmp_path / "qwen")
    assert image_tokens(lvlm.load_processor(folder, max_side=84), Image.new("RGB", (512, 512))) == 9
    with pytest.raises(ModelError, match="max_side=28 leaves 1 of the 9 tokens"):
        lvlm.load_processor(folder, max_side=28)


@pytest.mark.parametrize("family", FAMILIES)
def test_towers_are_found_in_every_family(family):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(family))
    towers = find_towers(model)
    linears = towers.linears(model)
    assert linears["vision"] and linears["language"] and linears["head"] == [towers.head]
    targets = re.compile(lvlm.lora_targets(model))
    matched = [name for name, _ in model.named_modules() if targets.fullmatch(name)]
    assert sorted(matched) == sorted(linears["language"]) and not any("merger" in name for name in linears["vision"])


def test_lora_trains_the_language_model_alone(loaded):
    policy = attach_lora(loaded, **LORA)
    counts = lvlm.trainable_by_tower(policy.model)
    assert counts.pop("language") > 0 and counts == {"vision": 0, "connector": 0, "head": 0}
    lora = policy.model.base_model.model.model.text_model.layers[0].self_attn.q_proj
    assert lora.scaling["default"] == 8 / 4**0.5 and policy.four_bit == loaded.four_bit
    with pytest.raises(ModelError, match="already carries adapters"):
        attach_lora(policy, **LORA)
    for setting in ({"rank": 0, "alpha": 1}, {"rank": 4, "alpha": 0}):
        with pytest.raises(ValueError, match="positive"):
            attach_lora(policy, **setting)


def test_plain_lora_scale_and_seed(tiny_folder):
    one, two, other = (attach_lora(load_lvlm(tiny_folder, device="cpu"), rank=4, alpha=8, rslora=False, seed=seed)
                       for seed in (1, 1, 2))
    a, b, c = (m.model.base_model.model.model.text_model.layers[0].mlp.up_proj for m in (one, two, other))
    assert a.scaling["default"] == 2 and torch.equal(a.lora_A["default"].weight, b.lora_A["default"].weight)
    assert not torch.equal(a.lora_A["default"].weight, c.lora_A["default"].weight)


def test_adapters_off_is_the_base_model_and_saving_keeps_the_policy(tiny_folder, loaded, pictures, tmp_path):
    base = logits(loaded, pictures)
    with adapters_off(loaded.model):
        assert torch.equal(logits(loaded, pictures), base)
    policy = attach_lora(loaded, **LORA)
    assert torch.equal(logits(policy, pictures), base)  # B = 0
    moved = logits(stirred(policy), pictures)
    assert not torch.allclose(moved, base)
    with adapters_off(policy.model):
        assert torch.equal(logits(policy, pictures), base)
    assert torch.equal(logits(policy, pictures), moved)

    save_adapter(policy, tmp_path / "adapter")
    assert sorted(p.name for p in (tmp_path / "adapter").glob("*.safetensors")) == ["adapter_model.safetensors"]
    again = load_adapter(load_lvlm(tiny_folder, device="cpu"), tmp_path / "adapter")
    assert torch.equal(logits(again, pictures), moved) and sum(lvlm.trainable_by_tower(again.model).values()) == 0
    going_on = load_adapter(load_lvlm(tiny_folder, device="cpu"), tmp_path / "adapter", trainable=True)
    assert lvlm.trainable_by_tower(going_on.model) == lvlm.trainable_by_tower(policy.model)
    assert adapters_digest(again.model) == adapters_digest(policy.model) and adapters_digest(loaded.model.model) is None
    with adapters_off(policy.model):
        assert adapters_digest(policy.model) is None


WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
BAD_ADAPTERS = {
    "holds no adapter .adapter_model": lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"),
    "holds no adapter .adapter_config": lambda f: (f / SETTINGS).unlink(),
    "damaged.*JSONDecodeError": lambda f: (f / SETTINGS).write_text("{"),
    "damaged.*SafetensorError": lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:900]),
    "damaged.*its rank": lambda f: edit_json(f / SETTINGS, r=10**9),
    "damaged.*KeyError": lambda f: (f / SETTINGS).write_text('{"peft_type": "LORA"}'),
    "damaged.*use_dora": lambda f: edit_json(f / SETTINGS, use_dora=True),
    "damaged.*modules_to_save": lambda f: edit_json(f / SETTINGS, modules_to_save=["lm_head"]),
    "28 of 0 tensors": lambda f: edit_json(f / SETTINGS, target_modules="(.*a)*b"),
    "tensors are missing": lambda f: edit_json(f / SETTINGS, target_modules=["q_proj"]),
    "14 of 28 tensors": lambda f: edit_tensors(f / WEIGHTS, lambda name, x: None if "lora_A" in name else x),
    "1 of 28.*not finite": lambda f: edit_tensors(
        f / WEIGHTS, lambda name, x: x * torch.nan if "layers.1.mlp.up_proj.lora_A" in name else x),
    "28 of 28 tensors.*misshapen": lambda f: edit_tensors(f / WEIGHTS, lambda name, x: x[:2, :2].clone()),
}


@pytest.mark.parametrize("message", BAD_ADAPTERS)
def test_a_damaged_adapter_says_what_is_wrong(loaded, tiny_folder, tmp_path, message, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", None)
    save_adapter(attach_lora(load_lvlm(tiny_folder, device="cpu"), **LORA), tmp_path)
    BAD_ADAPTERS[message](tmp_path)
    with pytest.raises(ModelError, match=message):
        load_adapter(loaded, tmp_path)


def test_a_list_of_layers_names_what_the_pattern_names(loaded, tiny_folder, tmp_path):
    policy = attach_lora(load_lvlm(tiny_folder, device="cpu"), **LORA)
    save_adapter(policy, tmp_path)
    names = find_towers(loaded.model).linears(loaded.model, Linear4bit)["language"]
    edit_json(tmp_path / SETTINGS, target_modules=names, base_model_name_or_path="acme/base")
    assert adapters_digest(load_adapter(loaded, tmp_path).model) == adapters_digest(policy.model)


def test_a_small_model_on_a_cpu_runs_in_one_thread_and_no_bfloat16_is_emulated(tiny_folder, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    load_lvlm(tiny_folder, device="cpu")
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert compute_dtype(torch.device("cuda")) == torch.float16
