"""The numbers of a run as tables, HTML in Jupyter and aligned text in a terminal, and in sentences: what helped, at
what price, and what is not shown. Sentences go by the 95 % interval of a paired difference: what includes no change is
called so."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real

from medalign_lite.cases.case import KINDS, SPLITS, Case
from medalign_lite.show.figures import spoken

FEWER_FALSE = {  # by what recall does
    -1: "Fewer findings are false, at the price of true ones left unsaid",
    0: "Fewer findings are false, and no loss of true ones is shown",
    1: "Fewer findings are false and more true ones are said",
}
NOT_FEWER = {
    -1: "More is left unsaid, and that fewer findings are false is not shown",
    0: "Neither true nor false findings are shown to get fewer",
    1: "More true findings are said",
}
LOOKS = "grounding_probability"
ASKED = ("closed_accuracy", "choice_accuracy", "open_recall")  # what is known of short answers
BLIND = ("blank", "shuffled", "question-only")


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
    """A table of rows, each {column: value}; {name: row} puts the name in front. Missing values, None and NaN are –. An
    entry of `stats` ({"value", "low", "high", ...}) is shown as its value with its interval."""
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


def read_results(
    results: Mapping, *, controls: Mapping[str, Mapping] | None = None, trained: Mapping | None = None,
    others: Mapping[str, Mapping] | None = None, grounding: Mapping | None = None,
) -> list[str]:  # fmt: skip
    """Sentences about `stats.results`. What could not be measured gives no sentence.

    controls  {condition: stats.results under it}
    trained   stats.results whose margins are under the corruption that training used
    others    {recipe: stats.compare of the base with it, on test}
    grounding stats.results of `grounding_probability`, which decides whether the aligned model looks better"""
    test, shifted = ({arm: block[split] for arm, block in results.items()} for split in ("test", "shifted"))
    found = [_price(test), _questions(test), _shift(test, shifted), _grounding(test, trained, grounding)]
    found.append(_blind(test, controls or {}))
    if known(test["difference"], hidden := "overclaim_lesion_hidden"):
        found.append("With one finding taken out of the picture and its company left, the share of reports that still "
                     f"affirm it {_change(test, hidden)}: {_gap(test, hidden)}.")
    found += [_style(test), _others(test, others or {})]
    return [sentence for sentence in found if sentence]


def moved(entry: Mapping) -> int:
    """1 or -1 where the interval of a difference lies above or below 0, else 0."""
    return 0 if entry["low"] is None else int(entry["low"] > 0) - int(entry["high"] < 0)


def known(block: Mapping, *names: str) -> bool:
    """Whether all these metrics could be measured."""
    return all(block.get(name, {"value": None})["value"] is not None for name in names)


def _gap(block: Mapping, name: str) -> str:
    entry = block["difference"][name]
    span = "" if entry["low"] is None else f" [{entry['low']:+.3f}, {entry['high']:+.3f}]"
    return f"{block['base'][name]['value']:.3f} → {block['aligned'][name]['value']:.3f}{span}"


def _change(block: Mapping, name: str) -> str:
    return {1: "rises", -1: "falls", 0: "is not shown to change"}[moved(block["difference"][name])]


def _price(test: Mapping) -> str:
    if not known(test["difference"], "fact_recall"):
        return "Facts in reports are not measurable here: nobody wrote down all that is in these pictures."
    if not known(test["difference"], "hallucination_rate"):
        return f"One arm affirms no finding, so false findings cannot be compared; recall {_gap(test, 'fact_recall')}."
    recall, false = (moved(test["difference"][name]) for name in ("fact_recall", "hallucination_rate"))
    told = f"recall {_gap(test, 'fact_recall')}, false findings {_gap(test, 'hallucination_rate')}"
    price = (FEWER_FALSE if false < 0 else NOT_FEWER)[recall]
    return f"{price}{', and false findings rise' if false > 0 else ''}: {told}."


def _questions(test: Mapping) -> str:
    parts = [f"{spoken(name)} {_change(test, name)} ({_gap(test, name)})" for name in ASKED
             if known(test["difference"], name)]
    if not parts:
        return ""
    yes = f"; the share of yes is {_gap(test, 'yes_ratio')}" if known(test["difference"], "yes_ratio") else ""
    return f"On questions {' and '.join(parts)}{yes}."


def _shift(test: Mapping, shifted: Mapping) -> str:
    if not known(test["difference"], "fact_f1") or not known(shifted["difference"], "fact_f1"):
        return ""
    base, aligned = (test[arm]["fact_f1"]["value"] - shifted[arm]["fact_f1"]["value"] for arm in ("base", "aligned"))
    kept = {1: "still helps", -1: "does harm", 0: "is not shown to help"}[moved(shifted["difference"]["fact_f1"])]
    return (f"Where the usual company of findings no longer holds (shifted), alignment {kept}: "
            f"F1 {_gap(shifted, 'fact_f1')}. From test to shifted the base loses {base:.3f} of F1, the aligned model "
            f"{aligned:.3f}.")


def _grounding(test: Mapping, trained: Mapping | None, grounding: Mapping | None) -> str:
    name = "grounding_selectivity"
    if not known(test["difference"], name):
        return "Grounding is not measurable: no test image has a lesion mask that a statement is about."
    own = test["aligned"][name]
    free, other = ({arm: block["test"] for arm, block in (told or {}).items()} for told in (grounding, trained))
    sees = "It does look at the lesion" if moved(own) > 0 else "That it looks at the lesion is not shown"
    seen = (f" Under the corruption that training used: {_gap(other, name)}."
            if other and known(other["difference"], name) else "")
    better = "that it looks better than the base is not shown"
    if free and known(free["difference"], LOOKS):
        side = {1: "it looks better than the base", -1: "it looks less well than the base", 0: better}
        better = (f"the lesion's loss lowers it more than the other place's in {_gap(free, LOOKS)} of the pairs, so "
                  f"{side[moved(free['difference'][LOOKS])]}")
    return (f"{sees}: with the lesion replaced by healthy texture, which no training pair shows, its preference for "
            f"the truth falls by {own['value']:.2f} nats more than with another place replaced ({_gap(test, name)}); "
            f"nats grow with the margins themselves and decide nothing: {better}.{seen}")


def _blind(test: Mapping, controls: Mapping[str, Mapping]) -> str:
    """How far the aligned model falls without the evidence, by the metric that the run has."""
    name = next((name for name in ("fact_f1", *ASKED) if known(test["aligned"], name)), "")
    blind = {condition: controls[condition]["aligned"]["test"] for condition in BLIND if condition in controls}
    rows = {condition: block[name] for condition, block in blind.items() if known(block, name)}
    if not rows:
        return ""
    real = test["aligned"][name]
    told = ", ".join(f"{condition} {entry['value']:.3f}" for condition, entry in rows.items())
    apart = [real["low"] is not None and entry["high"] is not None and entry["high"] < real["low"]
             for entry in rows.values()]
    verdict = "It needs the picture" if all(apart) else "It hardly needs the picture" if not any(apart) else (
        "It needs the picture in part")
    return f"{verdict}: {spoken(name)} is {real['value']:.3f} with it and {told} without."


def _style(test: Mapping) -> str:
    parts = []
    if known(test["aligned"], "style_edit_distance"):
        share = test["aligned"]["style_edit_distance"]["value"]
        parts.append(f"{share:.0%} of the words differ from the base's answer")
    if known(test["aligned"], "kl_to_reference"):
        parts.append(f"the drift from the base is {test['aligned']['kl_to_reference']['value']:.3f} nats a token")
    return f"Style: {' and '.join(parts)}." if parts else ""


def _others(test: Mapping, others: Mapping[str, Mapping]) -> str:
    name = next((name for name in ("fact_f1", *ASKED) if known(test["aligned"], name)), "")
    scored = {recipe: block["aligned"][name]["value"] for recipe, block in others.items()
              if known(block["aligned"], name)}
    if not scored:
        return ""
    told = ", ".join(f"{recipe} {value:.3f}" for recipe, value in scored.items())
    above = [recipe for recipe, value in scored.items() if value > test["aligned"][name]["value"]]
    rank = (f"{' and '.join(above)} came out higher, so this run cannot credit what the aligned recipe adds" if above
            else "none came out higher; one seed cannot rank them")
    return f"Other recipes on the same pairs, {spoken(name)}: {told}; {rank}."
