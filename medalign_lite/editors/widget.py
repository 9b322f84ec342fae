"""The widget in which a clinician judges and corrects answers; what it does is in `notes`, this only shows it.

    HumanEditor(list_items(rollouts, cases), folder="artifacts/annotations")

The browser draws the state (`widget.js`, by anywidget) and sends actions; Python carries them out, writes the
journal and sends the new state. All text of a model or a data set is drawn as text, never as HTML.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import anywidget
import traitlets
from PIL import Image

from medalign_lite.cases.case import CaseError
from medalign_lite.cases.images import ImageError, read_image
from medalign_lite.corruption.masks import lesion_mask
from medalign_lite.editors import notes
from medalign_lite.editors.agree import agreement
from medalign_lite.editors.notes import Change, Item, Journal, Judgement, NoteError
from medalign_lite.editors.suggest import Span, find_spans
from medalign_lite.edits.truths import truth_of
from medalign_lite.show.figures import lesion_names, outlined, png
from medalign_lite.text.spans import make_changes

HERE = Path(__file__).parent
SIDE = 640  # pixels of the shown picture's longer side


class HumanEditor(anywidget.AnyWidget):
    """Judge `items` one after another; every action is on disk, in `folder`, before the next one. With no items it says
    so. `annotator` may be left empty: the widget asks. Notes of others in the folder are not shown, only how far they
    agree."""

    _esm = HERE / "widget.js"
    _css = HERE / "widget.css"
    state = traitlets.Dict().tag(sync=True)
    pictures = traitlets.List(traitlets.Bytes()).tag(sync=True)  # PNG with and without outlines; one without lesions

    def __init__(self, items: Sequence[Item], folder: Path | str, *, annotator: str = ""):
        """Opens the journal of `annotator`, if one is named. Raises NoteError as `Journal` does."""
        super().__init__()
        self._items, self._folder = {item.key: item for item in items}, Path(folder)
        self._keys, self._at = list(self._items), 0
        self._journal: Journal | None = None
        self._reference, self._compared, self._message = False, False, ""
        self._spans = cache(lambda key: find_spans(self._items[key].answer, self._items[key].case))
        if annotator:
            self._sign_in(annotator)
        self.on_msg(lambda _, content, buffers: self.act(content))
        self._show()

    def act(self, content: Mapping) -> None:
        """Carry out one action of the browser: {"do": name, ...}. What cannot be done is said in the widget."""
        self._message = ""
        try:
            if self._journal:
                self._journal.refresh()
            self._carry_out(content)
        except (NoteError, OSError) as error:
            self._message = str(error)
        self._show()

    def _carry_out(self, content: Mapping) -> None:
        match content["do"]:
            case "sign in":
                self._sign_in(str(content["name"]).strip())
            case "go":
                self._go(int(content["to"]))
            case "next open":
                self._next_open()
            case "replace":
                changes = [Change(*self._place(part), str(part["new"])) for part in content["changes"]]
                self._write("replace", notes.replace_words(self._said, self._item.answer, changes))
            case "restore":
                self._write("clear", notes.restore_words(self._said, *self._place(content)))
            case "mark":
                self._write("mark", notes.mark(self._said, content["value"]))
                self._next_open()
            case "undo":
                if not self._journal or (key := self._journal.undo(self._items)) is None:
                    raise NoteError("there is nothing to take back")
                self._go(self._keys.index(key))
            case "reference":
                self._reference = not self._reference
            case "agreement":
                self._compared = not self._compared
            case "export":
                self.send({"export": notes.export_notes(self._folder)})
            case "import":
                self._message = f"{notes.import_notes(self._folder, str(content['text']))} new notes"
                if self._journal:
                    self._journal.refresh()

    @property
    def _item(self) -> Item:
        if not self._keys:
            raise NoteError("there is no answer to judge")
        return self._items[self._keys[self._at]]

    @property
    def _said(self) -> Judgement:
        return self._journal.judgement(self._item.key) if self._journal else Judgement()

    def _sign_in(self, name: str) -> None:
        self._journal, self._at = Journal(self._folder, name), 0
        self._next_open(stay=True)

    def _go(self, to: int) -> None:
        self._at = min(max(to, 0), len(self._keys) - 1)
        self._reference = False

    def _next_open(self, *, stay: bool = False) -> None:
        """To the next answer without a judgement, from the start again after the last; stays where all are judged."""
        count = len(self._keys)
        order = [(self._at + step) % count for step in range(0 if stay else 1, count)]
        judged = self._judged()
        self._go(next((i for i in order if self._keys[i] not in judged), self._at))

    def _place(self, part: Mapping) -> list[int]:
        """Where words of the browser's lie in the answer: it counts UTF-16 units, and an emoji is two of them."""
        units, places = self._item.answer.encode("utf-16-le"), [2 * int(part[name]) for name in ("start", "end")]
        if not all(0 <= place <= len(units) for place in places):
            raise NoteError("these words are not in the answer")
        return [len(units[:place].decode("utf-16-le", errors="ignore")) for place in places]

    def _write(self, action: str, said: Judgement) -> None:
        if self._journal is None:
            raise NoteError("say who you are first: name or initials, top right")
        if said != self._said:
            self._journal.write(self._item, action, said, saw_reference=self._reference)

    def _judged(self) -> dict[str, str]:
        """{key: verdict} of the items that this annotator has judged."""
        said = {note.item: note.judgement.verdict for note in self._journal.notes} if self._journal else {}
        return {key: said[key] for key in self._keys if said.get(key)}

    def _show(self) -> None:
        """Send the state; the pictures only where the answer is another one."""
        shared = {"message": self._message, "annotator": self._journal.annotator if self._journal else "",
                  "total": len(self._keys), "at": self._at}  # fmt: skip
        if not self._keys:
            self.state = shared | {"message": "There is no answer to judge here."}
            return
        judged, item, said = self._judged(), self._item, self._said
        fresh = self.state.get("key") != item.key
        if fresh:
            self.pictures, trouble = _draw(item)
        self.state = shared | {
            "key": item.key, "question": item.question.text, "answer": item.answer,
            "alt": f"The picture. Marked in it: {', '.join(lesion_names(item.case).values()) or 'nothing'}.",
            "spans": [_span(span, item.answer) for span in self._spans(item.key)],
            "changes": [_shown(change, item.answer) for change in said.changes], "verdict": said.verdict or "",
            "text": make_changes(item.answer, said.changes),
            "counts": {name: [*judged.values()].count(name) for name in ("right", "wrong", "unsure")},
            "marks": [judged.get(key, "") for key in self._keys], "folder": str(self._folder),
            "reference": truth_of(item.case, item.question).words if self._reference else None,
            "trouble": trouble if fresh else self.state.get("trouble", ""),
            "agreement": self._agreement() if self._compared else [],
        }  # fmt: skip

    def _agreement(self) -> list[list[str]]:
        """Rows of the table: who, how many, how far."""
        journals = notes.read_journals(self._folder)
        if len(journals) < 2:
            return [["Agreement needs the notes of two annotators: change the name above, or import others' notes."]]
        noted = {note.item for some in journals.values() for note in some} & set(self._keys)
        return agreement(journals, {key: [(s.start, s.end) for s in self._spans(key)] for key in noted}).rows()


def _span(span: Span, answer: str) -> dict:
    choices = [{"label": c.label, "changes": [_shown(x, answer) for x in c.changes]} for c in span.choices]
    return _shown(span, answer) | {"label": span.label, "tone": span.tone, "choices": choices}


def _shown(part: Span | Change, answer: str) -> dict:
    """Start and end as the browser counts them, in UTF-16 units, and what a change writes."""
    start, end = (len(answer[:at].encode("utf-16-le")) // 2 for at in (part.start, part.end))
    return {"start": start, "end": end} | ({"new": part.new} if isinstance(part, Change) else {})


def _draw(item: Item) -> tuple[list[bytes], str]:
    """The picture with outlines and without, as PNG; and what is wrong with it, if anything is."""
    try:
        image, mask = read_image(item.case.image), lesion_mask(item.case)
    except (ImageError, CaseError) as error:
        return [png(Image.new("RGB", (SIDE, SIDE)))], str(error)
    plain = png(outlined(image, side=SIDE))
    return ([plain] if mask is None else [png(outlined(image, mask, side=SIDE)), plain]), ""
