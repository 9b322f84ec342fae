"""What the notebooks lean on beside the method: answers by kind, margins, pulls of company, logs, sizes, shifts."""

import math

import pytest
import torch

from medalign_lite.cases.case import Case, Question
from medalign_lite.evaluate.grounding import margin_means
from medalign_lite.evaluate.metrics import Margins, Prediction, answered
from medalign_lite.evaluate.priors import ErrorRow, most_pulled, rate
from medalign_lite.losses.recipes import recipe_named
from medalign_lite.model.lvlm import attach_lora, load_lvlm
from medalign_lite.show.inside import log_summary, pair_losses, size_by_tower, word_shift
from medalign_lite.train.pairs import Pair


def test_answers_by_arm_kind_and_condition():
    asked = tuple(Question(kind, "?", "Yes.", kind, "presence") for kind in ("closed", "open"))
    cases = [Case("a", "a", "test", None, asked)]
    said = [Prediction("a", "closed", "No."), Prediction("a", "open", "left"), Prediction("b", "closed", "Yes."),
            Prediction("a", "closed", "Yes.", condition="blank")]
    assert [(c.id, q.id, text) for c, q, text in answered(cases, said, arm="base", kind="closed")] == [
        ("a", "closed", "No.")]
    assert answered(cases, said, arm="base", kind="closed", condition="blank")[0][2] == "Yes."
    assert answered(cases, said, arm="new", kind="closed") == []


def test_means_of_margins_leave_out_what_has_no_picture_and_a_log_is_one_row():
    rows = [Margins("r", "c", "base", 2.0, -1.0, 1.5), Margins("q", "c", "base", 1.0, 2.0, 2.5),
            Margins("s", "c", "base", 9.0)]
    assert margin_means(rows) == {"pairs": 2, "v": 1.5, "v′": 0.5, "v°": 2.0, "GS": 1.5, "flip": 0.5}
    assert margin_means(rows[2:])["GS"] is None
    rows = [{"learning_rate": 0.1, "loss": float(9 - n), "seconds": 2.0 * n, "peak_mb": 7} for n in range(9)]
    assert log_summary([*rows, {"eval_loss": 1.0}]) == {
        "steps": 9, "s a step": 2.0, "first loss": 9.0, "last loss": 4.5, "MB": 7}


def test_the_company_that_pulls_most_comes_first():
    def row(finding, other, there, false, images):
        return ErrorRow("cofinding", finding, false, images, None, other, there)

    rows = [row("effusion", "nodule", True, 5, 10), row("effusion", "nodule", False, 1, 10),
            row("nodule", "effusion", True, 9, 10), row("nodule", "effusion", False, 1, 10),
            row("fracture", "nodule", True, 7, 7), row("fracture", "nodule", False, 0, 9)]  # too few images
    assert most_pulled(rows) == [("nodule", "effusion"), ("effusion", "nodule")]
    assert rate(rows, "cofinding", "effusion", cofinding="nodule", cofinding_present=True) == 0.5
    assert math.isnan(rate([ErrorRow("absent", "nodule", 0, 0)], "absent", "nodule"))


@pytest.fixture(scope="module")
def policy():
    return attach_lora(load_lvlm("data_samples/embedded_lvlm", seed=0), rank=2, alpha=4.0)


def test_a_fresh_adapter_moves_no_word_starts_at_ln_2_and_sizes_count_a_packed_weight_as_one(policy):
    from PIL import Image

    pair = Pair("p", "?", "A left effusion.", "A right effusion.", ((2, 6, "side"),), ((2, 7, "side"),),
                clean=Image.new("RGB", (64, 64)))
    assert pair_losses(policy, [pair], recipe_named("dpo")).loss.item() == pytest.approx(math.log(2), abs=1e-6)
    ((words, shifts),) = word_shift(policy, [pair])
    assert "".join(words) == "A right effusion." and torch.tensor(shifts).abs().max() < 1e-5
    sizes = size_by_tower(policy.model)
    assert sizes["language"]["bytes"] < sizes["language"]["weights"] < 4e6 and sizes["vision"]["weights"] > 1e6
