"""What the README tells people to run and to open is there."""

import re
import shlex

import pytest

from medalign_lite.files import ROOT
from medalign_lite.run.dial import NAMES

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
] + re.findall(r"`(make [a-z-]+)`", README)
LINKS = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_documented_command_exists(command):
    program, target, *settings = shlex.split(command)
    assert program == "make"
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"the Makefile has no target {target}"
    allowed = re.search(r"^VARIABLES := (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    assert all(setting.split("=")[0] in allowed for setting in settings)


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link.split("#")[0]).exists()


def test_every_preset_and_notebook_is_named():
    assert all(f"`{name}`" in README for name in NAMES)
    assert {path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")} <= {link.split("/")[-1] for link in LINKS}
