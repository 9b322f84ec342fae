"""The reader against indexed reports: a table of three, with known counts."""

import csv

import pytest

from benchmarks import claims_bench, labelled_reports

COLUMNS = ("uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression")
ROWS = (("1", "Cardiomegaly/mild;Pleural Effusion/left;Aorta/calcified", "Mild cardiomegaly. No effusion.", ""),
        ("2", "Costophrenic Angle/right/blunted", "Blunted right costophrenic angle.", "Possible pneumonia."),
        ("3", "normal", "No pneumothorax.", "Left pleural effusion."),
        ("5", "No Indexing", "Large right pneumothorax.", ""))


@pytest.fixture
def collection(tmp_path):
    with (tmp_path / "reports.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([(uid, mesh, "", "", "", "", text, impression) for uid, mesh, text, impression in ROWS])
    return str(tmp_path / "reports.csv")


def test_counts_of_a_known_table(collection, capsys):
    assert labelled_reports.main([collection]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 reports."  # one has no labels
    assert "| cardiomegaly | 1 | 1 | 1 | 1.00 | 1.00 | 1.00 | 0 of 0 |" in lines
    assert "| effusion | 1 | 1 | 0 | 0.00 | 0.00 | 0.00 | 0 of 0 |" in lines
    assert "| costophrenic blunting | 1 | 1 | 1 | 1.00 | 1.00 | 1.00 | 0 of 0 |" in lines
    assert lines[-1] == "| all of these | 3 | 3 | 2 | 0.67 | 0.67 | 0.67 | 0 of 0 |"  # no pneumonia was indexed
    labelled_reports.main([collection, "--half", "even"])
    assert capsys.readouterr().out.startswith("1 reports.")


def test_the_page_keeps_what_is_beside_the_figures(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures: it -->\nold\n<!-- end of figures -->\nb\n", encoding="utf-8")
    monkeypatch.setattr(claims_bench, "PAGE", page)
    claims_bench.write_figures("it", "new")
    assert page.read_text(encoding="utf-8") == "a\n<!-- figures: it -->\nnew\n<!-- end of figures -->\nb\n"
    with pytest.raises(ValueError, match="has no line"):
        claims_bench.write_figures("another", "new")
