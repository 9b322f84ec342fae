"""`make models` against a local server in the hub's place: fetched, resumed, refused, offline; one sentence each."""

import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from servers import NAME, SHA, hub_server

from medalign_lite.files import ROOT
from medalign_lite.model.weights import ModelError, split_revision
from medalign_lite.run import models as fetching
from medalign_lite.run.dial import resolve


@pytest.fixture(scope="module")
def folder(tiny_folder, tmp_path_factory):
    """A model with a file larger than the client's buffer: less than that is not kept of a file that was cut off."""
    place = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("hub") / "model")
    (place / "more.safetensors").write_bytes(os.urandom(24_000_000))
    return place


@pytest.fixture(scope="module")
def hub(folder):
    with hub_server(folder) as server:
        yield server


@pytest.fixture
def models(hub, tmp_path):
    """Runs the command as a user would; gives exit status, what was printed, what went wrong."""
    hub.state, hub.served, hub.ranges, hub.asked = "good", 0, [], []

    def run(*arguments, state="good", command="models", **environment):
        hub.state = state
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ALLOW_"))}
        env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*", "HF_HUB_DISABLE_XET": "1"}
        told = [sys.executable, "-m", "medalign_lite", command, *arguments]
        done = subprocess.run(told, capture_output=True, text=True, cwd=ROOT, env=env | environment, timeout=120)
        return done.returncode, done.stdout, done.stderr.splitlines()[-1] if done.stderr.strip() else ""

    return run


def test_the_size_is_printed_then_all_is_fetched_and_from_then_on_nothing(models, hub, folder):
    size = sum(path.stat().st_size for path in folder.iterdir())
    status, said, _ = models(f"MODEL={NAME}")
    assert status == 0 and f"{size / 1e9:.2f} GB in {len(list(folder.iterdir()))} files" in said
    assert said.index(" GB to fetch") < said.index("complete: ") and f"MODEL={NAME}@{SHA}" in said
    assert hub.served >= size and not any(path.endswith("evil.bin") for path in hub.asked)
    before = len(hub.asked)
    for model in (NAME, f"{NAME}@{SHA}"):
        status, said, _ = models(f"MODEL={model}", state="down")
        assert status == 0 and "is complete on this machine" in said and len(hub.asked) == before
    status, said, _ = models(f"MODEL={NAME}", "PRESET=ci", command="doctor", state="down")
    assert f"{NAME}, complete" in said and len(hub.asked) == before


@pytest.mark.parametrize(("model", "state", "sentence"), [
    (NAME, "gated", f"{NAME} is gated: accept its conditions at .*{NAME}, sign in .* then `make models MODEL={NAME}`"),
    (NAME, "private", f"There is no {NAME} at .*, or it is private: check the name"),
    ("acme/none", "good", "There is no acme/none at "), (f"{NAME}@v9", "good", f"{NAME} has no revision 'v9'"),
    (NAME, "down", f"did not give {NAME} .*once the network is back `make models MODEL={NAME}`.*hf download {NAME}"),
    ("not a model", "good", "is neither a folder .* nor a hub id"),
])
def test_what_is_in_the_way_is_one_sentence_with_the_next_step(models, model, state, sentence):
    status, _, error = models(f"MODEL={model}", state=state)
    assert status in (1, 2) and re.search(sentence, error), error


def test_a_download_that_was_cut_off_goes_on_from_there(models, hub, folder):
    status, _, error = models(f"MODEL={NAME}", state="cut")
    assert status == 1 and "goes on with the files that are not whole" in error
    assert hub.ranges and hub.ranges[0] > 0  # within the command the rest of the file alone was asked for
    status, _, error = models(f"MODEL={NAME}", "PRESET=ci", command="reproduce")
    assert status == 1 and f"`make models MODEL={NAME}`" in error  # a run with part of it names the command
    hub.served = 0
    status, said, _ = models(f"MODEL={NAME}")
    assert status == 0 and "complete: " in said
    largest = max(path.stat().st_size for path in folder.iterdir())
    assert largest <= hub.served < largest + 1_000_000  # the files that were whole are not fetched again


def test_without_network_nothing_is_asked_and_the_sentence_says_how_to_go_on(models, hub):
    status, _, error = models(f"MODEL={NAME}", HF_HUB_OFFLINE="1")
    assert status == 1 and "HF_HUB_OFFLINE forbids" in error and not hub.asked
    status, _, error = models(f"MODEL={NAME}", HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 1 and "once the network is back" in error
    status, _, error = models(f"MODEL={NAME}", "PRESET=ci", command="reproduce")
    assert status == 1 and not hub.asked  # a run never asks


def test_ci_needs_no_download_and_no_room_on_the_disk_is_said_before_one(models, hub, monkeypatch):
    monkeypatch.setattr(fetching, "from_hub", lambda *_, **__: [SimpleNamespace(file_size=10**18, will_download=True)])
    with pytest.raises(ModelError, match="set HF_HOME to a folder on a larger disk"):
        fetching.fetch("acme/none")
    status, said, _ = models("PRESET=ci")
    assert status == 0 and "data_samples/embedded_lvlm is complete on this machine" in said and not hub.asked


def test_a_revision_is_part_of_the_name():
    assert split_revision(f"{NAME}@{SHA}") == (NAME, SHA) and split_revision(NAME) == (NAME, None)
    assert resolve("ci", model=f"{NAME}@v1.0").model == f"{NAME}@v1.0"
    with pytest.raises(ModelError, match="ORG/NAME@REVISION"):
        split_revision("one@two")
