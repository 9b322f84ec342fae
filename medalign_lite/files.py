"""The floor: files written whole, JSON lines, hashes, and where the repository is."""

import hashlib
import json
import resource
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the repository: relative paths in parameters count from here


def digest(value) -> str:
    """sha256 of the value as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def plain(value):
    """The value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def file_sha256(path: Path) -> str:
    """sha256 of the file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree(path: Path) -> dict[str, dict]:
    """{relative path: {sha256, bytes}} of a folder's files (or of one file), hidden names left out."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    base = path.parent if path.is_file() else path
    names = {file.relative_to(base).as_posix(): file for file in files}
    return {
        name: {"sha256": file_sha256(file), "bytes": file.stat().st_size}
        for name, file in names.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def short(path: str | Path) -> str:
    """A path relative to the repository where it lies inside it: a moved clone keeps its results."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_absolute() and path.is_relative_to(ROOT) else str(path)


def visible(text: str) -> str:
    """Text of data as it may be printed: what is no letter, mark or space is escaped (`\\x1b`), on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def read_jsonl(path: Path) -> list[dict]:
    """Rows of a JSONL file."""
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """One JSON object a line, keys as given."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def kept(path: Path, write: Callable[[Path], object]) -> Path:
    """The file, which `write` makes in one step unless it is there."""
    if not path.exists():
        part = path.with_name(f".part-{path.name}")
        write(part)
        part.replace(path)
    return path


def read_json(path: Path):
    """Value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value) -> None:
    """A JSON file, two spaces deep, ending in a newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def peak_mb() -> float:
    """Peak memory of this process so far in MB (2^20 bytes): resident, plus the GPU's where torch uses one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    torch = sys.modules.get("torch")  # asked only if the notebook has imported it
    return peak + (torch.cuda.max_memory_allocated() / 2**20 if torch and torch.cuda.is_available() else 0)
PLAIN_BAR = "{desc}: {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} left\n"
