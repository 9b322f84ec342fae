"""`make perf` on a scale that says nothing: every row runs, losses equal TRL's, the page holds what was measured."""

import json
import math

import pytest

from benchmarks.page import BARS
from benchmarks.perf import main, plan

RATIOS = ("dpo_speedup_vs_trl", "dpo_memory_ratio_vs_trl", "dpo_loss_difference_vs_trl", "fire_mpo_speedup_vs_naive",
          "fire_mpo_step_over_trl_dpo_step")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a quick run."""
    out = tmp_path_factory.mktemp("out")
    assert main(["--quick", "--out", str(out)]) == 0
    return out / "perf-quick"


def test_every_row_is_measured_and_kept(made, capsys):
    perf = json.loads((made / "perf.json").read_text())
    assert set(perf["rows"]) == {row.name for row in plan(quick=True)}
    for block in (*({name: perf[world][name] for name in RATIOS} for world in ("embedded", "mid")),
                  {name: perf[name] for name in ("rollout_speedup", "nf4_over_dense", "matmul_share")}):
        for name, measured in block.items():
            assert measured["samples"] and math.isfinite(measured["value"]), name
            assert measured["value"] > 0 or "difference" in name, name
    assert main(["--quick", "--out", str(made.parent)]) == 0  # nothing is measured twice
    assert " of " not in capsys.readouterr().out


def test_both_sides_have_the_same_losses(made):
    perf = json.loads((made / "perf.json").read_text())
    for world in ("embedded", "mid"):
        assert perf[world]["dpo_loss_difference_vs_trl"]["value"] < 1e-5
        losses = perf["rows"][f"{world} against naive"]["losses"]
        assert losses["fire-mpo"] == pytest.approx(losses["naive"], rel=1e-4)


def test_the_page_says_what_was_measured_and_which_bars_are_missed(made):
    perf, page = json.loads((made / "perf.json").read_text()), (made / "PERFORMANCE.md").read_text()
    assert (made / "figures" / "performance.png").stat().st_size > 10_000
    for (world, name), (sign, bar) in BARS.items():
        value = (perf[world] if world else perf)[name]["value"]
        met = value >= bar if sign == "≥" else value <= bar
        assert f"{sign} {bar:g}, {'met' if met else '**missed**'}" in page
