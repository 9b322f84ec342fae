"""The model's own answers: batched sampling with token ids as sampled and their log-probabilities.

`own_answers` puts every question of a run (METHOD §1): reports greedily and by sampling, others greedily, since sampled
yes or no adds little. Its work is cut in two, so that two cores share it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

import torch
from PIL import Image
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from medalign_lite.cases.case import Case, prompt_of
from medalign_lite.cases.rollouts import Prompt, Rollout
from medalign_lite.dials import Preset
from medalign_lite.files import bar
from medalign_lite.files import whole as written_whole
from medalign_lite.model.batches import conversation, encode_prompts, end_of_turn, special_tokens
from medalign_lite.model.families import select_positions, why_unshared
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.lvlm import Lvlm, adapters_digest, base_of, load_adapter, load_lvlm
from medalign_lite.model.processes import SHARDS, run_shards

PASSES = ("reports", "sampled", "questions")
LEAVE = 8  # tokens after which answers that have ended leave their batch


def rollout(
    lvlm: Lvlm, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float = 0.0, samples: int = 1,
    batch_size: int = 64, seed: int = 0, progress: bool = True, resume: Path | None = None,
    features: KeptFeatures | None = None,
) -> list[Rollout]:
    """Answer every prompt `samples` times, in the order of `prompts`; temperature 0 is greedy.

    `batch_size` counts sequences (prompts times samples). Prompts of equal length share a batch, and batch k draws
    from a generator seeded by (seed, k): the result is a function of prompts, model and arguments. With `resume`, each
    finished batch is written to that JSONL file and a later call goes on from there to the same result. `features`
    that were warmed with the prompts' images spare the vision tower.
    Raises ValueError for settings that make no sense, repeated prompt ids, or a `resume` file of another run."""
    if min(max_new_tokens, samples, batch_size) < 1 or temperature < 0:
        raise ValueError("max_new_tokens, samples and batch_size must be at least 1, temperature at least 0")
    if samples > 1 and not temperature:
        raise ValueError(f"samples={samples} at temperature 0 would be equal; set a temperature or samples=1")
    order = {prompt.id: n for n, prompt in enumerate(prompts)}
    if len(order) < len(prompts):
        raise ValueError("two prompts share an id")
    decoding = {
        "temperature": temperature, "samples": samples, "max_new_tokens": max_new_tokens, "batch_size": batch_size,
        "seed": seed, "model": lvlm.name, "revision": lvlm.revision, "adapters": adapters_digest(lvlm.model),
    }
    batches = _batches(lvlm.processor, prompts, size=max(1, batch_size // samples))
    journal = _Journal(resume, key=_key(prompts, decoding)) if resume else None
    done = journal.read() if journal else {}
    with _inference(lvlm.model), bar("rollout", len(prompts), shown=progress, unit="prompt") as told:
        for k, batch in enumerate(batches):
            if k not in done:
                chosen = [prompts[i] for i in batch]
                done[k] = _answer_batch(lvlm, chosen, decoding=decoding, number=k, features=features)
                if journal:
                    journal.append(k, done[k])
            told.update(len(batch))
    return sorted((r for k in done for r in done[k]), key=lambda r: (order[r.id], r.sample))


def answer(lvlm: Lvlm, image: Image.Image | Path | str, question: str, *, max_new_tokens: int = 96) -> str:
    """The model's greedy answer to one question about one image."""
    prompt = Prompt("question", "", "", image, question)
    return rollout(lvlm, [prompt], max_new_tokens=max_new_tokens, progress=False)[0].text


def _answer_batch(
    lvlm: Lvlm, batch: list[Prompt], *, decoding: dict, number: int, features: KeptFeatures | None
) -> list[Rollout]:
    """Rollouts of one batch, `samples` in a row per prompt."""
    samples, last = decoding["samples"], end_of_turn(lvlm.processor)
    own = lvlm.model.generation_config.eos_token_id  # what the model says of itself
    ends = {last, *(own if isinstance(own, list) else [] if own is None else [own])}
    settings = _settings(lvlm, decoding, ends)
    # `generate` fills from the model's own generation settings whatever is not set
    inheriting_nothing = patch.object(base_of(lvlm.model), "generation_config", settings)
    with torch.random.fork_rng(devices=[lvlm.device] if lvlm.device.type == "cuda" else []), inheriting_nothing:
        seed = hashlib.sha256(f"{decoding['seed']}/{number}".encode()).digest()[:6]
        torch.manual_seed(int.from_bytes(seed))
        inputs = _inputs(lvlm, batch, features)
        branched = inputs if samples == 1 else _branched(lvlm.model, inputs, samples=samples)
        if branched is None:
            branched = _inputs(lvlm, [prompt for prompt in batch for _ in range(samples)], features)
        drawn = _generated(lvlm.model, branched, settings, ends)
    special = set(special_tokens(lvlm.processor.tokenizer).values())
    found = []
    for row, (ids, logps) in enumerate(drawn):
        prompt, sample = batch[row // samples], row % samples
        length = next((t + 1 for t, token in enumerate(ids) if token in ends), len(ids))
        text = lvlm.processor.tokenizer.decode(ids[:length], skip_special_tokens=True).strip()
        # an edit of the answer ends as the template does; so must the answer
        finished = ids[length - 1] == last and not special & set(ids[: length - 1])
        found.append(Rollout(prompt.id, prompt.case_id, prompt.question_id, sample, text, ids[:length],
                             logps[:length], decoding | {"batch": number, "finished": finished}))
    return found


def _generated(model, inputs: dict, settings: GenerationConfig, ends: set[int]) -> list[tuple[list[int], list[float]]]:
    """Each row's new token ids with their log-probabilities, and what `generate` fills in after an end. Greedy answers
    that have ended leave the batch every LEAVE tokens, where the model's cache can be cut by rows: a batch goes on for
    as long as its longest answer. Sampled ones stay, since draws are made for a whole batch."""
    body, width, left = base_of(model).base_model, inputs["input_ids"].shape[1], settings.max_new_tokens
    may_leave = not settings.do_sample and why_unshared(body, longest=width + left) is None
    rows, places = [([], []) for _ in inputs["input_ids"]], list(range(len(inputs["input_ids"])))
    while left and places:
        settings.max_new_tokens = min(LEAVE, left) if may_leave else left
        recorder = _Recorder()
        made = model.generate(
            **inputs, generation_config=settings, logits_processor=LogitsProcessorList([recorder]),
            stopping_criteria=StoppingCriteriaList([recorder.read]),
        )
        drawn = made.sequences[:, inputs["input_ids"].shape[1] :]  # (rows left, C)
        for place, ids, logps in zip(places, drawn.tolist(), torch.stack(recorder.logps, dim=1).tolist(), strict=True):
            rows[place][0].extend(ids)
            rows[place][1].extend(logps)
        left -= drawn.shape[1]
        open_rows = torch.tensor([n for n, place in enumerate(places) if not ends & set(rows[place][0])],
                                 dtype=torch.long, device=drawn.device)
        places = [places[n] for n in open_rows.tolist()]
        if left and places:  # inputs with which `generate` goes on for these rows
            cache, mask = made.past_key_values, inputs["attention_mask"][open_rows]
            cache.batch_select_indices(open_rows)
            select_positions(body, open_rows)
            mask = torch.cat([mask, mask.new_ones(len(mask), drawn.shape[1])], dim=1)
            inputs = {"input_ids": made.sequences[open_rows], "attention_mask": mask, "past_key_values": cache}
    return rows


def _inputs(lvlm: Lvlm, batch: Sequence[Prompt], features: KeptFeatures | None) -> dict:
    images, questions = [prompt.image for prompt in batch], [prompt.question for prompt in batch]
    kept = features.inputs(images, questions) if features else None
    return encode_prompts(lvlm.processor, images, questions, device=lvlm.device) if kept is None else kept


def _branched(model, inputs: dict[str, torch.Tensor], *, samples: int) -> dict | None:
    """Inputs for `samples` answers per prompt. Image and prompt run once: the cache is branched before its last token,
    so that `generate` goes on from there for each sample. None where the model's cache cannot go back by a token."""
    prefix = GenerationConfig(max_new_tokens=1, do_sample=False, return_dict_in_generate=True, use_cache=True)
    cache = model.generate(**inputs, generation_config=prefix).past_key_values
    if not cache.is_croppable:
        return None
    try:
        cache.crop(inputs["input_ids"].shape[1] - 1 - cache.get_seq_length())  # negative: how many to drop
    except RuntimeError:  # a sliding window that has moved on
        return None
    cache.batch_repeat_interleave(samples)
    select_positions(base_of(model).base_model, torch.arange(len(inputs["input_ids"])).repeat_interleave(samples))
    repeated = {name: inputs[name].repeat_interleave(samples, dim=0) for name in ("input_ids", "attention_mask")}
    return repeated | {"past_key_values": cache}


class _Recorder(LogitsProcessor):
    """Log-probabilities of drawn tokens, one vocabulary row per sequence in memory at a time. generate() calls it with
    the raw logits before temperature, then `read`, as a stopping criterion, once a token is drawn from them."""

    def __init__(self):
        self.logps: list[torch.Tensor] = []  # one (B,) per step

    def __call__(self, input_ids, scores):
        self.raw = scores.float()  # (B, V)
        return scores

    def read(self, input_ids, scores, **kwargs):
        drawn = input_ids[:, -1:]  # (B, 1)
        self.logps.append(self.raw.gather(1, drawn).squeeze(1) - self.raw.logsumexp(dim=1))
        return torch.zeros_like(input_ids[:, -1], dtype=torch.bool)


class _Journal:
    """Finished batches in a JSONL file: a first line that identifies the run, then one line a batch."""

    def __init__(self, path: Path, *, key: str):
        self.path, self.key = Path(path), key

    def read(self) -> dict[int, list[Rollout]]:
        """Finished batches by number. A line cut short by a kill is dropped; the file is rewritten without it."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if whole and json.loads(whole[0]).get("run") != self.key:
            raise ValueError(f"{self.path} belongs to another run (prompts, model or settings differ); delete it first")
        with written_whole(self.path, synced=False) as part:
            part.write_bytes(b"".join(whole or [json.dumps({"run": self.key}).encode() + b"\n"]))
        entries = map(json.loads, whole[1:])
        return {entry["batch"]: [Rollout(**fields) for fields in entry["rollouts"]] for entry in entries}

    def append(self, number: int, rollouts: list[Rollout]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"batch": number, "rollouts": [asdict(r) for r in rollouts]}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _batches(processor, prompts: Sequence[Prompt], *, size: int) -> list[list[int]]:
    """Indices of prompts in batches of like length, those with and without an image apart; ties keep their order."""
    texts = [conversation(processor, prompt.question) for prompt in prompts]
    lengths = [len(ids) for ids in processor.tokenizer(texts, verbose=False)["input_ids"]] if texts else []
    order = sorted(range(len(prompts)), key=lambda i: (lengths[i], i))
    groups = ([i for i in order if (prompts[i].image is None) == blind] for blind in (False, True))
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def _settings(lvlm: Lvlm, decoding: dict, ends: set[int]) -> GenerationConfig:
    """Plain sampling at the given temperature: what a hub model recommends for itself is switched off."""
    pad = lvlm.processor.tokenizer.pad_token_id
    draw = {"do_sample": True, "temperature": decoding["temperature"], "top_k": 0, "top_p": 1.0, "typical_p": 1.0}
    return GenerationConfig(
        max_new_tokens=decoding["max_new_tokens"], eos_token_id=sorted(ends),
        pad_token_id=pad if pad is not None else min(ends), num_beams=1, return_dict_in_generate=True,
        repetition_penalty=1.0, no_repeat_ngram_size=0, **(draw if decoding["temperature"] else {"do_sample": False})
    )


def _key(prompts: Sequence[Prompt], decoding: dict) -> str:
    """sha256 of everything the result depends on."""
    digest = hashlib.sha256(json.dumps(decoding, sort_keys=True).encode())
    for p in prompts:
        digest.update(json.dumps([p.id, p.case_id, p.question_id, p.question]).encode())
        content = p.image.tobytes() if isinstance(p.image, Image.Image) else p.image and Path(p.image).read_bytes()
        digest.update(hashlib.sha256(content or b"").digest())
    return digest.hexdigest()


@contextmanager
def _inference(model) -> Iterator[None]:
    """Eval mode within, the former mode after."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class _Job:
    """One shard: what it asks, of which model with which adapters, and where it keeps finished batches."""

    model: str
    adapter: Path | None
    cases: tuple[Case, ...]
    preset: Preset
    seed: int
    journals: Path


def own_answers(
    cases: Sequence[Case], *, model: str, preset: Preset, seed: int, scratch: Path, adapter: Path | None = None,
    every: float = 10.0,
) -> list[Rollout]:
    """Answers to all questions of `cases` that can be seen, in their order; ids are case/question/greedy or /sampled.

    With `adapter`, a folder of saved adapters, it is the adapted model that answers. `scratch` keeps finished batches:
    a run that was killed goes on from there to the same answers. A line about the progress is printed every so many
    seconds. Raises as `load_lvlm` and `rollout` do."""
    shards = [tuple(cases[n::SHARDS]) for n in range(SHARDS)]
    jobs = [
        _Job(model, adapter, shard, preset, SHARDS * seed + n, scratch / f"shard{n}")
        for n, shard in enumerate(shards) if shard
    ]
    times = {"sampled": preset.samples_per_case}
    total = sum(len(_prompts(cases, name, preset)) * times.get(name, 1) for name in PASSES)

    def tick() -> str:
        journals = scratch.glob("*/[!.]*.jsonl")  # not what a kill left half written
        done = sum(path.read_text(encoding="utf-8").count('"question_id":') for path in journals)
        return f"{done} of {total} answers"

    found = run_shards(_answer, jobs, tick=tick, every=every)
    order = {case.id: n for n, case in enumerate(cases)}
    return sorted((answer for shard in found for answer in shard), key=lambda answer: order[answer.case_id])


@lru_cache(maxsize=1)
def loaded(model: str, max_side: int = 0) -> Lvlm:
    """The model, loaded once a process."""
    return load_lvlm(model, max_side=max_side)


def _answer(job: _Job) -> list[Rollout]:
    job.journals.mkdir(parents=True, exist_ok=True)
    base = load_lvlm(job.model, max_side=job.preset.max_side) if job.adapter else loaded(job.model, job.preset.max_side)
    lvlm = load_adapter(base, job.adapter) if job.adapter else base
    features = KeptFeatures(lvlm) if lvlm.device.type == "cpu" else None  # a large model's would fill a GPU
    if features:
        features.warm([case.image for case in job.cases])
    answers = []
    for name in PASSES:
        sampled = {"temperature": job.preset.temperature, "samples": job.preset.samples_per_case}
        answers += rollout(
            lvlm, _prompts(job.cases, name, job.preset), max_new_tokens=job.preset.max_new_tokens,
            batch_size=job.preset.rollout_batch, seed=job.seed, resume=job.journals / f"{name}.jsonl",
            features=features, progress=False, **(sampled if name == "sampled" else {}),
        )
    return answers


def _prompts(cases: Sequence[Case], name: str, preset: Preset) -> list[Prompt]:
    """The prompts of one pass."""
    if name == "sampled" and (not preset.samples_per_case or not preset.temperature):
        return []
    ending = "sampled" if name == "sampled" else "greedy"
    return [
        Prompt(f"{case.id}/{question.id}/{ending}", case.id, question.id, case.image, prompt_of(question))
        for case in cases for question in case.questions
        if question.visible and (question.kind == "report") == (name != "questions")
    ]
