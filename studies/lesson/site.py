"""`make site`: README, docs, executed notebooks, results and report of a run as one static site with search.

    python -m studies.lesson.site [artifacts/ci] [artifacts/site]

Sphinx and MyST-NB build it (the extra `site`); nothing in it is loaded from elsewhere. Every link and anchor of the
finished pages is followed: a dead one fails the command.
"""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat

from medalign_lite.files import ROOT
from medalign_lite.show.page import without_widgets
from studies.lesson.slides import executed

DEFAULTS = ("artifacts/ci", "artifacts/site")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
PICTURE = re.compile(r'<p><img ([^>]*src="[^"]*_images/[^>]*)></p>')
SETTINGS = '''
project, html_title, html_theme = "medalign-lite", "medalign-lite", "furo"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
myst_enable_extensions, myst_heading_anchors = ["dollarmath", "amsmath"], 4
nb_execution_mode, nb_ipywidgets_js = "off", {}
html_static_path, html_css_files = ["look"], ["site.css"]
html_extra_path, html_show_sourcelink, html_copy_source = ["extra"], False, False
exclude_patterns = ["extra", "look"]
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]
'''
LOOK = """.cell_output table { border-collapse: collapse; margin: .5em 0 }
.cell_output th, .cell_output td { padding: .25em .7em; vertical-align: top }
.cell_output tbody tr { border-top: 1px solid var(--color-background-border) }
.cell_output caption { text-align: left; padding: .25em .7em }
"""  # of the package's tables, which Jupyter gives a look of its own
CONTENTS = """

```{toctree}
:hidden:
:caption: The lesson
:glob:

notebooks/*
```
```{toctree}
:hidden:
:caption: Documents
:glob:

docs/index
docs/*
```
```{toctree}
:hidden:
:caption: Solutions
:glob:

notebooks/solutions/*
```
"""


def main(arguments: list[str]) -> int:
    """Build the site; 1 where something is missing or a link is dead."""
    run, out = (Path(value).resolve() for value in [*arguments, *DEFAULTS[len(arguments):]])
    source = out.with_name(f".{out.name}-source")
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
    write_source(source, run)
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", str(source / ".trees"), str(source), str(out)]
    if subprocess.run(command, env=os.environ | {"PYTHONWARNINGS": "ignore"}, check=False).returncode:
        print("error: Sphinx failed; `make site` installs what it needs", file=sys.stderr)
        return 1
    shutil.rmtree(source)
    for page in out.rglob("*.html"):
        page.write_text(mended(page.read_text(encoding="utf-8")), encoding="utf-8")
    if problems := dead_links(out):
        print("\n".join(["error: dead links", *problems]), file=sys.stderr)
        return 1
    print(f"{len(list(out.rglob('*.html')))} pages, no dead link: open {out / 'index.html'}")
    return 0


def mended(html: str) -> str:
    """Sphinx's page with the level of its contents' captions, and pictures that scroll sideways where they would be too
    small to read."""
    html = html.replace('role="heading">', 'role="heading" aria-level="2">')
    return PICTURE.sub(r'<div role="region" tabindex="0" aria-label="picture" style="overflow-x:auto"><img '
                       r'style="min-width:36rem" \1></div>', html)


def write_source(source: Path, run: Path) -> None:
    """The site's sources: pages with links that hold there, the executed notebooks of `run` where it has them."""
    for folder in ("extra", "look", "docs"):
        (source / folder).mkdir(parents=True)
    (source / "conf.py").write_text(SETTINGS, encoding="utf-8")
    (source / "look/site.css").write_text(LOOK, encoding="utf-8")
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/README.md)", "](docs/index.md)")
    for name in ("report.html", "results.json"):
        if (run / name).is_file():
            shutil.copyfile(run / name, source / "extra" / name)
            text = text.replace(f"| `{name}` |", f'| <a href="{name}">{name}</a> |')
    (source / "index.md").write_text(with_files(text, ROOT, source) + CONTENTS, encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        target = source / "docs" / ("index.md" if page.name == "README.md" else page.name)
        target.write_text(with_files(page.read_text(encoding="utf-8"), page.parent, source), encoding="utf-8")
    for page in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        if ".ipynb_checkpoints" in page.parts:
            continue
        notebook, target = without_widgets(executed(page, run)), source / page.relative_to(ROOT)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = with_files(cell.source, page.parent, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def with_files(text: str, folder: Path, source: Path) -> str:
    """The text with the local files that it links to copied beside the pages; links to folders become words."""

    def place(match: re.Match) -> str:
        address = urlsplit(match[3])
        path = (folder / unquote(address.path)).resolve()
        if address.scheme or not address.path or not path.is_relative_to(ROOT):
            return match[0]
        if path == ROOT / "README.md":
            return match[0].replace("README.md", "index.md")
        if path.is_dir() or (path.suffix == ".md" and path.parent != ROOT / "docs"):
            return match[2]  # cards of data and models are read beside their files
        if path.is_file() and path.suffix not in (".md", ".ipynb"):
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return match[0]

    return LINK.sub(place, text)


class _Page(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found.get("id"), found.get("name")} - {None}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        loads = found.get("src") or (found.get("href") if tag == "link" and found.get("rel") != "canonical" else None)
        self.loads += [loads] if loads else []


def dead_links(folder: Path) -> list[str]:
    """Each link to a file or anchor that is not there, and each thing that a page would load from elsewhere."""
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    problems = []
    for path, page in sorted(pages.items()):
        name = path.relative_to(folder.resolve())
        for address in [*page.links, *page.loads]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                problems += [f"{name}: loads {address}"] if address in page.loads and parts.scheme != "data" else []
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                problems.append(f"{name}: {address}")
            elif target in pages and not {parts.fragment, unquote(parts.fragment)} & pages[target].anchors:
                problems.append(f"{name}: {address} (no such place in it)")
    return problems


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
