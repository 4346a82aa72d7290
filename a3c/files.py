"""Files that are whole at every moment. Standard library alone."""

import json
import os
from pathlib import Path
from typing import Any


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file by `content` so that a crash at any moment leaves the old file or the new one, whole.

    Raises:
        OSError: as the system reports it; the old file is untouched and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself is durable once the directory is
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def json_bytes(value: Any) -> bytes:
    """Indented JSON with a final newline; refuses NaN, which JSON has not."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
