"""Ask and score every arm on held-out cases: answers under each condition, margins of true against false, drift, and
how likely the base finds the new wording.

The cases are cut into shards that two processes work on; each shard keeps what it has done, so that a killed run goes
on. Every arm sees the same image features. Nothing here counts or judges: that is `metrics` and `stats`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from PIL import Image

from medalign_lite.cases.case import Case
from medalign_lite.cases.rollouts import Prompt, Rollout
from medalign_lite.corruption.corrupt import UNSEEN
from medalign_lite.dials import Preset
from medalign_lite.edits.records import Record
from medalign_lite.evaluate import probes as probing
from medalign_lite.evaluate.metrics import Margins, Prediction, TokenValues
from medalign_lite.evaluate.probes import DAMAGES, PAIRS_PER_SPLIT, Probe, choose
from medalign_lite.evaluate.stats import Gap
from medalign_lite.files import kept, read_json, write_json
from medalign_lite.losses.recipes import recipe_named
from medalign_lite.model.batches import conversation, encode_prompts
from medalign_lite.model.features import KeptFeatures
from medalign_lite.model.lvlm import Lvlm, load_adapter, load_lvlm
from medalign_lite.model.processes import SHARDS, run_shards
from medalign_lite.model.rollout import rollout
from medalign_lite.text.says import yes_no
from medalign_lite.train.pairs import Pair, PairInputs
from medalign_lite.train.scoring import answer_kl, answer_logp, pair_margins

BASE = "base"
YES_NO_PER_SPLIT = 160  # questions for p(yes)
RAW_GAPS = recipe_named("mask-dpo", reference=False, beta=1.0)  # Σ_span log π(y+) - Σ_span log π(y-), in nats


@dataclass(frozen=True)
class Arm:
    """A model to ask: the base, or the base with an adapter. `whole` False: only what fact metrics on test need."""

    name: str
    adapter: Path | None = None
    whole: bool = True


@dataclass(frozen=True)
class Measured:
    """What was seen, as rows for JSONL: fields of metrics.Prediction, metrics.Margins with the `corruption` that made
    v' and v°, metrics.TokenValues of the divergence and of each whole arm's own answers, and stats.Gap."""

    predictions: list[dict]
    margins: list[dict]
    drift: list[dict]
    wording: list[dict]
    yes_no: list[dict]


@dataclass(frozen=True)
class Job:
    """One shard's work. `drift`: ids of the probes on whose answers the distance to the base is measured; `yes_no`: of
    those for p(yes); `light`: the kinds of question that arms which are not whole are asked."""

    number: int
    model: str
    arms: tuple[Arm, ...]
    cases: tuple[Case, ...]
    probes: tuple[Probe, ...]
    records: tuple[Record, ...]
    drift: frozenset[str]
    yes_no: frozenset[str]
    light: tuple[str, ...]
    preset: Preset
    seed: int
    folder: Path


def measure(
    cases: Sequence[Case], arms: Sequence[Arm], *, model: str, preset: Preset, seed: int, folder: Path,
    shards: int = SHARDS,
) -> Measured:
    """Everything that the results are counted from. The first arm is the base; `folder` keeps finished work. The same
    arguments give the same rows, whether or not the work was interrupted."""
    records = probing.truth_records(cases, seed=seed)
    probes = [
        *probing.real_probes(cases), *probing.control_probes(cases, seed=seed),
        *probing.hidden_probes(cases, folder=folder, seed=seed), *probing.moved_probes(cases, seed=seed),
        *probing.damage_probes(cases, records, folder=folder, seed=seed),
    ]  # fmt: skip
    light = ("report",) if any(probe.kind == "report" for probe in probes) else ("closed", "open", "choice")
    whole = Job(
        0, model, tuple(arms), tuple(cases), tuple(probes), tuple(records), drift_probes(probes, seed=seed),
        yes_no_probes(cases, probes, seed=seed), light, preset, seed, folder,
    )  # fmt: skip
    jobs = []
    for number in range(shards):
        part = tuple(cases)[number::shards]
        of_these = [tuple(x for x in some if x.case_id in {case.id for case in part}) for some in (probes, records)]
        jobs.append(replace(whole, number=number, cases=part, probes=of_these[0], records=of_these[1]))
    done = run_shards(_measure_shard, jobs, tick=lambda: _progress(jobs))
    order = {(probe.condition, probe.case_id, probe.question_id): i for i, probe in enumerate(probes)}
    rank = {arm.name: i for i, arm in enumerate(arms)}
    keys = {
        "predictions": lambda r: (rank[r["arm"]], order[r["condition"], r["case_id"], r["question_id"]]),
        "margins": lambda r: (r["corruption"], rank[r["arm"]], r["record_id"]),
        "drift": lambda r: (rank[r["arm"]], r["case_id"]), "wording": lambda r: (rank[r["arm"]], r["case_id"]),
        "yes_no": lambda r: (rank[r["arm"]], r["case_id"], r["question_id"]),
    }
    return Measured(**{name: sorted((row for part in done for row in part[name]), key=keys[name]) for name in keys})


def drift_probes(probes: Sequence[Probe], *, seed: int, per_split: int = PAIRS_PER_SPLIT) -> frozenset[str]:
    """Ids of the probes for drift: report requests where there are any, else open, closed or multiple-choice questions;
    a seeded few."""
    real = [probe for probe in probes if probe.condition == "real"]
    kinds = ([probe for probe in real if probe.kind == kind] for kind in ("report", "open", "closed", "choice"))
    return _few(next(filter(None, kinds), []), per_split, seed=seed)


def yes_no_probes(cases: Iterable[Case], probes: Iterable[Probe], *, seed: int) -> frozenset[str]:
    """Ids of the probes for p(yes): a seeded few questions of each split whose reference answer is yes or no."""
    gold = {(case.id, question.id): question.answer for case in cases for question in case.questions}
    able = [probe for probe in probes if (probe.condition, probe.kind) == ("real", "closed")]
    able = [probe for probe in able if yes_no(gold[probe.case_id, probe.question_id]) is not None]
    return _few(able, YES_NO_PER_SPLIT, seed=seed)


def _few(probes: Sequence[Probe], per_split: int, *, seed: int) -> frozenset[str]:
    parts = ([probe.id for probe in probes if probe.split == split] for split in {probe.split for probe in probes})
    return frozenset(name for names in parts for name in choose(names, per_split, seed=seed))


def answers_without_image(lvlm: Lvlm) -> bool:
    """Whether the chat template and the processor can put a question without an image."""
    try:
        encode_prompts(lvlm.processor, [None], ["?"])
        return conversation(lvlm.processor, "?", image=False) != conversation(lvlm.processor, "?")
    except Exception:  # templates and processors raise what they like
        return False


def predictions_of(rows: Iterable[dict]) -> list[Prediction]:
    """Predictions as metrics and stats read them."""
    return [Prediction(**row) for row in rows]


def margins_of(rows: Iterable[dict], corruption: str = UNSEEN) -> list[Margins]:
    """The margins under one corruption."""
    kept = [row for row in rows if row["corruption"] == corruption]
    return [Margins(**{name: value for name, value in row.items() if name != "corruption"}) for row in kept]


def tokens_of(rows: Iterable[dict]) -> list[TokenValues]:
    """Per-token divergences from the base, or log-probabilities under the base of what each arm answered."""
    return [TokenValues(row["case_id"], row["arm"], tuple(row["values"])) for row in rows]


def _measure_shard(job: Job) -> dict[str, list[dict]]:
    """The shard's rows, read back where it was finished before."""
    finished = job.folder / f"shard-{job.number}.json"
    return read_json(kept(finished, lambda part: write_json(part, _asked_and_scored(job))))


def _asked_and_scored(job: Job) -> dict[str, list[dict]]:
    lvlm = load_lvlm(job.model, seed=job.seed, max_side=job.preset.max_side)
    features, inputs = KeptFeatures(lvlm) if lvlm.device.type == "cpu" else None, PairInputs(lvlm)
    blind = answers_without_image(lvlm)
    by_id = {case.id: case for case in job.cases}
    on_test = [record for record in job.records if by_id[record.case_id].split == "test"]  # for what training used
    pairs = {method: (some, [probing.probe_pair(r, by_id[r.case_id], method=method, seed=job.seed) for r in some])
             for method, some in ((UNSEEN, list(job.records)), (job.preset.corruption, on_test))}
    drift, found = [], {field.name: [] for field in fields(Measured)}
    probing.save_damage(*pairs[UNSEEN], folder=job.folder)
    probes = [probe for probe in job.probes if blind or probe.image is not None]
    # where there was no place for a control or no mask, `save_damage` wrote no picture
    probes = [probe for probe in probes if probe.condition not in DAMAGES or Path(probe.image).exists()]
    if features:  # a large model's would fill a GPU
        pictures = {}  # every one once, in the order of the probes
        for image in (probe.image for probe in probes if probe.image is not None):
            key = (image.size, image.getpixel((0, 0))) if isinstance(image, Image.Image) else str(image)
            pictures.setdefault(key, image)
        features.warm(list(pictures.values()))
    changed = {probe.id: probe.finding for probe in probes}
    for arm in job.arms:
        with _arm(lvlm, arm) as policy:
            asked = [probe for probe in probes if _asks(job, arm, probe)]
            prompts = [Prompt(p.id, p.case_id, p.question_id, p.image, p.question) for p in asked]
            answers = rollout(
                policy, prompts, max_new_tokens=job.preset.max_new_tokens, batch_size=job.preset.eval_batch,
                seed=job.seed, progress=False, resume=_journal(job, arm), features=features,
            )  # fmt: skip
            found["predictions"] += [
                asdict(Prediction(r.case_id, r.question_id, r.text, arm.name, r.id.partition("/")[0], changed[r.id]))
                for r in answers
            ]
            own = _answer_pairs(job, answers) if arm.whole else []
            if arm.name == BASE:
                drift = own
            elif arm.whole:
                found["drift"] += _token_rows(job, arm, drift, answer_kl(policy, drift, **_sizes(job, inputs)))
            if arm.whole:
                found["margins"] += _margins(job, policy, arm, pairs, inputs)
                found["yes_no"] += _yes_no(job, policy, arm, inputs)
        found["wording"] += _token_rows(job, arm, own, answer_logp(lvlm, own, **_sizes(job, inputs)))  # the base again
    return found


@contextmanager
def _arm(lvlm: Lvlm, arm: Arm) -> Iterator[Lvlm]:
    """The arm's model; afterwards `lvlm` is the base again."""
    if arm.adapter is None:
        yield lvlm
        return
    policy = load_adapter(lvlm, arm.adapter)
    try:
        yield policy
    finally:
        policy.model.unload()


def _asks(job: Job, arm: Arm, probe: Probe) -> bool:
    return arm.whole or (probe.split == "test" and probe.condition == "real" and probe.kind in job.light)


def _journal(job: Job, arm: Arm) -> Path:
    return job.folder / f"answers-{arm.name}-{job.number}.jsonl"


def _margins(job: Job, policy: Lvlm, arm: Arm, pairs: dict, inputs: PairInputs) -> list[dict]:
    rows = []
    for method, (records, some) in pairs.items():
        gaps = pair_margins(policy, some, RAW_GAPS, **_sizes(job, inputs))
        for record, values in zip(records, gaps, strict=True):
            seen = [values[name] for name in ("margin", "margin_lesion", "margin_control")]
            seen = [None if math.isnan(value) else value for value in seen]
            rows.append(asdict(Margins(record.id, record.case_id, arm.name, *seen)) | {"corruption": method})
    return rows


def _yes_no(job: Job, policy: Lvlm, arm: Arm, inputs: PairInputs) -> list[dict]:
    """log p("Yes.") - log p("No.") of the words, after each question of `job.yes_no`."""
    asked = [probe for probe in job.probes if probe.id in job.yes_no]
    yes, no = ("Yes.", ((0, 3, "other"),)), ("No.", ((0, 2, "other"),))
    pairs = [Pair(p.id, p.question, yes[0], no[0], yes[1], no[1], clean=p.image) for p in asked]
    gaps = pair_margins(policy, pairs, RAW_GAPS, **_sizes(job, inputs))
    return [asdict(Gap(p.case_id, p.question_id, arm.name, gap["margin"])) for p, gap in zip(asked, gaps, strict=True)]


def _sizes(job: Job, inputs: PairInputs) -> dict:
    """Pairs a forward pass: six rows each, longer than a prompt that is answered."""
    return {"batch_size": max(1, job.preset.eval_batch // 4), "inputs": inputs}


def _answer_pairs(job: Job, answers: Sequence[Rollout]) -> list[Pair]:
    """An arm's own answers, as sampled, to the questions of `job.drift`; an unfinished or empty one is left out."""
    asked = {probe.id: probe for probe in job.probes if probe.id in job.drift}
    return [
        Pair(r.id, asked[r.id].question, r.text, r.text, (), (), clean=asked[r.id].image, chosen_ids=tuple(r.ids))
        for r in answers if r.id in asked and r.text and r.decoding["finished"]
    ]


def _token_rows(job: Job, arm: Arm, pairs: Sequence[Pair], values: Sequence[tuple[float, ...]]) -> list[dict]:
    case_of = {probe.id: probe.case_id for probe in job.probes}
    rows = zip(pairs, values, strict=True)
    return [{"case_id": case_of[pair.id], "arm": arm.name, "values": list(row)} for pair, row in rows]


def _progress(jobs: Sequence[Job]) -> str:
    """How many questions are answered, from the journals."""
    done = total = 0
    for job in jobs:
        for arm in job.arms:
            asked = sum(_asks(job, arm, probe) for probe in job.probes)
            journal = _journal(job, arm)
            batches = journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0
            done, total = done + min(batches * job.preset.eval_batch, asked), total + asked
    return f"evaluate: {done} of {total} questions answered"
