"""The door: README's picture and its headline, from a finished run and the committed claims (`make figures`).

    python -m studies.lesson.door [artifacts/ci]

It writes docs/figures/door.png, docs/figures/door.json (the run's numbers that README quotes) and the lines of README
between the marks. tests/test_readme.py compares them.
"""

import io
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.corruption.corrupt import corrupt
from medalign_lite.corruption.masks import dilate, lesion_mask
from medalign_lite.edits.repair import Edit
from medalign_lite.edits.truths import truth_of
from medalign_lite.files import ROOT, read_json, read_jsonl, write_json
from medalign_lite.show.failures import false_spans
from medalign_lite.show.figures import answer, edit_diff, lesions_of, named, overlay
from medalign_lite.text.claims import Claim, Verdict

PICTURE, NUMBERS = ROOT / "docs/figures/door.png", ROOT / "docs/figures/door.json"
CLAIMS, REAL = ROOT / "docs/claims/claims.json", ROOT / "docs/claims/slake/claims.json"
METHOD = ("text/diff", "edits/repair", "edits/records", "corruption/corrupt", "losses/recipes", "losses/objective",
          "losses/divergence", "model/batches", "model/rollout", "train/scoring", "train/train")  # fmt: skip
MARKED = re.compile(r"(<!-- headline: make figures -->\n).*?(<!-- end of headline -->)", re.S)
SEED = 7


def main(arguments: list[str]) -> int:
    """Make the picture, the numbers and README's lines."""
    run = Path(arguments[0] if arguments else ROOT / "artifacts/ci")
    if not (run / "results.json").is_file():
        print(f"error: {run} is not a finished run: `make reproduce PRESET=ci` makes one", file=sys.stderr)
        return 1
    pictures = ROOT / read_json(run / "00_start/source.json")["root"]
    if not pictures.is_dir():  # the run was copied from elsewhere
        pictures = run.parent / "cache" / pictures.name
    cases = read_cases(run / "00_start/cases.jsonl", root=pictures, check_files=False).cases
    case, said = clearest(cases, read_jsonl(run / "06_evaluate/predictions.jsonl"),
                          aligned=read_json(run / "05_train/choice.json")["aligned"])
    figure, buffer = draw(case, *said), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white")
    Image.open(buffer).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE).save(PICTURE, optimize=True)
    results = read_json(run / "results.json")
    names = ("hallucination_rate", "fact_f1")
    write_json(NUMBERS, {"case": case.id} | {arm: {n: results[arm]["test"][n] for n in names} for arm in results})
    readme = ROOT / "README.md"
    told = headline(read_json(NUMBERS), read_json(CLAIMS), read_json(REAL))
    text = MARKED.sub(lambda m: m[1] + told + "\n" + m[2], readme.read_text(encoding="utf-8"))
    text = re.sub(r"(eleven files), [^*]* lines", rf"\1, {lines():,} lines", text)
    readme.write_text(text, encoding="utf-8")
    print(f"{case.id}: {PICTURE.name} ({PICTURE.stat().st_size // 1000} kB), {NUMBERS.name} and README's lines")
    return 0


def lines() -> int:
    """Lines of the eleven files that are the method, to the next hundred."""
    texts = [(ROOT / "medalign_lite" / f"{name}.py").read_text(encoding="utf-8") for name in METHOD]
    return round(sum(len(text.splitlines()) for text in texts), -2)


def headline(run: Mapping, claims: Mapping, real: Sequence[Mapping]) -> str:
    """README's answer to its own question: the default run, several seeds, real images; each with its 95 % interval."""
    (was, now, gap), (f1, better, gain) = ([run[arm][name] for arm in ("base", "aligned", "difference")]
                                           for name in ("hallucination_rate", "fact_f1"))
    arms = {arm: claims["arms"][arm]["test"]["hallucination_rate"] for arm in ("base", "fire-mpo", "dpo")}
    shares = {arm: f"{100 * e['value']:.1f} % [{100 * e['low']:.1f}, {100 * e['high']:.1f}]" for arm, e in arms.items()}
    seeds = len(claims["arms"]["fire-mpo"]["seeds"])
    term = next(claim for claim in claims["claims"] if claim["id"] == "4")
    points = {c["id"]: f"{100 * c['estimate']:+.1f} points [{100 * c['low']:.1f}, {100 * c['high']:.1f}] "
                       f"(*{c['verdict']}*)" for c in real if c["estimate"] is not None}
    return (
        f"**In the default run, false findings go from {100 * was['value']:.1f} % of all that is affirmed to "
        f"{100 * now['value']:.1f} %** ({100 * gap['value']:+.1f} points, 95 % interval "
        f"{100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}, {gap['n']} unseen images), and fact F1 from "
        f"{f1['value']:.3f} to {better['value']:.3f} ({gain['value']:+.3f}, {gain['low']:+.3f} to "
        f"{gain['high']:+.3f}).\n"
        f"**Over {seeds} training seeds, both methods tuned alike and asked about fresh people,** {shares['base']} of "
        f"what the base affirms is false, under the paper's method {shares['fire-mpo']}, and under plain DPO on the "
        f"same edits {shares['dpo']}; of the paper's picture term the claim is that the model looks harder at the "
        f"lesion: *{term['verdict']}* ({term['estimate']:+.3f} [{term['low']:+.3f}, {term['high']:+.3f}] in the "
        "probability that hiding it tells more than hiding a twin): [every claim, with seeds and controls; some are "
        "under way](docs/RESULTS.md).\n"
        f"**On real CT, MRI and X-ray images (SLAKE)** the paper's method moves closed accuracy by "
        f"{points['R1']} against the model before alignment, and by {points['R2']} against plain DPO: [what answers "
        "without a picture are worth, and every claim](docs/RESULTS_SLAKE.md)."
    )


def clearest(cases: Iterable[Case], rows: Iterable[Mapping], *, aligned: str) -> tuple[Case, tuple[str, str]]:
    """The test case, with both reports, where a plain error is best seen: a lesion put on the wrong side, then right;
    of those whose aligned report holds nothing false, the one whose lesion stands out most from its surroundings."""
    said: dict[str, dict[str, str]] = {}
    for row in rows:
        if (row["condition"], row["question_id"]) == ("real", "report") and row["arm"] in ("base", aligned):
            said.setdefault(row["case_id"], {})[row["arm"]] = row["text"]
    found = []
    for case in cases:
        question = next((q for q in case.questions if q.kind == "report"), None)
        texts = said.get(case.id, {})
        if len(texts) == 2 and not false_spans(texts[aligned], case, question):
            wrong = {claim.finding for claim, verdict in _judged(texts["base"], case, question)
                     if verdict.wrong == ("side",) and claim.polarity == "present"}
            seen = [fact.cnr for fact in case.facts if fact.finding in wrong and fact.cnr]
            found += [(max(seen), case, (texts["base"], texts[aligned]))] if seen else []
    if not found:
        raise SystemExit("error: no report of this run puts a lesion on the wrong side and is right after alignment")
    return max(found, key=lambda entry: entry[0])[1:]


def _judged(text: str, case: Case, question: Question) -> list[tuple[Claim, Verdict]]:
    truth = truth_of(case, question)
    return [(claim, truth.judge(claim)) for claim in truth.read(text)]


def draw(case: Case, before: str, after: str) -> Figure:
    """Three columns: what the model said of the picture; the smallest edit, and the lesion gone; what it says now."""
    question = next(q for q in case.questions if q.kind == "report")
    edit, image = truth_of(case, question).correct(before), read_image(case.image)
    wrong = [fact.finding for claim, verdict in _judged(before, case, question) for fact in case.facts
             if verdict.wrong == ("side",) and fact.finding == claim.finding]
    mask = lesion_mask(case, wrong)
    gone = corrupt(image, mask, method="inpaint", id=case.id, seed=SEED, avoid=dilate(lesion_mask(case)))
    shown = {name: lesion for name, lesion in lesions_of(case).items() if name.split()[-1] in wrong}
    figure, whole = Figure(figsize=(9.6, 4.9), layout="constrained"), named(image, shown, side=512)
    axes = figure.subplots(2, 3, height_ratios=(2.4, 1))
    titles = ("1  What the model says", "2  Smallest edit; lesion taken out", "3  After alignment")
    for ax, title, picture in zip(axes[0], titles, (whole, gone, whole), strict=True):
        overlay(ax, picture, sides=False)
        ax.set_title(title, fontsize=11, fontweight="bold", loc="left")
    for ax in axes[1]:
        ax.set(xticks=[], yticks=[])
    answer(axes[1, 0], before, false_spans(before, case, question))
    edit_diff(axes[1, 1], *_sentence(edit))
    answer(axes[1, 2], after, false_spans(after, case, question))
    return figure


def _sentence(edit: Edit) -> tuple[str, str, list, list]:
    """(y+, y-, their spans) cut to the sentence of the first edit of a side."""
    cut = []
    for text, spans in ((edit.chosen, edit.spans_chosen), (edit.rejected, edit.spans_rejected)):
        at = next((span for span in spans if span[2] == "side"), spans[0])
        start = text.rfind(". ", 0, at[0]) + 2 if ". " in text[: at[0]] else 0
        end = text.find(".", at[1]) + 1 or len(text)
        cut.append((text[start:end], [(a - start, b - start, kind) for a, b, kind in spans if start <= a and b <= end]))
    (chosen, spans_chosen), (rejected, spans_rejected) = cut
    return chosen, rejected, spans_chosen, spans_rejected


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
