"""Two processes: order, errors, one thread each, and no orphan after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medalign_lite.model.processes import run_shards

SLOW = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_shards import write_for_long
from medalign_lite.model.processes import run_shards
if __name__ == "__main__":
    run_shards(write_for_long, [Path(sys.argv[1]) / "a", Path(sys.argv[1]) / "b"])
"""


def threads_of(job):
    return job, torch.get_num_threads()


def fail_on_two(job):
    if job == 2:
        raise ValueError("job 2 is no good")
    time.sleep(3600)


def write_for_long(path):
    while True:
        path.write_text(str(time.time()))
        time.sleep(0.1)


def test_results_come_in_the_order_of_the_jobs_from_one_thread_each(capsys):
    before = torch.get_num_threads()
    assert run_shards(threads_of, ["a", "b"], tick=lambda: "half way", every=0.1) == [("a", 1), ("b", 1)]
    assert run_shards(threads_of, ["a"]) == [("a", 1)]
    assert torch.get_num_threads() == before and "half way" in capsys.readouterr().out


def test_an_error_comes_out_as_it_is_and_stops_the_others():
    with pytest.raises(ValueError, match="job 2 is no good"):
        run_shards(fail_on_two, [1, 2])  # job 1 would take forever
    with pytest.raises(ValueError, match="job 2 is no good"):
        run_shards(fail_on_two, [2])


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core runs the jobs one after another")
def test_no_process_outlives_a_killed_parent(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW.format(tests=str(Path(__file__).parent)))
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    deadline = time.monotonic() + 240
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    time.sleep(1.5)
    last = (tmp_path / "a").read_text(), (tmp_path / "b").read_text()
    time.sleep(0.5)
    assert last == ((tmp_path / "a").read_text(), (tmp_path / "b").read_text())
