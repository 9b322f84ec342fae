"""Ask a language model on this machine for JSON, through transformers: the same prompts and schema, no server.

A text model or the language side of an image-text-to-text model; safetensors only, no code of the model's own. The
schema is put into words, the reply is checked against it, and what does not fit is asked for again with another seed.
"""

import json
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from medalign_lite.editors.chat import Budget, KeptReplies, fits, keep
from medalign_lite.model.loading import OFFLINE, compute_dtype
from medalign_lite.model.weights import ModelError, check_folder, locate, weights_digest

BY_SCHEMA = "Reply with one JSON object and nothing else. It must fit this JSON Schema:\n"
WARMTH = 0.7  # temperature of every attempt after the first, which is greedy


class LocalChat(KeptReplies):
    """A model in a folder or the hub cache; it is loaded when the first question is not answered on disk.

    On a GPU its weights are in 4 bits (NF4), on a CPU as they are stored.
    """

    def __init__(self, model: str, budget: Budget, *, cache: Path, attempts: int = 5, max_reply_tokens: int = 1024):
        """Raises ModelError, with the next step, for a model that is not here or is incomplete."""
        self.folder, name, revision = locate(model)
        check_folder(self.folder, text_only=True)
        super().__init__(name, budget, cache=cache, price=None)
        self.revision = revision or weights_digest(self.folder)
        self.attempts, self.max_reply_tokens = attempts, max_reply_tokens
        self._loaded = None

    def _unpriced(self) -> str:
        return "no price: on this machine"

    def _where(self) -> str:
        return f"local {self.revision}"

    def _request(self, system: str, text: str, name: str, schema: dict) -> dict:
        asked = f"{system.rstrip()}\n\n{BY_SCHEMA}{json.dumps(schema)}"
        messages = [{"role": "system", "content": asked}, {"role": "user", "content": text}]
        return {"model": self.name, "messages": messages, "max_tokens": self.max_reply_tokens, "name": name}

    def _fetch(self, request: dict, schema: dict, path: Path) -> str:
        for attempt in range(self.attempts):
            content = bare_json(self._generate(request["messages"], seed=attempt))
            if fits(content, schema):
                break
        keep(path, {"request": request, "content": content, "attempt": attempt, "model": self.name,
                    "revision": self.revision})  # fmt: skip
        return content

    def _generate(self, messages: list[dict], *, seed: int) -> str:
        """One reply; the first, of seed 0, is the most likely one."""
        network, tokenizer = self._load()
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(network.device)  # fmt: skip
        length = inputs["input_ids"].shape[1]
        self._permit(length + self.max_reply_tokens)
        self.requests += 1
        drawn = {"do_sample": True, "temperature": WARMTH} if seed else {"do_sample": False}
        ends = network.generation_config.eos_token_id
        settings = GenerationConfig(
            max_new_tokens=self.max_reply_tokens, **drawn,
            eos_token_id=tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )  # fmt: skip
        devices = [network.device] if network.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(seed)
            ids = network.generate(**inputs, generation_config=settings)[0, length:]
        self.prompt_tokens += length
        self.reply_tokens += len(ids)
        return tokenizer.decode(ids, skip_special_tokens=True)

    def _load(self):
        """(model, tokenizer), once."""
        if self._loaded is None:
            place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            tokenizer = AutoTokenizer.from_pretrained(self.folder, **OFFLINE)
            if not tokenizer.chat_template:
                raise ModelError(f"{self.name} has no chat template: give one made to be asked (-Instruct)")
            self._loaded = _load_network(self.folder, place), tokenizer
        return self._loaded


def bare_json(reply: str) -> str:
    """The outermost {...} of a reply: models put thoughts before it and fences around it."""
    reply = reply.rpartition("</think>")[2]
    start, end = reply.find("{"), reply.rfind("}")
    return reply[start : end + 1] if 0 <= start < end else reply


def _load_network(folder: Path, place: torch.device):
    config = AutoConfig.from_pretrained(folder, **OFFLINE)
    text = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    kind = AutoModelForCausalLM if text else AutoModelForImageTextToText
    options = {"dtype": "auto"}
    if place.type == "cuda":
        dtype = compute_dtype(place)
        options = {"dtype": dtype, "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
        )}  # fmt: skip
    try:
        options |= OFFLINE | {"config": config, "use_safetensors": True, "device_map": place}
        network = kind.from_pretrained(folder, **options)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{folder} is no language model that the installed transformers knows: {reason}") from error
    return network.eval()
