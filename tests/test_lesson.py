"""The class: working copies, slides, the site's links, packed wheels, and the workflows."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import lab
import nbformat
import pytest
import yaml
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from medalign_lite.cases.images import read_image
from medalign_lite.cases.readers import read_cases
from medalign_lite.corruption.masks import lesion_mask
from medalign_lite.files import PLAIN_BAR, ROOT
from medalign_lite.show.charts import picture
from medalign_lite.show.exercises import check
from medalign_lite.show.figures import lines
from medalign_lite.show.page import beside, without_widgets, write_html
from medalign_lite.show.tables import table
from studies.lesson import copies, minutes, real, site, slides, wheels

SLAKE = Path(os.environ.get("SLAKE_FULL", Path(__file__).parents[2] / "shared" / "real" / "slake_full"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_a_working_copy_leaves_git_alone_and_is_never_overwritten(tmp_path, capsys):
    assert copies.main([str(tmp_path)]) == 0
    mine = tmp_path / "notebooks" / NOTEBOOKS[0].name
    assert mine.read_text() and not mine.samefile(NOTEBOOKS[0])
    mine.write_text("what I wrote")
    copies.main([str(tmp_path)])
    assert mine.read_text() == "what I wrote" and "0 notebooks copied" in capsys.readouterr().out.splitlines()[-1]
    for page in (tmp_path / "notebooks").glob("*.ipynb"):
        text = "" if page == mine else page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((\.\./[^)#\s]+)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_instructors_copy_has_every_solution_in_its_place(path):
    solved = path.parent / "solutions" / f"{path.stem}_solutions.ipynb"
    solutions, fresh = (nbformat.read(solved, as_version=4) for _ in range(2))
    notebook = nbformat.read(path, as_version=4)
    filled = copies.with_solutions(notebook, fresh)
    text = "\n".join(cell.source for cell in filled.cells)
    numbers = [int(n) for cell in solutions.cells for n in re.findall(r"^## Exercise (\d+)", cell.source, re.M)]
    assert [int(n) for n in re.findall(r"\*\*Solution (\d+)\.", text)] == numbers
    assert "raise NotImplementedError(" not in text
    assert len([c for c in filled.cells if "parameters" in c.metadata.get("tags", [])]) == 1
    assert len({cell.id for cell in filled.cells}) == len(filled.cells)


def test_slides_start_with_a_text_and_leave_the_machinery_out():
    cells = [new_markdown_cell("# One"), new_code_cell("a", metadata={"tags": ["parameters"]})]
    cells += [new_code_cell("open_stage()"), new_markdown_cell("text"), new_code_cell("b"), new_code_cell("c")]
    cells += [new_code_cell("print(stage.finish())")]
    made = slides.as_slides(new_notebook(cells=cells))
    kinds = [cell.metadata.slideshow.slide_type for cell in made.cells]
    assert kinds == ["slide", "skip", "skip", "subslide", "-", "subslide", "skip"]


def test_slides_are_files_that_ask_nothing_of_the_network(tmp_path):
    assert slides.main([str(tmp_path / "no run"), str(tmp_path)]) == 0
    pages = sorted(tmp_path.glob("*.html"))
    assert [page.stem for page in pages] == [path.stem for path in NOTEBOOKS]
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.search(r"<script|<link\b|src=[\"']?https?:|url\(['\"]?https?:", html), page.name
        assert html.count("<section>") > 10 and "scroll-snap-type" in html


def test_dead_links_and_what_is_loaded_from_elsewhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="here">x</h1><a href="b.html#there">1</a><a href="b.html#no">2</a><a href="c.html">3</a>'
        '<a href="#here">4</a><a href="https://example.org">5</a><img src="https://example.org/x.png">'
        '<img src="data:,"><script src="b.html">'
    )
    (tmp_path / "b.html").write_text('<p id="there"><a href="a.html">back</a>')
    assert site.dead_links(tmp_path) == ["a.html: b.html#no (no such place in it)", "a.html: c.html",
                                         "a.html: loads https://example.org/x.png"]  # fmt: skip


def test_links_of_a_page_hold_on_the_site(tmp_path):
    text = "[a](docs/FAQ.md) [m](medalign_lite/dials.py) [r](medalign_lite) [c](data_samples/cases/README.md) [w](https://x.y)"
    held = "[a](docs/FAQ.md) [m](medalign_lite/dials.py) r c [w](https://x.y)"
    assert site.with_files(text, ROOT, tmp_path) == held
    assert (tmp_path / "medalign_lite/dials.py").is_file() and not (tmp_path / "docs").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site of a run that has executed one small notebook."""
    folder = tmp_path_factory.mktemp("run")
    figure = Figure(figsize=(12, 2))
    lines(figure.subplots(), [1, 2], {"a": [1, 2]})
    shown = [table({"dpo": {"weight": 1.0, "none": None}}, title="w_t"), check(1, 2, hints=("look",)),
             picture(figure, "A line that rises.")]
    texts = ("# Claims\n\nOf $m(v)$.\n\n| a | b |\n|---|---|\n| 1 | 2 |", "## 1 One")
    cells = [new_markdown_cell(text) for text in texts]
    cells += [new_code_cell("table(rows)  # " + "long " * 40, outputs=[new_output(
        "execute_result", {"text/html": what._repr_html_(), "text/plain": repr(what)}, execution_count=1)])
        for what in shown]
    cells += [new_code_cell("print(1)", outputs=[new_output("stream", text="ci: " + "a summary " * 30)])]
    (folder / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), folder / "notebooks/07_claims.ipynb")
    assert site.main([str(folder), str(folder / "site")]) == 0
    return folder / "site"


def test_the_site_is_built_without_a_dead_link(built):
    assert (built / "notebooks/04_losses.html").is_file() and (built / "searchindex.js").is_file()
    assert "A line that rises." in (built / "notebooks/07_claims.html").read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.skipif(bool(lab.MISSING), reason=f"needs {', '.join(lab.MISSING)}")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_site_and_it_fits_a_telephone(built, scheme):
    with lab.browser() as driver:
        media = {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for page in ("index.html", "notebooks/07_claims.html", "docs/TEACHING.html"):
            size = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get((built / page).as_uri())
            assert lab.barriers(driver, "body") == [], page
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"width": 400})
            assert driver.execute_script("return document.documentElement.scrollWidth") <= 400, page


def test_a_page_keeps_what_was_said_and_not_the_progress_that_is_over():
    times = {"total_fmt": 9, "elapsed": "00:01", "remaining": "?"}
    lines = "".join("\r" + PLAIN_BAR.format(desc="run", n_fmt=n, **times) for n in (0, 9))
    said = [new_output("stream", text=text, name=name) for name, text in (
        ("stderr", lines), ("stderr", "\n"), ("stderr", f"{lines}a warning\n"), ("stdout", "9 of 9 are there\n"))]
    cell = new_code_cell("x", outputs=said)
    kept = without_widgets(new_notebook(cells=[new_markdown_cell("# a"), cell])).cells[1].outputs
    assert [output.text for output in kept] == ["a warning\n", "9 of 9 are there\n"]
    assert len(cell.outputs) == 4, "the notebook is left as it was"


def test_pictures_scroll_and_captions_have_a_level():
    image = '<p><img alt="&quot;b&quot;" src="../_images/b.png" /></p>'
    page = site.mended(f'<p role="heading">a</p>{image}<p><img src="c"></p>')
    assert page.startswith('<p role="heading" aria-level="2">a</p><div role="region" tabindex="0"')
    assert 'min-width:36rem" alt="&quot;b&quot;" src="../_images/b.png" /></div><p><img src="c"></p>' in page


def test_every_link_of_the_documents_leads_somewhere():
    dead = []
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").rglob("*.ipynb")]:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".ipynb":
            text = "\n".join(c.source for c in nbformat.reads(text, as_version=4).cells if c.cell_type == "markdown")
        links = [link.split("#")[0] for _, _, link in site.LINK.findall(text) if "://" not in link]
        dead += [f"{page.name}: {link}" for link in links if not (page.parent / link).exists()]
    assert not dead


@pytest.mark.skipif(not SLAKE.is_dir(), reason="needs SLAKE as published")
def test_five_real_pictures_are_made_small_and_can_be_read(tmp_path):
    assert real.main([str(SLAKE), str(tmp_path)]) == 0
    cases = read_cases(tmp_path, strict=True).cases
    assert [case.id for case in cases] == list(real.CHOSEN)
    assert all(max(read_image(case.image).size) <= real.SIDE and lesion_mask(case).any() for case in cases)
    assert "Creative Commons Attribution 4.0" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 400_000


def test_pages_that_lie_beside_each_other_have_no_dead_link(tmp_path):
    for path in NOTEBOOKS:
        write_html(nbformat.read(path, as_version=4), tmp_path / f"{path.stem}.html", folder=path.parent)
    assert site.dead_links(tmp_path) == []
    assert 'href="01_rollout.html"' in (tmp_path / "00_start.html").read_text(encoding="utf-8")
    assert beside("[a](01_b.ipynb#c) [d](../e.md) [f](https://g.h) ![i](j.png)") == (
        "[a](01_b.html#c) d [f](https://g.h) ![i](j.png)")


def test_what_is_no_slake_is_refused(capsys):
    assert real.main([]) == 2 and "give the folder of SLAKE" in capsys.readouterr().err
    assert real.main([str(ROOT / "data_samples/cases")]) == 1 and "is it the whole of SLAKE" in capsys.readouterr().err


def test_the_minutes_of_the_class_are_those_of_the_notebooks_and_the_plans_come_to_two_hours_and_half_a_day():
    text = minutes.TEACHING.read_text(encoding="utf-8")
    assert minutes.written(text) == text, "python -m studies.lesson.minutes writes them"
    plans = {int(total): table.splitlines() for _, total, table, _ in minutes.PLAN.findall(text)}
    sums = {total: sum(int(row.split("|")[1]) for row in rows[2:]) for total, rows in plans.items()}
    assert sums == {120: 120, 240: 240}
    assert all(f"{number} " in "".join(plans[240]) for number in minutes.NOTEBOOKS)


def test_a_section_takes_its_words_lines_and_cells_and_what_papermill_measured(tmp_path):
    figure, quiz = new_code_cell("a\n" * 40, metadata={"tags": ["figure"]}), new_code_cell("quiz()")
    cells = [new_code_cell("first"), new_markdown_cell("## 1 One\n" + "word " * 297), figure, quiz,
             new_markdown_cell("## Save"), new_code_cell("last")]
    for cell in (cells[0], figure, quiz):
        cell.metadata["papermill"] = {"duration": 2.25}
    nbformat.write(new_notebook(cells=cells), tmp_path / "00_start.ipynb")
    assert minutes.reading(tmp_path / "00_start.ipynb") == {"1": pytest.approx(2 + 2 + 1 + 1 / 20 + 1)}
    assert minutes.seconds_of(tmp_path / "00_start.ipynb") == {"": 2.2, "1": 4.5, "end": 0}
    with pytest.raises(ValueError, match="name fewer sections"):
        minutes.plan("| m | what | r |\n|---|---|---|\n| 9 | 00 start: 1 | |\n| 0 | questions | |", 3, {})


def test_the_folder_of_wheels_installs_from_itself_alone():
    script = wheels.INSTALL.format(system="Linux", python="3.11", extras=wheels.EXTRAS)
    assert script.count("pip install $from") == script.count("pip install") == 2 and 'from="--no-index' in script
    assert f"-e '.[{wheels.EXTRAS}]'" in (ROOT / "Makefile").read_text(encoding="utf-8"), "what `make env` installs"


def test_an_installed_copy_finds_the_repository_or_says_what_is_missing(tmp_path):
    installed, elsewhere = tmp_path / "site", tmp_path / "class/deep"
    shutil.copytree(ROOT / "medalign_lite", installed / "medalign_lite")
    elsewhere.mkdir(parents=True)
    script = "from medalign_lite.run.stages import open_stage as o; print(o('04_losses', uses_model=False).run_folder)"
    run = partial(subprocess.run, [sys.executable, "-c", script], cwd=elsewhere, capture_output=True, text=True,
                  env=os.environ | {"PYTHONPATH": str(installed)})
    assert "is an installed copy without models and cases" in run().stderr
    (tmp_path / "class/medalign-lite").symlink_to(ROOT)
    assert run().stdout.startswith(str(tmp_path / "class/medalign-lite/artifacts"))


def test_workflows_run_what_the_readme_names_and_their_commands_are_targets_of_make():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    variables = set(re.search(r"^VARIABLES := (.*)$", makefile, re.M)[1].split())
    paths = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
    flows = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths}
    test = flows["test"]["jobs"]
    systems = {*test["unix"]["strategy"]["matrix"]["os"], test["windows"]["runs-on"]}
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert sum("make test" in step.get("run", "") for job in test.values() for step in job["steps"]) == 2
    assert any(step.get("run") == "make site" for step in flows["site"]["jobs"]["site"]["steps"])
    assert flows["test"]["permissions"] == {"contents": "read"}
    for path, flow in zip(paths, flows.values(), strict=True):
        assert {"name", "permissions", "jobs"} <= flow.keys() and flow.keys() & {True, "on"}  # YAML reads on as true
        steps = [step for job in flow["jobs"].values() for step in job["steps"]]
        assert all("runs-on" in job and job["timeout-minutes"] for job in flow["jobs"].values())
        assert all(("uses" in step) != ("run" in step) for step in steps)
        for line in (line for step in steps for line in step.get("run", "").splitlines()):
            program, *words = shlex.split(line)
            assert program in ("make", "cp", "cd"), f"{path.name}: {line}"
            if program == "make":
                assert words[0] in targets and {word.split("=")[0] for word in words[1:]} <= variables, line
        uses = [step["uses"] for step in steps if "uses" in step]
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in uses), path.name
