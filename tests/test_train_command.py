"""The command `train`: strict, saved first, killed and resumed; `test_parallel` runs it as people do."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file
from test_train import pairs  # noqa: F401 - a fixture

from medalign_lite.run.commands import ArgumentError, read_arguments
from medalign_lite.run.train import ABOUT, allowed, main, resolve
from medalign_lite.train import train as trainer
from medalign_lite.train.data import read_pairs, write_pairs
from medalign_lite.train.settings import TrainSettings, trainer_arguments
from medalign_lite.train.train import last_checkpoint

QUICK = ["DEVICE=cpu", "batch_size=2", "rank=4", "alpha=8", "learning_rate=3e-3", "warmup=0", "seed=3"]
TIMING = {"seconds", "peak_mb"}


@pytest.fixture(scope="module")
def pairs_file(pairs, tmp_path_factory):  # noqa: F811
    """Eight pairs on disk, without spans: the file's reader finds them."""
    folder, lines = tmp_path_factory.mktemp("pairs"), []
    for pair in pairs:
        row = {"id": pair.id, "question": pair.question, "chosen": pair.chosen, "rejected": pair.rejected}
        for name in ("clean", "lesion", "control"):
            if picture := pair.picture(name):
                picture.save(folder / f"{pair.id}-{name}.png")
                row[name] = f"{pair.id}-{name}.png"
        lines.append(json.dumps(row | {"gold": pair.gold}))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "pairs.jsonl"


@pytest.fixture
def command(tiny_folder, pairs_file, tmp_path):
    """The arguments of a run into tmp_path/name."""
    def made(name, *more):
        return [f"PAIRS={pairs_file}", f"MODEL={tiny_folder}", f"OUT={tmp_path / name}", *QUICK, *more]
    return made


def read(arguments):
    return resolve(read_arguments(arguments, allowed()))


def rows(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def test_every_setting_is_an_argument_with_a_sentence(command, tmp_path):
    assert set(ABOUT) == {field.name for field in fields(TrainSettings)} - {"overrides", "recipe"}
    with pytest.raises(ArgumentError) as error:
        read(["epoch=2"])
    assert all(f"\n  {name}=  " in str(error.value) for name in (*ABOUT, "RECIPE", "RUN", "PAIRS", "recipe.gamma"))
    more = ["recipe.gamma=0.2", "recipe.kl_answers=chosen,rejected", "recipe.w_kind=1,2,1,1,1,1,1,1"]
    recipe = read(command("a", *more))[0].resolved_recipe()
    assert (recipe.gamma, recipe.kl_answers, recipe.w_kind[1]) == (0.2, ("chosen", "rejected"), 2.0)
    with pytest.raises(ValueError, match="is no run with a finished stage 03_corruption"):
        read([f"RUN={tmp_path}", f"OUT={tmp_path / 'a'}"])


def test_spans_of_a_pairs_file_are_found_by_comparing(pairs, pairs_file):  # noqa: F811
    read = read_pairs(pairs_file)
    assert [pair.id for pair in read] == [pair.id for pair in pairs]
    for ours, pair in zip(read, pairs, strict=True):
        (start, end, kind), = ours.spans_chosen
        assert (ours.chosen[start:end].strip(), kind) == (pair.chosen[slice(*pair.spans_chosen[0][:2])], "side")
        assert (ours.lesion is None) == (pair.lesion is None)


@pytest.mark.parametrize(("change", "message"), [
    ({"clean": "nowhere.png"}, "line 1: there is no image .*nowhere.png"),
    ({"picture": "a.png"}, "line 1: a pair has id, question, chosen, rejected, clean, and may have"),
    ({"chosen": 3}, "line 1: chosen must be text"), ({"spans_chosen": [[0, 5, "side"]]}, "come together"),
])
def test_a_bad_line_of_a_pairs_file_is_named(pairs_file, tmp_path, change, message):
    row = json.loads(pairs_file.read_text().splitlines()[0])
    row["clean"] = str(pairs_file.parent / row["clean"])
    (tmp_path / "bad.jsonl").write_text(json.dumps({k: v for k, v in (row | change).items() if k in change or
                                                   k not in ("lesion", "control")}))
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(("more", "message"), [
    ("epochs=two", "epochs='two' is not a number"), ("rank=4.5", "rank='4.5' is not a whole number"),
    ("RECIPE=dppo", "allowed: dpo, mask-dpo"), ("recipe.gama=1", "unknown argument 'recipe.gama=1'; allowed:"),
    ("recipe.gamma=much", "is not a number"), ("recipe.reference=1", "is not true or false"),
    ("select=best", "allowed: last, loss, margin"), ("START=nowhere", "holds no adapter"),
    ("VALIDATION=nowhere.jsonl", "is not a file"), ("DEVICE=tpu", "is not one of auto, cpu, cuda"),
    ("RUN=artifacts/ci", "RUN= or PAIRS=, and OUT="),
])
def test_settings_that_cannot_be_used_raise(command, more, message):
    with pytest.raises(ValueError, match=message):
        read(command("a", more))


def test_pairs_that_the_kit_writes_it_reads(pairs_file, tmp_path):
    """Also where a text holds what other readers take for the end of a line."""
    first, *others = read_pairs(pairs_file)
    odd = replace(first, question="a\u2028b\x85c\x0bd", chosen=f"{first.chosen}\u2029")
    write_pairs(tmp_path / "again.jsonl", [odd, *others])
    assert read_pairs(tmp_path / "again.jsonl") == [odd, *others]


def test_one_step_is_learnt_from_and_a_run_that_moves_nothing_is_an_error(command, tmp_path, capsys):
    """Seven pairs or fewer in one batch are one optimizer step: its learning rate is not 0."""
    more = ["batch_size=8", "warmup=0.05"]
    assert main(command("one", *more)) == 0
    assert [row["learning_rate"] > 0 for row in rows(tmp_path / "one")] == [True]
    assert any(value.abs().sum() > 0 for name, value in weights(tmp_path / "one").items() if "lora_B" in name)
    assert main(command("still", *more, "learning_rate=1e-300")) == 1
    assert "the adapters are what they were" in capsys.readouterr().err
    assert not (tmp_path / "still" / "adapter_model.safetensors").exists()


def test_the_configuration_comes_first_and_another_one_is_refused(command, tmp_path, capsys):
    broken = [*command("a", "max_steps=1"), f"MODEL={tmp_path}"]  # a folder without a model; the last one counts
    assert main(broken) == 2 and "is not a model folder" in capsys.readouterr().err
    saved = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (saved["settings"]["rank"], saved["recipe"]["name"], saved["pairs"]) == (4, "fire-mpo", 8)
    assert main([*broken, "rank=8"]) == 2 and "config.json is of another run" in capsys.readouterr().err


def test_killed_for_real_it_resumes_to_the_same_weights(command, tmp_path):
    """4 steps over two epochs against 2, SIGKILL, 2: weights, optimizer, random states and order of the pairs.

    A checkpoint that was half written is passed over.
    """
    more = ["RECIPE=neutral-control", "accumulation=2", "epochs=2", "save_every=2"]
    assert main(command("whole", *more)) == 0
    arguments = command("part", *more)
    part = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert part.wait(timeout=300) == -signal.SIGKILL, part.stderr.read()[-2000:]
    checkpoints = tmp_path / "part" / "work" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-2"]
    shutil.copytree(checkpoints / "checkpoint-2", checkpoints / "checkpoint-3")
    (checkpoints / "checkpoint-3" / "trainer_state.json").write_text('{"epo')
    assert last_checkpoint(checkpoints).name == "checkpoint-2"
    assert [row["step"] for row in rows(checkpoints.parent)] == [1, 2] and main(arguments) == 0
    whole, again = tmp_path / "whole", tmp_path / "part"
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())
    assert rows(whole) == rows(again) and [row["step"] for row in rows(whole)] == [1, 2, 3, 4]
    ends = [folder / "work" / "checkpoints" / "checkpoint-4" for folder in (whole, again)]
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert equal(*(torch.load(end / name, weights_only=name != "rng_state.pth") for end in ends)), name


KILLED = """
import os, signal, sys
from medalign_lite.train.train import PairTrainer
from medalign_lite.run.train import main
losses = PairTrainer.compute_loss

def killed(self, *arguments, **options):
    if self.state.global_step == 2 and self.batch_ids:  # in the middle of the third step
        os.kill(os.getpid(), signal.SIGKILL)
    return losses(self, *arguments, **options)

PairTrainer.compute_loss = killed
main(sys.argv[1:])
"""


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if hasattr(a, "shape"):
        return a.shape == b.shape and bool((a == b).all())
    return a == b


def test_a_reporter_is_handed_to_the_trainer_where_it_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(trainer, "get_available_reporting_integrations", lambda: ["wandb", "mlflow"])
    trainer._check_reporter("wandb")
    for name in ("tensorboard", "mlflow"):
        with pytest.raises(ValueError, match="usable here are none, wandb; others .* pip install tensorboard"):
            trainer._check_reporter(name)
    told = trainer_arguments(TrainSettings(), tmp_path, on_cpu=True, validated=False, pairs=8, report_to="wandb")
    assert told.report_to == ["wandb"]
