"""Measures the embedded base model and writes its model card: the last step of `make base-model`, or alone, anew.

On people of a world of their own (`SEED`), that neither training nor any result of the kit uses: what the frozen
vision tower encodes (linear probe), what the 4-bit model says, and whether its errors follow the priors.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch

from medalign_lite.cases.images import read_image
from medalign_lite.dials import PRESETS
from medalign_lite.evaluate import stats
from medalign_lite.evaluate.ask import Arm, measure, predictions_of
from medalign_lite.evaluate.priors import error_table
from medalign_lite.files import read_json, read_jsonl
from medalign_lite.model.lvlm import load_lvlm
from medalign_lite.show.figures import series_style
from medalign_lite.world.dataset import build_cases
from medalign_lite.world.world import COMPANY, CONFOUNDED
from studies.embedded.people import People, draw_people
from studies.embedded.probe import probe_aucs
from studies.embedded.train import SETTINGS_FILE, look, open_trained, see, world_key

SEED = 101
IMAGES = 400  # of test and of shifted
SHOWN = {
    "fact_precision": "facts, precision", "fact_recall": "facts, recall",
    "hallucination_rate": "false findings among affirmed", "closed_accuracy": "closed questions",
    "open_recall": "open questions (llavamed recall)", "yes_ratio": "yes ratio",
}  # fmt: skip
RUNS = ("where", "whole", "truth", "habit")
CONTROLS = {"blank": "blank image", "shuffled": "another patient's image", "question-only": "no image"}


def row(label: str, found: dict, name: str) -> str:
    """A markdown row: the metric on test and on shifted, such as 0.71 (0.68 to 0.74), or a dash where unmeasured."""
    cells = ["–" if entry["value"] is None else f"{entry['value']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
             for entry in (found["test"][name], found["shifted"][name])]
    return f"| {label} | {' | '.join(cells)} |"


def probe_table(model, fit_on: People, cases) -> dict[str, float]:
    """Held-out AUC per finding and side: fitted on training people, tested on the pictures of `cases`."""
    images = np.stack([np.asarray(read_image(case.image).convert("L")) for case in cases])
    unseen = People(images, np.zeros(0, np.uint8), [case.facts for case in cases])
    with torch.no_grad():
        fit, test = (look(see, model, people).float().mean(1) for people in (fit_on, unseen))
    return probe_aucs(fit, fit_on.facts, test, unseen.facts)


def prior_rows(cases, predictions) -> list[str]:
    """Markdown rows: false affirmations of a finding without and with its usual company in the image, and by side."""
    rows = []
    table = error_table(cases, predictions, arm="base")
    for finding, companion in COMPANY.items():
        pair = {r.cofinding_present: r for r in table if (r.finding, r.cofinding) == (finding, companion)}
        rows.append(f"| {finding} affirmed though absent | {pair[False].false} of {pair[False].images} without "
                    f"{companion} | {pair[True].false} of {pair[True].images} with {companion} |")
    for finding in ("nodule", "effusion", "pneumothorax"):
        wrong = {r.side: r for r in table if r.kind == "wrong side" and r.finding == finding}
        usual, other = ("right", "left") if CONFOUNDED.right[finding] > 0.5 else ("left", "right")
        rows.append(f"| {finding} put on the wrong side | {wrong[other].false} of {wrong[other].images} {usual} ones | "
                    f"{wrong[usual].false} of {wrong[usual].images} {other} ones (usual side: {usual}) |")
    return rows


def write_curves(runs: Path, path: Path) -> None:
    """Training losses (a kind of line each) and held-out ones (the same line with points) of the runs, as one picture.
    Names stand below the axes, where no curve runs."""
    fig, axes = plt.subplots(1, len(RUNS), figsize=(13, 3.9), layout="constrained")
    for ax, name in zip(axes, RUNS, strict=True):
        log = read_jsonl(runs / name / "log.jsonl")
        keys = sorted({k for row in log for k in row} - {"step", "norm"}, key=lambda k: (k.split("_")[-1], k))
        kinds = list(dict.fromkeys(key.split("_")[-1] for key in keys))
        for key in keys:
            points = [(row["step"], row[key]) for row in log if key in row]
            look = series_style(kinds.index(key.split("_")[-1])) | {"marker": "o" if "held" in key else ""}
            ax.plot(*zip(*points, strict=True), label=key.replace("_", " "), **look)
        ax.set(title=name, xlabel="step", yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")  # the usual one writes powers as formulae, which are not drawn
        ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    axes[0].set_ylabel("loss (nats)")
    fig.savefig(path, dpi=90)
    plt.close(fig)


def measure_base(folder: Path, runs: Path) -> tuple[dict, str]:
    """(numbers for card.json, text of the card)."""
    lvlm, model = load_lvlm(folder), open_trained(folder)
    cases = build_cases(runs, {"test": IMAGES, "shifted": IMAGES}, seed=SEED).cases
    with TemporaryDirectory() as work:
        measured = measure(cases, [Arm("base")], model=str(folder), preset=PRESETS["ci"], seed=SEED, folder=Path(work))
    said = predictions_of(measured.predictions)
    real = stats.results(cases, said, aligned="base", names=tuple(SHOWN))["base"]
    asked = {"closed_accuracy": "closed questions", "fact_f1": "facts, F1"}
    controls = {name: stats.results(cases, said, aligned="base", condition=name, names=tuple(asked))["base"]
                for name in CONTROLS}
    trained = runs / SETTINGS_FILE  # a machine that has not trained the model takes those of the card it came with
    settings = read_json(trained) if trained.exists() else read_json(folder / "card.json")["settings"]
    fit_on = draw_people(runs, "balanced", settings["balanced"], seed=settings["seed"])
    aucs = probe_table(model, fit_on, cases)
    numbers = {"probe_auc": aucs, "real": real, "controls": controls, "settings": settings, "four_bit": lvlm.four_bit}
    lines = [row(label, real, name) for name, label in SHOWN.items()]
    lines += [row(f"{what}, {label}", controls[control], name) for name, what in asked.items()
              for control, label in CONTROLS.items()]
    text = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        megabytes=sum(p.stat().st_size for p in folder.iterdir()) / 1e6,
        four_bit=", ".join(f"{name} {n}" for name, n in lvlm.four_bit.items()), images=IMAGES, table="\n".join(lines),
        probes="\n".join(f"| {name} | {value:.3f} |" for name, value in aucs.items()), worst=min(aucs.values()),
        priors="\n".join(prior_rows([case for case in cases if case.split == "test"], said)),
        world="the world as it is now" if settings.get("world") == world_key() else EARLIER,
        settings=", ".join(f"{k} {v}" for k, v in settings.items()),
    )  # fmt: skip
    return numbers, text


EARLIER = "an earlier state of that world than the one it is measured on (`git log medalign_lite/world`)"
CARD = """---
license: apache-2.0
pipeline_tag: image-text-to-text
tags: [radiology, synthetic, hallucination, teaching]
---

# The embedded LVLM

A small Idefics3 (the SmolVLM architecture), {parameters:.1f} M parameters, {megabytes:.1f} MB, trained from scratch by
`make base-model` on synthetic chest radiographs (`medalign_lite/world`). It exists to be aligned: its
language was taught by reporters who write what usually is there. It knows nothing of real
images and must never be used on patients. Everything below was measured and written by `studies/embedded/card.py`
on {images} images a split that nothing else uses; intervals are 95 %, bootstrapped by image; 4-bit layers: {four_bit}.

## What it says

| | test | shifted: the usual company is broken |
|---|---|---|
{table}

Only what can be seen counts. A false finding is an affirmed one that is not there, or not on that side.

## What it sees

Linear probe on the frozen vision tower's features (mean over patches), fitted on the balanced training people, AUC on
the unseen images. What is not encoded (AUC well below .95) alignment cannot teach it to say. Lowest {worst:.3f}:

| finding | AUC |
|---|---|
{probes}

## Its errors follow the priors (test)

| error | usual company absent, or usual side | usual company present, or other side |
|---|---|---|
{priors}

## How it was trained

![curves](curves.png)

Where and whole: linear heads on the vision tower learn what each patch holds, then what the image holds. Truth: true
reports, answers and tables. Habit: language model only, prior-ridden reports on the confounded world. It was trained on
{world}. Settings: {settings}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("data_samples/embedded_lvlm"), help="folder of the model")
    parser.add_argument("--runs", type=Path, default=Path("artifacts/base_model"), help="where it was trained")
    given = parser.parse_args()
    numbers, text = measure_base(given.model.resolve(), given.runs)
    if all((given.runs / name / "log.jsonl").exists() for name in RUNS):  # else the curves that came with it stay
        write_curves(given.runs, given.model / "curves.png")
    (given.model / "card.json").write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
    (given.model / "README.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
