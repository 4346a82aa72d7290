"""Packages that only some commands need: what is said where they are missing."""

from collections.abc import Iterable
from importlib.util import find_spec

from a3c.config import ConfigError


def installing(extra: str) -> str:
    """The command that installs an extra of `setup.cfg`."""
    return f'pip install -c constraints.txt -e ".[{extra}]"'


def missing(option: str, extra: str) -> ConfigError:
    """The error of an option or command whose packages are not there."""
    return ConfigError(f'{option}: needs the packages of the extra "{extra}": {installing(extra)}')


def require(command: str, packages: Iterable[str]) -> None:
    """Refuse a command that has an extra of its name, where one of its packages is not there; imports none of them.

    Raises:
        ConfigError: one is missing.
    """
    if any(find_spec(name) is None for name in packages):
        raise missing(command, command)
