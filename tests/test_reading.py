"""The sentences say what the intervals say, and nothing of what was not measured."""

import pytest
from test_report import NOTHING, entry

from medalign_lite.evaluate.stats import RESULT_METRICS
from medalign_lite.show.tables import moved, read_results


def make(base=None, aligned=None, gaps=None):
    """Results with the same metrics in test and shifted; the difference has an interval of ±0.02."""
    base, aligned, gaps = base or {}, aligned or {}, gaps or {}
    filled = {"base": {}, "aligned": {}, "difference": {}}
    for name in RESULT_METRICS:
        known = name in base
        filled["base"][name] = entry(base[name]) if known else NOTHING
        filled["aligned"][name] = entry(aligned[name]) if known else NOTHING
        filled["difference"][name] = entry(gaps.get(name, aligned[name] - base[name])) if known else NOTHING
    return {arm: {"test": block, "shifted": block} for arm, block in filled.items()}


FACTS = ("fact_precision", "fact_recall", "fact_f1", "hallucination_rate")


def facts(recall, false):
    base = dict.fromkeys(FACTS, 0.6) | {"hallucination_rate": 0.3}
    return make(base, base | {"fact_recall": 0.6 + recall, "hallucination_rate": 0.3 + false})


@pytest.mark.parametrize(("recall", "false", "said"), [
    (0, -0.1, "Fewer findings are false, and no loss of true ones is shown: recall 0.600 → 0.600"),
    (-0.1, -0.1, "at the price of true ones left unsaid"),
    (0.1, -0.1, "more true ones are said"),
    (0, 0, "Neither true nor false findings"),
    (0.1, 0.1, "More true findings are said, and false findings rise"),
    (-0.1, 0, "that fewer findings are false is not shown"),
])  # fmt: skip
def test_the_price_of_fewer_false_findings_is_named(recall, false, said):
    assert any(said in sentence for sentence in read_results(facts(recall, false)))


def test_grounding_is_claimed_only_where_its_interval_is_above_zero():
    name = "grounding_selectivity"
    strong = read_results(make({name: 0.5}, {name: 1.5}))
    said = next(s for s in strong if "It does look at the lesion" in s and "by 1.50 nats" in s)
    assert "decide nothing: that it looks better than the base is not shown" in said, "nats can be bought by scale"
    free = {arm: {"test": {"grounding_probability": entry(value)}} for arm, value in
            {"base": 0.8, "aligned": 0.9, "difference": 0.1}.items()}
    read = read_results(make({name: 1}, {name: 2}), grounding=free)
    assert any("so it looks better than the base." in sentence for sentence in read)
    weak = read_results(make({name: 0.0}, {name: 0.01}), trained=make({name: 0.0}, {name: 2.0}))
    said = next(s for s in weak if "looks at the lesion" in s)
    assert "is not shown" in said and "Under the corruption that training used: 0.000 → 2.000" in said


def test_controls_other_recipes_hidden_and_style_are_read():
    names = {"fact_f1": 0.8, "overclaim_lesion_hidden": 0.4, "style_edit_distance": 0.1, "kl_to_reference": 0.02}
    results = make(names, names | {"overclaim_lesion_hidden": 0.2})
    blank, shuffled = make({"fact_f1": 0.2}, {"fact_f1": 0.3}), make({"fact_f1": 0.2}, {"fact_f1": 0.79})
    others = {"dpo": {"aligned": {"fact_f1": entry(0.9)}}, "fire-mpo": {"aligned": {"fact_f1": entry(0.7)}}}
    said = "\n".join(read_results(results, controls={"blank": blank, "shuffled": shuffled}, others=others))
    assert "It needs the picture in part: fact F1 is 0.800 with it and blank 0.300, shuffled 0.790 without." in said
    assert "dpo came out higher, so this run cannot credit what the aligned recipe adds" in said
    assert "still affirm it falls" in said and "10% of the words differ" in said
    assert "It needs the picture:" in "\n".join(read_results(results, controls={"blank": blank}))


def test_what_was_not_measured_is_not_claimed():
    said = read_results(make({"closed_accuracy": 0.4}, {"closed_accuracy": 0.41}))
    assert said[0].startswith("Facts in reports are not measurable")
    assert "closed accuracy is not shown to change" in said[1]
    assert said[2].startswith("Grounding is not measurable") and len(said) == 3
    assert moved(entry(0.01)) == 0 and moved(entry(0.1)) == 1 and moved(entry(-0.1)) == -1 and moved(NOTHING) == 0
    base = {"fact_recall": 0.6, "fact_f1": 0.6}
    assert read_results(make(base, dict.fromkeys(base, 0.0)))[0].startswith("One arm affirms no finding")
