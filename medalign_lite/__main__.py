"""``python -m medalign_lite COMMAND NAME=value ...``: the commands behind `make`, in one place.

    python -m medalign_lite doctor
    python -m medalign_lite reproduce PRESET=ci CASES=path
"""

import importlib
import sys

from medalign_lite.files import ROOT

COMMANDS = {
    "doctor": "is this machine ready, and what to do if not", "models": "fetch weights ahead",
    "cases": "what is read from CASES=", "masks": "outlines for lesions that CASES= marks by box or point",
    "reproduce": "the eight notebooks in order", "export": "adapter, merged model and NF4 model of a run",
    "train": "training outside notebooks, from a run or a file of pairs",
    "score": "a predictions file against a references file",
    "llm": "preference records of a run, edited by a language model",
    "people": "preference records of a run, from what people said of its answers",
    "labels": "what a report on standard input states, and its CheXpert labels",
}
PLACES = {"llm": "editors.llm", "people": "editors.people", "labels": "text.labels"}  # all others: run.COMMAND
ALONE = ("train", "score", *PLACES)  # that need no clone around them


def main(arguments: list[str]) -> int:
    """Exit status of the command; 2 for one that there is not."""
    command, *given = arguments or [""]
    if command not in COMMANDS:
        listed = "\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items())
        print(f"error: unknown command {command!r}; allowed:\n{listed}", file=sys.stderr)
        return 2
    if command not in ALONE and not (ROOT / "notebooks").is_dir():
        print(f"error: {ROOT} is an installed copy, and {command} needs the repository: clone it, and work in it, or "
              "beside it where it is called medalign-lite", file=sys.stderr)
        return 2
    return importlib.import_module(f"medalign_lite.{PLACES.get(command, f'run.{command}')}").main(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
