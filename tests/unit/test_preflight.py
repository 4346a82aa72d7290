"""Whether other processes can make an environment, known before any of them is started."""

import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from a3c.config import ConfigError
from a3c.lookup import find
from tests.unit.scripted_environments import Endless, register
from workers.processes import preflight
from workers.processes.preflight import check_environment


def refusal(entry_point: Any, **arguments: Any) -> str:
    env_id = register(entry_point, **arguments)
    with pytest.raises(ConfigError) as caught:
        check_environment(env_id, find(env_id))
    message = str(caught.value)
    assert message.startswith(f"env: '{env_id}' cannot be handed to the run's processes: ")
    assert "\n" not in message
    return message


class Local:
    """A class whose objects cannot be read back."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_what_cannot_be_pickled_is_named() -> None:
    assert "its entry point: Can't pickle" in refusal(lambda: Endless())
    assert "its argument 'lock': cannot pickle" in refusal(Endless, actions=2, lock=threading.Lock())
    assert "its argument 'reward': Can't pickle" in refusal(Endless, reward=lambda reward: reward)
    assert "its argument 'number': invalid literal" in refusal(Endless, number=Local())
    assert "its vector entry point: Can't pickle" in refusal(Endless, vector_entry_point=lambda: None)


def test_a_class_of_a_module_can_be_handed_over() -> None:
    env_id = register(Endless, actions=3)
    check_environment(env_id, find(env_id))
    check_environment("Acrobot-v1", gymnasium.spec("Acrobot-v1"))


def test_a_module_that_no_import_finds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "elsewhere.py"
    path.write_text("from tests.unit.scripted_environments import Endless\nclass Own(Endless): pass\n")
    spec = importlib.util.spec_from_file_location("elsewhere", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    spec.loader.exec_module(module)
    assert "they cannot import its module 'elsewhere'" in refusal(module.Own)
    monkeypatch.syspath_prepend(tmp_path)
    env_id = register(module.Own)
    check_environment(env_id, find(env_id))


GUARDED = {
    'if __name__ == "__main__":\n    HERE': True,
    'if "__main__" == __name__ and True:\n    for _ in range(1):\n        HERE': True,
    'def main():\n    pass\nif __name__ == "__main__":\n    main(\n        HERE\n    )': True,
    "HERE": False,
    'if __name__ == "__main__":\n    pass\nelse:\n    HERE': False,
    'if __name__ != "__main__":\n    HERE': False,
    'if __name__ == "__main__":\n    pass\nHERE': False,
    "if True:\n    HERE": False,
    "try:\n    HERE\nfinally:\n    pass": False,
}


@pytest.mark.parametrize("script", GUARDED)
def test_a_guard_is_what_an_import_does_not_run(script: str, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(script)
    line = script[: script.index("HERE")].count("\n") + 1
    assert preflight._is_guarded(path, line) == GUARDED[script]


def test_of_a_script_that_has_changed_meanwhile_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("train(")
    assert preflight._is_guarded(tmp_path / "script.py", 1)
    assert preflight._is_guarded(tmp_path / "gone.py", 1)
