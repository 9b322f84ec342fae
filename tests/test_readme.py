"""What the README tells people to run and to open is there, and its numbers are those of the results."""

import re
import shlex

import pytest

from medalign_lite.files import ROOT, read_json
from medalign_lite.run.dial import NAMES
from studies.lesson import door

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip() for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines() if line.split("#")[0].strip()
] + re.findall(r"`(make [a-z-]+)`", README)
LINKS = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_documented_command_exists(command):
    program, target, *settings = shlex.split(command)
    if program == "git":
        return
    assert program == "make"
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"the Makefile has no target {target}"
    allowed = re.search(r"^VARIABLES := (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    assert all(setting.split("=")[0] in allowed for setting in settings)


def test_every_preset_notebook_and_file_of_the_method_is_named():
    assert all(f"`{name}`" in README for name in NAMES)
    assert {path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")} <= {link.split("/")[-1] for link in LINKS}
    listed = re.findall(r"\]\(medalign_lite/(\w+/\w+)\.py\) \|", README)
    assert sorted(listed) == sorted(door.METHOD) and len(listed) == 11
    said = int(re.search(r"eleven files, ([\d,]+) lines", README)[1].replace(",", ""))
    assert abs(door.lines() - said) <= 200


def test_the_headline_says_what_the_results_say_and_the_picture_what_it_shows():
    told = door.MARKED.search(README)[0]
    assert door.headline(read_json(door.NUMBERS), read_json(door.CLAIMS), read_json(door.REAL)) in told
    assert told.count("95 % interval") == 1 and len(re.findall(r"\[[-+]?\d", told)) == 6
    assert door.PICTURE.stat().st_size < 200_000
    assert len(re.search(r"!\[([^\]]+)\]\(docs/figures/door.png\)", README)[1]) > 200


def test_a_run_without_a_plain_error_says_so():
    with pytest.raises(SystemExit, match="wrong side"):
        door.clearest([], [], aligned="dpo")
    assert door.main(["nowhere"]) == 1


NOT_YET = {"docs/PERFORMANCE_GPU.md"}  # a GPU writes it


def test_no_page_is_cited_that_is_not_there():
    folders = [ROOT / name for name in ("docs", "medalign_lite", "notebooks", "studies", "benchmarks")]
    texts = [p for kind in ("*.md", "*.py", "*.ipynb") for folder in folders for p in folder.rglob(kind)]
    texts += [ROOT / "README.md", ROOT / "Makefile"]
    cited = {name for path in texts for name in re.findall(r"docs/[A-Z_]+\.md", path.read_text(encoding="utf-8"))}
    assert not {name for name in cited - NOT_YET if not (ROOT / name).is_file()}
