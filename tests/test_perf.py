"""`make perf` on a small scale that says nothing: each kind of row runs, and losses equal those of TRL."""

import math

import nbformat
import pytest

from benchmarks import page, perf, rows
from benchmarks.page import BARS
from benchmarks.perf import plan, summarise
from benchmarks.rows import sections

RATIOS = ("dpo_speedup_vs_trl", "dpo_memory_ratio_vs_trl", "dpo_loss_difference_vs_trl", "fire_mpo_speedup_vs_naive",
          "fire_mpo_step_over_trl_dpo_step")  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Every row of a quick run; of the rows that one function makes the first is run, and stands for the others."""
    models, made = tmp_path_factory.mktemp("models"), {}
    for row in plan(quick=True):
        if row.work not in made:
            made[row.work] = row.work(models=models, **row.arguments)
    return {row.name: made[row.work] for row in plan(quick=True)}


def test_perf_json_has_every_ratio_with_its_samples_and_both_sides_the_same_losses(found):
    summary = summarise(found)
    for block in (*({name: summary[world][name] for name in RATIOS} for world in ("embedded", "mid")),
                  {name: summary[name] for name in ("rollout_speedup", "nf4_over_dense", "matmul_share")}):
        for name, measured in block.items():
            assert measured["samples"] and math.isfinite(measured["value"]), name
            assert measured["value"] > 0 or "difference" in name, name
    assert summarise(found)["embedded"]["dpo_loss_difference_vs_trl"]["value"] < 1e-5
    losses = found["embedded against naive"]["losses"]
    assert losses["fire-mpo"] == pytest.approx(losses["naive"], rel=1e-4)


def test_the_page_says_what_was_measured_and_which_bars_are_missed(found, tmp_path):
    summary = summarise(found)
    text = page.write(summary, tmp_path).read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "performance.png").stat().st_size > 10_000
    for (world, name), (sign, bar) in BARS.items():
        value = (summary[world] if world else summary)[name]["value"]
        met = value >= bar if sign == "≥" else value <= bar
        assert f"{sign} {bar:g}, {'met' if met else '**missed**'}" in text
    assert text.count("at its real size") == text.count("GB in all") == 2  # the quick run has one model's rows


def test_a_stage_is_told_by_the_sections_of_its_notebook(found, tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# Title\n\n## Ask"), nbformat.v4.new_code_cell("ask()"),
        nbformat.v4.new_markdown_cell("Words."), nbformat.v4.new_code_cell("more()"),
        nbformat.v4.new_markdown_cell("## Look"), nbformat.v4.new_code_cell("look()"),
    ])  # fmt: skip
    for cell, seconds in zip(notebook.cells[1::2], (3.0, 2.0, 1.5), strict=True):
        cell.metadata["papermill"] = {"duration": seconds}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    spent = sections(tmp_path / "a.ipynb", 8.0)
    assert spent == {"Ask": 5.0, "Look": 1.5, "kernel and page": 1.5}
    measured = {"stages": {"stages": {"00_start": {"seconds": 8.0, "sections": spent}}}}
    text = page.text(summarise(found) | {"rows": found | measured})
    assert "in all, and the sections" in text and "| `00_start` | 8 | Ask 5, Look 2," in text


def test_rows_are_kept_until_the_code_changes(tmp_path, monkeypatch, capsys):
    wanted = [row for row in plan(quick=True) if row.work is rows.rendering]
    first = perf.measure(tmp_path, wanted)
    assert "1 of 1: rendering" in capsys.readouterr().out
    assert perf.measure(tmp_path, wanted) == first and not capsys.readouterr().out
    monkeypatch.setattr(perf, "tree", lambda folder: "other code")
    perf.measure(tmp_path, wanted)
    assert "1 of 1: rendering" in capsys.readouterr().out
