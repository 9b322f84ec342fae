"""The suite as a command: the documented example by hand, and bad files by their line."""

import json
import re

import pytest

from medalign_lite.files import ROOT
from medalign_lite.run.score import main, read_references, score

DOC = (ROOT / "docs" / "METRICS.md").read_text(encoding="utf-8")
REFERENCES, PREDICTIONS = re.findall(r"```json\n(.*?)```", DOC, re.S)
CLOSED = '{"id": "1", "kind": "closed", "answer": "yes"}\n'
SAID = '{"id": "1", "text": "Yes."}\n'


def run(folder, references, predictions, *options):
    (folder / "r.jsonl").write_text(references, encoding="utf-8")
    (folder / "p.jsonl").write_text(predictions, encoding="utf-8")
    return main([f"REFERENCES={folder / 'r.jsonl'}", f"PREDICTIONS={folder / 'p.jsonl'}", *options])


def scores_of(folder, references, predictions):
    assert run(folder, references, predictions, f"OUT={folder / 's.json'}") == 0
    rows = json.loads((folder / "s.json").read_text(encoding="utf-8"))
    return {(row["metric"], row["scorer"]): row for row in rows}


def test_the_documented_example_prints_what_the_page_shows_and_what_is_known_by_hand(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("medalign_lite.evaluate.overlap.find_spec", lambda name: None)
    assert run(tmp_path, REFERENCES, PREDICTIONS) == 0
    told = capsys.readouterr().out.splitlines(keepends=True)
    assert "".join(told) == re.search(r"```text\n(.*?)```", DOC, re.S)[1]
    got = {key: row["value"] for key, row in scores_of(tmp_path, REFERENCES, PREDICTIONS).items()}
    known = {
        ("closed_accuracy", "llavamed"): 1, ("closed_accuracy", "strict"): 1 / 2, ("closed_accuracy", "lmms"): 0,
        ("open_recall", "llavamed"): 3 / 4, ("open_recall", "strict"): 2 / 3, ("open_accuracy", "lmms"): 0,
        ("fact_precision", "facts"): 1 / 2, ("fact_recall", "facts"): 1, ("fact_f1", "facts"): 2 / 3,
        ("fact_f1_size", "facts"): 0, ("hallucination_rate", "facts"): 1 / 2, ("chair_report", "facts"): 1 / 2,
        ("match_ratio", "facts"): 0, ("severity_errors_per_report", "facts"): 1 / 2,
    }  # fmt: skip
    assert {key: got[key] for key in known} == pytest.approx(known) and got["zone_accuracy", "facts"] is None


def test_only_the_kinds_that_occur_are_scored(tmp_path):
    got = scores_of(tmp_path, CLOSED, SAID)
    assert set(got) == {("closed_accuracy", name) for name in ("llavamed", "strict", "lmms")}
    assert got["closed_accuracy", "strict"] == {
        "metric": "closed_accuracy", "scorer": "strict", "value": 1.0, "low": None, "high": None, "groups": 1,
        "variant": "",
    }  # fmt: skip


def test_a_reference_report_is_a_truth_as_far_as_it_goes_and_nothing_known_counts_for_nothing(tmp_path):
    got = scores_of(tmp_path, '{"id": "1", "kind": "report", "facts": null}\n', '{"id": "1", "text": "A nodule."}')
    assert {(row["value"], row["groups"]) for row in got.values()} == {(None, 0)}
    reference = '{"id": "1", "kind": "report", "report": "Small left effusion. No pneumothorax."}\n'
    got = scores_of(tmp_path, reference, '{"id": "1", "text": "Left effusion. Pneumothorax. Hernia."}')
    assert got["fact_precision", "facts"]["value"] == 0.5 and got["fact_recall", "facts"]["value"] == 1.0


def test_overlap_is_scored_where_a_report_has_a_reference_text(tmp_path):
    references = '{"id": "1", "kind": "report", "facts": null, "report": "A nodule."}\n'
    without = '{"id": "2", "kind": "report", "facts": []}\n'
    said = '{"id": "1", "text": "a nodule."}\n{"id": "2", "text": "Something else."}\n'
    got = scores_of(tmp_path, references + without, said)
    for name, variant in {("bleu_2", "sacrebleu"): "smooth:exp", ("rouge_l_f1", "rouge_score"): "stem"}.items():
        row = got[name]
        assert (row["value"], row["groups"]) == (pytest.approx(1), 1) and variant in row["variant"]


def test_lines_of_one_group_are_drawn_together(tmp_path):
    def width(groups):
        lines = (f'{{"id": "{i}", "kind": "closed", "answer": "yes", "group": "{i % groups}"}}\n' for i in range(400))
        (tmp_path / "r.jsonl").write_text("".join(lines))
        references = read_references(tmp_path / "r.jsonl")
        rows = score(references, {name: "Yes." if int(ref.group) % 2 else "No." for name, ref in references.items()})
        strict = rows[1]
        assert (strict.scorer, strict.value, strict.groups) == ("strict", 0.5, groups)
        return strict.high - strict.low

    assert width(400) == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
    assert width(40) == pytest.approx(width(400) * 10**0.5, rel=0.15)


@pytest.mark.parametrize(("references", "predictions", "message"), [
    (CLOSED + "\n{oops\n", SAID, "r.jsonl line 3: not one complete JSON object"),
    ("[1]\n", SAID, "r.jsonl line 1: a JSON list"), (CLOSED + CLOSED, SAID, "r.jsonl line 2: id '1' was used before"),
    ('{"id": "1", "kind": "essay"}', SAID, "r.jsonl line 1: kind is 'essay'; use one of report, closed, open"),
    ('{"id": "1", "kind": []}', SAID, "r.jsonl line 1: kind is []; use one of"),
    ('{"id": "1", "kind": "closed"}', SAID, "r.jsonl line 1: lacks answer; the keys are answer, id, kind"),
    ('{"id": "1", "kind": "open", "answer": " "}', SAID, "r.jsonl line 1: answer must be text and not empty"),
    ('{"id": "1", "kind": "report", "facts": [], "topic": "x"}', SAID, "r.jsonl line 1: has unknown topic"),
    ('{"id": "1", "kind": "report", "facts": [], "report": ""}', SAID, "r.jsonl line 1: report must be text"),
    ('{"id": "1", "kind": "report", "facts": [{"finding": "cold"}]}', SAID, "r.jsonl line 1: finding is 'cold'"),
    ('{"id": "1", "kind": "report", "facts": {}}', SAID, "r.jsonl line 1: facts must be a JSON list"),
    ('{"id": 1, "kind": "open", "answer": "x"}', SAID, "r.jsonl line 1: id must be text"),
    ("", SAID, "r.jsonl holds no line"), (CLOSED, "\n" + SAID + SAID, "p.jsonl line 3: a second prediction for id '1'"),
    (CLOSED, SAID + '{"id": "2", "text": ""}', "p.jsonl line 2: id '2' is in no reference"),
    (CLOSED, '{"id": "1", "text": null}', "p.jsonl line 1: text must be text"),
    (CLOSED, '{"id": "1", "answer": "Yes."}', "p.jsonl line 1: lacks text"),
    (CLOSED + CLOSED.replace("1", "2"), SAID, "p.jsonl: 1 references have no prediction, first '2'"),
])  # fmt: skip
def test_bad_files_are_named_by_line(tmp_path, capsys, references, predictions, message):
    assert run(tmp_path, references, predictions, f"OUT={tmp_path / 's.json'}") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "s.json").exists()


def test_the_command_says_what_is_absent_or_unknown(tmp_path, capsys):
    assert main([f"REFERENCES={tmp_path / 'no.jsonl'}", "PREDICTIONS=p"]) == 2
    assert "no.jsonl" in capsys.readouterr().err and run(tmp_path, CLOSED, SAID, "DRAWS=0") == 2
    assert main(["REFS=r"]) == 2
    assert "unknown argument 'REFS=r'; allowed:\n  REFERENCES=  what is right" in capsys.readouterr().err
