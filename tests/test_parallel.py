"""Several processes: how a step is divided, and that two of them over gloo train what one does."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from safetensors.torch import load_file
from test_train_command import pairs, pairs_file  # noqa: F401 - fixtures

from medalign_lite.train.settings import ShareSampler, divide_step, refuse_sharding


@pytest.mark.parametrize(("batch_size", "accumulation", "processes", "each"), [
    (8, 1, 1, (8, 1)), (8, 1, 2, (4, 1)), (1, 8, 2, (1, 4)), (4, 3, 2, (3, 2)), (16, 1, 8, (2, 1)),
])
def test_processes_divide_a_step_and_never_change_it(batch_size, accumulation, processes, each):
    assert divide_step(batch_size=batch_size, accumulation=accumulation, processes=processes) == each
    assert each[0] * each[1] * processes == batch_size * accumulation and each[0] <= batch_size


def test_a_step_that_cannot_be_divided_and_sharding_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="3 records cannot be divided between 2 processes; give a multiple of 2"):
        divide_step(batch_size=3, accumulation=1, processes=2)
    refuse_sharding()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP is not supported: docs/TRAINING.md says what it needs"):
        refuse_sharding()


@pytest.mark.parametrize("records", [8, 7, 1])
def test_the_shares_of_an_epoch_are_its_records_in_the_order_of_one_process(records):
    shares = [ShareSampler(records, size=2, rank=rank, processes=2, seed=5) for rank in (0, 1)]
    alone = ShareSampler(records, size=4, rank=0, processes=1, seed=5)
    known = SeedableRandomSampler(range(records), data_seed=5)
    for epoch in (0, 3):
        for sampler in (*shares, alone, known):
            sampler.set_epoch(epoch)
        steps = [first + second for first, second in zip(*shares, strict=True)]
        assert steps == list(alone) and sum(steps, []) == list(known)
    assert len(shares[0]) == len(shares[1]) == len(alone)


def test_two_processes_train_what_one_does(tiny_folder, pairs_file, tmp_path):  # noqa: F811
    """Seven records in steps of four, twice: the last step of an epoch is uneven, and a process gets an empty batch.

    Gradients are sums in another order, so they differ in their last bits (fp32, some 1e-7 of their size), and losses
    show no more than that. Adam divides a gradient by its own size, also where it is next to nothing, so a weight may
    move by a thousandth of a step (3e-3) more. `epoch` counts forwards, of which each process has fewer.
    """
    lines = pairs_file.read_text().splitlines()
    (pairs_file.parent / "seven.jsonl").write_text("\n".join(lines[:7]))
    held_out = [json.dumps(json.loads(line) | {"id": f"v{n}"}) for n, line in enumerate(lines[:3])]
    (pairs_file.parent / "held_out.jsonl").write_text("\n".join(held_out))
    arguments = [
        f"PAIRS={pairs_file.parent / 'seven.jsonl'}", f"VALIDATION={pairs_file.parent / 'held_out.jsonl'}",
        *(f"MODEL={tiny_folder}", "DEVICE=cpu", "RECIPE=neutral-control", "batch_size=1", "accumulation=4", "epochs=2"),
        *("rank=4", "alpha=8", "learning_rate=3e-3", "warmup=0", "eval_batch_size=2", "select=loss"),
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
              *("--main_process_port", port)]  # fmt: skip
    for name, program in (("one", [sys.executable]), ("two", launch)):
        done = subprocess.run([*program, "-m", "medalign_lite", "train", *arguments, f"OUT={tmp_path / name}"],
                              capture_output=True, text=True, check=False, timeout=500,
                              env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = ([json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
                for name in ("one", "two"))
    assert [row["step"] for row in one] == [row["step"] for row in two] == [1, 2, 2, 3, 4, 4]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in set(a) - {"seconds", "peak_mb", "epoch"}:
            assert b[name] == pytest.approx(a[name], rel=1e-5, abs=1e-6), name
    alone, shared = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert alone.keys() == shared.keys()
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, atol=3e-6, rtol=1e-4)
