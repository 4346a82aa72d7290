"""How large the program is, and how far a reader walks: `make house` prints the figures and fails beyond their bars.

The trip of one env step is the numbered list in docs/architecture.md; a test holds its files and functions to the code.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("a3c", "shared", "workers")
STEP = re.compile(r"^(\d+)\. `([\w/]+\.py)`", re.MULTILINE)
CHANGED = "θ has changed"  # stands in the last step before the checkpoint's part of the trip
# At most: lines of all, files and lines of a default run, files and lines of the trip to θ, files on to the checkpoint.
BARS = {
    "product lines": 11_000,
    "files that a default run imports": 40,
    "their lines": 5_000,
    "files from the command to θ": 12,
    "their lines, to θ": 1_800,
    "files on to the checkpoint": 16,
}
HOOK = """import atexit, json, os, sys
def _write():
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    ours = sorted(file for file in files if file.startswith(os.environ["HOUSE_ROOT"] + os.sep))
    with open(os.path.join(os.environ["HOUSE_OUT"], str(os.getpid())), "w") as file:
        json.dump(ours, file)
atexit.register(_write)
import multiprocessing.util
multiprocessing.util.Finalize(None, _write, exitpriority=0)
"""


def main() -> int:
    """Print each figure beside its bar; 1 where one is beyond it."""
    figures = {"product lines": lines(product()), **imported(), **trip()}
    for name, figure in figures.items():
        print(f"{figure:7,} of {BARS[name]:6,}  {name}{'  <- beyond' if figure > BARS[name] else ''}")
    return int(any(figure > BARS[name] for name, figure in figures.items()))


def product() -> list[Path]:
    """The program's own files."""
    return [ROOT / "run_a3c.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]


def lines(files: Iterable[Path]) -> int:
    """How many there are."""
    return sum(len(path.read_text().splitlines()) for path in files)


def imported() -> dict[str, int]:
    """Files that all processes of one short run import."""
    with tempfile.TemporaryDirectory() as folder:
        site, out = Path(folder, "site"), Path(folder, "out")
        site.mkdir()
        out.mkdir()
        (site / "sitecustomize.py").write_text(HOOK)
        places = {"PYTHONPATH": str(site), "HOUSE_ROOT": str(ROOT), "HOUSE_OUT": str(out)}
        words = ["run_a3c.py", "--workers", "2", "--max-env-steps", "2000", "--dashboard", "off", "--run-dir", "run"]
        subprocess.run(
            [sys.executable, *words[:-1], str(Path(folder, "run"))],
            cwd=ROOT,
            env=os.environ | places,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        files = {Path(file) for part in out.iterdir() for file in json.loads(part.read_text())} & set(product())
    return {"files that a default run imports": len(files), "their lines": lines(files)}


def trip() -> dict[str, int]:
    """Files of the trip of one env step, to the changed θ and on to the checkpoint on disk."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    until = page.index("\n", page.index(CHANGED))
    to_theta, all_files = (
        dict.fromkeys(ROOT / step[2] for step in STEP.finditer(page, 0, end)) for end in (until, len(page))
    )
    return {
        "files from the command to θ": len(to_theta),
        "their lines, to θ": lines(to_theta),
        "files on to the checkpoint": len(all_files),
    }


if __name__ == "__main__":
    sys.exit(main())
