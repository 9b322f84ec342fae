"""Every reader on 500 damaged copies of a tiny data set: an error of its own or a counted skip, never another's text.

A picture is known by its pixels, a text by the word it shares with its picture (see `layouts`). Damage is at random but
seeded: cut off, bytes deleted, exchanged or mistyped, a value of another type, a file gone, empty or a folder.
"""

import hashlib
import json
import random

import numpy as np
import pytest
from layouts import BUILDERS, LABELS, WORDS
from PIL import Image

from medalign_lite.cases.case import CaseError, write_cases
from medalign_lite.cases.readers import read_cases

ROUNDS = 500
MADE = ("parquet", "vindr", "coco", "dicom_table", "mixed_table")  # their pictures are written to a root
WRONG_VALUES = (None, True, 0, -1, 1e300, "", "\ud800", "../../x", "a\0b", [], {}, [None], "x" * 5000)


def cut(content, rng):
    return content[: rng.randrange(len(content))]


def delete(content, rng):
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.randint(1, 4) :]


def exchange(content, rng):
    """Two pieces of up to three bytes in each other's place."""
    size = rng.randint(1, 3)
    a, b = sorted(rng.sample(range(max(2, len(content) - size)), 2))
    b = max(b, a + size)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


def mistype(content, rng):
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def wrong_value(content, rng):
    """One value of a JSON file replaced, deleted or said twice; other files are mistyped."""
    try:
        lines = [json.loads(line) for line in content.split(b"\n")]
    except ValueError:
        return mistype(content, rng)
    places = [place for value in lines for place in _places(value)]
    holder, key = rng.choice(places)
    if rng.random() < 0.3:
        del holder[key]
    elif rng.random() < 0.2 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = rng.choice(WRONG_VALUES)
    return "\n".join(map(json.dumps, lines)).encode()


def _places(value):
    found = []
    for key, inner in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += _places(inner)
    return found


DAMAGES = (cut, delete, exchange, mistype, mistype, wrong_value, wrong_value)


def damage_file(path, content, rng):
    """Leave something wrong in the place of `path`."""
    draw = rng.random()
    if draw < 0.03:
        path.unlink()
    elif draw < 0.05:
        path.unlink()
        path.mkdir()
    elif draw < 0.07:
        path.write_bytes(b"")
    else:
        path.write_bytes(rng.choice(DAMAGES)(content, rng))


def mend(path, content):
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)


def picture_key(path):
    with Image.open(path) as image:
        return hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()


def said_of(case):
    """What is stated of the picture; an absent label is no statement."""
    texts = [f"{question.text} {question.answer}" for question in case.questions if question.answer != "No"]
    return " ".join([*texts, *(lesion.label for lesion in case.lesions)]).lower()


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_damage_is_an_error_or_a_counted_skip_and_never_a_wrong_pair(build, tmp_path):
    folder, root = tmp_path / "set", tmp_path / "made"
    build(folder)
    names = [(word.lower(), label.lower()) for word, label in zip(WORDS, LABELS, strict=True)]
    whole = read_cases(folder, root=root if build.__name__ in MADE else None)
    owners = {
        picture_key(case.image): n for case in whole.cases for n in range(3) if set(names[n]) & set_of(case, names)
    }
    assert len(whole.cases) == 3 and sorted(owners.values()) == [0, 1, 2] and not whole.skipped and not whole.dropped

    rng = random.Random(build.__name__)
    files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    lists = [path for path in files if path.suffix not in (".png", ".jpg")]
    kept = failed = seen = 0
    for _ in range(ROUNDS):
        path = rng.choice(lists if rng.random() < 0.8 else list(files))
        damage_file(path, files[path], rng)
        try:
            found = read_cases(folder, root=root if build.__name__ in MADE else None)
        except CaseError as error:
            failed += 1
            assert str(error) and "Traceback" not in str(error)
        else:
            kept += 1
            seen += bool(found.skipped or found.dropped)
            for case in found.cases:
                owner = owners.get(picture_key(case.image))
                others = {word for n in range(3) if n != owner for word in names[n]} if owner is not None else set()
                assert not [word for word in others if word in said_of(case)], (path, case)
            write_cases(tmp_path / "kept.jsonl", found.cases, root=tmp_path)
            again = read_cases(tmp_path / "kept.jsonl", root=tmp_path, check_files=False)
            assert [(case.id, case.group, case.questions) for case in again.cases] == [
                (case.id, case.group, case.questions) for case in found.cases
            ]
        mend(path, files[path])
    assert kept + failed == ROUNDS and min(kept, seen) > ROUNDS / 20
    assert read_cases(folder, root=root if build.__name__ in MADE else None) == whole


MADE = ("parquet", "vindr", "coco", "dicom_table", "mixed_table")


def set_of(case, names):
    return {word for pair in names for word in pair if word in said_of(case)}
