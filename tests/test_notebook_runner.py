"""The strict runner, on small real notebooks: parameters, failures, killed kernels, pages, resuming."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
import torch
from PIL import Image
from test_stages import model_folder

from medalign_lite import __main__ as commands
from medalign_lite.dials import PresetError
from medalign_lite.files import ROOT
from medalign_lite.run import notebook as notebooks
from medalign_lite.run import reproduce as chain
from medalign_lite.run.commands import ArgumentError, OutOfMemory, exit_status, ran_out
from medalign_lite.run.notebook import NotebookError, headless_kernels, parameters_of, run_notebook
from medalign_lite.run.reproduce import ReproduceError, parse
from medalign_lite.show.page import PLACE, take_formulas, write_html

PARAMETERS = 'PRESET: str = "auto"\nCASES: str = ""\nMODEL: str = ""\nSEED: int = 7\nOUT: str = ""'
OPEN = ("from medalign_lite.run.stages import open_stage\n"
        'stage = open_stage("{name}", preset=PRESET, cases=CASES, model=MODEL, seed=SEED, out=OUT, needs={needs})')


def write_notebook(path, *cells, parameters=PARAMETERS, title="# Title"):
    """A notebook whose second cell is tagged parameters."""
    made = [nbformat.v4.new_markdown_cell(title)]
    made.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    made += [nbformat.v4.new_code_cell(cell) for cell in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def printed(notebook):
    return "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))


def test_parameters_and_minutes_are_read_from_what_is_a_notebook(tmp_path):
    path = write_notebook(
        tmp_path / "a.ipynb", parameters="N: int = 3  # how many\nRATE: float = -1.5\nON: bool = True"
    )
    assert parameters_of(path) == {"N": 3, "RATE": -1.5, "ON": True}
    (tmp_path / "a.ipynb").write_text("{ half")
    with pytest.raises(NotebookError, match="not a readable notebook"):
        parameters_of(tmp_path / "a.ipynb")
    with pytest.raises(NotebookError, match="there is no notebook"):
        parameters_of(tmp_path / "b.ipynb")
    table = "# T\n\n| needs | writes | minutes | memory |\n|---|---|---|---|\n| 00 | 01 | **1.5** on two cores | 2 GB |"
    assert notebooks.typical_minutes(write_notebook(tmp_path / "a.ipynb", title=table)) == 1.5
    assert notebooks.typical_minutes(write_notebook(tmp_path / "b.ipynb")) is None


@pytest.mark.parametrize("line", [
    "N = 3", "N: int | None = None", "N: list = []", "N: int = len('a')", "import os", "N: int", "N: int = '3'",
    "N: int = (",
])
def test_a_parameter_that_is_no_annotated_scalar_is_an_error(tmp_path, line):
    with pytest.raises(NotebookError, match="must read NAME: str|int|float|bool = constant|default is not of its type"):
        parameters_of(write_notebook(tmp_path / "a.ipynb", parameters=line))


@pytest.mark.parametrize(("name", "value"), [
    ("SEED", "7"), ("SEED", 7.0), ("SEED", True), ("PRESET", 1), ("OUT", None), ("SEEED", 1),
])
def test_an_unknown_or_ill_typed_parameter_is_an_error_before_anything_runs(tmp_path, name, value):
    message = f"{name}=.* must be|no parameter 'SEEED'; it has PRESET, CASES, MODEL, SEED, OUT"
    with pytest.raises(NotebookError, match=message):
        run_notebook(write_notebook(tmp_path / "a.ipynb", "1/0"), {name: value}, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


def test_it_runs_with_this_interpreter_in_its_folder_headless(tmp_path):
    source = "import os, sys\nprint(SEED, sys.executable, os.getcwd(), os.environ['MEDALIGN_HEADLESS'])"
    heard = []
    path = write_notebook(tmp_path / "nb" / "a.ipynb", source)
    done = run_notebook(path, {"SEED": 11}, tmp_path / "out" / "a.ipynb", on_text=heard.append)
    assert printed(done) == f"11 {sys.executable} {tmp_path / 'nb'} 1\n" and "".join(heard) == printed(done)
    assert (tmp_path / "out" / "a.ipynb").exists()
    assert [p.name for p in (tmp_path / "nb").iterdir()] == ["a.ipynb"], "the kernel leaves nothing behind"


def test_a_kernel_that_was_started_ahead_has_imported_what_its_notebook_imports(tmp_path):
    looks = "import sys\nprint('tabnanny' in sys.modules)"
    path = write_notebook(tmp_path / "a.ipynb", looks, "import tabnanny, no_such_module_of_anybody")
    with headless_kernels() as kernels:
        kernels.start(path, tmp_path / "a.log")
        with pytest.raises(NotebookError, match="No module named 'no_such_module_of_anybody'"):
            run_notebook(path, {}, tmp_path / "out.ipynb", kernels=kernels)
        assert printed(nbformat.read(tmp_path / "out.ipynb", 4)) == "True\n"


def test_a_kernel_that_died_before_its_turn_is_replaced(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "print(1)")
    with headless_kernels() as kernels:
        kernels.start(path, tmp_path / "a.log")
        first = kernels.ahead[path][0].provisioner.pid
        os.kill(first, signal.SIGKILL)
        time.sleep(0.5)
        assert printed(run_notebook(path, {}, tmp_path / "out.ipynb", kernels=kernels)) == "1\n"


def test_a_failing_cell_is_shown_with_its_last_lines(tmp_path):
    body = "\n".join(f"x{i} = {i}" for i in range(20)) + "\nraise ValueError('no lungs found')"
    with pytest.raises(NotebookError) as error:
        run_notebook(write_notebook(tmp_path / "a.ipynb", "ok = 1", body), {}, tmp_path / "out.ipynb")
    message = str(error.value)
    assert "a.ipynb failed in cell " in message
    assert "raise ValueError('no lungs found')\nValueError: no lungs found" in message and "x19 = 19" in message
    assert "x3 = 3" not in message and str(tmp_path / "out.ipynb") in message
    assert "ValueError" in (tmp_path / "out.ipynb").read_text()


def test_the_page_is_self_contained(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell(
            "# T\n\n$\\beta A$ and\n\n$$\\frac{a}{b}$$\n\n`$code$` at [a](https://example.org)"
        ),
        nbformat.v4.new_code_cell("print('<script>x</script>')"),
    ]
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
    cells[1].outputs = [nbformat.v4.new_output("stream", text="<script>alert(1)</script> formula-7- formula-0-\n"),
                        nbformat.v4.new_output("display_data", data=view)]
    write_html(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert page.count("<math") == 2
    assert re.search(r"<mfrac>\s*<mrow>\s*<mi>a</mi>", page), "nbconvert left the formula whole"
    assert "$code$" in page and "open the notebook in JupyterLab" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; formula-7- formula-0-" in page
    assert not re.search(r"<(script|link|iframe)\b", page) and "@import" not in page


def test_a_picture_in_the_text_is_inline(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    cell = nbformat.v4.new_markdown_cell("![four pixels](a.png)")
    write_html(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.html", folder=tmp_path)
    page = (tmp_path / "a.html").read_text()
    assert "data:image/png;base64," in page and 'src="a.png"' not in page


def test_a_page_that_would_fetch_is_refused(tmp_path):
    cell = nbformat.v4.new_code_cell("", outputs=[])
    cell.outputs = [nbformat.v4.new_output("display_data", data={"text/html": '<img src="https://example.org/x.png">'})]
    with pytest.raises(ValueError, match="would fetch .*example.org"):
        write_html(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.html")


def test_formulas_are_taken_out_and_prices_are_not():
    formulas = []
    assert take_formulas(r"the loss $-\log\sigma(m)$ here", formulas) == f"the loss {PLACE.format(0)} here"
    assert take_formulas("```\n$x$\n```", formulas) == "```\n$x$\n```"
    assert take_formulas(r"costs \$5 and \$6", formulas) == r"costs \$5 and \$6"
    take_formulas("$$\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}$$", formulas)
    assert len(formulas) == 2 and "<mtable" in formulas[1]


def test_arguments_are_typed_and_unknown_ones_list_the_allowed():
    assert parse(["PRESET=ci", "SEED=3", "STRICT=1", "OUT=", "CASES="]) == {
        **{"PRESET": "ci", "CASES": "", "MODEL": "", "SEED": 3, "OUT": "", "RECIPE": "", "ROUNDS": 0, "STRICT": True},
        "LESIONS": "",
    }
    assert parse(["RECIPE=dpo,rrpo"])["RECIPE"] == "dpo,rrpo"
    assert parse(["ROUNDS=2"])["ROUNDS"] == 2 and parse(["ROUNDS="])["ROUNDS"] == 0
    for bad in ("SED=3", "ci", "SEED=x", "SEED=-1", "STRICT=yes", "ROUNDS=0", "ROUNDS=two"):
        with pytest.raises(ArgumentError, match="allowed|is not"):
            parse([bad])


def test_memory_that_runs_out_is_told_from_other_errors(tmp_path):
    with pytest.raises(OutOfMemory, match="failed in cell 3"):
        run_notebook(write_notebook(tmp_path / "a.ipynb", "import numpy\nnumpy.ones(10**15)"), {}, tmp_path / "o.ipynb")
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**50, dtype=torch.uint8)
    assert ran_out("RuntimeError", str(error.value)) and not ran_out("RuntimeError", "shapes cannot be multiplied")
    assert ran_out("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture
def run(tmp_path):
    """A chain of two notebooks, a stand-in model folder, and a function that reproduces into tmp_path/out."""
    model, books = model_folder(tmp_path / "model"), tmp_path / "nb"
    write_notebook(
        books / "90_first.ipynb", OPEN.format(name="90_first", needs=[]),
        f"def compute():\n    open({str(tmp_path / 'log')!r}, 'a').write('first ')\n    return [dict(seed=SEED)]",
        "rows = stage.jsonl('rows.jsonl', compute)\nprint(stage.finish())",
    )
    write_notebook(
        books / "91_second.ipynb", OPEN.format(name="91_second", needs=["90_first"]),
        "from medalign_lite.run.stages import read_jsonl\nrows = read_jsonl(stage.input('90_first', 'rows.jsonl'))",
        f"import os, pathlib\nif pathlib.Path({str(tmp_path / 'kill')!r}).exists():\n    os.kill(os.getpid(), 9)",
        "stage.json('results.json', lambda: rows)\nstage.finish()\nprint(stage.publish('results.json'))",
    )

    def reproduce(*arguments):
        said = []
        values = parse(["PRESET=ci", f"OUT={tmp_path / 'out'}", f"MODEL={model}", *arguments])
        chain.reproduce(values, notebooks=books, say=said.append)
        return "\n".join(said)

    return reproduce


def log(tmp_path):
    return (tmp_path / "log").read_text()


def test_a_chain_runs_and_then_is_a_no_op(run, tmp_path):
    assert "91_second      done in" in run()
    folder = tmp_path / "out" / "ci"
    assert json.loads((folder / "results.json").read_text()) == [{"seed": 7}]
    assert sorted(p.name for p in (folder / "notebooks").glob("9*")) == [
        *("90_first.html", "90_first.ipynb", "91_second.html", "91_second.ipynb")
    ]
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    started = time.process_time()  # of the processor: others may keep it busy
    assert run().count("up to date") == 2 and time.process_time() - started < 20
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == stamps

    # a page or a published file that was changed is written again, from the saved stage
    (folder / "results.json").write_text("[]")
    (folder / "notebooks" / "90_first.html").unlink()
    assert "done in" in run() and json.loads((folder / "results.json").read_text()) == [{"seed": 7}]
    assert log(tmp_path) == "first "

    # a damaged artefact is computed again; what it feeds is the same, so only it runs
    (folder / "90_first" / "rows.jsonl").write_text("{}")
    said = run()
    assert "91_second      up to date" in said and log(tmp_path) == "first first "

    # another seed is another run
    run("SEED=8")
    assert json.loads((folder / "results.json").read_text()) == [{"seed": 8}]


def test_killed_and_run_again_it_continues(run, tmp_path):
    (tmp_path / "kill").touch()
    killed = r"91_second.ipynb: the kernel was killed while it ran cell \d.*memory ran out(.|\n)*Memory: .*PRESET=ci,"
    with pytest.raises(OutOfMemory, match=killed) as error:
        run()
    assert "run the same command again" in str(error.value)
    (tmp_path / "kill").unlink()
    said = run()
    assert "90_first       up to date" in said and log(tmp_path) == "first "
    assert json.loads((tmp_path / "out" / "ci" / "results.json").read_text()) == [{"seed": 7}]


def test_parameter_errors_come_before_anything_runs_and_an_unfinished_stage_after(run, tmp_path):
    write_notebook(tmp_path / "nb" / "92_third.ipynb", "1", parameters='PRESET: str = "auto"')
    with pytest.raises(NotebookError, match="92_third.ipynb has no parameter 'CASES'"):
        run()
    assert not (tmp_path / "log").exists()
    write_notebook(tmp_path / "nb" / "92_third.ipynb", "1")
    with pytest.raises(ReproduceError, match="stage 92_third has not been made.*must end with stage.finish"):
        run()


@pytest.mark.parametrize(("argument", "message"), [
    ("RECIPE=dpo,fire", "RECIPE=dpo,fire: 'fire'; allowed, each once: dpo, mask-dpo"),
    ("RECIPE=dpo,dpo", "named twice"),
])  # fmt: skip
def test_a_recipe_that_is_none_is_an_error_before_anything_runs(run, tmp_path, argument, message):
    with pytest.raises(PresetError, match=message):
        run(argument)
    assert not (tmp_path / "log").exists() and not (tmp_path / "out").exists()


def test_another_recipe_runs_the_stages_that_train_and_those_behind_them(run, tmp_path):
    opened = OPEN.format(name="92_trains", needs=["90_first"]).removesuffix(")") + ", recipe=RECIPE)"
    write_notebook(
        tmp_path / "nb" / "92_trains.ipynb", opened, f"open({str(tmp_path / 'log')!r}, 'a').write('trains ')",
        "stage.json('recipes.json', lambda: stage.preset.recipes)\nprint(stage.finish())",
        parameters=PARAMETERS + '\nRECIPE: str = ""',
    )
    write_notebook(
        tmp_path / "nb" / "93_after.ipynb",
        OPEN.format(name="93_after", needs=["92_trains"]) + "\nfrom medalign_lite.run.stages import read_json",
        "stage.json('seen.json', lambda: read_json(stage.input('92_trains', 'recipes.json')))\nstage.finish()",
    )
    run()
    said, seen = run("RECIPE=dpo, rrpo"), tmp_path / "out" / "ci" / "93_after" / "seen.json"
    assert said.count("up to date") == 2 and "92_trains      done" in said and "93_after       done" in said
    assert json.loads(seen.read_text()) == ["dpo", "rrpo"] and "changed: " in said and "recipes=dpo+rrpo" in said
    assert run("RECIPE=dpo, rrpo").count("up to date") == 4
    run()
    assert json.loads(seen.read_text()) == ["dpo", "fire-mpo", "grounded"]
    assert log(tmp_path) == "first trains trains trains "


def test_a_missing_model_and_a_folder_that_cannot_be_written_name_the_next_step(run):
    with pytest.raises(ReproduceError, match="`make models MODEL=no-such-org/no-such-model`"):
        run("MODEL=no-such-org/no-such-model")
    with pytest.raises(ReproduceError, match="cannot write to /proc/medalign/ci.*OUT="):
        run("OUT=/proc/medalign")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["reproduce", "PRESET=huge"], "error: PRESET='huge' is not one of ci, workshop, full, auto"),
    (["reproduce", "SEED=abc"], "error: SEED='abc' is not a whole number, 0 or more, of at most 9 digits"),
    (["claims"], "error: unknown command 'claims'; allowed:\n  doctor "),
])
def test_the_command_line_ends_with_a_sentence_not_a_traceback(arguments, sentence):
    done = subprocess.run([sys.executable, "-m", "medalign_lite", *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and done.stderr.startswith(sentence)


def test_an_installed_copy_without_its_repository_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    assert commands.main(["doctor"]) == 2
    assert "is an installed copy, and doctor needs the repository: clone it, and work in it" in capsys.readouterr().err
    assert commands.main(["score"]) == 2 and "REFERENCES=" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status", "sentence"), [
    (OSError(28, "No space left on device", "/data/x"), 1, "error: /data/x: No space left on device; free some space"),
    (OSError(30, "Read-only file system", "/data/x"), 1, "error: /data/x: Read-only file system; choose a place that"),
    (FileExistsError(28, "No space left on device", "x"), 1, "error: x: No space left on device; free some space"),
    (FileExistsError(13, "Permission denied", "x"), 2, "error: [Errno 13] Permission denied: 'x'\n"),
    (KeyboardInterrupt(), 130, "\ninterrupted: the same command goes on from there"),
    (ArgumentError("\x1b[2J"), 2, "error: \\x1b[2J"),
    (KeyError("train"), 1, "error: KeyError: 'train'; nothing foresaw this: its traceback is in "),
    (OSError("no number"), 1, "error: OSError: no number; nothing foresaw this"),
])
def test_whatever_happens_is_one_sentence_and_a_status(capsys, error, status, sentence):
    def work():
        raise error

    assert exit_status(work, refused=(ReproduceError, FileExistsError)) == status  # a file that is read may be wrong
    said = capsys.readouterr().err
    assert said.startswith(sentence) and "Traceback" not in said
    if "its traceback is in" in said:
        log = Path(said.strip().rsplit(" ", 1)[1])
        assert "raise error" in log.read_text()
        log.unlink()


def test_interrupted_it_says_one_sentence(tmp_path):
    """Ctrl-C reaches the kernel as well, and what that has to say goes to a file."""
    books, out = tmp_path / "nb", tmp_path / "out"
    write_notebook(books / "90_first.ipynb", "import time\nopen('started', 'w').close()\ntime.sleep(300)")
    code = ("import sys; from pathlib import Path; from medalign_lite.run import reproduce as r\n"
            "r.reproduce.__kwdefaults__['notebooks'] = Path(sys.argv[1])\n"
            "sys.exit(r.main(['PRESET=ci', 'OUT=' + sys.argv[2]]))")
    running = subprocess.Popen([sys.executable, "-c", code, str(books), str(out)], stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL, cwd=ROOT, start_new_session=True)
    while not (books / "started").exists() and running.poll() is None:
        time.sleep(0.2)
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 130
    assert said == "\ninterrupted: what is finished is kept; run the same command again to go on\n"


def test_a_deep_tmpdir_is_left_for_a_short_one(tmp_path, monkeypatch):
    deep = tmp_path / ("scratch-of-a-job-" * 5)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert printed(run_notebook(write_notebook(tmp_path / "a.ipynb", "print(SEED)"), {}, tmp_path / "o.ipynb")) == "7\n"
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NotebookError, match="set TMPDIR to a shorter folder"):
        run_notebook(tmp_path / "a.ipynb", {}, tmp_path / "o.ipynb")


@pytest.mark.parametrize("text", ["{", "[]", '{"90_first": {"key": 1}}', '{"90_first": 3}'])
def test_a_record_that_was_cut_off_is_told(run, tmp_path, text):
    (tmp_path / "out/ci/notebooks").mkdir(parents=True)
    (tmp_path / "out/ci/notebooks/.runs.json").write_text(text)
    with pytest.raises(ReproduceError, match=r"\.runs\.json cannot be read .*: delete it"):
        run()


def test_a_large_model_without_a_gpu_is_refused_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(PresetError, match="made for a GPU with 15 GB, and CUDA_VISIBLE.*take weeks on a CPU"):
        chain.reproduce(parse(["PRESET=full", f"OUT={tmp_path / 'out'}"]))
    assert not (tmp_path / "out").exists()
