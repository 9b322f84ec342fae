"""``make export``: what a run has learnt, ready to be used elsewhere, each folder with a model card.

    adapter/      the adapter as PEFT and vLLM read it
    merged/       base and adapter in one, safetensors, for plain transformers
    merged-nf4/   the same in 4 bit

    python -m medalign_lite export PRESET=ci OUT=artifacts

The adapter is merged into the base's own weights, not into the 4-bit ones that it was trained beside.
"""

import shutil
from collections.abc import Callable
from html import escape
from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForImageTextToText

from medalign_lite.dials import PresetError
from medalign_lite.files import read_json, short, write_json
from medalign_lite.model.families import find_towers
from medalign_lite.model.loading import OFFLINE, nf4_settings, skeleton_of
from medalign_lite.model.lvlm import adapter_config
from medalign_lite.model.weights import SAFE_FILES, ModelError, locate
from medalign_lite.run.commands import command
from medalign_lite.run.dial import dial, resolve
from medalign_lite.run.provenance import damage, make_command, run_folder
from medalign_lite.run.reproduce import parse
from medalign_lite.run.stages import StageError
from medalign_lite.show.page import LIMITS
from medalign_lite.show.tables import known

MADE_ANEW = ("config.json", "generation_config.json", "adapter_config.json")  # what saving a model writes itself
KINDS = {
    "adapter": "a LoRA adapter (PEFT), to be put on its base",
    "merged": "base and adapter merged into one model, in the number type of the base",
    "merged-nf4": "base and adapter merged into one model, both towers in 4 bit (NF4, bitsandbytes)",
}
SHOWN = ("fact_f1", "hallucination_rate", "closed_accuracy", "choice_accuracy", "open_recall", "grounding_selectivity")
LOADING = {
    "adapter": """model = AutoModelForImageTextToText.from_pretrained(BASE, dtype="auto", device_map="auto")
model = PeftModel.from_pretrained(model, FOLDER)
processor = AutoProcessor.from_pretrained(BASE)""",
    "merged": """model = AutoModelForImageTextToText.from_pretrained(FOLDER, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained(FOLDER)""",
}
LOADING["merged-nf4"] = LOADING["merged"]


def export(run: Path, model: str, recipe: str, folder: Path, *, say: Callable[[str], None] = print) -> Path:
    """Write the three folders for one recipe of a finished run to `folder`, which must not exist. Raises ModelError for
    a model that is not here, a recipe that the run has not trained, or a stage whose files are not as they were
    written: the card cites them."""
    for stage in ("00_start", "05_train", *(["06_evaluate"] if (run / "06_evaluate").exists() else [])):
        if problem := damage(run / stage):
            raise ModelError(f"{problem}; `make reproduce` makes it again, and until then nothing is exported.")
    adapter = run / "05_train" / recipe
    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(f"{short(run)} holds no adapter {recipe!r}; `make reproduce` trains it.")
    if folder.exists():
        raise ModelError(f"{short(folder)} is there already: delete it to export again.")
    base, name, revision = locate(model)
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    say("merging")
    model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto", use_safetensors=True, **OFFLINE)
    config = adapter_config(model, adapter)  # the base in its own number type, with W + s B A in place of W
    merged = PeftModel.from_pretrained(model, str(adapter), config=config).merge_and_unload().eval()
    targets = find_towers(merged).linears(merged)["language"]
    write_adapter(adapter, part / "adapter", base=name, revision=revision, targets=targets)
    merged.save_pretrained(part / "merged")
    copy_processor(base, part / "merged")
    say("in 4 bit")
    write_nf4(part / "merged", part / "merged-nf4")
    for kind in KINDS:
        write_card(part / kind, kind, run=run, recipe=recipe, base=name, revision=revision)
    part.rename(folder)
    return folder


def write_adapter(source: Path, folder: Path, *, base: str, revision: str | None, targets: list[str]) -> None:
    """PEFT's two files. Target modules are listed by their full names, which PEFT and vLLM of any version read; the
    base is named, without the place where it lay on this machine."""
    folder.mkdir(parents=True)
    shutil.copyfile(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    told = {"base_model_name_or_path": base, "revision": revision, "target_modules": sorted(targets)}
    write_json(folder / "adapter_config.json", read_json(source / "adapter_config.json") | told)


def write_nf4(merged: Path, folder: Path) -> None:
    """The merged model with both towers in NF4, as `load_lvlm` quantises them; all else in its own number type."""
    skeleton = skeleton_of(merged)[1]
    settings = nf4_settings(find_towers(skeleton).linears(skeleton), skeleton.dtype)
    model = AutoModelForImageTextToText.from_pretrained(
        merged, dtype="auto", device_map={"": "cpu"}, quantization_config=settings, use_safetensors=True, **OFFLINE
    )
    model.save_pretrained(folder)
    copy_processor(merged, folder)


def copy_processor(source: Path, folder: Path) -> None:
    """Processor, tokenizer and chat template, byte for byte."""
    for path in {path for pattern in SAFE_FILES for path in source.glob(pattern)}:
        weights = path.suffix == ".safetensors" or path.name.endswith(".index.json")
        if not weights and path.name not in MADE_ANEW:
            shutil.copyfile(path, folder / path.name)


def write_card(folder: Path, kind: str, *, run: Path, recipe: str, base: str, revision: str | None) -> None:
    """README.md in the folder of an export; `kind` is one of `KINDS`."""
    cases, source, training, choice, settings = (read_json(run / f"{name}.json") for name in (
        "00_start/manifest", "00_start/source", "05_train/manifest", "05_train/choice", f"05_train/{recipe}/settings"))
    phantom = source["layout"] == "phantom world"
    counts = [f"{key} {value}" for key, value in cases["notes"].items() if key in ("images", "skipped", "dropped")]
    chosen = settings["settings"]
    told = {
        "base": base + (f" at {revision}" if revision else ""),
        "recipe": f"{recipe} (`medalign_lite/losses/recipes.py`); {choice['pairs']} preference pairs of its own "
                  "answers",
        "LoRA": f"rank {chosen['rank']}, alpha {chosen['alpha']}, rsLoRA {chosen['rslora']}, language model alone",
        "optimiser": f"AdamW, learning rate {chosen['learning_rate']}, {chosen['epochs']} epochs, "
                     f"{chosen['batch_size'] * chosen['accumulation']} pairs a step, beta {settings['recipe']['beta']}",
        "precision": "base in NF4 while training; the adapter is merged into the base's own weights",
        "seed": chosen["seed"], "preset": training["preset"],
    }  # fmt: skip
    lines = ["---", *(["base_model: " + base] if "/" in base else []),
             f"library_name: {'peft' if kind == 'adapter' else 'transformers'}", "pipeline_tag: image-text-to-text",
             "---", f"# {_plain(base.rpartition('/')[2])}, aligned by {recipe}", "",
             f"This is {KINDS[kind]}. **Research only: not for clinical use.**", "", "## Data", "",
             f"{_plain(source['layout'])}: {_plain(source['reason'])}. Cases: {', '.join(counts)}.", "", "## Settings",
             "", "| what | value |", "|---|---|",
             *(f"| {name} | {_plain(value)} |" for name, value in told.items()), "",
             "## Results", "", *_results(run, recipe, choice["aligned"]), "", "## Limits", "",
             *(f"- {limit}" for limit in LIMITS["phantom" if phantom else "real"]),
             "- The licence and the limits of the base model go on to hold.", "", "## Loading", "", "```python",
             *LOADING[kind].replace("FOLDER", repr("path/to/this/folder")).replace("BASE", repr(base)).splitlines(),
             "```", ""]  # fmt: skip
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _plain(text) -> str:
    """Text as Markdown shows it: no element, no cell, no line of its own."""
    return escape(" ".join(str(text).split()), quote=False).replace("|", "\\|")


def _results(run: Path, recipe: str, aligned: str) -> list[str]:
    """A table of base, aligned and difference with 95 % intervals, where the run measured this recipe."""
    path = run / "06_evaluate" / "results.json"
    if recipe != aligned or not path.is_file():
        return ["Not measured as the aligned model of its run."]
    results = read_json(path)
    lines = ["| split | measure | base | aligned | difference (95 % interval) | n |", "|---|---|---|---|---|---|"]
    for split, block in results["difference"].items():
        for name, gap in ((name, block[name]) for name in SHOWN if known(block, name)):
            before, after = (results[arm][split][name]["value"] for arm in ("base", "aligned"))
            span = "–" if gap["low"] is None else f"{gap['low']:+.3f} to {gap['high']:+.3f}"
            change = f"{gap['value']:+.3f} ({span})"
            lines.append(f"| {split} | {name} | {before:.3f} | {after:.3f} | {change} | {gap['n']} |")
    return lines if len(lines) > 2 else ["Nothing could be measured on these cases."]


@command(refused=(PresetError,), stopped=(ModelError, StageError, OSError))
def main(arguments: list[str]) -> None:
    """Exit status: 0 written, 1 it could not be, 2 bad arguments."""
    values = parse(arguments)
    resolved = resolve(values["PRESET"], cases=values["CASES"], model=values["MODEL"], recipe=values["RECIPE"])
    run = run_folder(resolved.preset.name, values["OUT"])
    choice = run / "05_train" / "choice.json"
    if not choice.is_file():
        get = make_command(dial(resolved.preset), **{k.lower(): values[k] for k in ("CASES", "MODEL", "OUT")})
        raise ModelError(f"{short(run)} has trained nothing yet: `{get}`")
    recipe = resolved.preset.recipes[-1] if values["RECIPE"] else read_json(choice)["aligned"]
    folder = export(run, resolved.model, recipe, run / "export" / recipe)
    print(f"{folder}: adapter, merged, merged-nf4; docs/SERVING.md says how to use them")
