"""What the numbers of a run say, in sentences made from them: what helped, at what price, and what is not shown.

Every sentence goes by the 95 % interval of a paired difference: what includes no change is called so.
"""

from collections.abc import Mapping

from medalign_lite.show.figures import spoken

Entry = Mapping[str, float | int | None]
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
BLIND = ("blank", "shuffled", "question-only")


def read_results(results: Mapping, *, controls: Mapping[str, Mapping] | None = None,
                 trained: Mapping | None = None, others: Mapping[str, Mapping] | None = None,
                 grounding: Mapping | None = None) -> list[str]:
    """Sentences about `stats.results`. What could not be measured gives no sentence.

    controls  {condition: stats.results under it}
    trained   stats.results whose margins are under the corruption that training used
    others    {recipe: stats.compare of the base with it, on test}
    grounding stats.results of `grounding_probability`, which decides whether the aligned model looks better
    """
    test, shifted = ({arm: block[split] for arm, block in results.items()} for split in ("test", "shifted"))
    found = [_price(test), _questions(test), _shift(test, shifted), _grounding(test, trained, grounding)]
    found += [*_blind(test, controls), _hidden(test), _style(test), _others(test, others or {})]
    return [sentence for sentence in found if sentence]


def moved(entry: Entry) -> int:
    """1 or -1 where the interval of a difference lies above or below 0, else 0."""
    if entry["low"] is None:
        return 0
    return int(entry["low"] > 0) - int(entry["high"] < 0)


def _known(block: Mapping, *names: str) -> bool:
    return all(block.get(name, {"value": None})["value"] is not None for name in names)


def _gap(block: Mapping, name: str) -> str:
    entry = block["difference"][name]
    span = "" if entry["low"] is None else f" [{entry['low']:+.3f}, {entry['high']:+.3f}]"
    return f"{block['base'][name]['value']:.3f} → {block['aligned'][name]['value']:.3f}{span}"


def _price(test: Mapping) -> str:
    if not _known(test["difference"], "fact_recall"):
        return "Facts in reports are not measurable here: nobody wrote down all that is in these pictures."
    if not _known(test["difference"], "hallucination_rate"):
        return f"One arm affirms no finding, so false findings cannot be compared; recall {_gap(test, 'fact_recall')}."
    recall, false = (moved(test["difference"][name]) for name in ("fact_recall", "hallucination_rate"))
    told = f"recall {_gap(test, 'fact_recall')}, false findings {_gap(test, 'hallucination_rate')}"
    price = (FEWER_FALSE if false < 0 else NOT_FEWER)[recall]
    return f"{price}{', and false findings rise' if false > 0 else ''}: {told}."


def _questions(test: Mapping) -> str:
    parts = []
    for name in ("closed_accuracy", "open_recall"):
        if _known(test["difference"], name):
            change = {1: "rises", -1: "falls", 0: "is not shown to change"}[moved(test["difference"][name])]
            parts.append(f"{spoken(name)} {change} ({_gap(test, name)})")
    if not parts:
        return ""
    yes = f"; the share of yes is {_gap(test, 'yes_ratio')}" if _known(test["difference"], "yes_ratio") else ""
    return f"On questions {' and '.join(parts)}{yes}."


def _shift(test: Mapping, shifted: Mapping) -> str:
    if not _known(test["difference"], "fact_f1") or not _known(shifted["difference"], "fact_f1"):
        return ""
    base = test["base"]["fact_f1"]["value"] - shifted["base"]["fact_f1"]["value"]
    aligned = test["aligned"]["fact_f1"]["value"] - shifted["aligned"]["fact_f1"]["value"]
    kept = {1: "still helps", -1: "does harm", 0: "is not shown to help"}[moved(shifted["difference"]["fact_f1"])]
    return (f"Where the usual company of findings no longer holds (shifted), alignment {kept}: "
            f"F1 {_gap(shifted, 'fact_f1')}. From test to shifted the base loses {base:.3f} of F1, the aligned model "
            f"{aligned:.3f}.")


def _grounding(test: Mapping, trained: Mapping | None, grounding: Mapping | None) -> str:
    name = "grounding_selectivity"
    if not _known(test["difference"], name):
        return "Grounding is not measurable: no test image has a lesion mask that a statement is about."
    own, free = test["aligned"][name], {arm: block["test"] for arm, block in (grounding or {}).items()}
    sees = "It does look at the lesion" if moved(own) > 0 else "That it looks at the lesion is not shown"
    seen = ""
    if trained and _known(trained["difference"]["test"], name):
        blocks = {arm: block["test"] for arm, block in trained.items()}
        seen = f" Under the corruption that training used: {_gap(blocks, name)}."
    better = "that it looks better than the base is not shown"
    if free and _known(free["difference"], LOOKS):
        side = {1: "it looks better than the base", -1: "it looks less well than the base", 0: better}
        better = (f"the lesion's loss lowers it more than the other place's in {_gap(free, LOOKS)} of the pairs, so "
                  f"{side[moved(free['difference'][LOOKS])]}")
    return (f"{sees}: with the lesion replaced by healthy texture, which no training pair shows, its preference for "
            f"the truth falls by {own['value']:.2f} nats more than with another place replaced ({_gap(test, name)}); "
            f"nats grow with the margins themselves and decide nothing: {better}.{seen}")


def _blind(test: Mapping, controls: Mapping[str, Mapping] | None) -> list[str]:
    """How far the aligned model falls without the evidence, by the metric that the run has."""
    name = next((name for name in ("fact_f1", "closed_accuracy", "open_recall") if _known(test["aligned"], name)), None)
    rows = {
        condition: controls[condition]["aligned"]["test"][name] for condition in BLIND
        if name and condition in (controls or {}) and _known(controls[condition]["aligned"]["test"], name)
    }
    if not rows:
        return []
    real = test["aligned"][name]
    told = ", ".join(f"{condition} {entry['value']:.3f}" for condition, entry in rows.items())
    apart = [real["low"] is not None and entry["high"] is not None and entry["high"] < real["low"]
             for entry in rows.values()]
    verdict = "It needs the picture" if all(apart) else "It hardly needs the picture" if not any(apart) else (
        "It needs the picture in part")
    return [f"{verdict}: {spoken(name)} is {real['value']:.3f} with it and {told} without."]


def _hidden(test: Mapping) -> str:
    name = "overclaim_lesion_hidden"
    if not _known(test["difference"], name):
        return ""
    change = {1: "rises", -1: "falls", 0: "is not shown to change"}[moved(test["difference"][name])]
    return (f"With one finding taken out of the picture and its company left, the share of reports that still affirm "
            f"it {change}: {_gap(test, name)}.")


def _style(test: Mapping) -> str:
    parts = []
    if _known(test["aligned"], "style_edit_distance"):
        share = test["aligned"]["style_edit_distance"]["value"]
        parts.append(f"{share:.0%} of the words differ from the base's answer")
    if _known(test["aligned"], "kl_to_reference"):
        parts.append(f"the drift from the base is {test['aligned']['kl_to_reference']['value']:.3f} nats a token")
    return f"Style: {' and '.join(parts)}." if parts else ""


def _others(test: Mapping, others: Mapping[str, Mapping]) -> str:
    name = next((name for name in ("fact_f1", "closed_accuracy") if _known(test["aligned"], name)), None)
    scored = {recipe: block["aligned"][name]["value"] for recipe, block in others.items()
              if name and name in block["aligned"] and _known(block["aligned"], name)}
    if not scored:
        return ""
    told = ", ".join(f"{recipe} {value:.3f}" for recipe, value in scored.items())
    above = [recipe for recipe, value in scored.items() if value > test["aligned"][name]["value"]]
    if above:
        rank = f"{' and '.join(above)} came out higher, so this run cannot credit what the aligned recipe adds"
    else:
        rank = "none came out higher; one seed cannot rank them"
    return f"Other recipes on the same pairs, {spoken(name)}: {told}; {rank}."
