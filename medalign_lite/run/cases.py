"""``make cases CASES=``: what is read from a folder of cases, before anything is run on it.

Prints the layout and why, counts by split, leaks, missing files and what is left out with its reasons; writes
``OUT/cases/contact_sheet.png`` to look at and ``OUT/cases/left_out.json`` with every single entry.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from medalign_lite.cases import readers
from medalign_lite.cases.case import SPLITS, Case, CaseError, CaseSet, count_notes, find_leaks
from medalign_lite.cases.readers import table
from medalign_lite.corruption.masks import lesion_mask, mask_source
from medalign_lite.dials import Preset, PresetError
from medalign_lite.files import path_of, visible, write_json
from medalign_lite.run.cohort import capped, read_set, settle_splits
from medalign_lite.run.commands import ArgumentError, command
from medalign_lite.run.dial import resolve
from medalign_lite.run.reproduce import parse

COLUMNS = ("split", "images", "groups", "report", "closed", "open", "choice", "lesions", "with lesion")
SHOWN = 6  # reasons
TILES = 12
WRAP = 52  # characters under a picture


def overview(found: CaseSet, *, seed: int, preset: Preset) -> str:
    """A page of text about what was read, and what a run with `seed` and `preset` would make and take of it."""
    lines = [f"layout   {found.layout}: {found.reason}", "", *_counts(found.cases)]
    if leaks := find_leaks(found.cases):
        lines.append(f"\nwarning: {len(leaks)} groups stand in training and in a held-out split; see notes below")
    try:
        settled = capped(settle_splits(found, seed=seed), preset, seed=seed)
        how = settled.reason.removeprefix(found.reason).strip("; ")
        if settled.cases != found.cases:
            lines += ["", f"in a run: {how}", *_counts(settled.cases)]
    except CaseError as error:
        lines += ["", f"in a run: {error}"]
    without = {True: "points only: `make masks` outlines them", False: "none: no grounding row from these"}
    sources = ((mask_source(case), case) for case in found.cases)
    origins = Counter(without[bool(case.lesions)] if source == "none" else source for source, case in sources)
    lines += ["", "lesion masks of images from", *(f"{n:8}  {origin}" for origin, n in origins.most_common())]
    missing = sum("no such image file" in entry["reason"] for entry in found.skipped)
    lines += ["", f"missing image files: {missing}"]
    for name, entries in (("cases left out", found.skipped), ("parts left out of kept cases", found.dropped)):
        lines += [f"{name}: {len(entries)}", *_reasons(entries)]
    lines += [f"notes, no faults: {len(found.notes)}"]
    lines += [f"  {sentence}" for sentence in count_notes(found.notes).split("; ") if sentence]
    return "\n".join(lines)


def contact_sheet(cases: Sequence[Case]):
    """A matplotlib figure of up to TILES cases, spread over the splits, lesions outlined; pictures with some first."""
    from matplotlib.figure import Figure

    from medalign_lite.cases.images import read_image
    from medalign_lite.show.figures import LESION, overlay

    shown = spread(cases, TILES)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.0 * columns, 3.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, case in zip(axes, shown, strict=False):
        title = f"{case.split}  {_short(case.id, 24)}"
        overlay(ax, read_image(case.image), lesion_mask(case), title=title, sides=False)
        x, y = ax.get_xlim(), ax.get_ylim()  # room around it for a square tile: words of a row stand in line
        half = max(x[1] - x[0], y[0] - y[1]) / 2
        ax.set(xlim=(sum(x) / 2 - half, sum(x) / 2 + half), ylim=(sum(y) / 2 + half, sum(y) / 2 - half))
        for x, y in (point for lesion in case.lesions for point in lesion.points):
            ax.plot(x - 0.5, y - 0.5, marker="+", color=LESION, markersize=12)
        labels, source = ", ".join(dict.fromkeys(lesion.label for lesion in case.lesions)), mask_source(case)
        text = [f"lesions ({'points only' if source == 'none' else source}): {labels}"] if labels else []
        text += [f"{case.questions[0].text} → {case.questions[0].answer}"]
        lines = [line for part in text for line in textwrap.wrap(" ".join(part.split()), WRAP)]
        caption = "\n".join([*lines[:3], "..."] if len(lines) > 4 else lines)
        ax.set_xlabel(caption, fontsize=7, loc="left", parse_math=False)
    return figure


def spread(cases: Iterable[Case], count: int) -> list[Case]:
    """Up to `count` cases, taken from the splits in turn; in each those with lesions first, else in their order."""
    queues = {split: [] for split in SPLITS}
    for case in cases:
        queues[case.split].append(case)
    for queue in queues.values():
        queue.sort(key=lambda case: not case.lesions and not case.facts)
    turns = [case for turn in range(count) for queue in queues.values() for case in queue[turn : turn + 1]]
    return sorted(turns[:count], key=lambda case: SPLITS.index(case.split))


def _counts(cases: Iterable[Case]) -> list[str]:
    rows = [COLUMNS]
    for split in SPLITS:
        part = [case for case in cases if case.split == split]
        kinds = Counter(question.kind for case in part for question in case.questions)
        lesions = [len(case.facts or case.lesions) for case in part]
        if part:
            rows.append((split, len(part), len({case.group for case in part}), kinds["report"], kinds["closed"],
                         kinds["open"], kinds["choice"], sum(lesions), sum(map(bool, lesions))))  # fmt: skip
    return ["".join(f"{value:>12}" if i else f"{value:8}" for i, value in enumerate(row)) for row in rows]


def _reasons(entries: Sequence[dict]) -> list[str]:
    """The commonest reasons, numbers and quoted words taken as equal, each with its count and first example."""
    kinds: dict[str, list[dict]] = {}
    for entry in entries:
        kinds.setdefault(re.sub(r"'[^']*'|\S*\d\S*", "*", entry["reason"]), []).append(entry)
    groups = sorted(kinds.values(), key=len, reverse=True)
    lines = [f"  {len(some)} x {_short(some[0]['reason'], 150)} (first: {some[0]['id']})" for some in groups[:SHOWN]]
    rest = sum(map(len, groups[SHOWN:]))
    return [*lines, f"  {rest} for {len(groups) - SHOWN} other reasons"] if rest else lines


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


@command(refused=(CaseError, PresetError))
def main(arguments: list[str]) -> None:
    """Read CASES, write the sheet and the list to OUT/cases and print the page; pictures without a table get one to
    fill in instead. Exit status 0, or 2 with one sentence where nothing can be read."""
    values = parse(arguments)
    if not values["CASES"]:
        raise ArgumentError("say which: make cases CASES=path")
    cases, out = map(path_of, (values["CASES"], values["OUT"] or "artifacts"))
    preset, folder = resolve(values["PRESET"]).preset, out / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    reader, _ = readers.detect(cases)
    if reader is table.TABLE and not any((cases / name).is_file() for name in table.FILES):
        empty, text = folder / table.FILES[0], table.template(cases)
        empty.write_text(text, encoding="utf-8")
        page = (f"{cases} holds {len(text.splitlines()) - 1} DICOM or NIfTI files and no table yet.\n1. Fill in "
                f"question and answer, or report, in  {empty}\n2. Save it as CSV (UTF-8) in                   "
                f"{cases / empty.name}\n3. Run the same command again. Lines that are not filled in are not read.")
    else:
        found = read_set(cases, out, strict=values["STRICT"], lesions=values["LESIONS"])
        contact_sheet(found.cases).savefig(folder / "contact_sheet.png", dpi=120)
        write_json(folder / "left_out.json", {name: getattr(found, name) for name in ("skipped", "dropped", "notes")})
        page = (f"{overview(found, seed=values['SEED'], preset=preset)}\n\n"
                f"written: {folder / 'contact_sheet.png'}, {folder / 'left_out.json'}")
    print("\n".join(map(visible, page.splitlines())))
