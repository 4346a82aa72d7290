"""What an environment may change in its process, put back to what it was."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np


@contextmanager
def numbers_preserved() -> Iterator[None]:
    """Put back the filters of warnings and what NumPy does about overflows: our own arithmetic depends on both."""
    with warnings.catch_warnings(), np.errstate():
        yield


@contextmanager
def process_preserved() -> Iterator[None]:
    """Put back the current folder and torch's default type of numbers as well."""
    folder, dtype = _current_folder(), _default_dtype()
    try:
        with numbers_preserved():
            yield
    finally:
        if folder is not None:
            with suppress(OSError):  # it may be gone meanwhile
                os.chdir(folder)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_default_dtype(torch.float32 if dtype is None else dtype)


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return None


def _default_dtype() -> Any:
    """None where torch is not loaded yet, which is no reason to load it."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_default_dtype()
