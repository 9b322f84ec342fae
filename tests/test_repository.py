"""The files around the code agree with each other: dependencies, pins, environments, Makefile, licence, CI."""

import ast
import contextlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import medalign_lite
from medalign_lite.files import ROOT
from medalign_lite.run import doctor

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CORE = [Requirement(text) for text in PYPROJECT["project"]["dependencies"]]
EXTRAS = {k: [Requirement(t) for t in v] for k, v in PYPROJECT["project"]["optional-dependencies"].items()}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
VARIABLES = re.search(r"^VARIABLES := (.*)$", MAKEFILE, re.MULTILINE)[1]
DISTRIBUTION = {"PIL": "pillow", "skimage": "scikit-image"}  # import name -> package, where they differ


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def tracked_files():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git clone")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def make(*arguments, folder=ROOT):
    """Run make as a person would, not as a child of `make test`."""
    inherited = f"MAKEFLAGS MAKEOVERRIDES MAKELEVEL MFLAGS {VARIABLES}".split()
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    done = subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    done.stdout = re.sub(" +", " ", done.stdout)
    return done


def clone(folder, python=""):
    """What `make env` reads, in `folder`; with a stand-in for the environment's Python, a shell script."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    if python:
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/bin/python").write_text(f"#!/bin/sh\n{python}\n")
        (folder / ".venv/bin/python").chmod(0o755)


def test_every_dependency_is_pinned_exactly_within_its_range_and_says_what_it_is_for():
    pins = {canonical(name): version for name, version in doctor.pinned().items()}
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in [*CORE, *(r for extra in EXTRAS.values() for r in extra)]:
        assert requirement.specifier.contains(pins[canonical(requirement.name)]), requirement
        assert re.search(rf'"{requirement.name}[>=<][^"]*", # \w', text), requirement
    assert doctor.pinned()["torch"] == "2.13.0" and [r.name for r in EXTRAS["gpu"]] == ["torchvision"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    assert len({canonical(line.split("==")[0]) for line in pins}) == len(pins)


def test_every_import_of_the_package_is_declared():
    declared = {canonical(r.name) for r in [*CORE, *(r for extra in EXTRAS.values() for r in extra)]}
    for path in (ROOT / "medalign_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"medalign_lite"}:
                assert canonical(DISTRIBUTION.get(top, top)) in declared, f"{path.name} imports {top}"


def test_the_conda_environment_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert environment["channels"][0] == "conda-forge" and "python" + PYPROJECT["project"]["requires-python"] in conda
    # pip takes everything else from pyproject and constraints.txt, as `make env` does: nothing is listed twice
    assert pip == {"pip": ["--constraint constraints.txt", "--editable .[dev,dicom,parquet,nifti,site]"]}
    assert "-c constraints.txt -e '.[dev,dicom,parquet,nifti,site]'" in MAKEFILE
    assert not {canonical(re.split("[>=<]", name)[0]) for name in conda} & {canonical(r.name) for r in CORE}


def test_nothing_names_a_package_registry_host():
    split = (("pypi", ".org"), ("python", "hosted"), ("anaconda", ".org"), ("anaconda", ".com"), ("npmjs", "."),
             ("deb.debian", "."))
    hosts = ["".join(parts) for parts in split]  # not written here whole either
    for path in tracked_files():
        if path.suffix in (".safetensors", ".png"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not [host for host in hosts if host in text], path


def test_nothing_is_pickled():
    pickles = re.compile(r"(import|from) pickle|pickle\.(load|dump)|torch\.(save|load)\(")
    for path in (ROOT / "medalign_lite").rglob("*.py"):
        assert not pickles.search(path.read_text(encoding="utf-8")), path


def test_a_clone_stays_small():
    files = tracked_files()
    assert sum(path.stat().st_size for path in files) < 40e6
    assert sum(p.stat().st_size for p in files if "embedded_lvlm" in p.parts) <= 16 * 2**20


def test_help_is_the_default_and_lists_every_target():
    done = make()
    assert done.returncode == 0
    targets = re.search(r"\.PHONY: ((?:.*\\\n)*.*)", MAKEFILE)[1].replace("\\", "").split()
    assert set(targets) >= {"env", "reproduce", "test", "doctor", "base-model", "samples", "lab", "lint", "clean"}
    for target in targets:
        assert f"make {target} " in done.stdout
    for module in re.findall(r"\$\(PY\) -m (medalign_lite[\w.]*)", MAKEFILE):
        place = ROOT.joinpath(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module


def test_make_passes_the_variables_on_and_refuses_an_unknown_one():
    done = make("-n", "reproduce", "PRESET=ci", "CASES=my cases", "SEED=3", "STRICT=1")
    command = next(line for line in done.stdout.splitlines() if "medalign_lite reproduce" in line)
    assert command.split()[4:] == ['"PRESET=$PRESET"', '"CASES=$CASES"', '"SEED=$SEED"', '"STRICT=$STRICT"']
    done = make("-n", "reproduce", "PRESTE=ci")
    assert done.returncode != 0 and f"unknown variable PRESTE; allowed: {VARIABLES}" in done.stderr


@pytest.mark.parametrize("value", ["o'neil", "x'; touch pwned; '", '"; touch pwned; "', "`touch pwned`", "a  b", "*"])
def test_no_value_of_a_variable_is_read_by_the_shell(tmp_path, value):
    """A stand-in for the environment's Python writes down what it is called with."""
    clone(tmp_path, 'printf "%s\\n" "$@" > said')
    ready = re.search(r"touch (\S+)", make("-n", "env", folder=tmp_path).stdout)[1]
    (tmp_path / ready).touch()
    done = make("cases", f"CASES={value}", f"OUT={value}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "said").read_text().splitlines()[3:] == [f"CASES={value}", f"OUT={value}"]
    assert not (tmp_path / "pwned").exists()
    written = re.sub(r"(?m)^\$\(.*", "", MAKEFILE.partition(".PHONY")[2])  # what recipes are made of
    assert not re.findall(r"\$[({](?:or |if )?\$?[({]?(?:CASES|OUT|MODEL|PRESET|SEED|RECIPE|PYTHON)[)}]", written)
    assert "holds a dollar sign" in make("cases", "CASES=$(shell touch pwned)", folder=tmp_path).stderr
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("shell_flags", [True, False])  # without: make 3.81, which knows no .SHELLFLAGS
def test_a_failed_installation_is_not_ready(tmp_path, shell_flags):
    clone(tmp_path, 'case "$*" in *install*) exit 1;; esac')
    if not shell_flags:
        path = tmp_path / "Makefile"
        path.write_text(re.sub(r"(?m)^\.SHELLFLAGS.*\n", "", path.read_text()))
    assert make("env", f"PYTHON={sys.executable}", folder=tmp_path).returncode != 0
    assert not list((tmp_path / ".venv").glob(".ready-*"))


def test_one_place_says_which_python_is_needed():
    """And it is the oldest on which every pinned package installs."""
    floor = doctor.python_floor()
    assert floor in (ROOT / "README.md").read_text(encoding="utf-8")
    for name in doctor.pinned():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            wanted = importlib.metadata.metadata(name).get("Requires-Python") or ""
            assert SpecifierSet(wanted).contains(floor), f"{name} wants Python {wanted}"


@pytest.mark.parametrize(("platform", "machine", "sentence"), [
    ("win32", "AMD64", "native Windows: use WSL 2"), ("darwin", "x86_64", "Intel Macs"),
])
def test_a_platform_that_cannot_run_it_is_told_at_once(platform, machine, sentence):
    code = (f"import sys, platform; sys.platform = {platform!r}; platform.machine = lambda: {machine!r}\n"
            "import medalign_lite")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and sentence in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("script", ["#!/bin/sh\ncase $1 in -V) echo Python 3.8.1;; *) exit 1;; esac\n", None])
def test_make_says_which_python_is_needed(tmp_path, script):
    clone(tmp_path)
    if script:
        (tmp_path / "old").write_text(script)
        (tmp_path / "old").chmod(0o755)
    done = make("env", "PYTHON=./old", folder=tmp_path)
    assert done.returncode != 0 and f"{doctor.python_floor()} or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_every_promise_names_a_test_that_there_is():
    rows = [line for line in (ROOT / "docs" / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    promises = [line for line in rows if not line.startswith("| promise")]
    assert len(promises) > 30
    for line in promises:
        named = re.findall(r"`(test_\w+\.py)?::(test_\w+)`", line.split("|")[2])
        assert named and named[0][0], line
        file = ""
        for name, function in named:
            file = name or file
            assert re.search(rf"^def {function}\(", (ROOT / "tests" / file).read_text(), re.M), f"{file}::{function}"


def test_pre_commit_strips_as_make_lint_checks_and_ci_runs_make_test():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    entry = shlex.split(next(hook["entry"] for hook in hooks if hook["id"] == "nbstripout"))
    options = shlex.split(re.search(r"^STRIP := (.*)$", MAKEFILE, re.MULTILINE)[1])
    assert entry[-len(options) :] == options
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 and script.read_text(encoding="utf-8").rstrip().endswith("make test")
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_licence_and_citation():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == medalign_lite.__version__
    assert citation["license"] == PYPROJECT["project"]["license"] == "Apache-2.0"
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2606.12590"


def test_doctor_reports_each_line_with_a_state_and_a_next_step(tmp_path):
    lines = doctor.examine(preset="ci", out=str(tmp_path))
    wanted = {"python", "torch", "4-bit layers", "cores", "memory", "GPU", "output", "disk", "model", "preset"}
    assert wanted <= {line.name for line in lines} and all(line.state in ("ok", "warn", "fail") for line in lines)
    assert all(line.next_step for line in lines if line.state == "warn")
    text = doctor.as_text(lines)
    assert "preset ci, asked for by name" in text
    (tmp_path / "config.json").write_text("{}")
    model = {line.name: line for line in doctor.examine(preset="ci", model=str(tmp_path))}["model"]
    assert model.state == "fail" and str(tmp_path) in model.found
