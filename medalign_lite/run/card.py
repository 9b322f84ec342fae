"""The model card of an exported model: data, settings, results and limits, all read from the run that made it.

What comes from data or folders is escaped.
"""

from html import escape
from pathlib import Path

from medalign_lite.files import read_json
from medalign_lite.run.provenance import read_manifest
from medalign_lite.show.page import LIMITS

KINDS = {
    "adapter": "a LoRA adapter (PEFT), to be put on its base",
    "merged": "base and adapter merged into one model, in the number type of the base",
    "merged-nf4": "base and adapter merged into one model, both towers in 4 bit (NF4, bitsandbytes)",
}
SHOWN = ("fact_f1", "hallucination_rate", "closed_accuracy", "open_recall", "grounding_selectivity")
LOADING = {
    "adapter": """model = AutoModelForImageTextToText.from_pretrained(BASE, dtype="auto", device_map="auto")
model = PeftModel.from_pretrained(model, FOLDER)
processor = AutoProcessor.from_pretrained(BASE)""",
    "merged": """model = AutoModelForImageTextToText.from_pretrained(FOLDER, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained(FOLDER)""",
}
LOADING["merged-nf4"] = LOADING["merged"]


def write_card(folder: Path, kind: str, *, run: Path, recipe: str, base: str, revision: str | None) -> None:
    """README.md in the folder of an export; `kind` is one of `KINDS`."""
    cases, training = read_manifest(run / "00_start"), read_manifest(run / "05_train")
    source = read_json(run / "00_start" / "source.json")
    settings = read_json(run / "05_train" / recipe / "settings.json")
    choice, phantom = read_json(run / "05_train" / "choice.json"), source["layout"] == "phantom world"
    counts = [f"{key} {value}" for key, value in cases["notes"].items() if key in ("images", "skipped", "dropped")]
    chosen = settings["settings"]
    told = {
        "base": f"{base}" + (f" at {revision}" if revision else ""),
        "recipe": f"{recipe} (`medalign_lite/losses/recipes.py`); "
        f"{choice['pairs']} preference pairs of its own answers",
        "LoRA": f"rank {chosen['rank']}, alpha {chosen['alpha']}, rsLoRA {chosen['rslora']}, language model alone",
        "optimiser": f"AdamW, learning rate {chosen['learning_rate']}, {chosen['epochs']} epochs, "
                     f"{chosen['batch_size'] * chosen['accumulation']} pairs a step, beta {settings['recipe']['beta']}",
        "precision": "base in NF4 while training; the adapter is merged into the base's own weights",
        "seed": chosen["seed"],
        "preset": training["preset"],
    }
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
        for name in SHOWN:
            gap = block.get(name, {"value": None})
            if gap["value"] is not None:
                before, after = (results[arm][split][name]["value"] for arm in ("base", "aligned"))
                span = "–" if gap["low"] is None else f"{gap['low']:+.3f} to {gap['high']:+.3f}"
                change = f"{gap['value']:+.3f} ({span})"
                lines.append(f"| {split} | {name} | {before:.3f} | {after:.3f} | {change} | {gap['n']} |")
    return lines if len(lines) > 2 else ["Nothing could be measured on these cases."]
