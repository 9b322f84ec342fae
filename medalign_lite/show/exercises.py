"""Exercises that check themselves, and quizzes: right, or wrong with a hint, then a second one. Wrong never passes.

    check(closed_accuracy, {("base",): 0.907}, hints=("Count questions, not images.", "Skip what is not visible."))
    check(-0.693, -math.log(2), hints=("What is σ(0)?", "It is a half."))
    quiz("Which word hurts most?", ["no", "small", "left", "seen"], right="no", why="It hides a finding.")
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import ipywidgets as ipw
import numpy as np

from medalign_lite.files import file_sha256, read_json, read_jsonl

_WRONG: Counter = Counter()  # wrong answers so far, by an exercise's hints


@dataclass(frozen=True)
class Mark:
    """What a check says: a sign and a word, in text and as HTML that a screen reader announces."""

    right: bool
    text: str

    def __repr__(self) -> str:
        return f"{'✓ right' if self.right else '✗ not yet'}: {self.text}" if self.text else "✓ right"

    def _repr_html_(self) -> str:
        return f'<p role="status" style="white-space:pre-wrap"><bdi>{escape(repr(self))}</bdi></p>'


def check(answer, right, *, hints: Sequence[str], tolerance: float = 1e-3) -> Mark:
    """Whether `answer` is `right`; a function is called with each key of `right`, and must return its value. Numbers
    and arrays may be off by `tolerance`; everything else must be equal and of the same kind. The first wrong answer
    brings the first hint, later ones the next. An answer that is None, or that raises, is wrong."""
    cases = right.items() if callable(answer) and isinstance(right, Mapping) else [(None, right)]
    for arguments, wanted in cases:
        try:
            said = answer(*arguments) if arguments is not None else answer
        except NotImplementedError as todo:
            return Mark(False, f"to do: {todo}")
        except Exception as error:  # whatever a learner's code raises
            return Mark(False, f"{type(error).__name__}: {error}\n{_hint(hints)}")
        if not same(said, wanted, tolerance):
            given = f"with {_short(', '.join(map(repr, arguments)))} " if arguments else ""
            where = f"{given}it gives {_short(repr(said))}. " if arguments is not None else ""
            return Mark(False, where + _hint(hints))
    return Mark(True, "")


def same(said, wanted, tolerance: float) -> bool:
    """Equal and of one kind; numbers within `tolerance`, never NaN; containers item by item."""
    if isinstance(wanted, Mapping):
        keys = isinstance(said, Mapping) and said.keys() == wanted.keys()
        return keys and all(same(said[key], wanted[key], tolerance) for key in wanted)
    said, wanted = ([x.item() if hasattr(x, "item") and np.ndim(x) == 0 else x for x in (said, wanted)])
    if isinstance(wanted, bool | str) or wanted is None:
        return type(said) is type(wanted) and said == wanted
    if isinstance(wanted, int | float):
        return isinstance(said, int | float) and not isinstance(said, bool) and bool(abs(said - wanted) <= tolerance)
    if isinstance(wanted, set | frozenset):
        return isinstance(said, set | frozenset) and said == wanted
    sized = not isinstance(said, str | Mapping) and hasattr(said, "__len__") and hasattr(said, "__getitem__")
    return sized and len(said) == len(wanted) and all(same(a, b, tolerance) for a, b in zip(said, wanted, strict=True))


def logged(folders: Mapping[str, Path]) -> dict[str, tuple[int, float, bool]]:
    """{recipe: (steps, first margin, whether the margin moved)} of trained adapters, by their own settings and logs;
    the margin to five places, as the sums of 4-bit weights are not exact."""
    recipes = {read_json(folder / "settings.json")["recipe"]["name"]: folder for folder in folders.values()}
    logs = {name: read_jsonl(folder / "log.jsonl") for name, folder in recipes.items()}
    return {name: (len(rows), round(rows[0]["margin"], 5) + 0.0, abs(rows[-1]["margin"]) > 1e-5)
            for name, rows in logs.items()}


def resumed(whole: Path, killed: Path, done: int, *, steps: int) -> tuple[bool, bool, bool]:
    """Whether both folders' logs hold each of the steps, whether one was killed on the way, with `done` of them logged,
    and whether two folders hold the same weights, bit for bit."""
    logs = [[row["step"] for row in read_jsonl(folder / "log.jsonl")] for folder in (whole, killed)]
    weights = {file_sha256(folder / "adapter_model.safetensors") for folder in (whole, killed)}
    return logs == [[*range(1, steps + 1)]] * 2, 0 < done < steps, len(weights) == 1 and not whole.samefile(killed)


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _hint(hints: Sequence[str]) -> str:
    number = min(_WRONG[tuple(hints)], len(hints) - 1)
    _WRONG[tuple(hints)] += 1
    return f"hint {number + 1}: {hints[number]}"


class Quiz:
    """One question with its options; `answer` marks a choice by its letter or its words."""

    def __init__(self, question: str, options: Sequence[str], right: str, why: str):
        if right not in options or len(set(options)) != len(options):
            raise ValueError(f"the right answer {right!r} must be one of the options, and each must differ: {options}")
        self.question, self.options, self.right, self.why = question, list(options), right, why

    def answer(self, choice: str) -> Mark:
        """Mark a choice; one that is neither a letter nor an option is wrong."""
        letters = dict(zip("abcdefgh", self.options, strict=False))
        choices = letters | {option.casefold(): option for option in self.options}
        if choices.get(str(choice).strip().casefold()) == self.right:
            return Mark(True, self.why)
        return Mark(False, "another option fits better: read the question once more")

    def __repr__(self) -> str:
        lines = [f"  {letter}) {option}" for letter, option in zip("abcdefgh", self.options, strict=False)]
        return "\n".join([self.question, *lines, 'answer in the next cell: _.answer("a")'])


def quiz(question: str, options: Sequence[str], right: str, why: str) -> Quiz | ipw.VBox:
    """A question that marks itself, by mouse or by tab and space; plain text where nobody watches. Raises ValueError
    unless `right` is one of the options."""
    asked = Quiz(question, options, right, why)
    if os.environ.get("MEDALIGN_HEADLESS") == "1":
        return asked
    title, said = ipw.HTML(f"<p><b>{escape(question)}</b></p>"), ipw.HTML()
    choice = ipw.RadioButtons(options=asked.options, value=None, layout={"width": "max-content"})
    button = ipw.Button(description="Check", tooltip=f"Check the answer to: {question}")

    def mark(_) -> None:
        said.value = asked.answer(choice.value)._repr_html_() if choice.value else "<p role='status'>Choose first.</p>"

    button.on_click(mark)
    return ipw.VBox([title, choice, button, said])
