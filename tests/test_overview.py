"""What `make cases` says of a folder before anything runs on it, and that docs/DATA.md names what is read."""

import json
from pathlib import Path

import layouts
import pytest
from layouts import put
from PIL import Image

from medalign_lite.cases.readers import READERS, read_cases, table
from medalign_lite.files import ROOT
from medalign_lite.run.cases import contact_sheet, main, spread


@pytest.fixture
def look(tmp_path, capsys):
    """Runs the command on tmp_path/set; returns its exit status, what it printed and its folder."""

    def run(*more):
        status = main([f"CASES={tmp_path / 'set'}", f"OUT={tmp_path / 'out'}", *more])
        said = capsys.readouterr()
        return status, said.out + said.err, tmp_path / "out" / "cases"

    return run


def test_counts_leaks_masks_and_what_is_left_out(look, tmp_path):
    layouts.kit(tmp_path / "set")
    lines = (tmp_path / "set/cases.jsonl").read_text().splitlines()
    (tmp_path / "set/images/cactus.png").unlink()
    other = json.loads(lines[0]) | {"id": "again", "split": "test"}
    put(tmp_path, "set/cases.jsonl", "\n".join([*lines, json.dumps(other)]))
    status, page, folder = look()
    assert status == 0 and page.startswith("layout   medalign-lite cases.jsonl: ")
    counts = {line.split()[0]: line.split()[1:] for line in page.splitlines() if line.startswith(("train", "test"))}
    assert counts["train"] == ["2", "2", "0", "0", "2", "0", "2", "2"] and "in a run: 1 groups" in page
    assert "warning: 1 groups stand in training and in a held-out split" in page
    assert "       2  box\n       1  polygon" in page and "missing image files: 1" in page
    left = json.loads((folder / "left_out.json").read_text())
    assert [entry["id"] for entry in left["skipped"]] == ["cactus"]
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.width == 3 * 360
    assert look("STRICT=1")[0] == 2


def test_points_are_drawn_and_have_no_outline_yet(look, tmp_path):
    layouts.kit(tmp_path / "set")
    assert "1  points only" in look()[1]
    sheet = contact_sheet(read_cases(tmp_path / "set").cases)
    marks = [ax for ax in sheet.axes if any(line.get_marker() == "+" for line in ax.lines)]
    assert len(marks) == 1 and "lesions (points only): cactus spot" in marks[0].get_xlabel()
    assert {tuple(ax.get_xlim()) for ax in sheet.axes} == {(-0.5, 23.5)} and sheet.axes[0].get_ylim() == (21.5, -2.5)


def test_nothing_that_a_terminal_obeys_is_printed_and_what_a_run_takes_is_said(look, tmp_path):
    layouts.kit(tmp_path / "set")
    text = (tmp_path / "set/cases.jsonl").read_text()
    text = text.replace('"id": "alpine"', '"id": "al\\u001b[2Jpine"')
    text = text.replace("Is this borrow?", "<image>\\nIs this\\u009b borrow?")
    put(tmp_path, "set/cases.jsonl", text.replace('"group": "cactus"', '"group": "cac\\ud800tus"'))
    status, page, folder = look()
    written = page + (folder / "left_out.json").read_text()
    assert status == 0 and "\x1b" not in written and "\x9b" not in written and "al\\x1b[2Jpine" in page
    assert "its marker <image> was taken out" in page and "its control characters became spaces" in page
    assert "cases left out: 2" in page
    case = json.loads(text.splitlines()[1])
    case["questions"] += [case["questions"][0] | {"id": "q2"}]
    put(tmp_path, "set/cases.jsonl", "\n".join([*text.replace("\\u001b", "").splitlines()[::2], json.dumps(case)]))
    assert "taken by the preset's numbers: 1 questions of each image" in look("PRESET=ci,questions_per_case=1")[1]


def test_tiles_come_from_every_split_lesions_first(tmp_path):
    layouts.nih(tmp_path)
    cases = read_cases(tmp_path).cases
    assert [case.split for case in spread(cases, 2)] == ["train", "test"]


def test_dicom_without_a_table_gets_one_to_fill_in(look, tmp_path):
    put(tmp_path, "set/a/IM0", layouts.dicom(1))
    status, page, folder = look()
    assert status == 0 and "holds 1 DICOM or NIfTI files and no table yet" in page
    assert str(folder / "questions.csv") in page and str(tmp_path / "set" / "questions.csv") in page
    text = (folder / "questions.csv").read_text()
    put(tmp_path, "set/questions.csv", text.replace('"a/IM0",,,,', '"a/IM0",,Is it?,yes,') + '"b/IM0",,,,\n')
    status, page, _ = look()
    assert status == 0 and "in a run: 1 groups" in page
    assert "cases left out: 0" in page and "1 x a line of the table that is not filled in" in page
    for mark in ";\t":  # as spreadsheets write it in other countries
        lines = "image;frame;question;answer\na/IM0;;Is it, a?;yes\n"
        put(tmp_path, "set/questions.csv", lines.replace(";", mark))
        assert "in a run: 1 groups" in look()[1]


def test_a_row_with_x_and_y_only_is_a_point(tmp_path):
    layouts.dicom_table(tmp_path / "set")
    rows = "image,question,answer,label,x,y,width,height\nalpine/IM0.dcm,Is it?,yes,spot,5,6,,\n"
    put(tmp_path, "set/questions.csv", rows + "borrow/IM0.dcm,Is it?,yes,spot,5,6,7,\n")
    found = read_cases(tmp_path / "set", root=tmp_path / "made")
    assert found.cases[0].lesions[0].points == ((5, 6),) and not found.cases[0].lesions[0].outlined
    assert found.skipped or "height is ''" in found.dropped[0]["reason"]


def test_the_page_on_data_names_every_layout_and_column():
    page = (ROOT / "docs" / "DATA.md").read_text(encoding="utf-8")
    for reader in READERS:
        assert f"| {reader.layout} |" in page
    for column in table.COLUMNS:
        assert f"`{column}`" in page


def test_the_ten_minutes_of_the_page_go_as_written(look, tmp_path):
    pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    page = (ROOT / "docs/DATA.md").read_text()
    lines = [line.strip() for line in page.split("    image,frame,question")[1].split("\n\n")[0].splitlines()]
    written = "\n".join(["image,frame,question" + lines[0], *lines[1:]]) + "\n"
    for line in lines[1:]:
        name = line.split(",")[0]
        put(tmp_path, f"set/{name}", Path(get_testdata_file(name, download=False)).read_bytes())
    status, said, folder = look()
    assert status == 0 and "5 DICOM or NIfTI files and no table" in said
    assert written.splitlines()[0] == (folder / "questions.csv").read_text().splitlines()[0]
    put(tmp_path, "set/questions.csv", written)
    status, said, _ = look()
    assert status == 0 and "in a run: no test split in it" in said and "cases left out: 2" in said
    assert "without pixel data" in said and "holds 2 frames" in said
