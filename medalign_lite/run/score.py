"""``python -m medalign_lite score``: score any predictions file against any references file.

    python -m medalign_lite score REFERENCES=references.jsonl PREDICTIONS=predictions.jsonl OUT=scores.json

Both files are JSONL; docs/METRICS.md shows their layout and says what each number is. Closed and open answers are
scored by llavamed, strict and lmms side by side. Reports are scored against their facts (null: no facts known, nothing
counted) or, without "facts", against what a reference "report" states (what that does not mention is not counted);
where there is a reference report the wording is compared with it by BLEU and ROUGE-L, and the text by those scorers of
others that are installed (`overlap.SCORERS`). Intervals are 95 % bootstraps that draw groups (patients or images);
without "group" a line is its own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from medalign_lite.cases.readers.kit import read_fact
from medalign_lite.edits.truths import Facts, Report
from medalign_lite.evaluate import overlap
from medalign_lite.evaluate.agreement import report_counts
from medalign_lite.evaluate.metrics import COLUMNS, Counts, ratios
from medalign_lite.evaluate.short_answers import SCORERS, score_answer
from medalign_lite.evaluate.stats import bootstrap, interval
from medalign_lite.files import rows, write_json
from medalign_lite.run.commands import ArgumentError, command, read_arguments
from medalign_lite.text.facts import Fact

FACT_METRICS = (
    "fact_f1", "fact_precision", "fact_recall", "fact_f1_finding", "fact_f1_side", "fact_f1_size",
    "hallucination_rate", "chair_mention", "chair_report", "match_ratio", "false_findings_per_report",
    "missing_findings_per_report", "location_errors_per_report", "severity_errors_per_report",
    "side_accuracy", "zone_accuracy", "size_accuracy", "attributes_stated",
)  # fmt: skip
ALLOWED = {
    "REFERENCES": "what is right (JSONL)", "PREDICTIONS": "what a model said (JSONL)",
    "OUT": "the scores as JSON, written there too", "DRAWS": "of the bootstrap (default: 2000)",
    "SEED": "of the bootstrap (default: 0)",
}  # fmt: skip
REPORT_TRUTHS = ("facts", "report")
KEYS = {"report": (set(), {*REPORT_TRUTHS}), "closed": ({"answer"}, set()), "open": ({"answer"}, set())}


@dataclass(frozen=True)
class Reference:
    """What is right: `answer` of a closed or open question; `facts` of a report, or a reference `report`, or both.
    `group` is drawn by the bootstrap."""

    id: str
    kind: str
    group: str
    answer: str = ""
    facts: tuple[Fact, ...] | None = None
    report: str | None = None


@dataclass(frozen=True)
class Score:
    """One number with its 95 % interval; `groups` contribute. None: nothing to divide by, or no interval of one group.
    `scorer` is llavamed, strict or lmms for short answers, for reports facts or the package that counted. `variant` is
    what else must be told to compare the number with somebody else's: tokens, case, smoothing, stemming, version."""

    metric: str
    scorer: str
    value: float | None
    low: float | None
    high: float | None
    groups: int
    variant: str = ""


@command(refused=(ValueError, OSError))
def main(arguments: Sequence[str]) -> None:
    """Exit status: 0 scored, 2 bad arguments or files."""
    given = {"DRAWS": "2000", "SEED": "0"} | read_arguments(arguments, ALLOWED)
    if not {"REFERENCES", "PREDICTIONS"} <= given.keys() or not (given["DRAWS"] + given["SEED"]).isdecimal():
        raise ArgumentError("say what is scored: REFERENCES=file PREDICTIONS=file; DRAWS= and SEED= are numbers")
    references = read_references(Path(given["REFERENCES"]))
    texts = read_predictions(Path(given["PREDICTIONS"]), references)
    drawn = {"draws": int(given["DRAWS"]), "seed": int(given["SEED"])}
    others, unused = score_published(references, texts, **drawn)
    scores = score(references, texts, **drawn) + others
    if "OUT" in given:
        write_json(Path(given["OUT"]), [asdict(row) for row in scores])
    print("\n".join([*_table(scores), *unused]))


def read_references(path: Path) -> dict[str, Reference]:
    """{id: reference} of a references file. Raises ValueError that names file and line."""
    found: dict[str, Reference] = {}
    for place, record in _lines(path):
        name, kind = record.get("id"), record.get("kind")
        if not isinstance(kind, str) or kind not in KEYS:
            raise ValueError(f"{place}: kind is {kind!r}; use one of {', '.join(KEYS)}")
        needed, optional = KEYS[kind]
        _check_keys(place, record, needed={"id", "kind"} | needed, optional={"group"} | optional)
        if kind == "report" and not {*REPORT_TRUTHS} & record.keys():
            raise ValueError(f"{place}: a report needs {' or '.join(map(repr, REPORT_TRUTHS))}")
        _check_text(place, record, "id", *({"answer", "group", "report"} & record.keys()))
        if name in found:
            raise ValueError(f"{place}: id {name!r} was used before; give each reference its own")
        if not isinstance(facts := record.get("facts"), list | None):
            raise ValueError(f"{place}: facts must be a JSON list, or null where they are not known")
        try:
            facts = None if facts is None else tuple(read_fact(entry, Path()) for entry in facts)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        told = record.get("group", name), record.get("answer", ""), facts, record.get("report")
        found[name] = Reference(name, kind, *told)
    return found


def read_predictions(path: Path, references: dict[str, Reference]) -> dict[str, str]:
    """{id: text}, one for each reference. Raises ValueError that names file and line, or the first id without one."""
    texts: dict[str, str] = {}
    for place, record in _lines(path):
        _check_keys(place, record, needed={"id", "text"}, optional=set())
        _check_text(place, record, "id")
        name, text = record["id"], record["text"]
        if not isinstance(text, str):
            raise ValueError(f"{place}: text must be text, got {text!r}; a model that said nothing has \"\"")
        if name not in references:
            raise ValueError(f"{place}: id {name!r} is in no reference; do the two files belong together?")
        if name in texts:
            raise ValueError(f"{place}: a second prediction for id {name!r}; score one sample at a time")
        texts[name] = text
    if missing := [name for name in references if name not in texts]:
        raise ValueError(f"{path}: {len(missing)} references have no prediction, first {missing[0]!r}; add them")
    return texts


def score(references: dict[str, Reference], texts: dict[str, str], *, draws: int = 2000, seed: int = 0) -> list[Score]:
    """Every metric of the kinds that occur, each with its scorer's name, closed answers first."""
    if draws < 1:
        raise ValueError(f"DRAWS={draws}: use at least 1, and 2000 for what you report")
    counted: dict[str, Counter] = defaultdict(Counter)
    for ref in references.values():
        counted[ref.group].update(_counted(ref, texts[ref.id]))
    groups = tuple(sorted(counted))

    def table(columns: Sequence[str]) -> np.ndarray:
        return np.array([[counted[group][column] for column in columns] for group in groups], float)

    kinds, drawn, scores = {ref.kind for ref in references.values()}, {"draws": draws, "seed": seed}, []
    for kind, scorer in ((kind, scorer) for kind in ("closed", "open") if kind in kinds for scorer in SCORERS):
        counts = table((f"{kind}_{scorer}", kind))
        named = f"{kind}_{'recall' if kind == 'open' and scorer != 'lmms' else 'accuracy'}"
        scores.append(Score(named, scorer, *_estimate(counts, _share, counts[:, 1] > 0, **drawn)))
    for name in FACT_METRICS if "report" in kinds else ():
        counts = Counts(groups, table(COLUMNS))
        estimate = _estimate(counts.table, lambda s, name=name: ratios(s, [name])[name], counts.images(name), **drawn)
        scores.append(Score(name, "facts", *estimate))
    for name in overlap.METRICS if any(ref.report for ref in references.values()) else ():
        counts = table(overlap.COLUMNS)
        seen = counts[:, overlap.COLUMNS.index("texts")] > 0
        estimate = _estimate(counts, lambda s, name=name: overlap.overlap(s, name), seen, **drawn)
        scores.append(Score(name, overlap.SCORER[name], *estimate, overlap.variant(name)))
    return scores


def score_published(
    references: dict[str, Reference], texts: dict[str, str], *, draws: int, seed: int
) -> tuple[list[Score], list[str]]:
    """Texts with a reference report by the scorers of others, and a sentence for each scorer that cannot be used."""
    compared = [ref for ref in references.values() if ref.report]
    if not compared:
        return [], []
    found, unused = overlap.published_scores([texts[ref.id] for ref in compared], [ref.report for ref in compared])
    groups = np.unique([ref.group for ref in compared], return_inverse=True)[1]
    scores = []
    for (name, package, variant), ratios_of in found.items():
        counts = np.zeros((groups.max() + 1, 2))
        np.add.at(counts, groups, ratios_of)
        estimate = _estimate(counts, _share, counts[:, 1] > 0, draws=draws, seed=seed)
        scores.append(Score(name, package, *estimate, variant))
    return scores, unused


def _counted(ref: Reference, text: str) -> dict[str, float]:
    if ref.kind == "report":
        truth = Report(ref.report) if ref.facts is None and ref.report else Facts(ref.facts or ())
        counts = report_counts(text, truth) if ref.facts is not None or ref.report else {}
        return counts | (overlap.overlap_counts(text, ref.report) if ref.report else {})
    return {ref.kind: 1} | {f"{ref.kind}_{name}": x for name, x in score_answer(text, ref.answer, ref.kind).items()}


def _share(sums: np.ndarray) -> np.ndarray:
    return np.divide(sums[..., 0], sums[..., 1], out=np.full_like(sums[..., 0], np.nan), where=sums[..., 1] > 0)


def _estimate(table: np.ndarray, statistic: Callable, seen: np.ndarray, *, draws: int, seed: int) -> tuple:
    """(value, low, high, groups), None for what is not known; `seen` says which groups contribute, bool (G,)."""
    value, groups = float(statistic(table.sum(axis=0))), int(seen.sum())
    if np.isnan(value):
        return None, None, None, 0
    bounds = interval(bootstrap(table, statistic, draws=draws, seed=seed), groups)
    return value, *(None if np.isnan(bound) else float(bound) for bound in bounds), groups


def _table(scores: Sequence[Score]) -> Iterator[str]:
    def shown(number: float | None) -> str:
        return f"{'-' if number is None else f'{number:.3f}':>7}"

    yield f"{'metric':29}{'scorer':15}{'value':>7}{'low':>7}{'high':>7}{'groups':>8}"
    for row in scores:
        yield f"{row.metric:29}{row.scorer:15}{shown(row.value)}{shown(row.low)}{shown(row.high)}{row.groups:8}"
    for scorer, variant in dict.fromkeys((row.scorer, row.variant) for row in scores if row.variant):
        yield f"{scorer}: {variant}"


def _lines(path: Path) -> Iterator[tuple[str, dict]]:
    """As `files.rows`; raises ValueError also where there is none."""
    found = list(rows(path))
    if not found:
        raise ValueError(f"{path} holds no line; docs/METRICS.md shows the layout")
    yield from found


def _check_keys(place: str, record: dict, *, needed: set[str], optional: set[str]) -> None:
    missing, unknown = sorted(needed - record.keys()), sorted(record.keys() - needed - optional)
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(unknown)}"
        allowed = "".join(f", perhaps {name}" for name in sorted(optional))
        raise ValueError(f"{place}: {wrong}; the keys are {', '.join(sorted(needed))}{allowed}")


def _check_text(place: str, record: dict, *names: str) -> None:
    for name in names:
        if not isinstance(record[name], str) or not record[name].strip():
            raise ValueError(f"{place}: {name} must be text and not empty, got {record[name]!r}")
