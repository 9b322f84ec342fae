"""An executed notebook as one HTML page that asks nothing of the network and runs no script."""

from __future__ import annotations

import copy
import html
import re
import secrets
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from latex2mathml.exceptions import NoAvailableTokensError
from nbconvert import HTMLExporter

from medalign_lite.files import write_text

WIDGET = "application/vnd.jupyter.widget-view+json"
CODE_OR_MATH = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$", re.S
)
PLACE = f"formula-{secrets.token_hex(8)}-{{}}-"  # no text of a notebook can hold it
LOCAL = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^()\s]+)\)")  # a link to a file
PAGE = re.compile(r"(\d\d_\w+)\.ipynb(#\S*)?")
PROGRESS = re.compile(r"^.*: \d+ of \d+, \S+ gone, \S+ left\n", re.M)  # as `files.PLAIN_BAR` writes it
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.I)


def write_html(
    notebook: nbformat.NotebookNode, path: Path, *, folder: Path = Path("."), exporter: HTMLExporter | None = None
) -> None:
    """Write the page. Formulas become MathML, widgets a note, pictures are inline.

    `folder` is what the pictures in the notebook's text are relative to; `exporter` is nbconvert's for pages of
    another kind (slides).

    Raises ValueError if an output asks for something from elsewhere.
    """
    notebook, formulas = without_widgets(notebook), []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = take_formulas(beside(cell.source), formulas)
    exporter = exporter or HTMLExporter(template_name="lab", embed_images=True)
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"path": str(folder), "name": path.stem}})
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.S | re.I)
    page = re.sub(PLACE.format(r"(\d+)"), lambda match: formulas[int(match[1])], page)
    if asked := FETCHED.search(page):
        raise ValueError(f"{path.name} would fetch {asked.group(0)[:120]}: embed it in the notebook instead")
    write_text(path, page)


def beside(markdown: str) -> str:
    """The text with links that hold in a folder of pages: a notebook's becomes its page's, other files' words only."""

    def place(match: re.Match) -> str:
        if page := PAGE.fullmatch(match[2]):
            return f"[{match[1]}]({page[1]}.html{page[2] or ''})"
        return match[1]

    return LOCAL.sub(place, markdown)


def without_widgets(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of the notebook with a note in place of each widget, and without the lines of progress that is over."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                note = "<em>Interactive: open the notebook in JupyterLab to use it.</em>"
                output.data = nbformat.NotebookNode({"text/html": note})
            elif output.output_type == "stream":
                output.text = PROGRESS.sub("", output.text)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text", "-").strip()]
    return notebook


def take_formulas(markdown: str, formulas: list[str]) -> str:
    """Put a place-holder for each `$...$` and `$$...$$` outside code, and append its MathML to `formulas`.

    Browsers draw MathML by themselves; nbconvert would take it apart, so it goes in after nbconvert.
    """

    def taken(match: re.Match) -> str:
        if match["code"] is not None:
            return match[0]
        formulas.append(mathml(match["block"] or match["inline"], block=match["block"] is not None))
        return PLACE.format(len(formulas) - 1)

    return CODE_OR_MATH.sub(taken, markdown)


def mathml(tex: str, *, block: bool) -> str:
    """One formula as MathML, or its source as code where the converter cannot read it."""
    try:
        return convert(tex.strip().replace("{aligned}", "{align*}"), display="block" if block else "inline")
    except (NoAvailableTokensError, IndexError, ValueError, KeyError):
        return f"<code>{html.escape(tex.strip())}</code>"
