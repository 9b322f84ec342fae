"""Where a model lies, what its folder must hold (checked before anything heavy is loaded), one hash of its weights."""

import hashlib
import json
import os
import re
from pathlib import Path

from huggingface_hub import snapshot_download

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SAFE_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]  # no pickle, no code
INDEX = "model.safetensors.index.json"


class ModelError(RuntimeError):
    """A model that cannot be used; the message names the folder, what is wrong and the next step."""


def locate(model: str) -> tuple[Path, str, str | None]:
    """(folder, name, hub commit or None) of a folder or hub id; a folder that exists wins.

    A hub id is looked up in the local hub cache, and downloaded only where ALLOW_NETWORK=1.
    Raises ModelError that says how to get the model and where to put it.
    """
    if Path(model).is_dir():
        return Path(model), Path(model).resolve().name, None
    if not HUB_ID.fullmatch(model) or model.startswith("."):
        raise ModelError(f"There is no model folder {model!r}; give an existing folder or a hub id such as ORG/NAME.")
    try:
        folder = snapshot_download(
            model, allow_patterns=SAFE_FILES, local_files_only=os.environ.get("ALLOW_NETWORK") != "1"
        )
    except (OSError, ValueError) as error:
        put = f"models/{model.split('/')[1]}"
        raise ModelError(
            f"{model} is neither a folder nor in the local hub cache, and could not be downloaded "
            f"({type(error).__name__}). On a machine with network run `hf download {model} --local-dir {put}`, put "
            f"that folder here and use MODEL={put}; or set ALLOW_NETWORK=1 to download now."
        ) from error
    return Path(folder), model, Path(folder).name


def check_folder(folder: Path, *, text_only: bool = False) -> None:
    """Raise ModelError unless `folder` holds a configuration, all its safetensors weights, a tokenizer, and a processor
    unless `text_only`."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json. {_again(folder)}")
    if not (folder / INDEX).is_file() and not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        reason = "only pickle weights, which are never loaded; convert them to safetensors" if pickled else "no weights"
        raise ModelError(f"{folder} has {reason} (*.safetensors). {_again(folder)}")
    absent = [shard for shard in _shards(folder) if not (folder / shard).is_file()]
    if absent:
        raise ModelError(f"{folder} lacks {len(absent)} of its weight files, first {absent[0]}. {_again(folder)}")
    for kind, names in (("processor", PROCESSOR_FILES), ("tokenizer", TOKENIZER_FILES)):
        if not (text_only and kind == "processor") and not any((folder / name).is_file() for name in names):
            raise ModelError(
                f"{folder} lacks its {kind} (one of {', '.join(names)}): the weights alone cannot read images or text. "
                f"{_again(folder)}"
            )


def weights_digest(folder: Path) -> str:
    """sha256 over the names and bytes of the folder's safetensors files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _shards(folder: Path) -> list[str]:
    index = folder / INDEX
    if not index.is_file():
        return []
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} is damaged ({error}). {_again(folder)}") from error


def _again(folder: Path) -> str:
    return f"Get all of it again, for example `hf download ORG/NAME --local-dir {folder}`, or restore it from git."
