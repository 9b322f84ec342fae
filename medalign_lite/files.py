"""The floor: files written whole, JSON lines, hashes, a bar, and where the repository is."""

import hashlib
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

PLAIN_BAR = "{desc}: {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} left\n"


def find_root(package: Path, working: Path) -> Path:
    """The repository, by its samples: where the package lies, or for an installed copy the first folder at or
    above the working one that is it or holds it as `medalign-lite`; where there is none, the package's own place."""
    places = (place for folder in (working, *working.parents) for place in (folder, folder / "medalign-lite"))
    return next((p for p in (package.parent, *places) if (p / "data_samples/cases").is_dir()), package.parent)


ROOT = find_root(Path(__file__).resolve().parent, Path.cwd())  # relative paths in parameters count from here


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
    shown = {name: file for name, file in names.items() if not any(part[:1] == "." for part in name.split("/"))}
    return {name: {"sha256": file_sha256(file), "bytes": file.stat().st_size} for name, file in shown.items()}


def short(path: str | Path) -> str:
    """A path relative to the repository where it lies inside it: a moved clone keeps its results."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_absolute() and path.is_relative_to(ROOT) else str(path)


def visible(text: str) -> str:
    """Text of anywhere as it may be printed on one line: what is no letter, mark or space is spelled out (`\\x1b`)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def path_of(name: Path | str) -> Path:
    """The path that a user writes: `~` is a home, where somebody has it, and relative ones count from ROOT."""
    return ROOT / os.path.expanduser(name)


@contextmanager
def whole(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """Where to write a file or folder that is to be there whole or not at all; `path` when the block ends. Its bytes
    are on the disk before it has its name, so that a power cut leaves no empty file either; `synced` False leaves that
    to a `sync` of the whole folder. The place has the suffix of `path`: image writers go by it."""
    path = Path(path)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield part
        if synced:
            sync(part)
        part.replace(path)
    except BaseException:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Have the disk keep a file as it is now; of a folder, in one call, all that is below it."""
    if path.is_dir():
        os.sync()  # a call for each of thousands of small files would take twenty times as long
        return
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def kept(path: Path, write: Callable[[Path], object]) -> Path:
    """The file or folder, which `write` makes in one step unless it is there."""
    if not path.exists():
        with whole(path) as part:
            write(part)
    return path


def claim(path: Path, made_from: dict) -> None:
    """Save what a folder is made from in its file `path`, before any work. Raises ValueError where the file says
    something else already: the folder is another run's."""
    text = json.dumps(made_from, indent=1, sort_keys=True) + "\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path} is of another run; delete the folder to start anew, or name another")


def rows(path: Path) -> Iterator[tuple[str, dict]]:
    """("file line n", object) of each line of a JSONL file that is not blank; text may hold U+2028 and its like. Raises
    ValueError that names file and line for what is no complete JSON object in UTF-8."""
    for number, line in enumerate(Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:  # of UnicodeDecodeError too
            raise ValueError(f"{place}: not one complete JSON object in UTF-8 ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{place}: a JSON {type(row).__name__} where an object was expected")
        yield place, row


def read_jsonl(path: Path) -> list[dict]:
    """Rows of a JSONL file. Raises ValueError as `rows`."""
    return [row for _, row in rows(path)]


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """One JSON object a line, keys as given; whole or not at all."""
    with whole(path) as part, part.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_json(path: Path):
    """Value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value) -> None:
    """A JSON file, two spaces deep, ending in a newline; whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """UTF-8 with line ends as given; whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def bar(name: str, total: int, *, shown: bool = True, unit: str = "it") -> tqdm:
    """A progress bar with the time left; plain lines where MEDALIGN_HEADLESS=1, as executed notebooks lose bars."""
    if os.environ.get("MEDALIGN_HEADLESS") != "1":
        return tqdm(total=total, desc=name, disable=not shown, unit=unit)
    return tqdm(total=total, desc=name, disable=not shown, bar_format=PLAIN_BAR, mininterval=10, ascii=True)


def machine_memory_gb() -> tuple[float, float]:
    """GB of memory that this process may use, and that are unused now, as far as the system tells (macOS does not)."""
    unused = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    total, free = (os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") / 1e9 for name in ("SC_PHYS_PAGES", unused))
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's own limit
    if limit.is_file() and limit.read_text().strip().isdigit():
        total = min(total, int(limit.read_text()) / 1e9)
    return total, min(free, total)


def peak_mb() -> float:
    """Peak memory of this process so far in MB (2^20 bytes): resident, plus the GPU's where torch uses one."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    torch = sys.modules.get("torch")  # asked only if the notebook has imported it
    return peak + (torch.cuda.max_memory_allocated() / 2**20 if torch and torch.cuda.is_available() else 0)
