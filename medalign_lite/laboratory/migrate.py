"""Once: result files named by the code of the phantom world get the name of what that world makes."""

import json
import sys
from pathlib import Path

from medalign_lite.laboratory.store import name_of, world_digest


def rename(folder: Path, old: str) -> int:
    """Rewrite `facts.world` from `old` to the present world in every file of runs/ and search/; how many."""
    names = {}
    for path in sorted([*folder.glob("runs/*.json"), *folder.glob("search/*.json")]):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["facts"]["world"] != old:
            continue
        found["facts"]["world"] = world_digest()
        target = path.with_name(f"{name_of(found['facts'])}.json")
        target.write_text(json.dumps(found) + "\n", encoding="utf-8")
        names[path.name] = target.name
        path.unlink()
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    moved = {arm: {seed: names.get(name, name) for seed, name in runs.items()} for arm, runs in index.items()}
    (folder / "index.json").write_text(json.dumps(moved, indent=1) + "\n", encoding="utf-8")
    return len(names)


if __name__ == "__main__":
    print(rename(Path(sys.argv[1]), sys.argv[2]), "files renamed")
