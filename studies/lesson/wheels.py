"""`make wheels`: a folder for a USB stick with all that a machine of this kind needs to install without a network.

    python -m studies.lesson.wheels artifacts/wheels

Wheels of every pinned package for this system and Python, this repository as it is committed, and `install.sh`, which
makes an environment from them and asks nothing of any network.
"""

import platform
import subprocess
import sys
from pathlib import Path

from medalign_lite.files import ROOT

EXTRAS = "dev,dicom,parquet,nifti,site"  # those of `make env`
INSTALL = """#!/bin/sh
# Installs medalign-lite from this folder alone. Needs: {system}, Python {python}.  sh install.sh [where]
set -e
here=$(cd "$(dirname "$0")" && pwd)
where=${{1:-$HOME/medalign-lite}}
mkdir -p "$where" && tar -xf "$here/repository.tar" -C "$where" && cd "$where"
python{python} -m venv .venv
from="--no-index --find-links $here/wheels"
.venv/bin/python -m pip install $from -r "$here/build.txt"
.venv/bin/python -m pip install $from --no-build-isolation -c constraints.txt -e '.[{extras}]'
touch ".venv/.ready-$(cat pyproject.toml constraints.txt | cksum | tr ' ' '-')"
echo "ready: cd $where && make reproduce"
"""


def main(arguments: list[str]) -> int:
    """Fill the folder; wheels that are there already are kept."""
    folder = Path(arguments[0] if arguments else "artifacts/wheels").resolve()
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (folder / "build.txt").write_text("setuptools>=77\nwheel\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--wheel-dir", str(wheels)]
    done = [subprocess.run([*pip, *what], cwd=ROOT, check=False).returncode for what in (
        ["-r", str(folder / "build.txt")], ["-c", "constraints.txt", f".[{EXTRAS}]"])]  # fmt: skip
    archive = ["git", "archive", "--format=tar", "-o", str(folder / "repository.tar"), "HEAD"]
    if any(done) or subprocess.run(archive, cwd=ROOT, check=False).returncode:
        print("error: not everything could be packed; see above, and run the same command again", file=sys.stderr)
        return 1
    for path in wheels.glob("medalign_lite-*.whl"):
        path.unlink()  # installed from the repository itself, where notebooks and data lie
    python, system = f"{sys.version_info[0]}.{sys.version_info[1]}", f"{platform.system()} {platform.machine()}"
    (folder / "install.sh").write_text(INSTALL.format(system=system, python=python, extras=EXTRAS), encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    print(f"{folder}: {len(list(wheels.glob('*.whl')))} wheels, {size:.1f} GB, for {system} with Python {python}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
