"""The server's page in a real browser."""

import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from tests.process.chromium import BROWSER, Chromium
from tests.process.http_client import ServerProgram
from tests.process.onnx_models import write_model

ASKED = 'a3c_requests_total{path="/act",status="200"}'
NO_BROWSER = "no Chromium is installed (Debian: apt-get install chromium), so the page of `serve` IS NOT TESTED"
if BROWSER is None:
    warnings.warn(NO_BROWSER, stacklevel=1)
    pytest.skip(NO_BROWSER, allow_module_level=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProgram]:
    with ServerProgram(write_model(tmp_path_factory.mktemp("served") / "policy.onnx")) as program:
        yield program


@pytest.fixture
def page(browser: Chromium, server: ServerProgram) -> Iterator[Chromium]:
    browser.resize(1000, 700)
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.until("game.steps > 3")
    yield browser
    assert not browser.complaints


def text(page: Chromium, name: str) -> str:
    return str(page.value(f"element('{name}').textContent"))


def click(page: Chromium, name: str) -> None:
    page.value(f"element('{name}').click()")


def test_the_served_policy_balances_the_pole(page: Chromium, server: ServerProgram) -> None:
    before = server.metric(ASKED)
    page.until("game.steps > 120")
    assert server.metric(ASKED) > before + 50
    assert text(page, "title") == "CartPole-v1"
    assert text(page, "steps").endswith(" of 500")
    assert page.value("Math.abs(game.state[2]) < LEAN")


def test_what_it_shows_is_what_the_server_answers(page: Chromium, server: ServerProgram) -> None:
    state = [0.1, -0.3, 0.05, 0.2]
    page.value(
        f"(game.paused = true, ask({state}).then((answer) => show(answer, {{space: 'Discrete', n: 2, start: 0}})))"
    )
    answer = server.act({"observation": state})[1]
    shown = page.value("[...document.querySelectorAll('.choice output')].map((one) => one.textContent)")
    assert shown == [f"{100 * share:.1f} %" for share in answer["probabilities"]]
    assert page.value("document.querySelectorAll('.chosen').length") == 1
    assert (
        page.value("[...element('choices').children].findIndex((row) => row.classList.contains('chosen'))")
        == answer["action"]
    )
    assert text(page, "value") == f"{answer['value']:.1f}"


def test_its_cartpole_is_gymnasiums(page: Chromium) -> None:
    cartpole = gymnasium.make("CartPole-v1").unwrapped
    rng = np.random.default_rng(0)
    for _ in range(50):
        state, action = rng.uniform(-1, 1, 4) * (3, 3, 0.3, 3), int(rng.integers(2))
        cartpole.reset()
        cartpole.state = state
        _, _, terminated, *_ = cartpole.step(action)
        stepped = page.value(f"stepped({state.tolist()}, {'FORCE' if action else '-FORCE'})")
        assert stepped == pytest.approx(list(cartpole.state), rel=1e-12)
        assert page.value(f"ended({stepped})") == terminated


def test_pause_stops_it_and_restart_begins_anew(page: Chromium, server: ServerProgram) -> None:
    page.until("game.steps > 20")
    click(page, "pause")
    assert text(page, "pause") == "Go on"
    steps = page.value("game.steps")
    page.value("sleep(300)")
    assert page.value("game.steps") == steps
    asked, before, deadline = server.metric(ASKED), -1.0, time.monotonic() + 30
    while asked != before:  # the question that was under way may still be counted
        assert time.monotonic() < deadline, "it goes on asking"
        page.value("sleep(300)")
        asked, before = server.metric(ASKED), asked
    click(page, "restart")
    assert page.value("game.steps") == 0
    click(page, "pause")
    page.until("game.steps > 3")


def test_a_push_moves_the_cart_and_a_fall_ends_the_episode(page: Chromium) -> None:
    click(page, "pause")
    page.value("Object.assign(game, { state: [0, 0, 0, 0], steps: 7 })")
    click(page, "push-right")
    click(page, "pause")
    page.until("game.steps > 7")
    assert page.value("game.state[1]") != 0
    assert page.value("stepped([0, 0, 0, 0], PUSH)[1] > 0.5")
    page.value("game.state = [0, 0, 0.2, 3]")
    page.until("element('news').textContent.startsWith('The pole fell after')")
    page.until("game.steps > 0 && game.episodes > 0 && !game.over")  # and another one begins


def test_a_server_that_has_gone_is_said_and_its_return_is_noticed(browser: Chromium, tmp_path: Path) -> None:
    path = write_model(tmp_path / "policy.onnx")
    with ServerProgram(path) as server:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.until("game.steps > 3")
        port = server.port
    browser.until("!element('trouble').hidden")
    assert "does not answer" in text(browser, "trouble")
    steps = browser.value("game.steps")
    with ServerProgram(path, "--port", port):
        browser.until(f"element('trouble').hidden && game.steps !== {steps}")


def test_it_fits_a_phone_and_follows_dark_and_light(page: Chromium) -> None:
    for width in (320, 360, 768, 1400):
        page.resize(width, 640)
        page.until("element('scene').clientWidth > 200")
        assert page.value("document.documentElement.scrollWidth") <= width
    colors = []
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        colors.append(
            page.value("getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color")
        )
    assert colors[0] != colors[1]


def test_it_needs_nothing_but_this_server(page: Chromium, server: ServerProgram) -> None:
    names = page.value("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert names
    assert all(name.startswith((f"http://127.0.0.1:{server.port}/", "data:")) for name in names), names


def test_another_environment_is_a_form_of_its_numbers(browser: Chromium, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    path = write_model(
        tmp_path / "policy.onnx", weights=weights, critic=False, action_start=1, metadata={"env_id": "Acrobot-v1"}
    )
    with ServerProgram(path) as server:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.until("document.querySelectorAll('.chosen').length === 1")
        assert browser.value("document.querySelectorAll('#form input').length") == 6
        numbers = [0.5, -1.0, 0.25, 2.0, -0.125, 1.5]
        browser.value(f"document.querySelectorAll('#form input').forEach((input, i) => (input.value = {numbers}[i]))")
        browser.value("element('form').dispatchEvent(new Event('input'))")
        answer = server.act({"observation": numbers})[1]
        shown = ",".join(f"{100 * share:.1f} %" for share in answer["probabilities"])
        outputs = "[...document.querySelectorAll('.choice output')].map((one) => one.textContent).join()"
        browser.until(f"{outputs} === '{shown}'")
        assert browser.value("document.querySelector('.chosen span').textContent") == f"action {answer['action']}"
        assert browser.value("element('critic').hidden && element('cartpole').hidden")
    assert not browser.complaints
