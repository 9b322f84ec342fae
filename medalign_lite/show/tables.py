"""Tables: HTML in Jupyter, aligned text in a terminal, from rows of plain values."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real

from medalign_lite.cases.case import KINDS, SPLITS, Case
from medalign_lite.show.figures import spoken


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row. Jupyter shows it as HTML, `print` as text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    title: str = ""

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in
                           zip(row, widths, self.numeric, strict=True)).rstrip() for row in (self.columns, *self.rows)]
        return "\n".join([self.title] * bool(self.title) + lines)

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], *tags: str) -> str:
            side = ["right" if number else "left" for number in self.numeric]
            return "<tr>" + "".join(
                f'<{tags[min(i, 1)]} style="text-align:{side[i]}"><bdi>{escape(text)}</bdi></{tags[min(i, 1)][:2]}>'
                for i, text in enumerate(cells)) + "</tr>"  # fmt: skip

        head = row(self.columns, 'th scope="col"', 'th scope="col"')
        body = "".join(row(cells, 'th scope="row"', "td") for cells in self.rows)
        if not self.rows:
            return f"<p>{escape(self.title)}</p>"
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead>{head}</thead><tbody>{body}</tbody></table>"


def table(rows: Sequence[Mapping] | Mapping[str, Mapping], *, title: str = "", digits: int = 3) -> Table:
    """A table of rows, each {column: value}; {name: row} puts the name in front. Missing values, None and NaN are –.

    An entry of `stats` ({"value", "low", "high", ...}) is shown as its value with its interval.
    """
    if isinstance(rows, Mapping):
        rows = [{"": name, **row} for name, row in rows.items()]
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    values = [[_plain(row.get(column)) for column in columns] for row in rows]
    numeric = tuple(all(v is None or isinstance(v, Real | Mapping) for v in column)
                    for column in zip(*values, strict=True))
    cells = tuple(tuple(_cell(value, digits) for value in row) for row in values)
    return Table(tuple(map(str, columns)), cells, numeric or (False,) * len(columns), title)


def results_table(results: Mapping, split: str = "test") -> Table:
    """Base, aligned and difference of every metric that `stats.results` could measure in the split."""
    base, aligned, gaps = (results[arm][split] for arm in ("base", "aligned", "difference"))
    rows = {spoken(name): {"base": base[name]["value"], "aligned": aligned[name]["value"], "difference": gap,
                           "images": gap["n"]} for name, gap in gaps.items() if gap["value"] is not None}
    return table(rows, title=split if rows else f"{split}: no case could be scored")


def cohort_table(cases: Iterable[Case]) -> Table:
    """Images, groups, questions by kind, findings and unseen ones of each split that has cases."""
    cases, rows = list(cases), {}
    for split in (s for s in SPLITS if any(case.split == s for case in cases)):
        part = [case for case in cases if case.split == split]
        kinds = Counter(question.kind for case in part for question in case.questions)
        facts = [fact for case in part for fact in case.facts or ()]
        rows[split] = {"images": len(part), "groups": len({case.group for case in part})} | {
            kind: kinds[kind] for kind in KINDS if kinds[kind]} | {
            "findings": len(facts) or sum(len(case.lesions) for case in part),
            "too faint": sum(not fact.visible for fact in facts)}
    return table(rows, title="the cases, by split")


def _plain(value):
    """A number of NumPy or torch as Python's own."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _cell(value, digits: int) -> str:
    if isinstance(value, Mapping) and "value" in value:
        span = "" if value.get("low") is None else f" [{_cell(value['low'], digits)}, {_cell(value['high'], digits)}]"
        return _cell(value["value"], digits) + span
    if value is None or value != value:
        return "–"
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{value:.{digits}f}"
    return str(value).replace("\n", " ")
