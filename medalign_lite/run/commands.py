"""How a command ends: an exit status, and one sentence about what was wrong."""

import sys
from collections.abc import Callable

from medalign_lite.files import visible

AGAIN = "the same command goes on from there"


def exit_status(
    work: Callable[[], int | None], *, refused: tuple[type, ...], stopped: tuple[type, ...] = (), resume: str = AGAIN
) -> int:
    """What `work` returns (0 for None); 1 for an error among `stopped`, 2 for one among `refused`, 130 after an
    interrupt, whose line says how to `resume`. Other errors are raised on: they are ours."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        print(f"\ninterrupted: {resume}", file=sys.stderr)
        return 130
    except (*stopped, *refused) as error:
        print("error:", "\n".join(map(visible, str(error).splitlines())), file=sys.stderr)
        return 1 if isinstance(error, stopped) else 2


def ran_out(error: str, message: str) -> bool:
    """Whether an error, by its class's name and its message, is that of memory that ran out."""
    marks = ("can't allocate memory", "CUDA out of memory", "ALLOC_FAILED")
    return error.endswith(("OutOfMemoryError", "MemoryError", "BrokenProcessPool")) or any(m in message for m in marks)
