"""`make slides`: the notebooks' own cells as slides, one file a notebook, without script or network.

    python -m studies.lesson.slides [artifacts/ci] [artifacts/slides]

nbconvert sets them; the browser turns the pages: space, page down or the arrows, as in any long page.
"""

import copy
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

from medalign_lite.files import ROOT
from medalign_lite.show.page import write_html

DEFAULTS = ("artifacts/ci", "artifacts/slides")
LOOK = """<style>
html { scroll-snap-type:y proximity; font-size:1.25em } body { margin:0; background:#fff; color:#1d2329 }
.reveal .slides > section > section { scroll-snap-align:start; min-height:100vh; box-sizing:border-box; padding:4vh 6vw;
 display:flex; flex-direction:column; justify-content:center; border-bottom:1px solid #d5dae0 }
.reveal, .reveal .slides, .reveal .slides > section { overflow:visible; height:auto; position:static; display:block }
.reveal img { max-width:100%; height:auto } .reveal pre { white-space:pre-wrap; overflow-wrap:anywhere; font-size:.7em }
.jp-InputPrompt, .jp-OutputPrompt { display:none }
</style></head>"""


def main(arguments: list[str]) -> int:
    """Write the slides of every notebook, executed where the run has it."""
    run, out = (Path(value).resolve() for value in [*arguments, *DEFAULTS[len(arguments):]])
    out.mkdir(parents=True, exist_ok=True)
    exporter = SlidesExporter(reveal_url_prefix="reveal", embed_images=True)
    for page in sorted((ROOT / "notebooks").glob("*.ipynb")):
        target = out / f"{page.stem}.html"
        write_html(as_slides(executed(page, run)), target, folder=page.parent, exporter=exporter)
        html = re.sub(r'<link\b[^>]*href="reveal/[^>]*>', "", target.read_text(encoding="utf-8"))
        target.write_text(html.replace("</head>", LOOK, 1), encoding="utf-8")
    print(f"slides of {len(list(out.glob('*.html')))} notebooks in {out}")
    return 0


def executed(page: Path, run: Path) -> nbformat.NotebookNode:
    """The notebook as the run executed it, where it did."""
    there = run / "notebooks" / page.name
    return nbformat.read(there if there.is_file() else page, as_version=4)


def as_slides(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy in which each text starts a slide, what it introduces follows on it, and the machinery is left out."""
    notebook, after_text = copy.deepcopy(notebook), False
    for cell in notebook.cells:
        plumbing = {"parameters", "injected-parameters", "interactive"} & set(cell.metadata.get("tags", []))
        shows = any("text/html" in output.get("data", {}) for output in cell.get("outputs", []))
        if plumbing or "stage.finish()" in cell.source or ("open_stage(" in cell.source and not shows):
            kind = "skip"
        elif cell.cell_type == "markdown":
            kind, after_text = ("slide" if cell.source.startswith("#") else "subslide"), True
        else:
            kind, after_text = ("-" if after_text else "subslide"), False
        cell.metadata["slideshow"] = {"slide_type": kind}
    return notebook


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
