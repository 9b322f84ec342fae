"""Every helper draws on the axis it is given, with hostile text, missing values and empty masks."""

import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from medalign_lite.evaluate.metrics import Margins
from medalign_lite.evaluate.priors import ErrorRow
from medalign_lite.evaluate.stats import calibration_table, reliability
from medalign_lite.losses.recipes import RECIPES
from medalign_lite.show import charts, figures
from studies.claims import plots
from studies.claims.lineup import Setting
from studies.claims.screening import Trial

matplotlib.use("Agg")
HOSTILE = ("<b>bold</b>", " $x^2$", " \\frac{", "\n", " left", "", " a" * 90)
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
POINT = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
NOTHING = {"value": None, "low": None, "high": None, "n": 0}
MASK = np.zeros((40, 60), bool)
MASK[5:12, :20] = True  # touches the border


def axis(*shape):
    return Figure(figsize=(6, 3), layout="constrained").subplots(*shape)


def drawn(ax):
    """The axis after a full draw; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.ravel(ax)[0].figure.savefig("/dev/null", format="png")
    return ax


def test_a_dollar_in_a_label_of_the_data_is_a_dollar():
    """In what notebooks draw by themselves too."""
    ax = axis()
    ax.barh(["$x", "$\\frac{$"], [1, 2], label="$_$")
    ax.set(xlabel="$\\frac{$", title="$\\nothing$")
    ax.legend()
    drawn(ax)


def texts(ax):
    return "".join(t.get_text() for t in ax.texts)


def test_overlay_keeps_the_image_frame_and_labels_the_sides():
    ax = drawn(figures.overlay(axis(), IMAGE, MASK, ~MASK, title="$odd title"))
    assert ax.get_xlim() == (-0.5, 59.5) and ax.get_ylim() == (39.5, -0.5)
    left, right = (next(t for t in ax.texts if t.get_text() == letter) for letter in "RL")
    assert left.get_position()[0] < right.get_position()[0]
    assert not drawn(figures.overlay(axis(), IMAGE, np.zeros_like(MASK))).collections, "an empty mask has no outline"


@pytest.mark.parametrize("values", [np.linspace(-1, 1, 7), np.linspace(0, 2, 7), np.zeros(7)])
def test_token_heatmap_writes_every_letter_inside_the_axis(values):
    ax = drawn(figures.token_heatmap(axis(), HOSTILE, values, title="Δ"))
    assert texts(ax) == "".join("".join(HOSTILE).split())
    assert max(t.get_position()[0] for t in ax.texts) <= ax.get_xlim()[1]
    with pytest.raises(ValueError, match="with 6 values"):
        figures.token_heatmap(axis(), HOSTILE, values[1:])


def test_edit_diff_colours_the_spans_and_nothing_else():
    ax = drawn(figures.edit_diff(axis(), "a left lung", "a right lung", [(2, 6, "side")], [[2, 7, "side"]]))
    letters = {colour: "".join(t.get_text() for t in ax.texts if to_rgba(t.get_color()) == to_rgba(colour))
               for colour in (figures.CHOSEN, figures.REJECTED, "black")}  # fmt: skip
    assert letters == {figures.CHOSEN: "y+left", figures.REJECTED: "y-right", "black": "alungalung"}


def test_split_spans_covers_the_text():
    assert figures.split_spans("no effusion", [(0, 2, "negation")]) == [("no", "negation"), (" effusion", None)]
    assert figures.split_spans("", []) == []


def test_forest_says_what_is_not_measurable():
    lone = {"value": 0.1, "low": None, "high": None, "n": 1}
    block = {"test": {"fact_f1": POINT, "flip_rate": NOTHING, "yes_ratio": lone}}
    results = dict.fromkeys(("base", "aligned", "difference"), block)
    ax = drawn(figures.forest(axis(), results, "test", ["fact_f1", "yes_ratio", "flip_rate"]))
    assert "not measurable" in texts(ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["fact F1", "yes ratio", "flip rate"]
    assert "not measurable" in texts(drawn(figures.forest_difference(axis(), results, "test", list(block["test"]))))


def test_reliability_lines_leave_out_bins_with_few_questions_and_give_intervals():
    p = [0.95] * 9 + [0.85] * 20 + [0.15] * 10
    _, table = calibration_table(["g"] * len(p), p, [True] * 9 + [True, False] * 10 + [False] * 10)
    ax = drawn(figures.reliability_lines(axis(), {"base": reliability(table[0]), "new": reliability(table[0])}))
    diagonal, base, new = ax.lines
    assert list(diagonal.get_ydata()) == [0, 1] and base.get_color() == figures.BASE != new.get_color()
    assert base.get_ydata().tolist() == [0, 0.5]  # the bin of 9 is not drawn
    bars = ax.collections[0].get_segments()
    assert bars[0][0][1] == 0 and bars[0][1][1] == pytest.approx(0.2775, abs=1e-3)  # Wilson, 0 of 10


def test_prior_bars_show_counts():
    rows = [ErrorRow("cofinding", "effusion", n, 10, None, "cardiomegaly", there)
            for n, there in ((4, True), (1, False))]
    ax = drawn(figures.prior_bars(axis(), rows, [("nodule", "effusion"), ("effusion", "cardiomegaly")]))
    assert [t.get_text().strip() for t in ax.texts] == ["4/10", "1/10"] and ax.get_legend()
    assert [bar.get_width() for bar in ax.patches] == [0.4, 0.1]


def test_gradients_and_histograms():
    ax = drawn(figures.token_gradients(axis(), HOSTILE[:3], {"chosen": [1, -1, 0], "rejected": [0, 1, 1]}))
    assert [round(bar.get_height()) for bar in ax.patches] == [1, -1, 0, 0, 1, 1]
    assert drawn(figures.histogram(axis(), {"m(v)": [1.0, 2.0], "m(v')": [0.0]})).get_legend()


def looks(ax):
    """How each series of the legend is drawn, colours left out."""
    for handle in ax.get_legend_handles_labels()[0]:
        part = handle.patches[0] if hasattr(handle, "patches") else handle[0] if isinstance(handle, tuple) else handle
        yield tuple(getattr(part, f"get_{name}")() for name in ("linestyle", "marker", "hatch") if hasattr(
            part, f"get_{name}"))


def many(count):
    return {f"series {n}": [1.0, 2.0, 2.5 + n] for n in range(count)}


ARM = reliability(calibration_table(["g"] * 20, [0.85] * 20, [True, False] * 10)[1][0])
ERRORS = [ErrorRow("cofinding", "effusion", 4, 10, None, "nodule", there) for there in (True, False)]
TRIALS = [Trial(Setting("dpo", learning_rate=rate), 1, figures={"fact_f1": rate}) for rate in (1, 2)]
METRICS = dict.fromkeys(("kl_to_reference", "fact_f1"), POINT)


@pytest.mark.parametrize(("draw", "count"), [
    (lambda ax: figures.lines(ax, range(3), many(24)), 24),
    (lambda ax: charts.training_curves(ax, {name: [{"step": 1, "eval_loss": 1.0}] for name in many(8)}, "loss"), 8),
    (lambda ax: figures.histogram(ax, many(4)), 4),
    (lambda ax: figures.token_gradients(ax, "abc", many(6)), 6),
    (lambda ax: figures.forest(ax, dict.fromkeys(("base", "aligned"), {"test": METRICS}), "test", ["fact_f1"]), 2),
    (lambda ax: figures.reliability_lines(ax, dict.fromkeys(many(7), ARM)), 7),
    (lambda ax: figures.prior_bars(ax, ERRORS, [("effusion", "nodule")]), 2),
    (lambda ax: plots.over_number(ax, dict.fromkeys(many(4), TRIALS), "learning_rate"), 4),
    (lambda ax: plots.trade_off(ax, dict.fromkeys(("base", "fire-mpo", "best", "dpo"), {"test": METRICS, "seeds": ()})),
     4),
])  # fmt: skip
def test_series_are_told_apart_in_grey(draw, count):
    found = list(looks(draw(axis())))
    assert len(set(found)) == len(found) == count


def test_what_has_no_legend_is_told_apart_by_shape():
    claims = [{"id": f"{n}", "verdict": verdict, "estimate": 0.1, "low": 0.0, "high": 0.2, "matters": 0.1}
              for n, verdict in enumerate(("supported", "refuted", "inconclusive", "no effect"))]
    shapes = [line.get_marker() for line in plots.forest(axis(), claims).lines]
    assert len({shape for shape in shapes if shape != "None"}) == 4
    ax = figures.overlay(axis(), IMAGE, MASK, ~MASK)
    assert len({str(outline.get_linestyle()) for outline in ax.collections}) == 2  # the lesion, and its control


def test_text_on_colour_is_readable():
    assert figures.is_dark(figures.ALIGNED) and not figures.is_dark("white")


def test_what_a_report_shows_says_in_words_what_is_to_be_seen():
    block = {split: dict.fromkeys(figures.RATES, NOTHING) | {"fact_f1": POINT} for split in ("test", "shifted")}
    shown = charts.forests(dict.fromkeys(("base", "aligned", "difference"), block))
    assert "test; fact F1 0.50 to 0.50" in shown.alt and shown.alt in shown._repr_html_()
    rows = [Margins("r", "c", "base", 2.0, 0.0, 1.5), Margins("q", "c", "base", 1.0)]
    assert "base: on average 2.0 nats under v, 0.0 nats under v′" in charts.margin_histograms({"base": rows}).alt
    assert "nothing could be measured" in charts.margin_histograms({"base": rows[1:], "new": []}).alt
    errors = [ErrorRow("cofinding", "effusion", n, 10, None, "nodule", there) for n, there in ((4, True), (1, False))]
    bars = charts.company_bars({("base", "test"): errors, ("new", "test"): errors}, [("effusion", "nodule")])
    assert "effusion affirmed in 4 of 10 images with nodule, 1 of 10 without" in bars.alt
    assert charts.company_bars({("base", "test"): [], ("new", "test"): []}, []).png
    assert charts.company_bars({("base", "test"): errors, ("base", "shifted"): []}, [("effusion", "nodule")]).png
    assert charts.reliability_picture({}).png


def test_neighbouring_lines_differ_in_more_than_colour():
    assert len(figures.SERIES) < len(RECIPES) <= 24, "every recipe has a line of its own"
    with pytest.raises(ValueError, match="can tell 24 lines apart"):
        figures.series_style(24)
    styles = [figures.series_style(i) for i in range(24)]
    assert all(a["linestyle"] != b["linestyle"] for a, b in zip(styles, styles[1:], strict=False))
    logs = {"dpo": [{"step": n, "loss": 1.0, "learning_rate": 0.1} for n in (1, 2)] + [{"step": 2, "eval_loss": 0.8}]}
    ax = drawn(charts.training_curves(axis(), logs, "loss"))
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1, 2], [], [2]]
    assert charts.training(logs).alt == "dpo: loss from 1.00 to 1.00"
