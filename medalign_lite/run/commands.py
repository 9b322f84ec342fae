"""How a command is told, NAME=value, and how it ends: an exit status, and one sentence about what was wrong."""

import errno
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import wraps

from medalign_lite.files import visible

AGAIN = "the same command goes on from there"
MACHINE = {
    errno.ENOSPC: "free some space", errno.EDQUOT: "free some space", errno.EFBIG: "free some space",
    errno.EROFS: "choose a place that can be written, with OUT=", errno.EACCES: "choose another place, with OUT=",
    errno.EPERM: "choose another place, with OUT=", errno.EMFILE: "raise the limit on open files: ulimit -n 4096",
}  # fmt: skip
DENIED = (errno.EACCES, errno.EPERM)  # of what is read it is the command that knows what to say


class ArgumentError(ValueError):
    """An argument that cannot be used; the message lists what can."""


class OutOfMemory(RuntimeError):
    """Memory ran out, or a notebook's kernel was killed, which is mostly the same; the message says what to do."""


def read_arguments(given: Sequence[str], allowed: Mapping[str, str]) -> dict[str, str]:
    """{NAME: text} of NAME=value arguments, those without a value left out; `allowed` says what each name means. Raises
    ArgumentError for another name or an argument without `=`."""
    found = {}
    for argument in given:
        name, equals, text = argument.partition("=")
        if not equals or name not in allowed:
            listed = "\n".join(f"  {key}=  {meaning}" for key, meaning in allowed.items())
            raise ArgumentError(f"unknown argument {argument!r}; allowed:\n{listed}")
        found |= {name: text} if text else {}
    return found


def needed(given: Mapping[str, str], *names: str) -> dict[str, str]:
    """The arguments, of which these must be among. Raises ArgumentError that names those that lack."""
    if lacking := [f"{name}=" for name in names if name not in given]:
        raise ArgumentError(f"say {' and '.join(lacking)} too")
    return dict(given)


def value_of(name: str, text: str | None, default):
    """The text as the default's kind of value: words with commas for a tuple; the default itself for None."""
    if text is None:
        return default
    if isinstance(default, tuple):
        return tuple(text.split(","))
    try:
        return {"true": True, "false": False}[text.lower()] if isinstance(default, bool) else type(default)(text)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise ArgumentError(f"{name}={text!r} is not {wanted}") from None


def exit_status(
    work: Callable[[], int | None], *, refused: tuple[type, ...], stopped: tuple[type, ...] = (), resume: str = AGAIN
) -> int:
    """What `work` returns (0 for None); 1 for an error among `stopped` or of the machine, 2 for one among `refused`,
    130 after an interrupt, whose line says how to `resume`. Of any other error, which is ours, the traceback goes to a
    file that the sentence names."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        return _ended(f"\ninterrupted: {resume}", 130)
    except Exception as error:
        foreseen = isinstance(error, (*stopped, *refused, ArgumentError))
        number = error.errno if isinstance(error, OSError) else None
        if number in MACHINE and not (foreseen and number in DENIED):
            return _ended(f"error: {error.filename or 'a file'}: {error.strerror}; {MACHINE[number]}, {resume}", 1)
        if foreseen:
            return _ended(f"error: {error}", 1 if isinstance(error, stopped) else 2)
        with tempfile.NamedTemporaryFile("w", prefix="medalign-", suffix=".log", delete=False, encoding="utf-8",
                                         errors="backslashreplace") as log:
            traceback.print_exception(error, file=log)
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
        return _ended(f"error: {said}; nothing foresaw this: its traceback is in {log.name}", 1)


def command(**told) -> Callable:
    """Makes the work of a command, called with its arguments, end as `exit_status` says, which is told the rest."""

    def ends(work: Callable[[Sequence[str]], int | None]) -> Callable[[Sequence[str]], int]:
        return wraps(work)(lambda arguments: exit_status(lambda: work(arguments), **told))

    return ends


def _ended(sentence: str, status: int) -> int:
    print("\n".join(map(visible, sentence.split("\n"))), file=sys.stderr, flush=True)
    return status


def ran_out(error: str, message: str) -> bool:
    """Whether an error, by its class's name and its message, is that of memory that ran out."""
    marks = ("can't allocate memory", "CUDA out of memory", "ALLOC_FAILED")
    return error.endswith(("OutOfMemoryError", "MemoryError", "BrokenProcessPool")) or any(m in message for m in marks)
