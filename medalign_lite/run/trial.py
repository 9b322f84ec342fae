"""Is a model used exactly: one picture through all that a run does, each step held against a plain forward pass.

    python -m medalign_lite.run.trial MODEL MAX_SIDE CASES

`make doctor` and notebook 00 run it so, in a process of its own: whatever a model does there ends in a sentence.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medalign_lite.cases.rollouts import Prompt
from medalign_lite.evaluate.ask import answers_without_image
from medalign_lite.files import peak_mb
from medalign_lite.losses.recipes import Reads
from medalign_lite.model.batches import encode, encode_prompts, image_tokens, special_tokens
from medalign_lite.model.loading import first_line
from medalign_lite.model.lvlm import Lvlm, attach_lora, load_lvlm
from medalign_lite.model.rollout import rollout
from medalign_lite.model.weights import ModelError
from medalign_lite.run.fit import real_size
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.scoring import score

QUESTIONS = ("Is there a pleural effusion?", "Which side is the nodule on, and where in the lung?")
ANSWERS = ("A small nodule in the left lung.", "A small nodule in the right lung.")
EXACT = {4: 2e-3, 2: 0.3}  # nats a token between two ways of computing it, by bytes of a number


@dataclass(frozen=True)
class Trial:
    """A picture's size in pixels and tokens, MB and seconds as measured, and the largest difference from a plain
    forward pass in nats."""

    size: tuple[int, int]
    tokens: int
    mb: int
    seconds: float
    off: float


def try_model(model: str, *, max_side: int = 0, size: tuple[int, int] = (512, 512), device: str = "auto") -> Trial:
    """Load, encode, answer, sample, score and learn with pictures of `size` pixels. Raises ModelError, one sentence,
    where a step fails or gives other numbers than a plain forward pass."""
    started = time.monotonic()
    noise = np.random.default_rng(7).integers(0, 256, (3, size[1], size[0], 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    lvlm = load_lvlm(model, max_side=max_side, device=device)
    with _step(lvlm, "encoding a picture and a question"):
        tokens = image_tokens(lvlm.processor, pictures[0])
    off = max(_answering(lvlm, pictures), _learning(lvlm, pictures))
    return Trial(size, tokens, round(peak_mb()), time.monotonic() - started, off)


def _answering(lvlm: Lvlm, pictures: list[Image.Image]) -> float:
    """Greedy, sampled and blind answers of several prompts: what was recorded, against each alone."""
    prompts = [Prompt(str(n), "", "", picture, text) for n, (picture, text) in enumerate(zip(pictures, QUESTIONS))]
    blind = Prompt("blind", "", "", None, QUESTIONS[0])
    off, special = 0.0, set(special_tokens(lvlm.processor.tokenizer).values())
    for what, asked, options in (("answering", prompts, {}),
                                 ("answering without a picture", [blind] if answers_without_image(lvlm) else [], {}),
                                 ("sampling several answers", prompts, {"samples": 2, "temperature": 1.0})):
        with _step(lvlm, what):
            answers = rollout(lvlm, asked, max_new_tokens=4, progress=False, **options)
            for answer in answers:  # up to the first token that is no text: an image token stands for no image here
                ids = list(takewhile(lambda token: token not in special, answer.ids))
                plain = plain_logp(lvlm, next(p for p in asked if p.id == answer.id), ids)
                off = max(off, _distance(torch.tensor(answer.logps[: len(ids)]), plain))
        _hold(lvlm, what, off)
    return off


@torch.no_grad()
def plain_logp(lvlm: Lvlm, prompt: Prompt, ids: list[int]) -> torch.Tensor:
    """log p in nats (n,) of the answer `ids`, from one forward pass over the unpadded prompt and answer."""
    inputs = encode_prompts(lvlm.processor, [prompt.image], [prompt.question], device=lvlm.device)
    length, answer = inputs["input_ids"].shape[1], torch.tensor([ids], device=lvlm.device, dtype=torch.long)
    if prompt.image is not None:
        made = encode(lvlm.processor, [prompt.image], [prompt.question], ["Yes."], device=lvlm.device)
        if not torch.equal(made.inputs["input_ids"][:, :length], inputs["input_ids"]):
            raise ValueError("a prompt is tokenised otherwise when an answer follows it")
        inputs = made.inputs
    aligned = [name for name, value in inputs.items() if value.shape == inputs["attention_mask"].shape]
    for name in aligned:
        inputs[name] = torch.cat([inputs[name][:, :length], inputs[name][:, -1:].expand(1, len(ids))], dim=1)
    inputs["input_ids"][:, length:] = answer
    logits = lvlm.model(**inputs).logits[0, length - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, answer[0, :, None])[:, 0].cpu()


def _learning(lvlm: Lvlm, pictures: list[Image.Image]) -> float:
    """Scores with adapters that do something, against each row alone; gradients; and whether the picture matters."""
    generator = torch.Generator().manual_seed(5)
    with _step(lvlm, "attaching adapters"):
        policy = attach_lora(lvlm, rank=4, alpha=8)
    adapters = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    for parameter in (p for name, p in adapters.items() if "lora_B" in name):
        parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator).to(parameter)
    pairs = [Pair(str(n), question, *ANSWERS, (), (), clean=pictures[n], lesion=pictures[n + 1])
             for n, question in enumerate(QUESTIONS)]
    sides = {(image, answer): Reads() for image in ("clean", "lesion") for answer in ("chosen", "rejected")}
    with _step(lvlm, "scoring and learning"):
        found = score(policy.model, PairInputs(policy), pairs, sides, reference=None).sides
        sum(side.logp[side.valid].sum() for side in found.values()).backward()
        off = 0.0
        for (image, answer), side in found.items():
            for n, pair in enumerate(pairs):
                alone = encode(policy.processor, [pair.picture(image)], [pair.question], [pair.text(answer)[0]],
                               device=policy.device)
                ids = alone.targets.tolist()
                prompt = Prompt("", "", "", pair.picture(image), pair.question)
                off = max(off, _distance(side.logp[n][side.valid[n]], plain_logp(policy, prompt, ids)))
        looks = _distance(found["clean", "chosen"].logp[0], found["lesion", "chosen"].logp[0])
    _hold(lvlm, "scoring", off)
    lost = [name for name, p in adapters.items() if p.grad is None or not p.grad.isfinite().all()]
    if lost or not any(p.grad.abs().sum() > 0 for p in adapters.values()):
        raise ModelError(f"{lvlm.name}: {len(lost) or 'all'} of {len(adapters)} adapters get no gradient, so it cannot "
                         "be aligned; take another model.")
    if looks == 0:
        raise ModelError(f"{lvlm.name}: its answers do not depend on the picture; take another model.")
    return off


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest gap; infinite where a value is not finite, 0 where there are none."""
    gap = (one.detach().float().cpu() - other.detach().float().cpu()).abs().nan_to_num(nan=torch.inf)
    return gap.max().item() if gap.numel() else 0.0


def _hold(lvlm: Lvlm, what: str, off: float) -> None:
    size = next(lvlm.model.parameters()).element_size()
    if off > EXACT[4 if size >= 4 or lvlm.device.type == "cpu" else 2]:
        raise ModelError(f"{lvlm.name}: {what} gives log-probabilities {off:.2g} nats off those of a plain forward "
                         "pass; this family is not supported.")


@contextmanager
def _step(lvlm: Lvlm, what: str) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # each family breaks in ways of its own
        name = type(lvlm.model).__name__ if not hasattr(lvlm.model, "get_base_model") else lvlm.name
        raise ModelError(f"{lvlm.name}: {what} ends in {type(error).__name__} ({first_line(error)}); {name} is not "
                         "supported.") from error


def main(arguments: list[str]) -> int:
    """One line of JSON: the trial, or why the model is refused."""
    model, max_side, cases = arguments
    try:
        told = asdict(try_model(model, max_side=int(max_side), size=real_size(cases, int(max_side))))
    except ModelError as error:
        told = {"refused": str(error)}
    except Exception as error:
        told = {"refused": f"{Path(model).name}: a trial ends in {type(error).__name__} ({first_line(error)}); it is "
                           "not supported."}
    print(json.dumps(told))
    return "refused" in told


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
