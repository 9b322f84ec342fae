"""`python -m medalign_lite.train.train` as people run it: strict, saved first, killed and resumed, loaded elsewhere."""

import json
import signal
import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_train import pairs  # noqa: F401 - a fixture

from medalign_lite.run.train import ABOUT, parser, resolve
from medalign_lite.train.data import read_pairs
from medalign_lite.train.settings import TrainSettings

QUICK = ["--device", "cpu", "--batch-size", "2", "--rank", "4", "--alpha", "8", "--learning-rate", "3e-3",
         "--warmup", "0", "--seed", "3"]  # fmt: skip
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
        return ["--pairs", str(pairs_file), "--model", str(tiny_folder), "--out", str(tmp_path / name), *QUICK, *more]
    return made


def call(arguments, *launcher):
    done = subprocess.run([sys.executable, *(launcher or ("-m",)), "medalign_lite.train.train", *arguments],
                          capture_output=True, text=True, check=False)
    return done


def rows(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def test_every_setting_is_an_argument_with_a_sentence():
    assert set(ABOUT) == {field.name for field in fields(TrainSettings)} - {"overrides"}
    shown = parser().format_help()
    assert all(f"--{name.replace('_', '-')}" in shown for name in ABOUT)


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
    ({"chosen": 3}, "line 1: chosen must be text"),
    ({"spans_chosen": [[0, 5, "side"]]}, "come together"),
])
def test_a_bad_line_of_a_pairs_file_is_named(pairs_file, tmp_path, change, message):
    row = json.loads(pairs_file.read_text().splitlines()[0])
    row["clean"] = str(pairs_file.parent / row["clean"])
    (tmp_path / "bad.jsonl").write_text(json.dumps({k: v for k, v in (row | change).items() if k in change or
                                                   k not in ("lesion", "control")}))
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(("more", "message"), [
    (["--epoch", "2"], "unrecognized arguments: --epoch 2\nallowed: -h, --help, --run, --pairs"),
    (["--epochs", "two"], "argument --epochs: invalid float value: 'two'\nallowed"),
    (["--rank", "4.5"], "argument --rank: invalid int value"),
])
def test_unknown_and_ill_typed_arguments_list_the_allowed(command, capsys, more, message):
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args(command("a", *more))
    assert stopped.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(("more", "message"), [
    (["--recipe", "dppo"], "allowed: dpo, mask-dpo"), (["--set", "gama=1"], "NAME one of beta"),
    (["--set", "gamma=much"], "is not a number"), (["--set", "reference=1"], "is not true or false"),
    (["--select", "best"], "allowed: last, loss, margin"), (["--start", "nowhere"], "holds no adapter"),
    (["--validation", "nowhere.jsonl"], "is not a file"),
])
def test_settings_that_cannot_be_used_raise(command, more, message):
    with pytest.raises(ValueError, match=message):
        resolve(parser().parse_args(command("a", *more)))


def test_overrides_have_the_types_of_the_recipe(command):
    more = ["--set", "gamma=0.2", "--set", "kl_answers=chosen,rejected", "--set", "w_kind=1,2,1,1,1,1,1,1"]
    recipe = resolve(parser().parse_args(command("a", *more)))[0].resolved_recipe()
    assert (recipe.gamma, recipe.kl_answers, recipe.w_kind[1]) == (0.2, ("chosen", "rejected"), 2.0)


def test_a_folder_that_is_no_run_is_said(tmp_path):
    with pytest.raises(ValueError, match="is no run with a finished stage 03_corruption"):
        resolve(parser().parse_args(["--run", str(tmp_path), "--out", str(tmp_path / "a")]))


def test_the_configuration_comes_first_and_another_one_is_refused(command, tmp_path):
    broken = [*command("a", "--max-steps", "1")]
    broken[broken.index("--model") + 1] = str(tmp_path)  # a folder without a model
    done = call(broken)
    assert done.returncode == 2 and "is not a model folder" in done.stderr
    saved = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (saved["settings"]["rank"], saved["recipe"]["name"], saved["pairs"]) == (4, "fire-mpo", 8)
    done = call([*broken, "--rank", "8"])
    assert done.returncode == 2 and "config.json is of another run" in done.stderr


def test_killed_for_real_it_resumes_to_the_same_weights(command, tmp_path):
    """4 steps over two epochs against 2, SIGKILL, 2: weights, optimizer, random states and order of the pairs."""
    more = ["--recipe", "neutral-control", "--accumulation", "2", "--epochs", "2", "--save-every", "2"]
    assert call(command("whole", *more)).returncode == 0
    arguments = command("part", *more)
    part = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert part.wait(timeout=300) == -signal.SIGKILL, part.stderr.read()[-2000:]
    checkpoints = tmp_path / "part" / "work" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-2"]
    assert [row["step"] for row in rows(checkpoints.parent)] == [1, 2]  # of step 3 nothing is left but events
    assert call(arguments).returncode == 0
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


def test_tensorboard_holds_what_the_log_holds(command, tmp_path):
    assert call(command("a", "--recipe", "dpo")).returncode == 0
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard")).Reload()
    for name in ("loss", "grad_norm", "margin", "learning_rate"):
        told = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert told == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows(tmp_path / "a")]
