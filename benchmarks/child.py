"""A measurement in a process of its own, and the peak of its memory."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from medalign_lite.files import peak_mb

CLEAR = Path("/proc/self/clear_refs")  # Linux: writing 5 starts the process's peak anew
STATUS = Path("/proc/self/status")


def run_child(work: Callable[..., dict], **arguments) -> dict:
    """`work(**arguments)` in a fresh process, which takes its memory with it. RuntimeError where it is killed."""
    kind = "forkserver" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn"  # CUDA cannot fork
    context = multiprocessing.get_context(kind)
    if kind == "forkserver":  # imports once for all children, and starts no thread
        context.set_forkserver_preload(["benchmarks.rows"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(work, **arguments).result()
        except BrokenProcessPool as error:
            raise RuntimeError(f"{work.__name__}({arguments}) was killed, most likely for its memory") from error


class Peak:
    """Peak memory since it was made, above what was held then, in MB (2^20 bytes): allocator's on CUDA, else process's.
    Where the system cannot start a process's peak anew, the peak counts from the process's start."""

    def __init__(self):
        self.on_gpu = torch.cuda.is_available()
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.held = torch.cuda.memory_allocated() / 2**20
        else:
            if os.access(CLEAR, os.W_OK):
                CLEAR.write_text("5")
            self.held = _status("VmRSS") if STATUS.exists() else peak_mb()

    def above(self) -> float:
        """MB."""
        if self.on_gpu:
            return torch.cuda.max_memory_allocated() / 2**20 - self.held
        return (_status("VmHWM") if STATUS.exists() else peak_mb()) - self.held


def _status(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**10
