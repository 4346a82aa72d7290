"""The user's signals while modules are imported."""

import importlib
import signal

import pytest

from workers.processes.signals import Signals


def import_in_c() -> None:
    """Import as C code does: whatever ends it is an ImportError."""
    try:
        importlib.import_module("a_module_that_is_not_there")
    except BaseException as error:
        raise ImportError('PyCapsule_Import could not import module "datetime"') from error


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_an_import_whatever_c_code_makes_of_it(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    def interrupted_import() -> None:
        with Signals():
            signal.raise_signal(number)
            import_in_c()

    with pytest.raises(raised):
        interrupted_import()


def test_an_import_that_fails_by_itself_stays_an_import_error() -> None:
    with pytest.raises(ImportError), Signals():
        import_in_c()


def test_a_signal_after_the_imports_is_only_collected() -> None:
    with Signals() as signals:
        signals.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("a_module_that_is_not_there")
    assert signals.seen == [signal.SIGINT]
