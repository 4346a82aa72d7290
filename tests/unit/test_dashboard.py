"""What a person sees of a run: on terminals of every size, in pipes, and when the view itself is broken."""

import io
import math
import os
import pty
import re
import select
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from a3c.config import Config
from tests.unit.status_samples import (
    FAULTS,
    broken_status,
    faulty_status,
    sample_evaluations,
    sample_status,
    sample_summary,
    unknown_status,
)
from workers.commands import parse
from workers.console import screen
from workers.console.drawing import Frame, braille, round_range, round_up
from workers.console.panels import render, sparkline
from workers.console.screen import Dashboard, console_environment, outlast_interrupts
from workers.console.text import UNKNOWN, PlainView, plain_line, summary_lines
from workers.runs.program import changed_options
from workers.runs.records import Event, Faults, Status, Summary

SIZES = [(80, 24), (80, 23), (200, 60), (200, 24), (200, 15), (60, 14), (100, 9), (40, 10), (20, 5), (1, 1)]
STATUSES = {
    **{f"{workers} workers": sample_status(workers) for workers in (0, 1, 4, 16, 17, 64, 300)},
    **{
        phase: replace(sample_status(), phase=phase)
        for phase in ("verifying", "stopping", "solved", "budget_exhausted")
    },
    **{f"{workers} workers and faults": faulty_status(workers) for workers in (4, 17, 64)},
    "a billion faults of each kind": replace(faulty_status(), faults=Faults(*[10**9] * 7)),
    **{str(value): broken_status(value) for value in (math.nan, math.inf, -math.inf)},
    "unknown": unknown_status(),
    "hostile": replace(
        sample_status(),
        env_id="漢字/\x1b[31mCartPole" * 9,
        run_dir="runs/\n\t" * 40,
        events=(Event(1.0, "crashed", "boom\n\x1b[2J" + "漢" * 300),),
    ),
}
COMMAND = "python run_a3c.py"
TIMES = "\N{MULTIPLICATION SIGN}"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def drawn(block: object, width: int = 300, encoding: str = "utf-8", **options: object) -> str:
    """What a console writes, without style unless asked for."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, height=100, **{"color_system": None, **options})  # type: ignore[arg-type]
    console.print(block, end="", soft_wrap=True)
    file.flush()
    return raw.getvalue().decode(encoding)


def text_of(status: Status, width: int, height: int) -> str:
    return drawn(render(status, width, height), width + 100)


def summary_text(summary: Summary, **options: object) -> str:
    return drawn(Frame(summary_lines(summary, "runs/one", command=COMMAND)), **options)  # type: ignore[arg-type]


def terminal(**options: object) -> Console:
    settings = {"file": io.StringIO(), "width": 80, "height": 24, "force_terminal": True, **options}
    return Console(**{"_environ": {"TERM": "xterm"}, **settings})  # type: ignore[arg-type]


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(STATUSES)),
    st.one_of(st.sampled_from(SIZES), st.tuples(st.integers(1, 320), st.integers(1, 100))),
)
def test_a_frame_fits_its_terminal(name: str, size: tuple[int, int]) -> None:
    width, height = size
    text = text_of(STATUSES[name], width, height)
    assert "\x1b" not in text
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize("size", [(80, 24), (80, 23), (120, 40), (200, 60)], ids=str)
def test_a_frame_shows_every_essential(size: tuple[int, int]) -> None:
    text = text_of(sample_status(), *size)
    essentials = [
        "CartPole-v1",
        "async",
        "4 workers",
        "seed 0",
        "training",
        "3.4 s",
        "7 % of the budget",
        "412 episodes",
    ]
    essentials += ["36,864 of 500,000 env steps", "29,013/s", "144 updates", "greedy 488.2 ± 58.6", "best 488.2"]
    essentials += ["target 475", "sampled 231.4", "475 ┤╌╌╌", "40,000 env steps", "◆", "env 41%", "other 24%"]
    essentials += ["policy loss   -0.0123", "explained var 0.9134", "learning rate 4.88e-03", "staleness p95 3.0"]
    essentials += ["staleness max 9", "7,253", "98 %", "212 MiB", "checkpoints/best, greedy mean 488.2"]
    assert [fact for fact in essentials if fact not in text] == []


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (100, 9), (300, 6)], ids=str)
def test_a_small_terminal_shows_progress_and_result(size: tuple[int, int]) -> None:
    text = text_of(sample_status(), *size)
    assert all(fact in text for fact in ("CartPole-v1", "training", "7 %", "36,864 env steps", "488.2 of 475"))


@pytest.mark.parametrize(("workers", "size"), [(1, (80, 24)), (4, (80, 24)), (16, (200, 60))])
def test_every_worker_has_its_place_where_there_is_room(workers: int, size: tuple[int, int]) -> None:
    shown = {int(index) for index in re.findall(r"(\d+) ●", text_of(sample_status(workers), *size))}
    assert shown == set(range(workers))


@pytest.mark.parametrize("workers", [64, 300])
def test_workers_without_a_place_are_summed_up(workers: int) -> None:
    status = sample_status(workers)
    status = replace(status, workers=(*status.workers[:-1], replace(status.workers[-1], state="dead")))
    text = text_of(status, 80, 24)
    shown = len(re.findall(r"\d [●✗]", text))
    rest = workers - shown
    speed = sum(worker.steps_per_second for worker in status.workers[shown:])
    assert shown > 0
    assert f"and {rest} more: {rest - 1} running, 1 dead, {speed:,.0f} env steps/s" in text


@pytest.mark.parametrize(
    "phase", ["starting", "resuming", "training", "verifying", "stopping", "solved", "budget_exhausted", "failed"]
)
def test_the_phase_stands_in_the_first_line(phase: str) -> None:
    first = text_of(replace(sample_status(), phase=phase), 80, 24).splitlines()[0]
    assert first.endswith(f"● {phase.replace('_', ' ')}  3.4 s")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_run_without_faults_does_not_speak_of_them(size: tuple[int, int]) -> None:
    assert not re.search(f"fault|restart|{TIMES}", text_of(sample_status(), *size))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (
            (200, 60),
            "faults    3 worker restarts, 1 monitor restart, 2 rollouts dropped for an observation, "
            "10 rollouts dropped for a reward, 5 gradients refused, 1 rollback, 1 save failed",
        ),
        ((80, 24), "faults    23 faults"),
        ((60, 14), "faults    23 faults"),
        ((100, 9), "  23 faults"),
        ((20, 5), "  23 faults"),
    ],
    ids=str,
)
def test_faults_are_told_in_the_fullest_words_that_fit_and_move_nothing(size: tuple[int, int], words: str) -> None:
    clean, faulty = (
        text_of(status, *size).splitlines() for status in (sample_status(), replace(sample_status(), faults=FAULTS))
    )
    assert [line.endswith(words) for before, line in zip(clean, faulty, strict=True) if before != line] == [True]


def test_only_the_faults_that_happened_are_told() -> None:
    text = text_of(replace(sample_status(), faults=Faults(rewards=1)), 80, 24)
    assert " faults    1 rollout dropped for a reward\n" in text


def test_a_worker_shows_that_it_is_restarting_and_how_often_it_was_restarted() -> None:
    rows = [line.rstrip() for line in text_of(faulty_status(), 80, 24).splitlines() if "MiB" in line]
    assert [row[: row.index("  ", 12)] for row in rows] == [
        f"         0 ↻ restarting {TIMES}1",
        f"         1 ● running {TIMES}2",
        "         2 ● running",
        "         3 ● running",
    ]
    assert len({row.index(" MiB") for row in rows}) == 1


@given(st.sampled_from(["running", "starting", "restarting", "stopped", "dead"]), st.integers(0, 10))
def test_the_columns_of_a_worker_stand_under_their_titles(state: str, restarts: int) -> None:
    status = sample_status()
    changed = replace(status.workers[0], state=state, restarts=restarts, steps_per_second=29_013.0)
    lines = text_of(replace(status, workers=(changed, *status.workers[1:])), 80, 24).splitlines()
    title = next(line for line in lines if "memory" in line)
    row = next(line for line in lines if f" {state}" in line and "MiB" in line)
    assert len(row.rstrip()) == len(title.rstrip())
    speed = UNKNOWN if state == "restarting" else "29,013"
    assert f" {speed}{changed.episodes:>9}" in row


@pytest.mark.parametrize(
    ("kinds", "style"),
    [
        (("crashed", "hung", "unsaved"), "\x1b[1;31m"),
        (("warning", "rolled-back", "interrupted"), "\x1b[33m"),
        (("verified", "resumed", "restarted"), "\x1b[32m"),
        (("started", "evaluated", "checkpointed", "stopped"), ""),
    ],
)
def test_an_event_has_the_colour_of_its_severity(kinds: tuple[str, ...], style: str) -> None:
    events = tuple(Event(1.0, kind, "message") for kind in kinds)
    frame = render(replace(sample_status(), events=events), 200, 60)
    text = drawn(frame, force_terminal=True, color_system="standard")
    assert re.findall(r"1\.0 s  \x1b\[0m(\x1b\[[\d;]*m)?([\w-]+) ", text) == [(style, kind) for kind in kinds]


def test_what_is_unknown_is_a_dash() -> None:
    text = text_of(unknown_status(), 80, 24)
    assert f"greedy {UNKNOWN}  best {UNKNOWN}  target {UNKNOWN}  sampled {UNKNOWN}" in text
    assert "no curve yet" in text
    assert "None" not in text


def test_what_is_not_a_number_is_shown_in_red() -> None:
    text = drawn(render(broken_status(math.nan), 80, 24), force_terminal=True, color_system="standard")
    assert "\x1b[1;31mnan" in text


def test_a_curve_that_rises_rises_on_the_screen() -> None:
    rows = [line.split("│")[1] for line in text_of(sample_status(), 120, 40).splitlines() if "│" in line]
    starts = [re.search(r"[\u2801-\u28ff]", row) for row in rows]
    columns = [start.start() for start in starts if start]
    assert columns == sorted(columns, reverse=True)
    assert len(columns) > 10


@pytest.mark.parametrize("size", [(80, 24), (200, 15), (200, 24), (200, 60)], ids=str)
@pytest.mark.parametrize("workers", [1, 64, 300])
def test_many_workers_leave_room_for_the_rest(workers: int, size: tuple[int, int]) -> None:
    lines = text_of(sample_status(workers), *size).splitlines()
    assert sum("│" in line or "┤" in line for line in lines) >= 4
    text = "\n".join(lines)
    assert all(f" {name}  " in text for name in ("time", "events"))
    assert re.search(r"\d [●○] |more: \d+ running", text)


def test_the_latest_events_keep_their_place_beside_many_workers() -> None:
    text = text_of(sample_status(64), 80, 30)
    assert "greedy mean 455.0" in text
    assert "greedy mean 488.2" in text


def test_rendering_is_pure() -> None:
    assert text_of(sample_status(), 120, 40) == text_of(sample_status(), 120, 40)


def test_sections_do_not_move_while_a_run_goes_on() -> None:
    def places(status: Status) -> list[int]:
        lines = text_of(status, 80, 24).splitlines()
        names = ("return", "workers", "time", "learning", "events")
        return [row for row, line in enumerate(lines) if line.startswith(tuple(f" {name} " for name in names))]

    assert len(places(sample_status(2))) == 5
    assert places(sample_status(2)) == places(unknown_status())


def test_a_console_without_unicode_gets_plain_ascii() -> None:
    text = drawn(render(faulty_status(), 80, 24), 80, encoding="ascii")
    assert "0 @ restarting x1" in text
    assert "475 +---" in text
    assert "===>---" in text
    assert "488.2 +- 58.6" in text
    assert "?" not in text


def test_no_color_leaves_only_weights() -> None:
    text = drawn(render(sample_status(), 80, 24), force_terminal=True, no_color=True, color_system="truecolor")
    assert set(re.findall(r"\x1b\[([\d;]*)m", text)) <= {"0", "1", "2"}


def test_the_curve_rises_through_the_dots_between_its_points() -> None:
    assert braille([(0, 3), (3, 0)]) == {(0, 0): 0x40 | 0x20, (0, 1): 0x02 | 0x08}
    assert braille([(0, 0), (0, 7)]) == {(0, 0): 0x47, (1, 0): 0x47}
    assert braille([]) == {}


@pytest.mark.parametrize(
    ("values", "ends"), [([475.0], (0, 500)), ([-500.0, -80.0], (-500, 0)), ([-3.0, 7], (-3, 8)), ([], (0, 1))]
)
def test_an_axis_ends_at_round_numbers_around_zero_and_the_values(
    values: list[float], ends: tuple[float, float]
) -> None:
    assert round_range(values) == ends


@pytest.mark.parametrize(
    ("value", "end"), [(0.07, 0.08), (1, 1), (34_816, 40_000), (100_001, 150_000), (9.99e12, 1e13)]
)
def test_a_round_number_is_the_next_one_up(value: float, end: float) -> None:
    assert round_up(value) == pytest.approx(end)


def test_a_sparkline_is_relative_to_its_highest() -> None:
    assert sparkline([0, 50, 100, -1]) == "▁▅█▁"
    assert sparkline([]) == sparkline([0.0]) == ""


def test_millions_of_steps_per_second_are_written_out() -> None:
    assert "7,123,456/s" in text_of(replace(sample_status(), steps_per_second=7_123_456.0), 80, 24)


def test_a_plain_line_says_it_all() -> None:
    assert plain_line(sample_status()) == (
        "   3.4 s  env steps 36,864  29,013/s  mean return 231.4  last evaluation 488.2 at 36,864 "
        "(best 488.2, target 475)"
    )
    assert f"mean return {UNKNOWN}  no evaluation yet (best {UNKNOWN}, target {UNKNOWN})" in plain_line(
        unknown_status()
    )


def test_a_plain_line_counts_the_faults() -> None:
    assert plain_line(faulty_status()) == plain_line(sample_status()) + "  23 faults"


def piped() -> Console:
    return Console(file=io.StringIO(), _environ={})


def dumb() -> Console:
    return terminal(_environ={"TERM": "dumb"})


def tiny() -> Console:
    return terminal(width=19, height=24, color_system=None)


@pytest.mark.parametrize("console", [None, piped(), dumb(), tiny()], ids=["no console", "piped", "dumb", "tiny"])
def test_plain_output_has_events_at_once_lines_every_two_seconds_and_no_codes(console: Console | None) -> None:
    file = io.StringIO()
    with PlainView(file) if console is None else Dashboard(console, live=True) as view:
        view.update(unknown_status())
        view.event(Event(1.5, "started", "4 workers\x1b[31m"))
        for tenth in range(16, 60):
            view.update(replace(sample_status(), elapsed_seconds=tenth / 10))
        view.traceback("Traceback:\n  boom")
        view.finish(sample_summary(), "runs/one")
    text = file.getvalue() if console is None else written(console)
    assert text.startswith("   1.5 s  started: 4 workers [31m\n   1.6 s  env steps 36,864")
    assert re.findall(r"(\S+) s  env steps", text) == ["1.6", "3.6", "5.6"]
    assert "Traceback:\n  boom\n" in text
    assert text.endswith(" evaluate runs/one --episodes 100 --seed 7\n")
    assert "\x1b" not in text


@pytest.mark.parametrize("plain", [True, False])
def test_plain_output_survives_a_console_without_unicode(plain: bool) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    view = PlainView(file) if plain else Dashboard(Console(file=file), live=False)
    view.event(Event(1.5, "evaluated", "488.2 ± 58.6 漢"))
    view.update(replace(sample_status(), mean_return=None))
    assert raw.getvalue().decode() == (
        "   1.5 s  evaluated: 488.2 +- 58.6 ?\n"
        "   3.4 s  env steps 36,864  29,013/s  mean return -  last evaluation 488.2 at 36,864 "
        "(best 488.2, target 475)\n"
    )


def test_a_live_run_ends_with_the_last_frame_the_summary_and_the_cursor() -> None:
    console = terminal()
    with Dashboard(console, live=True) as view:
        view.event(Event(1.5, "started", "shown by the next frame"))
        view.update(unknown_status())
        view.update(sample_status())
        view.finish(sample_summary(), "runs/one")
    text = written(console)
    assert "shown by the next frame" not in text
    assert text.index("36,864") < text.rindex(SHOW_CURSOR) < text.index("solved after")
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1


def test_a_traceback_stands_above_the_live_frame() -> None:
    console = terminal(color_system=None)
    with Dashboard(console, live=True) as view:
        view.update(sample_status())
        before = len(written(console))
        view.traceback("ValueError: boom")
        text = written(console)[before:]
        assert text.index("ValueError: boom") < text.index("CartPole-v1")


def test_a_terminal_that_changed_its_size_is_drawn_afresh() -> None:
    console = terminal()
    with Dashboard(console, live=True) as view:
        view.update(sample_status())
        assert "\x1b[2J" not in written(console)
        console.size = (60, 20)
        view.update(sample_status())
        assert written(console).count("\x1b[2J") == 1
        view.update(sample_status())
        assert written(console).count("\x1b[2J") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_the_cursor_comes_back_when_the_caller_fails(error: type[BaseException]) -> None:
    console = terminal()

    def fail() -> None:
        with Dashboard(console, live=True) as view:
            view.update(sample_status())
            raise error

    with pytest.raises(error):
        fail()
    assert written(console).rindex(SHOW_CURSOR) > written(console).rindex(HIDE_CURSOR)


def test_the_terminal_can_be_given_back_and_taken_again() -> None:
    console = terminal()
    with Dashboard(console, live=True) as view:
        view.stop()
        view.start()
        view.update(sample_status())
    assert written(console).count(HIDE_CURSOR) == written(console).count(SHOW_CURSOR) == 2
    assert "36,864" in written(console)


def test_a_view_that_raises_gives_the_terminal_back_and_goes_on_in_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(status: Status, width: int, height: int) -> object:
        raise KeyError("boom")

    console = terminal()
    with Dashboard(console, live=True) as view:
        view.update(sample_status())
        monkeypatch.setattr(screen, "render", broken)
        view.update(sample_status())
        assert written(console).rindex(SHOW_CURSOR) > written(console).rindex(HIDE_CURSOR)
        before = len(written(console))
        view.update(replace(sample_status(), elapsed_seconds=9.0))
    assert written(console).count("the dashboard failed (KeyError: 'boom'); plain lines from here on") == 1
    assert written(console)[before:] == plain_line(replace(sample_status(), elapsed_seconds=9.0)) + "\n"


@pytest.mark.parametrize("plain", [True, False])
def test_a_reader_that_has_gone_does_not_end_the_run(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w")
    monkeypatch.setattr("sys.stdout", pipe)
    view = PlainView(pipe) if plain else Dashboard(Console(file=pipe), live=False)
    view.event(Event(1.0, "started", "nobody reads this"))
    view.update(sample_status())
    view.finish(sample_summary(), "runs/one")


def test_a_run_without_live_frames_imports_no_rich() -> None:
    code = "import sys; from workers.console import run_view; run_view('off').stop(); print('rich' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_behind_the_output_does_not_end_the_run() -> None:
    with open("/dev/full", "w") as full:
        console = Console(file=full)
        Dashboard(console, live=False).event(Event(1.0, "started", "no room for this"))
        assert console.quiet
        with pytest.raises(OSError, match="space"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


@pytest.mark.parametrize(
    ("status", "headline"),
    [
        ("solved", "CartPole-v1 solved after 36,864 env steps and 1.3 s of training, 3.6 s in all"),
        ("budget_exhausted", "CartPole-v1 not solved: the budget of 38,000 env steps is spent; best mean 488.2 of 475"),
        ("interrupted", "CartPole-v1 interrupted after 38,912 env steps, 3.6 s: because of a test"),
        ("failed", "CartPole-v1 failed after 38,912 env steps, 3.6 s: because of a test"),
    ],
)
def test_a_summary_says_how_it_ended_where_the_checkpoint_is_and_what_to_type(status: str, headline: str) -> None:
    text = summary_text(sample_summary(status))
    assert text.splitlines()[0] == headline
    assert "  evaluation  488.2 ± 58.6 (min 293, max 500) over 100 episodes\n" in text
    assert "              at 36,864 of 38,912 env steps, seed 1012\n" in text
    assert "38,912 env steps in 1.4 s (27,211/s), 152 updates, 431 episodes\n" in text
    assert "async, 4 workers, seed 0, target 475\n" in text
    assert "mean 1.3, p50 1.0, p95 3.0, max 9; 3 pushes overlapped, 2 pulls torn\n" in text
    assert "checkpoint  runs/one/checkpoints/best\n" in text
    assert "python run_a3c.py play runs/one\n" in text
    assert "python run_a3c.py evaluate runs/one --episodes 100 --seed 7\n" in text
    assert ("runs/one/logs" in text) == (status == "failed")
    assert ("python run_a3c.py resume runs/one\n" in text) == (status in ("interrupted", "failed"))


def test_a_summary_tells_the_faults_that_were_survived_and_no_others() -> None:
    text = summary_text(replace(sample_summary(), faults=FAULTS))
    assert (
        "  faults      3 worker restarts, 1 monitor restart, 2 rollouts dropped for an observation, "
        "10 rollouts dropped for a reward, 5 gradients refused, 1 rollback, 1 save failed\n"
    ) in text
    assert "fault" not in summary_text(sample_summary())


def test_a_spent_budget_suggests_to_go_on_with_a_larger_one_or_another_seed() -> None:
    text = summary_text(sample_summary("budget_exhausted"))
    assert "python run_a3c.py resume runs/one --max-env-steps 76000\n" in text
    assert "python run_a3c.py --seed 1\n" in text


def test_another_seed_is_proposed_with_every_option_that_was_given() -> None:
    given = {"env": "my envs:Mine-v0", "seed": 4, "hidden_sizes": [64, 32], "anneal": False, "gamma": 0.9}
    summary = replace(sample_summary("budget_exhausted"), seed=4)
    options = changed_options(Config.from_options(given))
    text = drawn(Frame(summary_lines(summary, "runs/one", options, COMMAND)))
    again = "--env 'my envs:Mine-v0' --hidden-sizes 64 32 --gamma 0.9 --no-anneal --seed 5"
    assert f"python run_a3c.py {again}\n" in text


def test_what_is_proposed_after_a_run_on_a_cluster_is_on_it_too() -> None:
    options = ["--workers", "6", "--cluster", "one:6379"]
    text = drawn(Frame(summary_lines(sample_summary("budget_exhausted"), "runs/one", options, COMMAND)), width=200)
    assert "python run_a3c.py resume runs/one --cluster one:6379 --max-env-steps 76000\n" in text
    assert "python run_a3c.py --workers 6 --cluster one:6379 --seed 1\n" in text


def test_what_is_proposed_is_what_the_command_line_reads() -> None:
    options = {"env": "a b:C-v0", "hidden_sizes": (7,), "normalize_advantages": True, "target_return": -1e18}
    config = Config.from_options(options)
    assert Config.from_options(parse(["train", *changed_options(config)]).training) == config


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (40, 10)], ids=str)
def test_the_best_is_never_below_the_latest_evaluation(size: tuple[int, int]) -> None:
    """While a policy that has reached the target is verified, the best that is known of is another."""
    status = replace(sample_status(), best=replace(sample_evaluations()[3], mean=73.9))
    assert "best 488.2" in text_of(status, *size)
    assert "best 488.2" in plain_line(status)
    assert "best 488.2" in plain_line(replace(status, best=None))
    before = sample_evaluations((9.0, 80.0, 73.9))
    assert "best 80.0" in plain_line(replace(status, evaluations=before, best=before[1]))


@pytest.mark.parametrize("size", [(80, 24), (80, 23), (120, 40), (200, 60), (60, 14), (40, 10)], ids=str)
def test_an_evaluation_is_shown_with_its_age(size: tuple[int, int]) -> None:
    assert "at 36,864" in text_of(sample_status(), *size)


def test_an_evaluation_of_a_long_run_is_shown_with_its_age_in_80_columns() -> None:
    late = replace(sample_evaluations()[-1], env_steps=12_345_678, mean=-500.0, std=123.4)
    status = replace(sample_status(), env_steps=12_400_000, evaluations=(late,), best=late, mean_return=-499.9)
    assert " greedy -500.0 at 12,345,678  best -500.0  target 475  sampled -499.9\n" in text_of(status, 80, 24)


def test_without_a_target_a_spent_budget_is_no_failure() -> None:
    text = summary_text(replace(sample_summary("budget_exhausted"), target_return=None))
    assert text.startswith("CartPole-v1 finished: the budget of 38,000 env steps is spent\n")
    assert "resume" not in text


@pytest.mark.parametrize("status", ["interrupted", "failed", "budget_exhausted"])
def test_without_a_checkpoint_nothing_is_resumed_or_played(status: str) -> None:
    text = summary_text(replace(sample_summary(status), checkpoint=None, evaluation=None, staleness=None))
    assert "checkpoint  none" in text
    assert not re.search("resume|play|evaluate", text)


def test_commands_of_a_summary_are_quoted_and_never_cut() -> None:
    text = drawn(Frame(summary_lines(sample_summary(), "my runs/" + "x" * 100, command="run-a3c")), width=40)
    assert f"run-a3c play 'my runs/{'x' * 100}'\n" in text


@pytest.mark.parametrize("size", ["0", "-5", "", "wide", "99999", "9" * 30, "\N{SUPERSCRIPT TWO}"])
def test_a_size_that_no_terminal_has_is_not_believed(size: str) -> None:
    console = Console(
        file=io.StringIO(), _environ=console_environment({"COLUMNS": size, "LINES": size, "TERM": "xterm"})
    )
    assert 0 < console.width <= 10_000
    assert console_environment({"COLUMNS": "77", "LINES": size}) == {"COLUMNS": "77"}


def test_the_cursor_is_shown_once_more_on_a_terminal_that_was_drawn_on() -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    before = signal.getsignal(signal.SIGINT)
    with os.fdopen(theirs, "w") as file:
        with Dashboard(terminal(file=file), live=True) as view:
            view.update(sample_status())
        while select.select([ours], [], [], 0)[0]:
            os.read(ours, 4096)  # as good as discarded by a Ctrl-C
        outlast_interrupts()
        assert os.read(ours, 4096).decode() == SHOW_CURSOR
        screen._terminals.discard(theirs)
    signal.signal(signal.SIGINT, before)
    os.close(ours)
