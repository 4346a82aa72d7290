"""What has to be the same on all machines of a run. Standard library alone: a node is to answer at once."""

import importlib
import importlib.metadata
import platform

PACKAGES = ("torch", "numpy", "gymnasium")  # whose versions decide what a worker computes


def facts(modules: tuple[str, ...]) -> dict[str, str]:
    """What has to be the same on all machines."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    for name in modules:
        try:
            importlib.import_module(name)
            found[name] = "there"
        except Exception as error:  # whatever a user's module does
            found[name] = f"missing ({error.__class__.__name__}: {error})"
    return found
