"""Two rounds in miniature, the embedded model on sample cases: whose answers they are, and going on after kills."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from medalign_lite.cases.readers import read_cases
from medalign_lite.cases.rollouts import Prompt
from medalign_lite.dials import PRESETS
from medalign_lite.files import ROOT, file_sha256
from medalign_lite.model import rollout as answering
from medalign_lite.model.lvlm import EMBEDDED, adapters_digest, load_adapter, load_lvlm
from medalign_lite.model.rollout import rollout
from medalign_lite.run.trial import plain_logp
from medalign_lite.train.rounds import rounds
from medalign_lite.train.settings import TrainSettings
from medalign_lite.train.train import PairTrainer

PRESET = replace(PRESETS["ci"], train_pairs=8, rollout_batch=4)
SETTINGS = TrainSettings(recipe="neutral-control", overrides={"beta": 0.5}, learning_rate=2e-3, epochs=1, batch_size=2,
                         rank=4, alpha=8, save_every=2, warmup=0.0, seed=3)  # fmt: skip


@pytest.fixture(scope="module")
def cases():
    """Three to learn from and one of validation, with two questions beside the report; and one that is never asked."""
    found = read_cases(ROOT / "data_samples" / "cases").cases
    some = [*[c for c in found if c.split == "train"][:3], *(next(c for c in found if c.split == s) for s in
                                                               ("val", "test"))]
    return [replace(case, questions=case.questions[:3]) for case in some]


@pytest.fixture
def go(cases, monkeypatch):
    """Two rounds into a folder, in this process."""
    monkeypatch.setattr(answering, "run_shards", lambda work, jobs, **options: [work(job) for job in jobs])

    def called(folder, **changes):
        options = {"model": str(EMBEDDED), "preset": PRESET, "settings": SETTINGS, "count": 2, "folder": folder}
        return rounds(cases, **options | {"say": lambda line: None} | changes)
    return called


def answers(place):
    return [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]


def same(a, b):
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def logps(lvlm, cases, row):
    """Log-probabilities of an answer's tokens under the model, in nats."""
    case = next(case for case in cases if case.id == row["case_id"])
    question = next(question for question in case.questions if question.id == row["question_id"])
    return plain_logp(lvlm, Prompt("", "", "", case.image, question.text), row["ids"])


def test_rounds_are_on_policy_and_go_on_to_the_same_weights(go, cases, tmp_path, monkeypatch):
    one, two = go(tmp_path / "whole")
    first, second = (answers(adapter.parent) for adapter in (one, two))
    assert {row["case_id"] for row in first} == {case.id for case in cases if case.split != "test"}
    assert {row["decoding"]["adapters"] for row in first} == {None}

    # the second round's answers are those of the first one's adapters, and not of the base
    policy, base = load_adapter(load_lvlm(EMBEDDED, device="cpu"), one), load_lvlm(EMBEDDED, device="cpu")
    assert {row["decoding"]["adapters"] for row in second} == {adapters_digest(policy.model)}
    whole = [row for row in second if row["decoding"]["finished"] and row["text"]]
    assert whole and any(a["ids"] != b["ids"] for a, b in zip(first, second, strict=True))
    near = 0.1 if torch.cuda.is_available() else 1e-4  # there the answers were made in bfloat16
    for row in whole:
        torch.testing.assert_close(logps(policy, cases, row), torch.tensor(row["logps"]), atol=near, rtol=near)
    assert max((logps(base, cases, row) - torch.tensor(row["logps"])).abs().max() for row in whole) > 0.1

    # training went on from them, and the reference is still the base: the first margin is not 0
    settings = json.loads((two / "settings.json").read_text())
    assert settings["start"] == file_sha256(one / "adapter_model.safetensors") and settings["settings"]["seed"] == 5
    starts = [json.loads((adapter / "log.jsonl").read_text().splitlines()[0])["margin"] for adapter in (one, two)]
    assert abs(starts[0]) < 1e-5 < 1e-2 < abs(starts[1])

    # killed in the second round, first while it answers, then while it trains
    calls, losses = [], PairTrainer.compute_loss

    def killed_answering(*arguments, **options):
        found = rollout(*arguments, **options)
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return found

    def killed_training(self, *arguments, **options):
        if self.settings.seed == 5 and self.state.global_step == 3:
            raise KeyboardInterrupt
        return losses(self, *arguments, **options)

    part = tmp_path / "part"
    for place, name, killed in ((answering, "rollout", killed_answering),
                                (PairTrainer, "compute_loss", killed_training)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(place, name, killed)
            go(part)
        assert (part / "round-1" / "adapter" / "settings.json").exists()
        assert (part / "round-2" / "answers.jsonl").exists() == (name == "compute_loss")
    assert (part / "round-2" / "work" / "train" / "checkpoints" / "checkpoint-2").is_dir()
    again = go(part)
    assert same(one, again[0]) and same(two, again[1]) and not same(one, two)
    assert answers(part / "round-2") == second and not (part / "round-2" / "work").exists()

    # finished: nothing moves, and another run's folder is refused
    before = {path: path.stat().st_mtime_ns for path in part.rglob("*") if path.is_file()}
    assert go(part) == again and before == {path: path.stat().st_mtime_ns for path in part.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="round.json is of another run"):
        go(part, settings=replace(SETTINGS, learning_rate=1e-3))
    with pytest.raises(ValueError, match="0 rounds in 1 processes"):
        go(tmp_path, count=0)
