"""The contract between notebooks: keys, manifests, resuming, and every way a stage can be no use."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
from layouts import dicom_table

from medalign_lite.cases import readers
from medalign_lite.files import ROOT
from medalign_lite.run import provenance, stages
from medalign_lite.run.stages import StageError, open_stage, read_json, read_jsonl


@pytest.fixture
def opened(tmp_path):
    """open_stage with an output folder of the test's own."""

    def opener(name="90_first", **options):
        return open_stage(name, **({"preset": "ci", "out": str(tmp_path / "out"), "uses_model": False} | options))

    return opener


def first(opened, rows=({"a": 1},), **options):
    stage = opened(**options)
    stage.jsonl("rows.jsonl", lambda: rows)
    stage.finish()
    return stage


def forbidden():
    raise AssertionError("computed again")


def test_a_finished_stage_is_reused_and_nothing_is_written(opened):
    stage = first(opened)
    stamps = {p: p.stat().st_mtime_ns for p in stage.folder.rglob("*")}
    again = opened()
    assert again.complete and again.jsonl("rows.jsonl", forbidden) == [{"a": 1}] and "rows.jsonl" in again.finish()
    assert {p: p.stat().st_mtime_ns for p in stage.folder.rglob("*")} == stamps
    fresh = opened("91_other").json("value.json", lambda: {"pair": (1, 2), "number": 0.1})
    assert fresh == {"pair": [1, 2], "number": 0.1}  # as it is read back


def test_the_manifest_says_how_the_stage_was_made(opened):
    stage = opened()
    stage.jsonl("rows.jsonl", lambda: [{"a": 1}])
    stage.check("margin", 1e-9, 0.0, tolerance=1e-6)
    stage.check("holds", 1 + 1 == 2)
    stage.note(four_bit={"vision": 6, "language": 42})
    stage.finish()
    manifest = read_json(stage.folder / "manifest.json")
    assert manifest["seed"] == 7 and manifest["notes"]["four_bit"]["vision"] == 6
    assert [check["ok"] for check in manifest["checks"]] == [True, True]
    assert manifest["outputs"]["rows.jsonl"]["sha256"] == provenance.file_sha256(stage.output("rows.jsonl"))
    assert manifest["seconds"] >= 0 and manifest["peak_mb"] > 1
    assert manifest["made_from"]["versions"]["torch"].startswith("2.")
    assert sorted(p.name for p in stage.folder.iterdir()) == ["manifest.json", "rows.jsonl"]
    with pytest.raises(StageError, match=r"margin is 0.5, expected 0.0"):
        opened().check("margin", 0.5, 0.0, tolerance=1e-6)


@pytest.mark.parametrize("change", [{"seed": 8}, {"parameters": {"strength": 45}}, {"preset": "workshop"}])
def test_other_parameters_are_another_stage(opened, change):
    first(opened)
    assert not opened(**change).complete


def test_an_outside_file_is_part_of_the_key(opened, tmp_path):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "cases.jsonl").write_text("{}")
    first(opened, files=[tmp_path / "cases", ""])
    assert opened(files=[tmp_path / "cases"]).complete
    (tmp_path / "cases" / "cases.jsonl").write_text("{ }")
    assert "files changed" in opened(files=[tmp_path / "cases"]).why


def test_the_model_is_part_of_the_key_only_where_it_is_used(opened, tmp_path):
    model = model_folder(tmp_path / "model")
    first(opened, uses_model=True, model=model)
    first(opened, name="91_other", uses_model=False, model=model)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    assert "model changed: revision" in opened(uses_model=True, model=model).why
    assert opened("91_other", uses_model=False, model=model).complete


def test_a_stage_that_is_missing_or_of_another_run_is_told_with_the_command(opened, tmp_path):
    command = f"run `make reproduce PRESET=ci OUT={tmp_path / 'out'} SEED=9`"
    for said in ("90_first has not been made", "90_first .* is stale: parameters changed: seed"):
        with pytest.raises(StageError, match=said) as error:
            opened("91_next", needs=["90_first"], seed=9)
        assert command in str(error.value)
        first(opened)


def test_staleness_reaches_through_the_chain(opened):
    first(opened)
    second = opened("91_next", needs=["90_first"])
    second.jsonl("more.jsonl", lambda: read_jsonl(second.input("90_first", "rows.jsonl")))
    second.finish()
    assert opened("92_last", needs=["91_next"]).input("91_next", "more.jsonl").exists()
    first(opened, rows=[{"a": 2}], parameters={"again": True})
    with pytest.raises(StageError, match="91_next .* is stale: inputs changed: 90_first"):
        opened("92_last", needs=["91_next"])
    first(opened, parameters={"once": "more"})  # with the same outputs as in the beginning
    assert opened("91_next", needs=["90_first"]).complete


def edited(name, change):
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


@pytest.mark.parametrize(("tamper", "message"), [
    (edited("rows.jsonl", lambda text: '{"a": 2}\n'), "rows.jsonl was changed"),
    (lambda folder: (folder / "rows.jsonl").unlink(), "rows.jsonl is gone"),
    (lambda folder: (folder / "extra.json").write_text("{}"), "extra.json was added"),
    (edited("manifest.json", lambda text: text[: len(text) // 2]), "half-written"),
    (lambda folder: (folder / "manifest.json").unlink(), "half-written"),
    (edited("manifest.json", lambda text: text.replace('"seed": 7', '"seed": 8', 1)), "manifest.json was changed"),
    (edited("manifest.json", lambda text: json.dumps(json.loads(text) | {"checks": [1]})), "manifest.json was changed"),
])
def test_a_damaged_stage_is_told_to_readers_and_made_again_by_its_owner(opened, tamper, message):
    stage = first(opened)
    tamper(stage.folder)
    with pytest.raises(StageError, match=f"{message}.*run `make reproduce"):
        opened("91_next", needs=["90_first"])
    mended = opened()
    assert message in mended.why and mended.jsonl("rows.jsonl", lambda: [{"a": 1}]) == [{"a": 1}]
    mended.finish()
    opened("91_next", needs=["90_first"])


def test_undeclared_inputs_and_outputs_that_are_not_there_are_errors(opened, tmp_path):
    stage = first(opened)
    with pytest.raises(StageError, match="add it to `needs`"):
        opened("91_next").input("90_first", "rows.jsonl")
    with pytest.raises(StageError, match="does not write it"):
        stage.jsonl("other.jsonl", forbidden)
    with pytest.raises(FileNotFoundError):
        opened("92_other").json("a.json", lambda: (tmp_path / "elsewhere" / "gone.png").read_bytes())


def test_pickles_are_refused(opened):
    stage = opened()
    stage.path("weights.pt", lambda part: part.write_bytes(b"x"))
    with pytest.raises(StageError, match="weights.pt is not one of .jsonl"):
        stage.finish()


def test_an_interrupted_stage_goes_on_where_it_was(opened):
    stage = opened()
    stage.jsonl("done.jsonl", lambda: [{"a": 1}])
    (stage.scratch("train") / "checkpoint.json").write_text("3")

    def breaks(part):
        part.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        stage.path("adapter/long.json", breaks)

    resumed = opened()
    assert resumed.jsonl("done.jsonl", forbidden) == [{"a": 1}]
    assert (resumed.scratch("train") / "checkpoint.json").read_text() == "3"
    resumed.path("adapter/long.json", lambda part: part.write_text(part.read_text() + " and whole"))
    resumed.finish()
    assert resumed.output("adapter/long.json").read_text() == "half and whole"
    assert not (resumed.folder / ".scratch").exists()


def test_killed_between_manifest_and_move_the_stage_is_finished_on_opening(opened):
    stage = first(opened)
    shutil.move(stage.folder, stage.work)
    (stage.work / ".state.json").write_text(json.dumps({"key": stage.key, "seconds": 1.0}))
    assert opened().complete


def test_the_old_stage_stays_until_the_new_one_is_whole_and_work_of_another_key_goes(opened):
    first(opened)
    newer = opened(parameters={"b": 1})
    newer.jsonl("rows.jsonl", lambda: [{"a": 3}])
    assert read_jsonl(newer.folder / "rows.jsonl") == [{"a": 1}]
    newer.finish()
    assert read_jsonl(newer.folder / "rows.jsonl") == [{"a": 3}]
    opened().jsonl("done.jsonl", lambda: [{"a": 1}])
    assert opened(seed=8).jsonl("done.jsonl", lambda: [{"a": 2}]) == [{"a": 2}]


def _hold(out, ready, leave):
    stage = open_stage("90_first", preset="ci", out=out, uses_model=False)
    stage.scratch("x")
    ready.set()
    leave.wait(300)


def test_two_processes_cannot_write_one_stage(opened, tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path / "out"), ready, leave))
    other.start()
    assert ready.wait(300)
    monkeypatch.setattr(stages, "PATIENCE", 0.3)
    with pytest.raises(StageError, match=f"process {other.pid} is working on stage 90_first"):
        opened().scratch("x")
    leave.set()
    other.join()
    assert opened().scratch("x").is_dir()


def test_a_killed_process_leaves_no_half_stage(opened, tmp_path):
    code = f"""
        import os, signal
        from medalign_lite.run.stages import open_stage
        stage = open_stage("90_first", preset="ci", out={str(tmp_path / "out")!r}, uses_model=False)
        stage.json("one.json", lambda: 1)
        stage.json("two.json", lambda: os.kill(os.getpid(), signal.SIGKILL))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert killed.returncode == -signal.SIGKILL
    stage = opened()
    assert not stage.folder.exists() and stage.json("one.json", forbidden) == 1


def test_an_output_folder_that_cannot_be_made(opened, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StageError, match="cannot write to .*choose another folder with OUT="):
        opened(out=str(tmp_path / "file")).json("a.json", lambda: 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_output_folder(opened, tmp_path):
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(StageError, match="cannot write to .*Permission denied; make it writable"):
        opened().json("a.json", lambda: 1)


def test_a_full_output_folder(tmp_path):
    """A limit on file sizes stands for a full disk: writing fails the same way, half way."""
    code = f"""
        import resource, signal
        from medalign_lite.run.stages import StageError, open_stage
        stage = open_stage("90_first", preset="ci", out={str(tmp_path / "out")!r}, uses_model=False)
        stage.json("small.json", lambda: 1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            stage.json("big.json", lambda: ["x" * 1000] * 1000)
        except StageError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "free some space or choose another folder with OUT=" in done.stdout
    assert "outputs finished so far are kept" in done.stdout
    stage = open_stage("90_first", preset="ci", out=str(tmp_path / "out"), uses_model=False)
    assert stage.json("small.json", forbidden) == 1
    assert len(stage.json("big.json", lambda: ["x" * 1000] * 1000)) == 1000


def test_source_files_follow_imports_and_leave_the_apparatus_out():
    files = provenance.source_files(["%matplotlib inline\nfrom medalign_lite.model.weights import locate"])
    assert "medalign_lite/model/weights.py" in files and "medalign_lite/evaluate/metrics.py" not in files
    assert provenance.source_files(["%%bash\nls -l", "stage?"]) == {}  # cells that are no Python
    everything = provenance.source_files(None)
    assert "medalign_lite/evaluate/metrics.py" in everything and "medalign_lite/run/stages.py" not in everything
    shown = provenance.source_files(["from medalign_lite.run import stages"], shown=True)
    assert "medalign_lite/run/stages.py" in shown


def test_a_change_makes_stale_what_uses_it_and_nothing_else(tmp_path):
    """Readers count where CASES= is in their layout, editors nowhere; the losses on toy tokens hang on little."""
    cells = {path.stem: provenance.code_cells(path, counted=True) for path in (ROOT / "notebooks").glob("0*.ipynb")}
    phantom = {name: set(provenance.source_files(source)) for name, source in cells.items()}
    assert len(phantom) == 8 and len(phantom["04_losses"]) <= 8
    everything = set.union(*phantom.values())
    layouts = {reader.file.relative_to(ROOT).as_posix() for reader in readers.READERS}
    assert everything & layouts == {"medalign_lite/cases/readers/kit.py"}
    assert not [name for name in everything if name.startswith(("medalign_lite/cases/dicom", "medalign_lite/editors/"))]
    dicom_table(tmp_path)
    own = set(provenance.source_files(cells["00_start"], cases=str(tmp_path)))
    assert own & layouts == {f"medalign_lite/cases/readers/{name}.py" for name in ("kit", "table")}
    assert "medalign_lite/cases/dicom.py" in own


def test_cells_that_only_show_do_not_count(tmp_path):
    import nbformat

    cells = [nbformat.v4.new_code_cell("compute()"), nbformat.v4.new_markdown_cell("text")]
    cells += [nbformat.v4.new_code_cell("show()", metadata={"tags": [tag]})
              for tag in ("parameters", "figure", "interactive", "exercise")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    assert provenance.code_cells(tmp_path / "a.ipynb", counted=True) == ["compute()"]
    assert len(provenance.code_cells(tmp_path / "a.ipynb")) == 5


def model_folder(folder):
    """The files a model folder must hold; their contents are never loaded here."""
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return str(folder)
