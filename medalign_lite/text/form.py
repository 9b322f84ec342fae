"""The form of a radiology report: which sections assert something, its sentences, and a plain copy of each to read.

What an indication, a history, a comparison or a technique says is asked, remembered or described, and not asserted of
this image. Characters are Python string indices of the report, end exclusive.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

# Headers of sections that assert nothing of the image; all other headers ("FINDINGS:", "PORTABLE CHEST:") do.
_SILENT = (
    r"(?:clinical |brief |patient |pertinent |relevant |past |medical |surgical |underlying |"
    r"admitting )*(?:indications?|history|information|data|statement|question|details|symptoms?|diagnos[ie]s|condition|"
    r"notes?|hx)|reasons?(?: for| of)?(?: the| this)?(?: exam(?:ination)?| study| visit| order| referral)?|"
    r"comparisons?(?: study| exam)?|compared? (?:to|with)|techniques?|procedures?|"
    r"(?:type of )?exam(?:ination)?(?: date| type)?|study(?: date)?|views?|date(?: of exam)?|time|notifications?|"
    r"communication|recommend\w+(?: \w+)?|dictated(?: by)?|signed(?: by)?|electronically[\w ]*|attending|radiologist|"
    r"physician|referring[\w ]*|contrast|dose|patient(?: name| id)?|name|mrn|age|sex|disclaimer|accession[\w ]*|"
    r"order(?:ing)?[\w ]*|requested[\w ]*|(?:history|reason|indication) (?:of|for)[\w /]{0,40}|priors?|"
    r"previous(?: exams?| stud\w+)?|tags?|mesh|images?|department|hospital"
)
_SPOKEN = (
    r"(?:preliminary |final |provisional |chest )?(?:findings?|impressions?|conclusions?|opinion|interpretation|"
    r"summary|report)(?:(?: and |/| & )(?:impressions?|findings?|conclusions?|recommendations?))?(?: \(pfi\))?|"
    r"addendum|wet read|comments?|results?|observations?"
)
_OWN_LINE = rf"^[ \t#*_]*(?P<own>{_SPOKEN}|{_SILENT})[ \t*_]*$"
_KNOWN = rf"(?:(?<=[.\n])|^|(?<=[.:?*\])]\s)|(?<=\s\s))[ \t#*_]*(?P<known>{_SPOKEN}|{_SILENT})[ \t*_]*:"
_CAPITAL = r"(?P<capital>(?<![A-Za-z])(?<![A-Z] )(?:[A-Z][A-Z/&,()\-]*(?: |(?=:))){1,10}(?:___|X{3,})?[ *_]*:)"
_HEADER = re.compile(rf"(?im:{_OWN_LINE}|{_KNOWN})|{_CAPITAL}")
_IS_SILENT = re.compile(rf"(?:{_SILENT})", re.I)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")

_ABBREVIATIONS = "(?i:" + "".join(
    rf"(?<!\b{a})" for a in (r"dr", "mr", "ms", "mrs", "vs", r"e\.g", r"i\.e", "approx", "mod", "eff", "pl", "pt",
    r"e\.t", r"n\.g", r"o\.g")
) + ")"  # fmt: skip
_SENTENCE_END = re.compile(
    rf"{_ABBREVIATIONS}[.!](?=\s|$|[A-Z](?![.]))[.!\s]*|\?(?=\s+[A-Z\d]|\s*$)\s*"  # "Clear.No effusion" is two
    r"|\n\s*\n\s*"  # a paragraph
    r"|\n\s*(?=(?:\d{1,2}[.)]|[-*•>])\s)"  # a list on lines
    r"|(?<=\s)(?=(?:\(?\d\)|\d\.)\s+[A-Z])"  # a list in a line: "1) Clear lungs 2) No effusion"
    r"|(?<![,\w])\n\s*|"
    r"(?<!,)(?<!\band)(?<!\bor)(?<!\bof)(?<!\bthe)(?<!\bin)(?<!\bwith)(?<!\bno)(?<!\ba)(?<!\bto)\s*\n\s*(?=[A-Z][a-z])",
)
_TOKEN = re.compile(
    r"\s+|\[\*\*.*?\*\*\]|<unk>|[xX]{4}-[aA]-[xX]{4}|[xX]{3,}|_{2,}|[A-Za-z]{7,}|[\u2018\u2019]|[\u2013\u2014]|.",
    re.S,
)

# Words that dictation and typing get wrong; one letter more, less, other or exchanged is put right.
_TYPED = (
    "consolidation", "consolidations", "pneumothorax", "pneumothoraces", "atelectasis", "atelectatic", "cardiomegaly",
    "pneumonia", "effusion", "effusions", "mediastinum", "mediastinal", "cardiomediastinal", "silhouette",
    "unremarkable", "endotracheal", "nasogastric", "opacities", "opacity", "pacemaker", "unchanged", "bilateral",
    "evidence", "without", "fracture", "fractures", "infiltrate", "congestion", "cardiac", "pleural", "pulmonary",
)  # fmt: skip
_REAL_WORDS = {
    "fractured", "pneumonic", "congestive", "withouts", "facture", "bilaterally", "effusive", "infiltrated",
    "infiltrates",
    "effused", "plural", "evidenced", "evidences", "pneumonias", "pacemakers", "rupture", "infusion", "cardia",
}  # fmt: skip
_LONG = 400  # characters of a sentence; what goes on without a full stop is read in pieces
_PIECE = re.compile(rf"(?s:.{{1,{_LONG}}}(?:[,;]\s|\s|$)|.{{1,{_LONG}}})")
_RUN = re.compile(r"[ \t\r\f\v\u00a0]{3,}|\s{5,}")  # white space that would only cost time
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _misspellings(word: str) -> set[str]:
    """Everything one keystroke away; the first letter is right."""
    cuts = [(word[:i], word[i:]) for i in range(1, len(word) + 1)]
    less = {a + b[1:] for a, b in cuts if b}
    other = {a + c + b[1:] for a, b in cuts if b for c in _LETTERS}
    more = {a + c + b for a, b in cuts for c in _LETTERS}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    return less | other | more | swapped


@cache
def _corrections() -> dict[str, str]:
    found = {wrong: word for word in _TYPED for wrong in _misspellings(word)}
    return {wrong: word for wrong, word in found.items() if wrong not in _TYPED and wrong not in _REAL_WORDS}


@dataclass(frozen=True)
class Sentence:
    """A sentence in lower case, single spaces, typing errors and de-identification marks gone.

    `starts` and `ends` give, for each character of `text`, the characters of the report that it stands for.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The characters of the report behind `text[start:end]`, which is not empty."""
        return self.starts[start], self.ends[end - 1]


def find_sections(report: str) -> tuple[tuple[int, int], ...]:
    """The characters of every stretch that asserts something, headers not included.

    Text in front of the first header counts where it is a sentence, and so does a paragraph that follows the first
    one of a silent section (a report that goes on without "FINDINGS:").
    """
    headers = list(_HEADER.finditer(report))
    stretches = [(0, headers[0].start() if headers else len(report))]
    if headers and not re.search(r"\w\.(?:\s|$)", report[: headers[0].start()]):
        stretches = []  # a title
    for header, following in zip(headers, [*headers[1:], None]):
        start, end = header.end(), following.start() if following else len(report)
        name = re.sub(r"\s+", " ", header.group(header.lastgroup)).strip(" *_:#\t")
        if not _IS_SILENT.fullmatch(name):
            begin = header.start() if header.lastgroup == "capital" else start  # "LUNGS: clear" needs its organ
            stretches.append((begin, end))
            continue
        body = start + len(report[start:end]) - len(report[start:end].lstrip())
        paragraph = _PARAGRAPH.search(report, body, end)
        if paragraph and re.search(r"\w\w", report[paragraph.end() : end]):
            stretches.append((paragraph.end(), end))
    return tuple(stretches)


def find_report_sentences(report: str) -> tuple[tuple[int, int], ...]:
    """The characters of every asserting sentence. A line break ends one only where a list or a new sentence begins."""
    found: list[tuple[int, int]] = []
    for start, end in find_sections(report):
        at = start
        for m in _SENTENCE_END.finditer(report, start, end):
            found += _pieces(report, at, m.start() + (m.group()[:1] == "?"))
            at = m.end()
        found += _pieces(report, at, end)
    return tuple(found)


def _pieces(report: str, start: int, end: int) -> list[tuple[int, int]]:
    if end - start <= _LONG:
        return [(start, end)] if report[start:end].strip() else []
    return [m.span() for m in _PIECE.finditer(report, start, end) if m.group().strip()]


def squeeze(text: str) -> tuple[str, Sequence[int]]:
    """`text` without long runs of white space, and for each of its characters (and its end) where that was."""
    if not _RUN.search(text):
        return text, range(len(text) + 1)
    kept, at, places = [], 0, []
    for run in _RUN.finditer(text):
        short = "\n\n" if run.group().count("\n") > 1 else "  "
        kept += [text[at : run.start()], short]
        places += [*range(at, run.start()), run.start(), run.end() - 1]
        at = run.end()
    return "".join([*kept, text[at:]]), [*places, *range(at, len(text) + 1)]


def normalise(report: str, start: int, end: int) -> Sentence:
    """`report[start:end]` as a `Sentence`."""
    text, starts, ends = [], [], []
    for m in _TOKEN.finditer(report, start, end):
        token, a, b = m.group(), m.start(), m.end()
        new = _plain(token)
        if new == " " and (not text or text[-1] == " "):
            continue
        text += new
        if len(new) == b - a:
            starts += range(a, b)
            ends += range(a + 1, b + 1)
        else:
            starts += [a] * len(new)
            ends += [b] * len(new)
    return Sentence("".join(text), starts, ends)


def _plain(token: str) -> str:
    first = token[0]
    if token[4:7].lower() == "-a-":
        return "port-a-cath"  # the mark of de-identification covers two of its parts
    if first.isspace() or first in "[<_" and len(token) > 1 or token.strip("xX") == "" and len(token) > 2:
        return " "
    if first in "\u2018\u2019":
        return "'"
    if first in "\u2013\u2014":
        return "-"
    lower = token.lower()
    if len(token) > 6:
        return _corrections().get(lower, lower)
    return lower if len(lower) == len(token) else token
