"""What a person sees of a study: live on terminals of every size, in pipes, and in the tables at its end."""

import io
import itertools
import math
import os
import pty
import re
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from tests.unit.comparison_samples import BUDGET, sample_run, sample_runs
from tests.unit.status_samples import broken_status, sample_status, unknown_status
from tests.unit.test_dashboard import HIDE_CURSOR, SHOW_CURSOR, drawn, piped, terminal, written
from workers.comparison import study_view
from workers.comparison.analysis import arm_result, contrasts
from workers.comparison.results import Comparison, Interval, LostUpdates, Passage, Run
from workers.comparison.run_study import show_comparison
from workers.comparison.study_view import StudyStatus, StudyView, clock, outcome, render_study
from workers.comparison.tables import render_comparison
from workers.console.text import UNKNOWN
from workers.runs.records import Event

ARMS = {"async": 8_000.0, "sync": 30_000.0, "locked": 9_000.0}


def study(done: int | None = None, arms: dict[str, float] | None = None, seeds: int = 10) -> StudyStatus:
    """A study after so many of its interleaved runs, the next one in progress; None: all."""
    arms = ARMS if arms is None else arms
    runs = sorted(sample_runs(arms, seeds), key=lambda run: run.seed)[:done]
    running = len(runs) < len(arms) * seeds
    return StudyStatus(
        env_id="CartPole-v1",
        study_dir="runs/CartPole-v1-study",
        target_return=475.0,
        planned=len(arms) * seeds,
        runs={name: tuple(run for run in runs if run.arm == name) for name in arms},
        elapsed_seconds=31.2,
        remaining_seconds=40.0 if runs and running else None,
        current=(list(arms)[len(runs) % len(arms)], len(runs) // len(arms)) if running else None,
        training=replace(sample_status(), env_steps=8_210, max_env_steps=BUDGET) if running else None,
        messages=("async seed 2: solved after 9,120 env steps, 0.6 s of training",) if runs else (),
    )


def many(arms: int) -> dict[str, float]:
    return {f"async, {number} workers": 4_000.0 + 1_500 * number for number in range(1, arms + 1)}


def broken_run(value: float) -> Run:
    """A run whose every measurement is nan or infinite."""
    run = sample_run("async", 0, 9_000.0)
    evaluations = tuple(replace(evaluation, mean=value, seconds=value) for evaluation in run.evaluations)
    summary = replace(run.summary, steps_per_second=value, solved_seconds=value, evaluation=evaluations[-1])
    return replace(run, summary=summary, evaluations=evaluations)


STUDIES = {
    **{f"{arms} arms": study(20 + 2 * arms, many(arms), 12) for arms in (1, 2, 3, 7, 8, 9, 15, 16)},
    "nothing yet": replace(study(0), training=None),
    "first run": replace(study(0), training=unknown_status()),
    "all done": study(),
    "a hundred seeds": study(250, seeds=100),
    "no target": replace(study(17), target_return=None),
    "large budget": replace(study(17), training=broken_status(math.nan)),
    **{
        str(value): replace(
            study(17),
            planned=3,
            runs={"async": (broken_run(value),)},
            target_return=value,
            training=broken_status(value),
        )
        for value in (math.nan, math.inf)
    },
    "hostile": replace(
        study(4, {"漢字\x1b[31m" * 9: 8_000.0, "b" * 300: 1e6}, 5),
        env_id="漢\x1b[2J" * 60,
        messages=("boom\n" * 99,) * 9,
    ),
}


def text_of(status: StudyStatus, width: int, height: int) -> str:
    return drawn(render_study(status, width, height), width + 300)


def assert_fits(text: str, width: int, height: int) -> None:
    lines = text.removesuffix("\n").split("\n")
    assert "\x1b" not in text
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


# -- the live view ----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(STUDIES)), st.integers(1, 220), st.integers(1, 60))
def test_a_frame_fits_its_terminal(name: str, width: int, height: int) -> None:
    assert_fits(text_of(STUDIES[name], width, height), width, height)


@pytest.mark.parametrize("size", [(80, 23), (100, 30), (200, 60)], ids=str)
def test_a_frame_shows_every_essential(size: tuple[int, int]) -> None:
    text = text_of(study(17), *size)
    essentials = ["CartPole-v1", "31.2 s", "17 of 30 runs, about 0:00:40 left", "━", "6/10", "> 20,000"]
    essentials += ["locked seed 5", "8,210 of 20,000 env steps", "29,013/s", "greedy 488.2"]
    essentials += ["async seed 2: solved after 9,120 env steps", "median steps"]
    assert [fact for fact in essentials if fact not in text] == []
    assert re.search(r"^async +6/10 +6 +\d,\d{3}\s*$", text, re.MULTILINE)
    assert re.search(r"^sync +6/10 +\d +> 20,000\s*$", text, re.MULTILINE)


@pytest.mark.parametrize("size", [(59, 20), (40, 12), (36, 8)], ids=str)
def test_a_small_terminal_shows_progress_and_arms(size: tuple[int, int]) -> None:
    text = text_of(study(17), *size)
    assert all(fact in text for fact in ("CartPole-v1", "17 of 30 runs", "locked seed 5"))
    assert re.search(r"^async +6/10 +6", text, re.MULTILINE)


@pytest.mark.parametrize(("arms", "size"), [(16, (80, 33)), (16, (200, 24)), (8, (80, 23)), (3, (60, 14))])
def test_every_arm_has_its_row_where_there_is_room(arms: int, size: tuple[int, int]) -> None:
    assert len(re.findall(r" \d+/12 ", text_of(study(20, many(arms), 12), *size))) == arms


def test_names_that_find_no_room_are_numbered() -> None:
    arms = {f"async, 4 workers, normalize_advantages yes, entropy_coef 0.{number}": 8_000.0 for number in (1, 2)}
    text = text_of(study(4, arms), 80, 23)
    assert all(re.search(f"^{number} async, 4 workers", text, re.MULTILINE) for number in (1, 2))


def test_what_is_not_there_yet_is_a_dash() -> None:
    text = text_of(STUDIES["nothing yet"], 80, 24)
    assert re.search(rf"async +0/10 +0 +{UNKNOWN}", text)
    assert "left" not in text
    assert "None" not in text


def test_a_finished_study_has_nothing_left() -> None:
    text = text_of(study(), 80, 24)
    assert "\ndone" in text
    assert "30 of 30 runs\n" in text


def test_without_a_target_best_returns_are_shown() -> None:
    text = text_of(STUDIES["no target"], 80, 24)
    assert "solved" not in text.replace("seed 2: solved", "")
    assert "median best return" in text


def test_a_console_without_unicode_gets_plain_ascii() -> None:
    long = {"async, " + "x" * 90 + digit: 8_000.0 for digit in "ab"}
    for status in (study(17), study(3, long)):
        assert "?" not in drawn(render_study(status, 80, 24), 80, encoding="ascii")


def test_rendering_is_pure() -> None:
    assert text_of(study(17), 120, 40) == text_of(study(17), 120, 40)


@pytest.mark.parametrize(
    ("env_steps", "shown"), [([8e3, 9e3, 1e9], "9,000"), ([8e3, 1e9], "> 20,000"), ([8e3, 9e3], "8,500"), ([], UNKNOWN)]
)
def test_a_run_that_never_reached_the_target_took_longer_than_any_other(env_steps: list[float], shown: str) -> None:
    runs = tuple(sample_run("async", seed, steps) for seed, steps in enumerate(env_steps))
    text = text_of(replace(study(0), planned=4, runs={"async": runs}), 120, 24)
    assert re.search(rf"^async +{len(runs)}/4 +\d +{shown}\s*$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(40.0, "0:00:40"), (0.2, "0:00:01"), (725.0, "0:12:05"), (3723, "1:02:03")]
)
def test_a_remaining_time_reads_like_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


# -- the whole view ---------------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def play(view: StudyView, clock: Clock, runs: Sequence[Run]) -> None:
    """Let a view see runs that take two seconds each."""
    for run in runs:
        view.begin(run.arm, run.seed)
        view.event(Event(0.1, "started", "4 workers and a monitor"))
        view.update(sample_status())
        clock.now += 2.0
        view.finished(run)


def fresh(done: int = 0) -> StudyStatus:
    """A study of six runs as a command finds it."""
    return replace(study(done, seeds=2), current=None, training=None, remaining_seconds=None, messages=())


def interleaved(seeds: int = 2) -> list[Run]:
    return sorted(sample_runs(ARMS, seeds), key=lambda run: run.seed)


def test_plain_output_has_a_line_per_finished_run_and_no_codes() -> None:
    console, clock = piped(), Clock()
    with StudyView(console, True, fresh(), clock) as view:
        play(view, clock, interleaved())
    text = written(console)
    assert len(text.splitlines()) == 6
    assert re.match(
        r"\[1/6\] async seed 0: solved after [\d,]+ env steps, 0\.\d s of training "
        r"\(5 runs left, about 0:00:10\)\n\[2/6\] sync seed 0: not solved within 20,000 env steps, "
        r"best mean [\d.]+ \(4 runs left, about 0:00:08\)\n",
        text,
    )
    assert text.splitlines()[4].endswith("(1 run left, about 0:00:02)")
    assert text.splitlines()[5].endswith("of training")
    assert "\x1b" not in text


def test_a_resumed_study_counts_the_runs_on_disk_and_times_its_own() -> None:
    console, clock = piped(), Clock()
    with StudyView(console, True, fresh(4), clock) as view:
        play(view, clock, interleaved()[4:5])
    assert written(console).startswith("[5/6] sync seed 1: ")
    assert written(console).endswith("(1 run left, about 0:00:02)\n")


def test_crashes_and_interrupts_are_reported_at_once_and_tracebacks_printed() -> None:
    console = piped()
    with StudyView(console, False, study(0)) as view:
        view.begin("async", 2)
        view.event(Event(1.0, "evaluated", "488.2"))
        view.event(Event(1.0, "crashed", "worker-1 died: ValueError: boom\x1b"))
        view.traceback("Traceback:\n  boom")
    assert written(console) == "async seed 2: crashed: worker-1 died: ValueError: boom \nTraceback:\n  boom\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "failed", "solved_env_steps": None, "reason": "worker-0 died"}, "failed after 8,480 env steps"),
        ({"status": "budget_exhausted", "target_return": None}, "finished 20,000 env steps, best mean 500.0"),
        (
            {"status": "budget_exhausted", "evaluation": None},
            f"not solved within 20,000 env steps, best mean {UNKNOWN}",
        ),
    ],
)
def test_a_finished_run_says_how_it_ended(change: dict[str, object], words: str) -> None:
    run = sample_run("async", 3, 8_000.0)
    assert outcome(replace(run, summary=replace(run.summary, **change))).startswith(f"async seed 3: {words}")  # type: ignore[arg-type]


def test_a_live_study_ends_with_the_last_frame_the_tables_and_the_cursor() -> None:
    console, clock = terminal(color_system=None), Clock()
    with StudyView(console, True, fresh(), clock) as view:
        play(view, clock, interleaved())
        view.report("measuring lost updates")
        show_comparison(view, comparison(), ["async is faster"], ["runs/one/report.html"])
    text = written(console)
    assert "6 of 6 runs" in text
    assert "measuring lost updates" in text
    assert text.rindex("done") < text.rindex(SHOW_CURSOR) < text.index("• async is faster")
    assert text.endswith("• async is faster\n\nruns/one/report.html\n")
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1


def test_a_live_frame_counts_down() -> None:
    console, clock = terminal(color_system=None), Clock()
    with StudyView(console, True, fresh(), clock) as view:
        play(view, clock, interleaved()[:1])
        view.begin("sync", 0)
        clock.now += 1.0
        view.update(sample_status())
    assert "34.2 s" in written(console)
    assert list(dict.fromkeys(re.findall(r"about (\S+) left", written(console)))) == ["0:00:10", "0:00:09"]


def test_a_view_that_raises_gives_the_terminal_back_and_continues_in_plain_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> RenderableType:
        raise KeyError("boom")

    console, clock = terminal(), Clock()
    with StudyView(console, True, fresh(), clock) as view:
        monkeypatch.setattr(study_view, "render_study", broken)
        play(view, clock, interleaved())
    text = written(console)
    assert text.count("the dashboard failed (KeyError: 'boom'); plain lines from here on") == 1
    assert text.count(SHOW_CURSOR) == 1
    assert text.count("seed") == 6


def test_a_reader_that_has_gone_does_not_end_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w")
    monkeypatch.setattr("sys.stdout", pipe)
    view, clock = StudyView(Console(file=pipe), False, fresh()), Clock()
    play(view, clock, interleaved())
    show_comparison(view, comparison(), [], [])


def test_in_a_real_terminal_the_cursor_comes_back() -> None:
    reader, writer = pty.openpty()
    chunks: list[bytes] = []

    def collect() -> None:
        while SHOW_CURSOR.encode() not in b"".join(chunks):
            chunks.append(os.read(reader, 65536))

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    with os.fdopen(writer, "w") as file:
        console = Console(
            file=file, color_system=None, _environ={"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        )
        assert console.is_terminal
        clock = Clock()
        with StudyView(console, True, fresh(), clock) as view:
            play(view, clock, interleaved()[:3])
        thread.join(20)
    os.close(reader)
    text = b"".join(chunks).decode()
    assert text.index(HIDE_CURSOR) < text.index("3 of 6 runs") < text.rindex(SHOW_CURSOR)


# -- the tables at the end --------------------------------------------------------------------------------------------


def comparison(arms: dict[str, float] | None = None, seeds: int = 6, target: float | None = 475.0) -> Comparison:
    arms = ARMS if arms is None else arms
    runs = sample_runs(arms, seeds)
    lost = {name: LostUpdates(4_000, 0.0123, 0.034, 0.05) for name in arms if name == "async"}
    return Comparison(
        command="python run_a3c.py compare",
        env_id="CartPole-v1",
        target_return=target,
        max_env_steps=BUDGET,
        factors={"mode": tuple(arms)},
        options={"workers": 4},
        tuned=False,
        seeds=tuple(range(seeds)),
        machine={"cpus": 2},
        planned_runs=len(runs),
        runs=tuple(runs),
        arms=tuple(
            arm_result(name, {"mode": name}, [run for run in runs if run.arm == name], lost.get(name)) for name in arms
        ),
        contrasts=contrasts(list(arms), runs),
    )


def unknowable(value: float) -> Comparison:
    """A comparison whose every figure is nan or infinite."""
    interval = Interval(value, value, value)
    changes = dict.fromkeys(("solved", "steps_per_second", "best_return", "cpu_cores", "torn_pulls"), interval)
    whole, passage = comparison(seeds=3), Passage(interval, interval, 3)
    arms = tuple(
        replace(arm, **changes, env_steps=passage, seconds=passage, staleness_mean=value)  # type: ignore[arg-type]
        for arm in whole.arms
    )
    pairs = tuple(replace(one, fewer_env_steps=interval, seconds_ratio=interval) for one in whole.contrasts)
    return replace(whole, arms=arms, contrasts=pairs)


def table_text(whole: Comparison, width: int, findings: Sequence[str] = ()) -> str:
    return drawn(render_comparison(whole, findings, width), width + 100)


COMPARISONS = {
    "three arms": comparison(),
    "no target": comparison(target=None),
    "one arm": comparison({"async": 8_000.0}),
    "one run": comparison({"async": 8_000.0}, seeds=1),
    "16 arms": comparison(many(16), seeds=2),
    "long names": comparison({"async " + "x" * 90: 8_000.0, "\x1b漢": 1e9}, seeds=3),
    "nan": unknowable(math.nan),
    "inf": unknowable(math.inf),
}


def test_the_tables_fit() -> None:
    for name, width in itertools.product(COMPARISONS, (40, 60, 80, 110, 120, 200)):
        assert_fits(table_text(COMPARISONS[name], width, ["word " * 60, "w" * 300]), width, 500)


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_hold_every_figure(width: int) -> None:
    text = table_text(COMPARISONS["three arms"], width)
    titles = ["solved", "env steps to target", "IQM", "seconds to target", "env steps/s", "cores", "staleness"]
    titles += ["p95", "max", "pushes", "pulls", "elements", "vs async", "fewer env steps", "sooner", "speed-up"]
    assert [title for title in titles if title not in text] == []
    assert re.search(r"^async +6 of 6 .*\d,\d{3} \[\d", text, re.MULTILINE)
    assert re.search(r"^sync .* > 20,000 ", text, re.MULTILINE)
    assert "not reached" in text
    assert "1.23 %" in text
    assert "nan" not in text
    assert "inf" not in text


def test_wide_tables_have_more_intervals_and_fewer_lines() -> None:
    narrow, wide = (table_text(COMPARISONS["three arms"], width) for width in (80, 160))
    assert wide.count("[") > narrow.count("[")
    assert len(wide.splitlines()) < len(narrow.splitlines())


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_not_known_is_never_a_number(value: str) -> None:
    text = table_text(COMPARISONS[value], 120)
    assert ("not reached" in text) == (value == "inf")
    assert UNKNOWN in text or value == "inf"


def test_without_a_target_the_best_returns_are_compared() -> None:
    text = table_text(COMPARISONS["no target"], 80)
    assert "best return" in text
    assert all(word not in text for word in ("solved", "sooner", "to target"))


def test_a_study_cut_short_says_so() -> None:
    assert "18 of 30 runs" in table_text(replace(comparison(), planned_runs=30), 80)


def test_findings_are_wrapped_bullets() -> None:
    lines = table_text(comparison(), 80, ["async is faster " * 10, "so be it"]).splitlines()
    assert lines[-1] == "• so be it"
    assert lines[-2].startswith("  ")
    assert sum(line.startswith("• ") for line in lines) == 2


def test_tables_without_unicode_are_plain_ascii() -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=80, _environ={})
    console.print(render_comparison(comparison(), ["fine"], 80), soft_wrap=True, end="")
    console.file.flush()
    assert "?" not in raw.getvalue().decode()
