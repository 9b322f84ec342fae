"""Heavy work in two processes of one thread each: on two cores a small model runs faster so than with two threads.

How the work is cut into jobs never depends on the machine, so neither does the result; a machine with one core, or a
GPU, does the jobs one after another.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from unittest.mock import patch

import torch

SHARDS = 2
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_shards(work: Callable, jobs: Sequence, *, tick: Callable[[], str] | None = None, every: float = 15.0) -> list:
    """`work(job)` of each job, in order; `work` is a function at the top of a module, jobs and results pickle.

    `tick` gives a line that is printed every so many seconds. Each process has one thread and ends with its parent, so
    that a run started again after a kill finds nobody at its files. What `work` raises is raised here at once: the
    other jobs are stopped, as they are by an interrupt."""
    processes = min(len(jobs), os.cpu_count() or 1)
    if processes < 2 or torch.cuda.is_available():
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # so that results are those of the processes
        try:
            with _ticking(tick, every):
                return [work(job) for job in jobs]
        finally:
            torch.set_num_threads(before)
    with patch.dict(os.environ, dict.fromkeys(THREADS, "1")):  # which processes started within will see
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(os.getpid(), stop))
        with pool, _ticking(tick, every):
            try:
                futures = [pool.submit(work, job) for job in jobs]
                for future in wait(futures, return_when="FIRST_EXCEPTION").done:
                    future.result()
                return [future.result() for future in futures]
            except BaseException:
                stop.set()
                raise


def _begin(parent: int, stop) -> None:
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent and not stop.wait(0.3):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _ticking(tick: Callable[[], str] | None, every: float):
    stop = threading.Event()

    def say() -> None:
        last = ""
        while tick and not stop.wait(every):
            line = tick()
            if line != last:
                print(line, flush=True)
            last = line

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
