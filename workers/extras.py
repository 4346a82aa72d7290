"""Packages that only some commands need: what is said where they are missing."""

from collections.abc import Iterable
from importlib.util import find_spec

from a3c.config import ConfigError


def install_command(extra: str) -> str:
    """The command that installs an extra of `setup.cfg`."""
    return f'pip install -c constraints.txt -e ".[{extra}]"'


def require(option: str, extra: str, packages: Iterable[str]) -> None:
    """Refuse an option or command, where a package of its extra is missing; imports none of them."""
    if any(find_spec(name) is None for name in packages):
        raise ConfigError(f'{option}: needs the packages of the extra "{extra}": {install_command(extra)}')
