"""Trains the embedded LVLM from scratch: first to see, then to say what usually is there (`make base-model`).

1. *Sight*, on the balanced world, where every finding is independent of every other. The vision tower learns where
   findings are (its lower layers) and then what the whole image holds (its upper ones), through linear heads; then,
   with the tower frozen, connector and language model learn to report and answer truthfully.
2. *Habit*, on the confounded world: the language model goes on alone, on reports by a prior-ridden reporter. The
   features still hold the truth; the language follows its habits. That gap is what alignment can close.

A killed run continues from its last checkpoint. Weights are safetensors throughout.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import Idefics3ForConditionalGeneration

from medalign_lite.files import whole
from medalign_lite.text.facts import ATTRIBUTES, FINDINGS, SIDES, SIZES, ZONES, Fact
from medalign_lite.world.dataset import source_key
from medalign_lite.world.questions import questions
from studies.embedded.people import PATCH, SOURCES, People, draw_people, prior_ridden
from studies.embedded.probe import auc
from studies.embedded.tiny import build_idefics3, save_tiny, train_tokenizer

IMAGE_PX, PATCH_PX, SHUFFLE = 192, PATCH, 3  # 144 patches, 16 image tokens
TEXT_LAYERS = 4
SETTINGS_FILE = "settings.json"
DETAILS = {  # what an image can hold: each finding, told apart by side and zone, and by size -> class
    detail: k for k, detail in enumerate(detail for finding, has in ATTRIBUTES.items() for detail in (
        (finding,), *product([finding], SIDES if "side" in has else [None], ZONES if "zone" in has else [None]),
        *product([finding], SIZES if "size" in has else [])))
}  # fmt: skip
LOCAL_LAYERS = 4  # of the vision tower: these learn what lies in each patch, those above what the image holds
TABLE_PROMPT = "List every finding."
PATCH_POSITIVE = 0.15  # share of a patch that a finding must cover to be there


@dataclass(frozen=True)
class BaseSettings:
    """Sizes in images; sight and truth go over the balanced people, habit over the confounded."""

    balanced: int = 10000
    confounded: int = 5000
    held_out: int = 256  # of each, for the curves
    where_epochs: int = 10
    whole_epochs: int = 4
    truth_epochs: int = 5
    habit_epochs: int = 2
    sight_batch: int = 64
    batch: int = 32
    questions: int = 2
    sight_rate: float = 1e-3
    truth_rate: float = 1e-3
    habit_rate: float = 3e-4
    weight_decay: float = 0.05
    seed: int = 7
    checkpoint_every: int = 100


@dataclass(frozen=True)
class Rows:
    """A batch of prompts with answers: ids (B, T), attention (B, T), and which tokens are answered (B, T)."""

    ids: torch.Tensor
    attention: torch.Tensor
    answered: torch.Tensor
    image: torch.Tensor  # (B,) which image of the batch


class Writer:
    """Turns (question, answer) into token ids exactly as the processor and chat template do."""

    def __init__(self, processor):
        self.tokenizer = processor.tokenizer
        content = [{"type": "image"}, {"type": "text", "text": "?"}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        pixels = np.zeros((IMAGE_PX, IMAGE_PX, 3), np.uint8)
        expected = list(processor(text=[prompt], images=[[pixels]])["input_ids"][0])
        tokens, edge = self.tokenizer.convert_ids_to_tokens(expected), "<fake_token_around_image>"
        picture = "".join(tokens[tokens.index(edge) : len(tokens) - tokens[::-1].index(edge)])
        self.around = prompt.replace("<image>", picture).split("?", 1)  # what stands before and after a question
        if self._ids(["?".join(self.around)]) != [expected]:
            raise RuntimeError("the training prompt differs from the processor's; see studies/embedded/tiny.py")

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def rows(self, pairs: list[tuple[int, str, str]]) -> Rows:
        """(image index, question, answer) triples as one right-padded batch."""
        prompts = self._ids([question.join(self.around) for _, question, _ in pairs])
        answers = self._ids([answer + self.tokenizer.eos_token for _, _, answer in pairs])
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        ids = torch.full((len(pairs), longest), self.tokenizer.pad_token_id)
        attention, answered = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for i, (p, a) in enumerate(zip(prompts, answers, strict=True)):
            ids[i, : len(p) + len(a)] = torch.tensor(p + a)
            attention[i, : len(p) + len(a)] = 1
            answered[i, len(p) : len(p) + len(a)] = True
        return Rows(ids, attention, answered, torch.tensor([i for i, _, _ in pairs]))


def pixel_values(images: np.ndarray) -> torch.Tensor:
    """uint8 (B, H, W) -> float (B, 3, H, W) in [-1, 1], as the processor normalises."""
    x = torch.from_numpy(np.array(images)).float() / 127.5 - 1
    return x[:, None].expand(-1, 3, -1, -1).contiguous()


def see_locally(model, pixels: torch.Tensor) -> torch.Tensor:
    """Patch features (B, patches, D) of the vision tower's lower layers."""
    tower = model.model.vision_model
    mask = torch.ones(len(pixels), IMAGE_PX // PATCH_PX, IMAGE_PX // PATCH_PX, dtype=torch.bool)
    features = tower.embeddings(pixel_values=pixels, patch_attention_mask=mask)
    for layer in tower.encoder.layers[:LOCAL_LAYERS]:
        features = layer(features, None)
    return features


def see_whole(model, local: torch.Tensor) -> torch.Tensor:
    """What the tower's upper layers make of local features; after `see_locally` this is the whole tower."""
    for layer in model.model.vision_model.encoder.layers[LOCAL_LAYERS:]:
        local = layer(local, None)
    return model.model.vision_model.post_layernorm(local)


def language_loss(model, tokens: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Mean negative log-likelihood (nats) of the answered tokens, given image tokens (images, tokens, H)."""
    core = model.model
    embeds = core.text_model.get_input_embeddings()(rows.ids)
    embeds = core.inputs_merger(rows.ids, embeds, tokens[rows.image].reshape(-1, tokens.shape[-1]))
    hidden = core.text_model(inputs_embeds=embeds, attention_mask=rows.attention, use_cache=False).last_hidden_state
    wanted = rows.answered[:, 1:]
    return F.cross_entropy(model.lm_head(hidden[:, :-1][wanted]).float(), rows.ids[:, 1:][wanted])


def teach(facts_of, indices, *, epoch: int, settings: BaseSettings, distort=None) -> list[list[tuple[int, str, str]]]:
    """(image, prompt, answer) lessons for a batch, newly worded each epoch: reports, questions, and plain tables.

    `distort` is a reporter's habit; under it no tables are taught, because a table leaves no room for habit."""
    reports, asked, tables = [], [], []
    for slot, index in enumerate(indices):
        rng = np.random.default_rng([settings.seed, 5, epoch, int(index)])
        facts = distort(facts_of[index], rng) if distort else facts_of[index]
        first, *others = questions(facts, rng, "base", settings.questions)
        reports.append((slot, first.text, first.answer))
        asked += [(slot, q.text, q.answer) for q in others if q.visible]
        tables.append((slot, TABLE_PROMPT, table_of(facts)))
    return [reports, asked] if distort else [reports, asked, tables]


def table_of(facts: tuple[Fact, ...]) -> str:
    """Every finding in one fixed order and wording, present or "none"; what cannot be seen is left out."""
    by_name = {fact.finding: fact for fact in facts}
    entries = []
    for finding in FINDINGS:
        fact = by_name.get(finding)
        if fact is None:
            entries.append(f"{finding} none.")
        elif fact.visible:
            entries.append(" ".join(filter(None, (finding, fact.side, fact.zone, fact.size or "seen"))) + ".")
    return " ".join(entries)


def jitter(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Exposure augmentation: contrast, brightness and grain, image by image."""
    shape = (len(pixels), 1, 1, 1)
    contrast = 1 + 0.2 * (torch.rand(shape, generator=generator) - 0.5)
    brightness = 0.2 * (torch.rand(shape, generator=generator) - 0.5)
    grain = torch.randn(pixels[:, :1].shape, generator=generator) * 0.04 * torch.rand(shape, generator=generator)
    return pixels * contrast + brightness + grain


class Run:
    """One of the two steps: optimiser, schedule, log and checkpoints in `folder`."""

    def __init__(self, folder: Path, modules: dict, *, steps: int, rate: float, settings: BaseSettings):
        self.folder, self.steps, self.rate, self.settings = folder, steps, rate, settings
        self.step, self.started, self.log = 0, time.monotonic(), folder / "log.jsonl"
        self.named = {
            f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters() if p.requires_grad
        }
        decay, plain = ([p for p in self.named.values() if (p.ndim > 1) == matrix] for matrix in (True, False))
        groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def update(self, loss: torch.Tensor) -> float:
        """One optimiser step; returns the gradient norm before clipping. The rate warms up over at most 150 steps, then
        falls as a cosine to a twentieth."""
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self.named.values()), 1.0)
        warm = min(1, (self.step + 1) / min(150, self.steps / 5))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * warm * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * (self.step / self.steps))))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.step % self.settings.checkpoint_every == 0 or self.step == self.steps:
            self.save()
        return float(norm)

    def note(self, **values) -> None:
        """Appends a line to the log and prints it with the time left in this step."""
        spent = time.monotonic() - self.started
        left = spent / max(1, self.step - self.first) * (self.steps - self.step) / 60
        values = {name: round(float(torch.as_tensor(value).detach()), 4) for name, value in values.items()}
        with self.log.open("a") as stream:
            stream.write(json.dumps({"step": self.step, **values}) + "\n")
        shown = "  ".join(f"{k} {v:.3f}" for k, v in values.items())
        print(f"{self.folder.name} {self.step}/{self.steps}  {shown}  {left:.1f} min left", flush=True)

    def save(self) -> None:
        tensors = {f"weight.{n}": p.detach().contiguous() for n, p in self.named.items()}
        for name, p in self.named.items():
            for key, value in self.optimizer.state[p].items():
                tensors[f"{key}.{name}"] = value.contiguous()
        with whole(self.folder / "checkpoint.safetensors") as part:
            save_file(tensors, part)

    def _resume(self) -> None:
        path = self.folder / "checkpoint.safetensors"
        if path.is_file():
            tensors = load_file(path)
            for name, p in self.named.items():
                p.data.copy_(tensors[f"weight.{name}"])
                self.optimizer.state[p] = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                self.step = int(tensors[f"step.{name}"])
        self.first = self.step
        rows = self.log.read_text().splitlines() if self.log.is_file() else []  # what a killed run wrote goes
        self.log.write_text("".join(f"{row}\n" for row in rows if json.loads(row)["step"] <= self.step))


def left_to_do(run: Run, count: int, size: int):
    """(epoch, indices) of the shuffled batches that a resumed run has not seen, an epoch's odd rest left out."""
    while run.step < run.steps:
        epoch, start = divmod(run.step, count // size)
        order = np.random.default_rng([run.settings.seed, 6, epoch]).permutation(count)
        yield from ((epoch, np.sort(order[n * size : (n + 1) * size])) for n in range(start, count // size))


def sight_targets(people: People) -> tuple[torch.Tensor, torch.Tensor]:
    """Which `DETAILS` lie in each patch, bool (N, patches, classes), and which anywhere in the image, (N, classes)."""
    here = torch.from_numpy(people.grids > 255 * PATCH_POSITIVE).flatten(2)  # (N, findings, patches)
    local = torch.zeros(len(people), here.shape[2], len(DETAILS), dtype=torch.bool)
    whole = torch.zeros(len(people), len(DETAILS), dtype=torch.bool)
    for k, facts in enumerate(people.facts):
        for fact in (fact for fact in facts if fact.visible):
            for detail in ((fact.finding,), (fact.finding, fact.side, fact.zone), (fact.finding, fact.size)):
                if detail in DETAILS:
                    local[k, :, DETAILS[detail]] = here[k, FINDINGS.index(fact.finding)]
                    whole[k, DETAILS[detail]] = True
    return local, whole


@torch.no_grad()
def whiten(model, images: np.ndarray, *, noise: float = 1e-3, scale: float = 0.5) -> None:
    """Starts the patch embedding from the images' own statistics, and the positions from sines.

    The filters are the principal components of patches, divided by their spread, so that faint detail counts as much as
    overall brightness; `noise` is the variance (of grey in [-1, 1]) below which nothing is amplified."""
    embeddings = model.model.vision_model.embeddings
    width, cells = embeddings.patch_embedding.out_channels, IMAGE_PX // PATCH_PX
    grey = pixel_values(images)[:, 0].unfold(1, PATCH_PX, PATCH_PX).unfold(2, PATCH_PX, PATCH_PX)
    patches = grey.reshape(-1, PATCH_PX**2).double()
    mean = patches.mean(0)
    spread, components = torch.linalg.eigh(torch.cov(patches.T))  # ascending
    filters = scale * (components / (spread + noise).sqrt()).T.flip(0)[:width]
    embeddings.patch_embedding.weight.copy_(filters.view(width, 1, PATCH_PX, PATCH_PX).expand(-1, 3, -1, -1) / 3)
    embeddings.patch_embedding.bias.copy_(-filters @ mean)
    waves = torch.outer(torch.arange(cells), 1 / 40 ** torch.linspace(0, 1, width // 4))  # (cells, D / 4)
    axis = torch.cat([waves.sin(), waves.cos()], dim=1)
    rows, columns = axis[:, None].expand(-1, cells, -1), axis[None].expand(cells, -1, -1)
    embeddings.position_embedding.weight.copy_(scale * torch.cat([rows, columns], dim=-1).flatten(0, 1))


def learn_sight(model, people: People, cache: Path, settings: BaseSettings) -> torch.nn.Linear:
    """The tower's lower layers learn what lies in each patch; then, on the finished lower ones, the upper layers what
    the image holds, asked of every patch, so that each image token can tell. Returns the linear head that was asked."""
    tower, (local, whole) = model.model.vision_model, sight_targets(people)
    width, lower = model.config.vision_config.hidden_size, tower.encoder.layers[:LOCAL_LAYERS]

    def near(indices, step: int | None) -> torch.Tensor:  # jittered in training alone
        pixels = pixel_values(people.images[indices])
        if step is not None:
            pixels = jitter(pixels, torch.Generator().manual_seed(settings.seed * 1_000_003 + step))
        return see_locally(model, pixels)

    modules = {"lower": torch.nn.ModuleList([tower.embeddings, *lower]), "head": torch.nn.Linear(width, len(DETAILS))}
    _learn_details("patch", modules, cache / "where", settings, settings.where_epochs, features=near, wanted=local,
                   whole=whole, pool=torch.amax)
    frozen, upper = look(see_locally, model, people), tower.encoder.layers[LOCAL_LAYERS:]
    upper = torch.nn.ModuleList([*upper, tower.post_layernorm])
    modules = {"upper": upper, "head": torch.nn.Linear(width, len(DETAILS))}
    _learn_details("image", modules, cache / "whole", settings, settings.whole_epochs, whole=whole, pool=torch.mean,
                   features=lambda indices, step: see_whole(model, frozen[indices]),
                   wanted=whole[:, None].expand(-1, frozen.shape[1], -1))
    return modules["head"]


def _learn_details(name: str, modules: dict, folder: Path, settings: BaseSettings, epochs: int, *, features, wanted,
                   whole, pool) -> None:
    """Some layers of the tower, by binary cross-entropy of a linear head on `features(indices, step)` of theirs."""
    count = len(whole) - settings.held_out
    steps = count // settings.sight_batch * epochs
    run = Run(folder, modules, steps=steps, rate=settings.sight_rate, settings=settings)

    def logits_of(indices, step: int | None) -> torch.Tensor:  # (B, patches, classes)
        with torch.autocast("cpu", torch.bfloat16):
            return modules["head"](features(indices, step)).float()

    for _, indices in left_to_do(run, count, settings.sight_batch):
        loss = detail_loss(logits_of(indices, run.step), wanted[indices])
        norm = run.update(loss)
        if run.step % 20 == 0:
            run.note(**{name: loss, "norm": norm})
        if run.step % (steps // epochs) == 0:
            with torch.no_grad():
                logits = logits_of(slice(count, None), None)
            run.note(**{f"held_out_{name}": detail_loss(logits, wanted[count:])})
            say_hardest(pool(logits, 1), whole[count:])


def detail_loss(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy; what is there counts fourfold, because most findings are absent and cover few patches."""
    return F.binary_cross_entropy_with_logits(logits, wanted.float(), pos_weight=torch.tensor(4.0))


def say_hardest(scores: torch.Tensor, present: torch.Tensor) -> None:
    """Prints the details that are told worst, by AUC of image-wise scores (N, classes)."""
    aucs = {" ".join(filter(None, d)): auc(scores[:, k].numpy(), present[:, k].float().numpy())
            for d, k in DETAILS.items()}  # fmt: skip
    hardest = sorted((name for name in aucs if not np.isnan(aucs[name])), key=aucs.get)[:8]
    print("  hardest to see (AUC): " + ", ".join(f"{name} {aucs[name]:.3f}" for name in hardest), flush=True)


def learn_to_write(model, writer: Writer, people: People, folder: Path, settings: BaseSettings, *, epochs: int,
                   rate: float, parts, distort) -> None:
    """Report and answer NLL of the named `parts` of the model, on frozen patch features; `distort` is a reporter."""
    patches = look(see, model, people)
    modules = {part: getattr(model.model, part) for part in parts}
    count = len(people) - settings.held_out
    per_epoch = count // settings.batch
    run = Run(folder, modules, steps=per_epoch * epochs, rate=rate, settings=settings)

    def losses_on(indices, epoch) -> dict[str, torch.Tensor]:
        lessons = teach(people.facts, indices, epoch=epoch, settings=settings, distort=distort)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = model.model.connector(patches[indices])
            losses = [language_loss(model, tokens, writer.rows(pairs)) for pairs in lessons]
        return dict(zip(("report", "answer", "table"), losses, strict=False))

    for epoch, indices in left_to_do(run, count, settings.batch):
        losses = losses_on(indices, epoch)
        norm = run.update(sum(losses.values()))
        if run.step % 20 == 0:
            run.note(**losses, norm=norm)
        if run.step % per_epoch == 0:
            with torch.no_grad():
                held = losses_on(np.arange(count, len(people)), 10_000)
            run.note(**{f"held_out_{name}": loss for name, loss in held.items()})


@torch.no_grad()
def look(see, model, people: People) -> torch.Tensor:
    """`see(model, pixels)` of everybody, (N, patches, D) in bf16; for what is frozen."""
    found, batch = [], 64
    for start in range(0, len(people), batch):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(see(model, pixel_values(people.images[start : start + batch])).bfloat16())
    return torch.cat(found)


def see(model, pixels: torch.Tensor) -> torch.Tensor:
    """Patch features (B, patches, D) of the whole vision tower."""
    return see_whole(model, see_locally(model, pixels))


def world_key() -> str:
    """Digest of the sources of the world's pictures, as they are now."""
    return source_key([], *SOURCES)


def open_trained(folder: Path) -> Idefics3ForConditionalGeneration:
    """The finished model in fp32, not quantised."""
    return Idefics3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def train(out: Path, cache: Path, settings: BaseSettings) -> None:
    """Both steps; writes the finished model to `out` and logs and checkpoints to `cache`."""
    torch.manual_seed(settings.seed)
    balanced = draw_people(cache, "balanced", settings.balanced, seed=settings.seed)
    confounded = draw_people(cache, "confounded", settings.confounded, seed=settings.seed)
    asked = (q for i, facts in enumerate(balanced.facts[:1500]) for bank in ("base", "pool", "test")
             for q in questions(facts, np.random.default_rng([settings.seed, 8, i]), bank, 4))
    tokenizer = train_tokenizer([text for q in asked for text in (q.text, q.answer)], vocab_size=1024)
    sizes = {"image_px": IMAGE_PX, "patch_px": PATCH_PX, "shuffle": SHUFFLE, "text_layers": TEXT_LAYERS}
    model, processor = build_idefics3(tokenizer, **sizes, seed=settings.seed)
    writer = Writer(processor)
    (cache / SETTINGS_FILE).write_text(json.dumps(asdict(settings) | {"world": world_key()}, indent=1))
    model.train()
    model.set_attn_implementation("eager")  # the fused kernel's backward pass is slow on CPUs
    whiten(model, balanced.images[:200])
    head = learn_sight(model, balanced, cache, settings)
    with torch.no_grad():  # the connector starts from sight: its first channels are the head's logits, over patches
        connector = model.model.connector.modality_projection.proj.weight  # (H, shuffle^2 * D)
        connector[: head.out_features] = 0.02 * head.weight.repeat(1, SHUFFLE * SHUFFLE)
    truthful = {"epochs": settings.truth_epochs, "rate": settings.truth_rate, "parts": ("connector", "text_model")}
    learn_to_write(model, writer, balanced, cache / "truth", settings, **truthful, distort=None)
    ridden = {"epochs": settings.habit_epochs, "rate": settings.habit_rate, "parts": ("text_model",)}
    learn_to_write(model, writer, confounded, cache / "habit", settings, **ridden, distort=prior_ridden)
    save_tiny(model, processor, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data_samples/embedded_lvlm"), help="folder of the model")
    parser.add_argument("--cache", type=Path, default=Path("artifacts/base_model"), help="people, logs, checkpoints")
    defaults = asdict(BaseSettings())
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    train(given.pop("out"), given.pop("cache"), BaseSettings(**given))


if __name__ == "__main__":
    main()
