"""Shared by all tests."""

import os

import pytest
import torch

torch.set_num_threads(1)  # as in every process of the program; more threads only get in each other's way


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    _forget_the_current_test()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call() -> None:
    _forget_the_current_test()


def _forget_the_current_test() -> None:
    """pytest names it in the environment, and a forkserver is restarted where the environment has changed."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)
