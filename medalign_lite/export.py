"""An executed notebook as one HTML page that asks nothing of the network and runs no script."""

from __future__ import annotations

import copy
import html
import re
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from latex2mathml.exceptions import NoAvailableTokensError
from nbconvert import HTMLExporter

WIDGET = "application/vnd.jupyter.widget-view+json"
CODE_OR_MATH = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$", re.S
)
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.I)


def write_html(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the page. Formulas become MathML, widgets a note, pictures are inline.

    Raises ValueError if an output asks for something from elsewhere.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = mathml(cell.source)
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                note = "<em>Interactive: open the notebook in JupyterLab to use it.</em>"
                output.data = nbformat.NotebookNode({"text/html": note})
    page, _ = HTMLExporter(template_name="lab", embed_images=True).from_notebook_node(notebook)
    page = re.sub(r"<script\b.*?</script>", "", page, flags=re.S | re.I)
    if asked := FETCHED.search(page):
        raise ValueError(f"{path.name} would fetch {asked.group(0)[:120]}: embed it in the notebook instead")
    path.write_text(page, encoding="utf-8")


def mathml(markdown: str) -> str:
    """Markdown with its `$...$` and `$$...$$` as MathML, which browsers draw by themselves; code stays as it is."""
    return CODE_OR_MATH.sub(_formula, markdown)


def _formula(match: re.Match) -> str:
    if match["code"] is not None:
        return match[0]
    display = "block" if match["block"] is not None else "inline"
    tex = (match["block"] or match["inline"]).strip().replace("{aligned}", "{align*}")
    try:
        return convert(tex, display=display)
    except (NoAvailableTokensError, IndexError, ValueError, KeyError):
        return f"<code>{html.escape(tex)}</code>"  # better the source of one formula than no page
