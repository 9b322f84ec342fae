"""Where a model lies, what its folder must hold (checked before anything heavy is loaded), one hash of its weights.

A model is a folder, or a hub id, which may be pinned to a revision: ORG/NAME@REVISION. What a folder says is not
trusted: nothing in it makes the kit fetch or run anything, or work without end.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from unittest.mock import patch

from huggingface_hub import constants, errors, snapshot_download
from safetensors import SafetensorError, safe_open

from medalign_lite.dials import EMBEDDED
from medalign_lite.files import digest, path_of, tree

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
DOCUMENTS = ("README.md", "LICENSE", "card.json", "curves.png")  # beside a model; they change nothing that it says
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
SAFE_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]  # no pickle, no code
INDEX = "model.safetensors.index.json"
WEIGHTS = "[!.]*.safetensors"  # macOS leaves a hidden file beside each where it copies to other systems
REPEATED = re.compile(r"(^|_)(layers?|depths?|blocks?|experts?|stages?|heads?|groups?)$")  # built one after another
MOST = 1000  # of these in one configuration, or as many as there are tensors
# Words without which a chat template goes over the messages a few times and ends.
ENDLESS = re.compile(r"\b(range|set|macro|recursive|namespace|cycler|call)\b|[*~]|(\bfor\b.*){5}", re.DOTALL)
TEMPLATE_SECONDS, TEMPLATE_BYTES = 3, 2**30
RENDER = f"""
import json, resource, sys
from jinja2 import exceptions, sandbox
resource.setrlimit(resource.RLIMIT_CPU, ({TEMPLATE_SECONDS}, {TEMPLATE_SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({TEMPLATE_BYTES}, {TEMPLATE_BYTES}))
told = json.load(sys.stdin)
try:
    rules = sandbox.ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    rules.from_string(told.pop("template")).render(told)
except MemoryError:
    sys.exit(2)
except Exception:  # what a template wants beside the messages is not our question here
    pass
"""


class ModelError(RuntimeError):
    """A model that cannot be used: the folder, what is wrong, the next step. Control characters come escaped."""

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def locate(model: str) -> tuple[Path, str, str | None]:
    """(folder, name, hub commit or None) of a folder or hub id; a folder that exists wins. A hub id is looked up in the
    local hub cache, and downloaded only where ALLOW_NETWORK=1. Raises ModelError that says how to get the model and
    where to put it."""
    if Path(model).is_dir():
        return Path(model), Path(model).resolve().name, None
    folder = from_hub(model, local_files_only=os.environ.get("ALLOW_NETWORK") != "1")
    return Path(folder), model, Path(folder).name


def place_of(model: str) -> str:
    """What `locate` takes for MODEL=: an absolute folder, where a relative one counts from the repository, or a hub id.
    Raises ModelError where it can be neither."""
    folder = path_of(model)
    if folder.is_dir() or model == EMBEDDED:  # a missing embedded model is told by whoever loads it
        return str(folder.resolve())
    if model.startswith(".") or not HUB_ID.fullmatch(model):
        raise ModelError(f"MODEL={model!r} is neither a folder ({folder} does not exist) nor a hub id such as ORG/NAME")
    return model


def find_model(model: str) -> Path | None:
    """Folder with all of a model's files, or None: a local folder, or the hub cache's copy. Nothing is loaded."""
    try:
        folder = locate(place_of(model))[0]
        check_folder(folder)
    except ModelError:
        return None
    return folder.resolve()


def model_revision(model: str) -> str | None:
    """The hub's commit of a model in its cache, else 12 digits over a folder's files but DOCUMENTS; None if absent."""
    folder = find_model(model)
    if folder is None or folder.parent.name == "snapshots":
        return folder and folder.name
    stamp = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir())
                  if p.is_file() and p.name not in DOCUMENTS)
    return _folder_digest(folder, stamp)


@lru_cache
def _folder_digest(folder: Path, stamp: tuple) -> str:
    """Weights can be gigabytes: hashed once a process for each (names, sizes, times)."""
    return digest({name: file for name, file in tree(folder).items() if name not in DOCUMENTS})[:12]


def nothing_fetched():
    """Within it huggingface_hub asks no hub, whatever a folder names."""
    return patch.object(constants, "HF_HUB_OFFLINE", True)


def from_hub(model: str, **settings):
    """What `snapshot_download` gives for a hub id with these settings; weights, processor and tokenizer alone. Raises
    ModelError: one sentence on what is in the way, and the next step."""
    name, revision = split_revision(model)
    try:
        return snapshot_download(name, revision=revision, allow_patterns=SAFE_FILES, **settings)
    except (OSError, ValueError, errors.HTTPError) as error:
        raise ModelError(_in_the_way(model, error)) from error


def split_revision(model: str) -> tuple[str, str | None]:
    """(ORG/NAME, revision or None) of a hub id. Raises ModelError for what is none."""
    found = HUB_ID.fullmatch(model)
    if not found or model.startswith("."):
        raise ModelError(f"There is no model folder {model!r}; give an existing folder or a hub id such as ORG/NAME or "
                         "ORG/NAME@REVISION.")
    return found[1], found[2]


def check_folder(folder: Path) -> None:
    """Raise ModelError unless `folder` holds a configuration, all its safetensors weights, a tokenizer and a
    processor."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json. {_again(folder)}")
    index = folder / INDEX
    if not index.is_file() and not any(folder.glob(WEIGHTS)):
        pickled = any(folder.glob("*.bin"))
        reason = "only pickle weights, which are never loaded; convert them to safetensors" if pickled else "no weights"
        raise ModelError(f"{folder} has {reason} (*.safetensors). {_again(folder)}")
    try:
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values() if index.is_file() else ()
        absent = [shard for shard in sorted(set(shards)) if not (folder / shard).is_file()]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} is damaged ({error}). {_again(folder)}") from error
    if absent:
        raise ModelError(f"{folder} lacks {len(absent)} of its weight files, first {absent[0]}. {_again(folder)}")
    for kind, names in (("processor", PROCESSOR_FILES), ("tokenizer", TOKENIZER_FILES)):
        if not any((folder / name).is_file() for name in names):
            raise ModelError(f"{folder} lacks its {kind} (one of {', '.join(names)}): the weights alone cannot read "
                             f"images or text. {_again(folder)}")


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a safetensors file's tensors by name. Raises ModelError where it is damaged."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read as safetensors ({error}); get it again.") from error


def check_numbers(folder: Path) -> dict:
    """What config.json holds. Raises ModelError where it is damaged, or asks for more layers, experts and the like
    than the weights can fill: these are made one after another before anything else is compared."""
    path = folder / "config.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        most = max(MOST, *(len(stored_shapes(file)) for file in folder.glob(WEIGHTS)), 0)
        found = next(_repeated(told, most), None)
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}). {_again(folder)}") from error
    if found:
        raise ModelError(f"{path}: {found[0]} is {found[1]}, which no weights fill. {_again(folder)}")
    return told


def _repeated(told, most: int, name: str = "") -> Iterator[tuple[str, int]]:
    """Numbers of things that are built one after another, where there are more than `most`."""
    parts = told.items() if isinstance(told, dict) else ((name, one) for one in told) if isinstance(told, list) else ()
    for key, value in parts:
        yield from _repeated(value, most, key)
    if isinstance(told, (int, float)) and told > most and REPEATED.search(name):
        yield name, told


@lru_cache
def check_template(template: str, folder: Path) -> None:
    """Raise ModelError where a chat template does not end. One that could work long is tried in a process of its own,
    with limits; it is not what renders the conversations."""
    if not ENDLESS.search(template):
        return
    parts = [{"type": "image"}, {"type": "text", "text": "Yes."}]
    told = {"messages": [{"role": role, "content": parts} for role in ("user", "assistant")],
            "template": re.sub(r"{%-?\s*(end)?generation\s*-?%}", "", template)}
    try:
        code = subprocess.run([sys.executable, "-c", RENDER], input=json.dumps(told), text=True, capture_output=True,
                              timeout=20 * TEMPLATE_SECONDS).returncode
    except subprocess.TimeoutExpired:
        code = 2
    if code == 2 or code < 0:
        raise ModelError(f"{folder}: its chat template does not end within {TEMPLATE_SECONDS} s and "
                         f"{TEMPLATE_BYTES >> 30} GB for one question and answer. {_again(folder)}")


def weights_digest(folder: Path) -> str:
    """sha256 over the names and bytes of the folder's safetensors files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(WEIGHTS)):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _again(folder: Path) -> str:
    if folder.parent.name == "snapshots":  # the hub cache: models--ORG--NAME/snapshots/COMMIT
        name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        return f"`make models MODEL={name}@{folder.name}` gets what is missing."
    return f"Get all of it again, for example `hf download ORG/NAME --local-dir {folder}`, or restore it from git."


def _in_the_way(model: str, error: Exception) -> str:
    """Why a hub model cannot be had, and the next step."""
    get, (name, revision) = f"`make models MODEL={model}`", split_revision(model)
    where = f"{constants.ENDPOINT}/{name}"
    told = [error, *filter(None, [error.__cause__])]  # huggingface_hub hides the cause behind an error of its own
    for one in told:
        status = one.response.status_code if isinstance(one, errors.HfHubHTTPError) else None
        if isinstance(one, errors.GatedRepoError) or status == 403:
            return (f"{model} is gated: accept its conditions at {where}, sign in with `hf auth login` or set "
                    f"HF_TOKEN, then {get} again.")
        if isinstance(one, errors.RevisionNotFoundError):
            return f"{name} has no revision {revision!r}: look at {where}/commits/main, and give one of those."
        if isinstance(one, errors.RepositoryNotFoundError) or status in (401, 404):
            return (f"There is no {name} at {constants.ENDPOINT}, or it is private: check the name, and for a private "
                    "one sign in with `hf auth login` or set HF_TOKEN.")
        if isinstance(one, errors.OfflineModeIsEnabled):
            return f"HF_HUB_OFFLINE forbids asking for {model}: unset it, then {get}."
        if isinstance(one, errors.HTTPError) or status is not None and status >= 500:
            return (f"{constants.ENDPOINT} did not give {model} ({type(one).__name__}): once the network is back {get} "
                    f"goes on with the files that are not whole; {_by_hand(name)}.")
    if isinstance(error, errors.IncompleteSnapshotError):
        return f"{model} is on this machine in part only: {get} gets what is missing."
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.EntryNotFoundError)):
        return f"{model} is not on this machine, and nothing is fetched unasked: {get} gets it; {_by_hand(name)}."
    return (f"{model} cannot be had ({type(error).__name__}: {str(error).splitlines()[0]}): once that is mended, {get} "
            "goes on with the files that are not whole.")


def _by_hand(name: str) -> str:
    put = f"models/{name.split('/')[1]}"
    return f"or run `hf download {name} --local-dir {put}` elsewhere, put that folder here and use MODEL={put}"
