"""Several rounds: the policy answers, its answers are edited, training goes on from its adapters, and it answers again.

Preference pairs are on-policy for the model that said them. Once it has been trained it says other things, so each
round asks the policy of the round before (METHOD.md §1). Editing, corruption, drawing of pairs and training are those
of notebooks 02, 03 and 05. The reference stays the model without adapters; each round has a seed, an optimizer and a
learning-rate schedule of its own.

OUT/round-<n> gets round.json (before any work), answers.jsonl, records.jsonl, rejected.json, pairs.jsonl with its
pictures, and adapter/.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from medalign_lite.cases.case import Case
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.dials import Preset
from medalign_lite.edits.records import build_records, read_records, write_records
from medalign_lite.files import claim, digest, file_sha256, kept, read_jsonl, short, write_json, write_jsonl
from medalign_lite.model.lvlm import decoder, load_lvlm
from medalign_lite.model.rollout import own_answers
from medalign_lite.model.weights import model_revision
from medalign_lite.train.arms import DONE
from medalign_lite.train.data import draw_data, pictures_of
from medalign_lite.train.settings import TrainSettings, process_count
from medalign_lite.train.train import train

SPLITS = ("train", "val")  # the others are never asked: they are for evaluation


def rounds(
    cases: Sequence[Case], *, model: str, preset: Preset, settings: TrainSettings, count: int, folder: Path,
    start: Path | None = None, say: Callable[[str], object] = print,
) -> list[Path]:
    """Do `count` rounds in `folder`; the folders of their adapters, in order.

    The first round's policy is `start`, a folder of adapters, or the model itself; a later one's is the adapter of the
    round before. Round n draws with the seed of `settings` + n. What a round has finished is kept, so a run that was
    killed goes on to the same weights, and a larger `count` adds rounds. Raises ValueError for a folder of another run,
    a count below 1, several processes or a round without a single pair; else as `load_lvlm` and `train`."""
    if count < 1 or process_count() > 1:
        raise ValueError(f"{count} rounds in {process_count()} processes: do at least one, in one process")
    found = []
    for number in range(1, count + 1):
        place, turn = Path(folder) / f"round-{number}", replace(settings, seed=settings.seed + number)
        claim(place / "round.json", _made_from(cases, model=model, preset=preset, settings=turn, start=start))
        if not (place / "adapter" / DONE).exists():
            _round(place, cases, model=model, preset=preset, settings=turn, start=start, say=say)
        shutil.rmtree(place / "work", ignore_errors=True)
        start = place / "adapter"
        found.append(start)
    return found


def _round(place: Path, cases, *, model: str, preset: Preset, settings: TrainSettings, start, say) -> None:
    """One round: answers of the policy `start`, records, pictures, pairs, adapters."""
    seed, asked = settings.seed, [case for case in cases if case.split in SPLITS]
    answers = kept(place / "answers.jsonl", lambda part: write_jsonl(part, map(asdict, own_answers(
        asked, model=model, preset=preset, seed=seed, scratch=place / "work" / "answers", adapter=start))))
    rollouts = [Rollout(**row) for row in read_jsonl(answers)]
    say(f"{place.name}: {len(rollouts)} answers of {start or model}")
    records = read_records(kept(place / "records.jsonl", lambda part: _edit(part, rollouts, cases, model, seed)))
    images = kept(place / "pairs.jsonl", lambda part: write_jsonl(part, pictures_of(
        records, cases, place, method=preset.corruption, seed=seed, say=say)))
    data = draw_data(records, read_jsonl(images), cases, folder=place, count=preset.train_pairs,
                     share=preset.corrected_share, seed=seed)
    wrong = sum(pair.id in data.corrected for pair in data.pool)
    say(f"{place.name}: {len(records)} records; {len(data.pool)} pairs to learn from, of which {wrong} repair an error")
    train(load_lvlm(model, seed=seed, max_side=preset.max_side), data.pool, settings, folder=place / "adapter",
          work=place / "work" / "train", validation=data.watched, start=start)


def _edit(part: Path, rollouts: Sequence[Rollout], cases: Sequence[Case], model: str, seed: int) -> None:
    """Records of the answers by the rules, and beside them how many were rejected, by reason."""
    records, rejected = build_records(rollouts, cases, decode=decoder(model), seed=seed)
    write_json(part.with_name("rejected.json"), dict(rejected.most_common()))
    write_records(part, records)


def _made_from(cases: Sequence[Case], *, model: str, preset: Preset, settings: TrainSettings, start) -> dict:
    """All that a round's result depends on, JSON-ready. Pictures count by their content."""
    told = [json.dumps(asdict(case) | {"image": file_sha256(case.image)}, default=short) for case in cases]
    return {
        "model": short(model), "revision": model_revision(model), "cases": digest(told), "preset": asdict(preset),
        "settings": asdict(settings), "recipe": asdict(settings.resolved_recipe()),
        "start": start and file_sha256(Path(start) / "adapter_model.safetensors"),
    }  # fmt: skip


