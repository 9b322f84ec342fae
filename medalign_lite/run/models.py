"""``make models``: the weights of the preset's model, or of MODEL=, fetched ahead; afterwards runs work offline.

    python -m medalign_lite models PRESET=full
    python -m medalign_lite models MODEL=ORG/NAME@REVISION

The size is printed first, and what is here already is not fetched again. Safetensors, configuration and tokenizer
alone are taken: no pickle, no code.
"""

import shutil
from pathlib import Path

from huggingface_hub import constants

from medalign_lite.dials import PresetError
from medalign_lite.files import short
from medalign_lite.model.weights import ModelError, check_folder, find_model, from_hub, split_revision
from medalign_lite.run.commands import command
from medalign_lite.run.dial import resolve
from medalign_lite.run.doctor import nearest
from medalign_lite.run.reproduce import parse


def fetch(model: str) -> Path:
    """The model's folder, after what was missing of it has been downloaded. `model`: an absolute folder or a hub id, as
    `resolve` gives it. Raises ModelError: gated, absent, cut off, no network, no room on the disk, or a repository that
    is no whole model."""
    if (folder := find_model(model)) is not None:
        print(f"{short(model)} is complete on this machine: {folder}")
        return folder
    if Path(model).is_absolute():
        check_folder(Path(model))  # says what is missing
    files = from_hub(model, dry_run=True)
    total, left = (sum(f.file_size or 0 for f in files if f.will_download >= least) / 1e9 for least in (False, True))
    print(f"{model}: {total:.2f} GB in {len(files)} files, {left:.2f} GB to fetch, from {constants.ENDPOINT}")
    free = shutil.disk_usage(nearest(Path(constants.HF_HUB_CACHE))).free / 1e9
    if free < left:
        raise ModelError(f"{constants.HF_HUB_CACHE} has {free:.1f} GB free and {left:.1f} GB are to come: free some, "
                         "or set HF_HOME to a folder on a larger disk.")
    folder = Path(from_hub(model))
    check_folder(folder)
    print(f"complete: {folder}")
    print(f"from now on offline; to pin this version: MODEL={split_revision(model)[0]}@{folder.name}")
    return folder


@command(refused=(PresetError,), stopped=(ModelError,))
def main(arguments: list[str]) -> None:
    """Exit status: 0 the model is here, 1 it is not, 2 bad arguments, 130 interrupted."""
    values = parse(arguments)
    resolved = resolve(values["PRESET"], model=values["MODEL"])
    print(resolved.reason)
    fetch(resolved.model)
