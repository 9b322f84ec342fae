"""Every reader on damaged copies of a tiny data set: an error of its own or a counted skip, never another's text.

A picture is known by its pixels, a text by the word it shares with its picture (see `layouts`). Damage is at random but
seeded: cut off, bytes deleted, exchanged or mistyped, a value of another type, a file gone, empty or a folder; and what
means no good: links to nowhere and out of the folder, pipes, long numbers and names, half characters, control
characters, bombs. `make fuzz` does 1,000 of them a reader, within limits on seconds and memory; the tests fewer.
"""

import hashlib
import json
import os
import random
import re
import resource
import signal
import time
import zlib

import numpy as np
import pytest
from layouts import BUILDERS, LABELS, MADE, WORDS
from PIL import Image

from medalign_lite.cases.case import CaseError, write_cases
from medalign_lite.cases.readers import read_cases

ROUNDS = int(os.environ.get("FUZZ", 120))
SECONDS, MEGABYTES = 5, 600  # of the processor in one reading; more than before in all of them
WRONG_VALUES = (None, True, 0, -1, 1e300, "", "\ud800", "../../x", "a\0b", [], {}, [None], "x" * 5000, "\x1b[31m",
                "\x9b", "\u202e", 10**4000, float("inf"), "/etc/passwd", "<image>")  # fmt: skip
PIECES = (b"9" * 5000, b"1e999", b"x" * 5000, b"[" * 10**5, b"\x1b[2J", b"\xc2\x9b", b"\x00", b"\xe2\x80\xae",
          b"\xed\xa0\x80")  # fmt: skip
UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


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


def long_or_unprintable(content, rng):
    """One word or number of a text replaced."""
    places = list(re.finditer(rb"\w+", content)) or [re.match(b"", content)]
    place = rng.choice(places)
    return content[: place.start()] + rng.choice(PIECES) + content[place.end() :]


def bomb(content, rng):
    """A small file that says, or unpacks to, very much."""
    if content[:4] == b"\x89PNG":  # the size in the header
        head = b"IHDR" + (60000).to_bytes(4, "big") * 2 + content[24:29]
        return content[:12] + head + zlib.crc32(head).to_bytes(4, "big") + content[33:]
    if content[:2] == b"\x1f\x8b":
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        return b"".join([*(packer.compress(bytes(2**20)) for _ in range(300)), packer.flush()])
    return content + b"," * 2**21


DAMAGES = (cut, delete, exchange, mistype, wrong_value, wrong_value, long_or_unprintable, long_or_unprintable, bomb)


def damage_file(path, content, rng, secret):
    """Leave something wrong in the place of `path`, or beside it."""
    draw = rng.random()
    if draw < 0.16:
        path.unlink()
    if draw < 0.03:
        return
    if draw < 0.05:
        path.mkdir()
    elif draw < 0.07:
        path.write_bytes(b"")
    elif draw < 0.10:
        path.symlink_to(path.name)
    elif draw < 0.13:
        path.symlink_to(secret)
    elif draw < 0.16:
        os.mkfifo(path)
    elif draw < 0.19:
        os.link(path, path.with_name(f"again{path.suffix}"))
    else:
        path.write_bytes(rng.choice(DAMAGES)(content, rng))


def mend(path, content):
    path.with_name(f"again{path.suffix}").unlink(missing_ok=True)
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(content)


def picture_key(path):
    with Image.open(path) as image:
        return hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()


def said_of(case):
    """What is stated of the picture; an absent label is no statement."""
    texts = [f"{question.text} {question.answer}" for question in case.questions if question.answer != "No"]
    return " ".join([*texts, *(lesion.label for lesion in case.lesions)]).lower()


def check_kept(found, owners, names, place):
    """No text beside another's picture, nothing from outside the folder, and nothing that a terminal obeys."""
    for case in found.cases:
        owner = owners.get(picture_key(case.image))
        others = {word for n in range(3) if n != owner for word in names[n]} if owner is not None else set()
        assert owner != "secret" and not [word for word in others if word in said_of(case)], (place, case)
        written = [case.id, case.group, said_of(case), *(option for q in case.questions for option in q.options)]
        assert not UNWANTED.search("".join(written)), (place, case)
    told = json.dumps([found.skipped, found.dropped, found.notes], ensure_ascii=False)
    assert not UNWANTED.search(told) and "root:" not in told, (place, told[:2000])


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_damage_is_an_error_or_a_counted_skip_and_never_a_wrong_pair(build, tmp_path):
    folder, root = tmp_path / "set", tmp_path / "made" if build.__name__ in MADE else None
    build(folder)
    secret = tmp_path / "secret"
    Image.fromarray(np.full((20, 24), 77, np.uint8)).save(secret, format="PNG")
    names = [(word.lower(), label.lower()) for word, label in zip(WORDS, LABELS, strict=True)]
    whole = read_cases(folder, root=root)
    owners = {picture_key(case.image): n for case in whole.cases for n in range(3)
              if any(word in said_of(case) for word in names[n])}  # fmt: skip
    owners = owners or {picture_key(case.image): n for n, case in enumerate(whole.cases)}  # labels say nothing of whose
    assert len(whole.cases) == 3 and not whole.skipped and not whole.dropped
    owners[picture_key(secret)] = "secret"

    rng = random.Random(build.__name__)
    files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    lists = [path for path in files if path.suffix not in (".png", ".jpg")]
    kept = failed = seen = 0
    before, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    for number in range(ROUNDS):
        path = rng.choice(lists if rng.random() < 0.8 else list(files))
        damage_file(path, files[path], rng, secret)
        signal.alarm(60)  # a pipe that is opened would wait for ever
        started = time.process_time()
        try:
            found = read_cases(folder, root=root)
        except CaseError as error:
            failed += 1
            assert str(error) and "Traceback" not in str(error)
        else:
            kept += 1
            seen += bool(found.skipped or found.dropped)
            check_kept(found, owners, names, (number, path))
            write_cases(tmp_path / "kept.jsonl", found.cases, root=tmp_path)
            again = read_cases(tmp_path / "kept.jsonl", root=tmp_path, check_files=False)
            assert [(case.id, case.group, case.questions) for case in again.cases] == [
                (case.id, case.group, case.questions) for case in found.cases
            ]
        signal.alarm(0)
        slowest = max(slowest, time.process_time() - started)
        mend(path, files[path])
    assert kept + failed == ROUNDS and min(kept, seen) > ROUNDS / 20
    assert slowest < SECONDS, f"the slowest reading took {slowest:.1f} s"
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    assert used < MEGABYTES, f"{used:.0f} MB more than before"
    assert read_cases(folder, root=root) == whole
