"""Files and functions that the pages point to exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
POINTER = re.compile(r"`((?:(?:a3c|shared|workers|tests|benchmarks)/[\w/]+|run_a3c)\.py)`((?:,\s+`[A-Za-z_.]+`)*)")


def test_files_and_functions_exist() -> None:
    for file, names in (pointer for page in PAGES for pointer in POINTER.findall(page.read_text())):
        assert (ROOT / file).is_file(), file
        source = (ROOT / file).read_text()
        for name in re.findall(r"`([A-Za-z_.]+)`", names):
            for part in name.split("."):
                assert re.search(rf"^\s*(def|class) {part}\b|^\s*{part}\b.* = ", source, re.MULTILINE), (file, name)
