"""The part of a radiology report that describes the picture: its findings, or its impression where it has none."""

import re

HEADER = re.compile(r"(?m)^[ \t]*([A-Z][A-Z /&()-]{2,60}?)[ \t]*:")
WANTED = ("FINDINGS", "IMPRESSION", "CONCLUSION")


def describing_part(report: str) -> str:
    """The text under the first of WANTED that the report has, spaces and line ends made single; "" without any.

    A section begins with a heading in capitals and a colon at the start of a line, and ends where the next begins.
    """
    headers = list(HEADER.finditer(report))
    sections: dict[str, str] = {}
    for header, following in zip(headers, [*headers[1:], None], strict=False):
        end = len(report) if following is None else following.start()
        words = " ".join(report[header.end() : end].split())
        name = next((name for name in WANTED if header[1].startswith(name)), "")
        if name and words:
            sections.setdefault(name, words)
    return next((sections[name] for name in WANTED if name in sections), "")
