"""Run one notebook strictly: papermill, minus its silences.

papermill only warns about an unknown parameter, ignores types, and reports a killed kernel as a number. Here each is an
error that says what to do, raised before anything runs where it can be. The kernel is the interpreter that runs this,
whatever Jupyter kernels are installed, and works in the notebook's own folder, as in JupyterLab and nbmake.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import nbformat
from jupyter_core.utils import run_sync

from medalign_lite.files import machine_memory_gb
from medalign_lite.run.commands import OutOfMemory, ran_out

LONGEST_TMPDIR = 64  # bytes; a socket's name has at most 103 on macOS, and ours come after this
SCALARS = {"str": str, "int": int, "float": float, "bool": bool}
# What a kernel sees when nobody watches it. Package and notebooks print plain lines in place of bars when
# MEDALIGN_HEADLESS is 1; figures go into the notebook; nothing is fetched.
HEADLESS = {
    "MEDALIGN_HEADLESS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
# A kernel's program: like ipykernel_launcher, after the imports that it is told of; one that fails is left to its cell.
LAUNCH = """import contextlib, importlib, os, sys
sys.path = [folder for folder in sys.path if folder]
for name in os.environ.pop("MEDALIGN_IMPORTS", "").split():
    with contextlib.suppress(Exception):
        importlib.import_module(name)
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()"""


class NotebookError(RuntimeError):
    """A notebook that cannot run or did not; the message says where, and the next step."""


def parameters_of(path: Path) -> dict[str, object]:
    """{name: default} of the notebook's cell tagged ``parameters``: annotated scalars and nothing else. Raises
    NotebookError if there is not exactly one such cell or a line is not ``NAME: type = constant``."""
    cells = [c for c in _read(path).cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"{path.name} needs exactly one cell tagged 'parameters'; it has {len(cells)}")
    form, found = "must read NAME: str|int|float|bool = constant", {}
    try:
        nodes = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise NotebookError(f"{path.name}: parameter line {error.lineno} is no Python, it {form}") from None
    for node in nodes:
        line = ast.unparse(node)
        try:
            kind, value = SCALARS[node.annotation.id], ast.literal_eval(node.value)
            found[node.target.id] = value
        except (AttributeError, KeyError, ValueError, TypeError):
            raise NotebookError(f"{path.name}: parameter line `{line}` {form}") from None
        if not _fits(value, kind):
            raise NotebookError(f"{path.name}: in `{line}` the default is not of its type")
    return found


def check_parameters(path: Path, values: dict) -> None:
    """Raise NotebookError unless every value is a parameter of the notebook and of its type."""
    allowed = parameters_of(path)
    for name, value in values.items():
        if name not in allowed:
            raise NotebookError(f"{path.name} has no parameter {name!r}; it has {', '.join(allowed)}")
        kind = type(allowed[name])
        if not _fits(value, kind):
            raise NotebookError(f"{path.name}: {name}={value!r} must be {kind.__name__}, not {type(value).__name__}")


def typical_minutes(path: Path) -> float | None:
    """The first number under ``minutes`` in the table of the notebook's first cell; None without one."""
    rows = [line.strip().strip("|").split("|") for line in _read(path).cells[0].source.splitlines() if "|" in line]
    heads = [cell.strip(" *").lower() for cell in rows[0]] if rows else []
    if "minutes" not in heads or len(rows) < 3:
        return None
    number = re.search(r"\d+(\.\d+)?", rows[2][heads.index("minutes")])
    return number and float(number[0])


def run_notebook(
    path: Path, values: dict, output: Path, *, on_text: Callable[[str], object] = lambda text: None,
    kernels: Kernels | None = None,
):
    """Execute the notebook with these parameters, saving `output` after every cell; return the executed notebook.
    `on_text` is given what cells print, as it comes; `kernels` has its kernel where that was started ahead. Raises
    NotebookError: a bad parameter, a cell that failed (named, with its last lines); OutOfMemory also for a kernel that
    was killed."""
    check_parameters(path, values)
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    output.parent.mkdir(parents=True, exist_ok=True)
    log = output.with_suffix(".log")
    with headless_kernels(kernels) as kernels, errors_to(log):
        kernel = kernels.take(path, log)
        try:
            return papermill.execute_notebook(
                path, output, parameters=values, kernel_name="python3", language="python", progress_bar=False,
                stdout_file=SimpleNamespace(write=on_text, flush=lambda: None), start_timeout=120, km=kernel,
            )
        except papermill.PapermillExecutionError as error:
            kind = OutOfMemory if ran_out(error.ename, error.evalue) else NotebookError
            raise kind(_failed(path, output, error)) from None
        except DeadKernelError:
            raise OutOfMemory(_killed(path, output)) from None
        finally:
            kernels.end(kernel)


class Kernels:
    """Kernels that work in their notebook's folder. One that is started ahead, while another notebook is at work, has
    imported by its turn what its notebook imports, which takes as long as a short notebook."""

    def __init__(self, folder: Path):
        self.folder, self.numbers, self.ahead = folder, itertools.count(), {}

    def start(self, path: Path, log: Path) -> None:
        """Start the kernel of this notebook, unless it is; what it writes to standard error goes to `log`."""
        if path in self.ahead:
            return
        from jupyter_client.manager import AsyncKernelManager

        # sockets in a folder of our own, not ports that others on the machine can listen to
        place = str(self.folder / f"socket{next(self.numbers)}")
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=place)
        log.write_bytes(b"")
        with log.open("ab") as stream:
            run_sync(kernel.start_kernel)(
                cwd=str(path.parent), stderr=stream, extra_arguments=["--HistoryManager.hist_file=:memory:"],
                env=os.environ | {"MEDALIGN_IMPORTS": " ".join(imports_of(path))},
            )  # fmt: skip
        self.ahead[path] = kernel, log

    def take(self, path: Path, log: Path):
        """The kernel of this notebook; one that was started ahead and has died since is replaced."""
        self.start(path, log)
        kernel, _ = self.ahead.pop(path)
        if run_sync(kernel.is_alive)():
            return kernel
        self.end(kernel)
        return self.take(path, log)

    def end(self, kernel) -> None:
        """End it, whatever it does."""
        run_sync(kernel.shutdown_kernel)(now=True)


def imports_of(path: Path) -> list[str]:
    """The modules that the notebook's cells import, in their order; cells that are no plain Python are left out."""
    names = {}
    for cell in (cell for cell in _read(path).cells if cell.cell_type == "code"):
        with contextlib.suppress(SyntaxError):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Import):
                    names |= dict.fromkeys(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names[node.module] = None
    return list(names)


@contextlib.contextmanager
def errors_to(log: Path) -> Iterator[None]:
    """What this process and its children write to standard error goes to a file: a kernel that is interrupted, or
    whose disk is full, has much to say. A file that stays empty goes."""
    sys.stderr.flush()
    before = os.dup(2)
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        if not log.stat().st_size:
            log.unlink()


@contextlib.contextmanager
def headless_kernels(kernels: Kernels | None = None) -> Iterator[Kernels]:
    """Within it, the kernel ``python3`` is this interpreter and the environment is `HEADLESS`; afterwards every kernel
    has ended. Within another one (`kernels`) it is that one. Raises NotebookError where neither TMPDIR nor /tmp is a
    folder whose sockets have names that the system takes."""
    if kernels:
        yield kernels
        return
    place = next((place for place in (tempfile.gettempdir(), "/tmp")
                  if len(os.fsencode(place)) <= LONGEST_TMPDIR and os.access(place, os.W_OK | os.X_OK)), None)
    if place is None:
        raise NotebookError(f"TMPDIR is longer than {LONGEST_TMPDIR} bytes, too long for the sockets of notebooks, and "
                            "/tmp cannot be written: set TMPDIR to a shorter folder")
    with tempfile.TemporaryDirectory(prefix="medalign-kernel-", dir=place) as folder:
        spec = Path(folder) / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        argv = [sys.executable, "-c", LAUNCH, "-f", "{connection_file}", "--log-level=50"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), encoding="utf-8")
        before = dict(os.environ)
        jupyter = os.pathsep.join(filter(None, [folder, before.get("JUPYTER_PATH")]))
        os.environ.update(HEADLESS | {"JUPYTER_PATH": jupyter, "IPYTHONDIR": str(Path(folder) / "ipython")})
        started = Kernels(Path(folder))
        try:
            yield started
        finally:
            for kernel, log in started.ahead.values():
                started.end(kernel)
                log.unlink()
            os.environ.clear()
            os.environ.update(before)


def _fits(value, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"there is no notebook {path}") from None
    except (ValueError, nbformat.reader.NotJSONError) as error:
        raise NotebookError(f"{path} is not a readable notebook ({error}); restore it with git") from error


def _failed(path: Path, output: Path, error) -> str:
    """The message for a cell that raised: its number and last lines, the error, where the rest can be read."""
    lines = error.source.rstrip().splitlines()
    shown = "\n".join(f"    {line}" for line in (["..."] if len(lines) > 6 else []) + lines[-6:])
    return (f"{path.name} failed in cell {error.cell_index + 1}:\n{shown}\n{error.ename}: {error.evalue}\nThe notebook "
            f"as far as it ran, with the traceback: {output}\nWhat is finished is kept: mend the cause and run the "
            "same command again")


def _killed(path: Path, output: Path) -> str:
    """The message for a kernel that vanished: papermill marks the cells it has started."""
    cells = nbformat.read(output, as_version=4).cells if output.exists() else []
    started = [i for i, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")]
    where = f" while it ran cell {started[-1] + 1}" if started else ""
    total, free = machine_memory_gb()
    return (f"{path.name}: the kernel was killed{where}. Python left no error, so it was the system or a person: "
            f"usually memory ran out (this machine has {total:.1f} GB, {free:.1f} GB free now).\nThe notebook as far "
            f"as it ran: {output}; what it last wrote, if anything: {output.with_suffix('.log')}\nWhat is finished is "
            "kept: close other programs and run the same command again, or take a smaller preset")
