"""The measurements: each function is a row of the run and gives numbers by name, seconds and MB unless it says."""

import gc
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.child import Peak
from benchmarks.steps import Step, engine_step, naive_step, timed, trl_step
from benchmarks.worlds import MID, QUESTION, SAMPLES, SMALL, Shape, load_policy, make_model, make_pairs
from medalign_lite.cases.readers import read_cases
from medalign_lite.cases.rollouts import Prompt
from medalign_lite.files import ROOT, read_json
from medalign_lite.model.batches import encode_prompts
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.loading import compute_dtype
from medalign_lite.model.lvlm import EMBEDDED, load_lvlm
from medalign_lite.model.rollout import rollout
from medalign_lite.world.dataset import render_folder

CORES = os.cpu_count() or 1
LENGTHS = (15, 100)  # tokens of the shortest and the longest answer
WORLDS: dict[str, Shape | None] = {"embedded": None, "mid": MID, "small": SMALL}


def against_trl(models: Path, *, world: str, batch: int, rounds: int, threads: int, warm: int) -> dict:
    """`dpo` and `fire-mpo` by the engine and dpo by TRL, a step of each in turn; losses of dpo on both sides."""
    with TemporaryDirectory() as work:
        policy, other = (load_policy(models, WORLDS[world], four_bit=False) for _ in range(2))
        theirs = load_lvlm(make_model(models, WORLDS[world]), four_bit=False)
        torch.set_num_threads(threads)
        pairs = make_pairs(policy.processor.tokenizer, batch, LENGTHS)
        trl = trl_step(theirs, policy, pairs, Path(work) / "trl", checkpointing=False)
        dpo, fill = engine_step(policy, pairs, "dpo", Path(work) / "dpo")
        fire, fire_fill = engine_step(other, pairs, "fire-mpo", Path(work) / "fire")
        found = _in_turn({"dpo": dpo, "trl": trl, "fire-mpo": fire}, rounds, warm)
    return found | {"fill": fill, "fire_fill": fire_fill, "threads": threads, "pairs": batch}


def against_naive(models: Path, *, world: str, batch: int, rounds: int, threads: int, warm: int) -> dict:
    """`fire-mpo` by the engine and naively, a step of each in turn."""
    with TemporaryDirectory() as work:
        policy, other = (load_policy(models, WORLDS[world], four_bit=False) for _ in range(2))
        torch.set_num_threads(threads)
        pairs = make_pairs(policy.processor.tokenizer, batch, LENGTHS)
        fire, fill = engine_step(policy, pairs, "fire-mpo", Path(work))
        found = _in_turn({"fire-mpo": fire, "naive": naive_step(other, pairs, "fire-mpo")}, rounds, warm)
    return found | {"fire_fill": fill, "pairs": batch}


def memory(models: Path, *, world: str, batch: int, method: str, threads: int) -> dict:
    """Peak of one or two steps above the loaded model, caches and their filling included; seconds of the last step."""
    with TemporaryDirectory() as work:
        policy = load_policy(models, WORLDS[world], four_bit=False)
        pairs = make_pairs(policy.processor.tokenizer, batch, LENGTHS)
        theirs = load_lvlm(make_model(models, WORLDS[world]), four_bit=False) if method.startswith("trl") else None
        torch.set_num_threads(threads)
        peak = Peak()
        if theirs:
            step = trl_step(theirs, policy, pairs, Path(work), checkpointing=method == "trl, recomputing")
        else:
            step, _ = engine_step(policy, pairs, method, Path(work))
        seconds = [timed(step)[0] for _ in range(1 if theirs else 2)]
        return {"mb": peak.above(), "seconds": seconds[-1]}


def growth(models: Path, *, axis: str, number: int, steps: int, threads: int) -> dict:
    """A `dpo` step of the engine with one number of the small world changed."""
    sizes = {"image tokens": round((SMALL.image_px / 28) ** 2), "answer tokens": 32, "batch": 4,
             "vocabulary": SMALL.vocab_size} | {axis: number}
    shape = replace(SMALL, image_px=round(28 * sizes["image tokens"] ** 0.5), vocab_size=sizes["vocabulary"])
    with TemporaryDirectory() as work:
        policy = load_policy(models, shape, four_bit=False)
        torch.set_num_threads(threads)
        pairs = make_pairs(policy.processor.tokenizer, sizes["batch"], (sizes["answer tokens"],) * 2)
        peak = Peak()
        step, _ = engine_step(policy, pairs, "dpo", Path(work))
        return {"seconds": [timed(step)[0] for _ in range(steps + 1)][1:], "mb": peak.above()}


def four_bit(models: Path, *, batch: int, rounds: int) -> dict:
    """`fire-mpo` on the embedded model in NF4 and dense, a step of each in turn, and MB of their weights."""
    with TemporaryDirectory() as work:
        policies = {name: load_policy(models, None, four_bit=name == "nf4") for name in ("nf4", "dense")}
        pairs = make_pairs(policies["nf4"].processor.tokenizer, batch, LENGTHS)
        steps = {name: engine_step(policy, pairs, "fire-mpo", Path(work) / name)[0]
                 for name, policy in policies.items()}
        sizes = {f"{name}_mb": sum(p.nbytes for p in policy.model.parameters() if not p.requires_grad) / 2**20
                 for name, policy in policies.items()}
        return _in_turn(steps, rounds) | sizes


def matmul_share(models: Path, *, world: str, batch: int, rounds: int, threads: int) -> dict:
    """Products of a `dpo` step in GFLOP/s, and what the machine reaches in one large product, measured in turn."""
    with TemporaryDirectory() as work:
        policy = load_policy(models, WORLDS[world], four_bit=False)
        torch.set_num_threads(threads)
        pairs = make_pairs(policy.processor.tokenizer, batch, LENGTHS)
        step, _ = engine_step(policy, pairs, "dpo", Path(work))
        with FlopCounterMode(display=False) as counter:
            step()
        side = 8192 if policy.device.type == "cuda" else 2048
        large = torch.randn(side, side, device=policy.device, dtype=compute_dtype(policy.device))
        product: Step = lambda: (large @ large)[0, 0].item()  # noqa: E731 - timed like a step
        found = _in_turn({"step": step, "product": product}, rounds)
    return {"step": [counter.get_total_flops() / s / 1e9 for s in found["step"]],
            "machine": [2 * side**3 / s / 1e9 for s in found["product"]], "side": side}


def rollouts(models: Path, *, prompts: int, rounds: int, tokens: int, threads: int) -> dict:
    """Tokens per second of batched greedy rollouts with features made once, and of plain `generate` case by case."""
    lvlm = load_lvlm(EMBEDDED)
    torch.set_num_threads(threads)
    cases = read_cases(SAMPLES).cases
    asked = [Prompt(f"p{n}", "", "", cases[n % len(cases)].image, QUESTION) for n in range(prompts)]

    def batched() -> float:
        features = KeptFeatures(lvlm)
        features.warm([case.image for case in cases])
        return sum(len(answer.ids) for answer in rollout(
            lvlm, asked, max_new_tokens=tokens, batch_size=prompts, progress=False, features=features))

    def one_by_one() -> float:
        total = 0
        for prompt in asked:
            inputs = encode_prompts(lvlm.processor, [prompt.image], [prompt.question], device=lvlm.device)
            with torch.no_grad():
                made = lvlm.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
            total += made.shape[1] - inputs["input_ids"].shape[1]
        return total

    found = _in_turn({"batched": batched, "one by one": one_by_one}, rounds)
    counts = {name: values[1:] for name, values in found.pop("losses").items()}  # the first round does not count
    rates = {name: [n / s for n, s in zip(counts[name], seconds, strict=True)] for name, seconds in found.items()}
    return rates | {"tokens": counts}


def rendering(models: Path, *, images: int, rounds: int) -> dict:
    """Synthetic radiographs a second, written to disk with masks and lesion-free twins, on all cores."""
    rates = []
    for seed in range(rounds):
        with TemporaryDirectory() as work:
            started = time.perf_counter()
            render_folder(Path(work), {"train": images}, seed=seed, questions=4)
            rates.append(images / (time.perf_counter() - started))
    return {"images_per_second": rates}


def stages(models: Path, *, preset: str) -> dict:
    """Where the time of `make reproduce` goes: seconds of every stage of a run from nothing, by section."""
    with TemporaryDirectory() as out:
        command = [sys.executable, "-m", "medalign_lite", "reproduce", f"PRESET={preset}", f"OUT={out}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        notebooks = next(Path(out).glob("*/notebooks"))
        record = read_json(notebooks / ".runs.json")
        return {"stages": {name: {"seconds": entry["seconds"],
                                  "sections": sections(notebooks / f"{name}.ipynb", entry["seconds"])}
                           for name, entry in sorted(record.items())}}  # fmt: skip


def sections(executed: Path, seconds: float) -> dict[str, float]:
    """Seconds by the heading that stands above the cells, longest first; and what a stage takes beside its cells."""
    spent, heading = Counter(), ""
    for cell in nbformat.read(executed, as_version=4).cells:
        if cell.cell_type == "markdown":
            heads = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("#")]
            heading = heads[-1] if heads else heading
        else:
            spent[heading] += cell.metadata.get("papermill", {}).get("duration") or 0.0
    spent["kernel and page"] = max(0.0, seconds - sum(spent.values()))
    return dict(spent.most_common())


def _in_turn(steps: dict[str, Step], rounds: int, warm: int = 1) -> dict:
    """Seconds of each step in each round, after `warm` rounds that do not count, and what it returned in all of them. A
    garbage collection before each keeps one step's leavings out of another's time."""
    found, values = ({name: [] for name in steps} for _ in range(2))
    for turn in range(rounds + warm):
        for name, step in steps.items():
            gc.collect()
            seconds, value = timed(step)
            values[name].append(value)
            found[name] += [seconds] if turn >= warm else []
    return found | {"losses": values}

