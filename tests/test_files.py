"""The floor: files written whole, JSON lines, text that is safe to print, folders that are claimed."""

import json
import os

import pytest

from medalign_lite import files
from medalign_lite.files import claim, kept, read_jsonl, rows, sync, visible, whole, write_json, write_jsonl


@pytest.mark.parametrize("write", [
    lambda path, bad: write_jsonl(path, iter([{"a": 1}, {"b": bad}])), lambda path, bad: write_json(path, {"a": bad}),
    lambda path, bad: kept(path.with_name("new"), lambda part: (part.write_text("half"), 1 / 0)),
    lambda path, bad: kept(path.with_name("new"), lambda part: (part.mkdir(), write_json(part / "a.json", 1), 1 / 0)),
])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path, write):
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    with pytest.raises((TypeError, ZeroDivisionError)):
        write(path, object())
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"rows.jsonl": "old"}


def test_a_file_is_written_beside_and_named_in_the_end(tmp_path):
    with whole(tmp_path / "a.png") as part:
        assert part.suffix == ".png" and part.parent == tmp_path and part.name.startswith(".")
        part.write_bytes(b"1")
        assert not (tmp_path / "a.png").exists()
    sync(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


ODD = ["\u2028", "\u2029", "\x85", "\x0b", "\x1e", "\r", "line\nend", "🫀", "\\", '"']


def test_rows_end_where_a_line_ends_and_nowhere_else(tmp_path):
    written = [{"id": n, "text": f"a{odd}b"} for n, odd in enumerate(ODD)]
    write_jsonl(tmp_path / "a.jsonl", written)
    assert read_jsonl(tmp_path / "a.jsonl") == written
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf\n" + b"\r\n".join(json.dumps(row).encode() for row in written))
    assert [place.rsplit(" ", 1)[1] for place, _ in rows(tmp_path / "b.jsonl")] == [str(n + 2) for n in range(len(ODD))]


@pytest.mark.parametrize("line", [b'{"a": ', b"[1]", b"3", b'{"a": "\xff"}', b"[" * 100_000, b"NaN", b'"text"'])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n\n' + line)
    with pytest.raises(ValueError, match=r"a\.jsonl line 3: (not one complete JSON object|a JSON \w+ where)"):
        read_jsonl(tmp_path / "a.jsonl")


@pytest.mark.parametrize(("text", "shown"), [
    ("\x1b[2J", "\\x1b[2J"), ("a\x00\x9b\x7f", "a\\x00\\x9b\\x7f"), ("\ud800", "\\ud800"), ("\u202eabc", "\\u202eabc"),
    ("line\nand\ttab — Größe 胸", "line\\nand\\ttab — Größe 胸"), ("\r", "\\r"),
])  # fmt: skip
def test_text_is_printed_without_what_moves_a_terminal(text, shown):
    assert visible(text) == shown
    visible(text).encode()


def test_memory_is_told_where_the_system_does_not_say_what_is_free(monkeypatch):
    told = {name: 2**20 for name in os.sysconf_names if name != "SC_AVPHYS_PAGES"} | {"SC_PAGE_SIZE": 1000}
    monkeypatch.setattr(os, "sysconf_names", told)
    monkeypatch.setattr(os, "sysconf", told.__getitem__)
    total, free = files.machine_memory_gb()
    assert total == free <= 2**20 / 1e6


def test_a_folder_is_claimed_once(tmp_path):
    path = tmp_path / "run" / "settings.json"
    claim(path, {"seed": 1})
    written = path.stat().st_mtime_ns
    claim(path, {"seed": 1})
    assert path.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="settings.json is of another run; delete the folder to start anew"):
        claim(path, {"seed": 2})
    assert json.loads(path.read_text()) == {"seed": 1}
