"""What a person sees of a study: live on terminals of every size, in pipes, and in the tables at its end."""

import io
import math
import os
import pty
import re
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from tests.unit.comparison_samples import BUDGET, sample_run, sample_runs
from tests.unit.status_samples import broken_status, sample_status, unknown_status
from tests.unit.test_dashboard import HIDE_CURSOR, SHOW_CURSOR, drawn, piped, terminal, written
from workers.comparison import study_dashboard
from workers.comparison.analysis import arm_result, contrasts
from workers.comparison.medians import median_curve, median_env_steps, median_seconds
from workers.comparison.progress import ArmProgress, StudyStatus
from workers.comparison.results import Comparison, Interval, LostUpdates, Passage, Run
from workers.comparison.study_dashboard import StudyView, remaining_seconds, run_words
from workers.comparison.tables import render_comparison
from workers.comparison.view import clock_words, render_study
from workers.console.drawing import UNKNOWN, Chart, Series
from workers.runs.records import Event

ARMS = {"async": 8_000.0, "sync": 30_000.0, "locked": 9_000.0}
SIZES = [(80, 24), (80, 23), (100, 30), (140, 24), (200, 60), (200, 24), (60, 14), (59, 30), (100, 9), (20, 5), (1, 1)]


def study(done: int | None = None, arms: dict[str, float] | None = None, seeds: int = 10) -> StudyStatus:
    """A study after so many of its interleaved runs, the next one going on; None: all."""
    arms = ARMS if arms is None else arms
    runs = sorted(sample_runs(arms, seeds), key=lambda run: run.seed)[:done]
    going_on = len(runs) < len(arms) * seeds
    return StudyStatus(
        env_id="CartPole-v1",
        study_dir="runs/CartPole-v1-study",
        target_return=475.0,
        max_env_steps=BUDGET,
        arms=tuple(ArmProgress(name, seeds, tuple(run for run in runs if run.arm == name)) for name in arms),
        current_arm=list(arms)[len(runs) % len(arms)] if going_on else None,
        current_seed=len(runs) // len(arms) if going_on else None,
        current=replace(sample_status(), env_steps=8_210, max_env_steps=BUDGET) if going_on else None,
        elapsed_seconds=31.2,
        remaining_seconds=40.0 if runs else None,
        message="async seed 2: solved after 9,120 env steps, 0.6 s of training" if runs else "",
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
    "no arms": replace(study(0), arms=()),
    "nothing yet": replace(study(0), current=None),
    "first run": replace(study(0), current=unknown_status()),
    "all done": study(),
    "a hundred seeds": study(250, seeds=100),
    "no target": replace(study(17), target_return=None),
    "large budget": replace(study(17), max_env_steps=10**12, current=broken_status(math.nan)),
    **{
        str(value): replace(
            study(17),
            arms=(ArmProgress("async", 3, (broken_run(value),)),),
            target_return=value,
            current=broken_status(value),
            remaining_seconds=value,
        )
        for value in (math.nan, math.inf)
    },
    "hostile": replace(
        study(4, {"漢字\x1b[31m" * 9: 8_000.0, "b" * 300: 1e6}, 5), env_id="漢\x1b[2J" * 60, message="boom\n" * 99
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


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", STUDIES)
def test_a_frame_fits_its_terminal(name: str, size: tuple[int, int]) -> None:
    assert_fits(text_of(STUDIES[name], *size), *size)


@pytest.mark.parametrize("size", [(80, 23), (100, 30), (200, 60)], ids=str)
def test_a_frame_shows_every_essential(size: tuple[int, int]) -> None:
    text = text_of(study(17), *size)
    essentials = ["CartPole-v1", "3 arms, 30 runs", "● running  31.2 s", "17 of 30 runs, about 0:40 left"]
    essentials += ["6/10", "> 20,000", "●●●●●○····", "locked, seed 5", "8,210 of 20,000 env steps", "29,013/s"]
    essentials += ["greedy 488.2", "async seed 2: solved after 9,120 env steps", "target 475", "A async", "C locked"]
    assert [fact for fact in essentials if fact not in text] == []


@pytest.mark.parametrize("size", [(59, 20), (40, 12)], ids=str)
def test_a_small_terminal_shows_progress_and_arms(size: tuple[int, int]) -> None:
    text = text_of(study(17), *size)
    assert all(fact in text for fact in ("CartPole-v1", "17 of 30 runs", "locked, seed 5", "async 6/10"))


@pytest.mark.parametrize(("arms", "size"), [(16, (80, 33)), (16, (200, 24)), (8, (80, 23)), (3, (60, 14))])
def test_every_arm_has_its_row_where_there_is_room(arms: int, size: tuple[int, int]) -> None:
    assert len(re.findall(r" \d+/12 ", text_of(study(20, many(arms), 12), *size))) == arms


def test_of_too_many_arms_the_page_with_the_current_one_is_shown() -> None:
    first, last = (text_of(study(done, many(16), 2), 80, 23) for done in (0, 15))
    assert "1 to 8 of 16" in first
    assert "async, 8 workers" in first
    assert "async, 9 workers" not in first.split("now")[0]
    assert "9 to 16 of 16" in last
    assert "P async, 16 workers" in last


def test_figures_give_way_to_names_that_tell_arms_apart() -> None:
    arms = {f"async, 4 workers, entropy_coef 0.{number}": 8_000.0 for number in (1, 2)}
    assert all(name in text_of(study(4, arms), 80, 23).split("now")[0] for name in arms)


def test_a_strip_too_long_shows_the_runs_around_the_next() -> None:
    strip = re.findall(r"…[●✗○·]+", text_of(study(250, seeds=100), 80, 23))
    assert len(strip) == 3
    assert all(re.fullmatch(r"…[●✗]+○?·*", runs) for runs in strip)
    assert "○" in strip[1]


def test_each_curve_ends_in_the_key_of_its_arm() -> None:
    chart = text_of(study(17), 100, 30).split("return ")[1].split("\n", 1)[1]
    assert [key for key in "ABC" if key in chart] == ["A", "B", "C"]


def test_what_is_not_there_yet_is_a_dash() -> None:
    text = text_of(STUDIES["nothing yet"], 80, 24)
    assert re.search(rf"async +0/10( +{UNKNOWN}){{5}}  ○·········", text)
    assert "no curve yet" in text
    assert "left" not in text
    assert "None" not in text


def test_a_finished_study_has_nothing_left() -> None:
    text = text_of(study(), 80, 24)
    assert "● done" in text
    assert "30 of 30 runs\n" in text


def test_without_a_target_nobody_has_failed() -> None:
    text = text_of(STUDIES["no target"], 80, 24)
    assert "solved" not in text.replace("seed 2: solved", "")
    assert "✗" not in text
    assert "median best" in text


def test_a_console_without_unicode_gets_plain_ascii() -> None:
    text = drawn(render_study(study(17), 80, 24), 80, encoding="ascii")
    assert "?" not in text
    assert re.search(r"  [*x]{6},{4}\n.*  [*x]{6},{4}\n.*  [*x]{5}o,{4}\n", text)


def test_rendering_is_pure() -> None:
    assert text_of(study(17), 120, 40) == text_of(study(17), 120, 40)


def test_a_later_curve_wins_the_colour_of_a_cell_and_keeps_the_dots_of_the_earlier() -> None:
    flat, rising = ((0.0, 0.0), (10.0, 0.0)), ((0.0, 0.0), (10.0, 10.0))
    only = Chart((Series(flat, "red"),), 10.0, "x", 10.0).lines(60, 8)
    both = Chart((Series(flat, "red"), Series(rising, "blue")), 10.0, "x", 10.0).lines(60, 8)
    assert [style for _, style in only[6][1:]] == ["red"]
    assert [style for _, style in both[6][1:]] == ["blue", "red"]
    assert ord(both[6][1][0][0]) & ord(only[6][1][0][0]) == ord(only[6][1][0][0])


# -- medians ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_steps", "middle"),
    [
        ([8_000, 9_000, 1e9], 9_000),
        ([8_000, 1e9], math.inf),
        ([8_000, 1e9, 1e9], math.inf),
        ([8_000, 9_000], 8_500),
        ([], None),
    ],
)
def test_runs_that_never_got_there_count_as_infinitely_long(env_steps: list[float], middle: float | None) -> None:
    runs = [sample_run("async", seed, steps) for seed, steps in enumerate(env_steps)]
    assert median_env_steps(runs) == middle
    assert median_seconds(runs) == (None if middle is None else pytest.approx(middle / 20_000))


def test_a_curve_is_the_median_over_runs_up_to_where_half_of_them_have_ended() -> None:
    runs = [sample_run("async", seed, steps) for seed, steps in enumerate((6_000, 8_000, 10_000))]
    curve = median_curve(runs)
    assert curve[-1] == (8_000, 490.0)
    assert curve[0] == (0, 20.0)
    middle = min(curve, key=lambda point: abs(point[0] - 4_000))
    assert middle[1] == pytest.approx(20 + 480 * (middle[0] / 8_000) ** 2, abs=3)


def test_a_curve_without_a_finite_point_is_empty() -> None:
    assert median_curve([broken_run(math.nan)]) == median_curve([]) == ()


# -- the remaining time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "seconds", "spent", "left"),
    [
        (0, {}, 0.0, None),
        (1, {"async": [2.0]}, 0.0, 2.0 * 29),
        (4, {"async": [2.0, 4.0], "sync": [6.0], "locked": [1.0]}, 0.0, 3.0 * 8 + 6.0 * 9 + 1.0 * 9),
        (4, {"async": [2.0, 4.0], "sync": [6.0], "locked": [1.0]}, 2.5, 3.0 * 8 + 6.0 * 9 + 1.0 * 9 - 2.5),
        (4, {"async": [2.0, 4.0], "sync": [6.0], "locked": [1.0]}, 99.0, 3.0 * 8 + 6.0 * 8 + 1.0 * 9),
        (30, {"async": [2.0]}, 0.0, 0.0),
        (17, {}, 3.0, None),
    ],
)
def test_the_remaining_time_is_that_of_the_runs_left(
    done: int, seconds: dict[str, list[float]], spent: float, left: float | None
) -> None:
    assert remaining_seconds(study(done), seconds, spent) == (left if left is None else pytest.approx(left))


@pytest.mark.parametrize(
    ("seconds", "words"), [(40.0, "0:40"), (0.2, "0:01"), (725.0, "12:05"), (3723, "1:02:03"), (math.nan, UNKNOWN)]
)
def test_a_remaining_time_is_told_like_a_clock(seconds: float, words: str) -> None:
    assert clock_words(seconds) == words


# -- the whole view ---------------------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def play(view: StudyView, clock: Clock, runs: Sequence[Run]) -> None:
    """Tell a view of runs that take two seconds each."""
    for run in runs:
        view.begin(run.arm, run.seed)
        view.event(Event(0.1, "started", "4 workers and a monitor"))
        view.update(sample_status())
        clock.now += 2.0
        view.finished(run)


def interleaved(seeds: int = 2) -> list[Run]:
    return sorted(sample_runs(ARMS, seeds), key=lambda run: run.seed)


def test_plain_output_has_a_line_per_finished_run_and_no_codes() -> None:
    console, clock = piped(), Clock()
    with StudyView(console, True, replace(study(0, seeds=2), current_arm=None), clock) as view:
        play(view, clock, interleaved())
    text = written(console)
    assert len(text.splitlines()) == 6
    assert re.match(
        r"\[1/6\] async seed 0: solved after [\d,]+ env steps, 0\.\d s of training "
        r"\(5 runs left, about 0:10\)\n\[2/6\] sync seed 0: not solved within 20,000 env steps, "
        r"best mean [\d.]+ \(4 runs left, about 0:08\)\n",
        text,
    )
    assert text.splitlines()[4].endswith("(1 run left, about 0:02)")
    assert text.splitlines()[5].endswith("of training")
    assert "\x1b" not in text


def test_a_resumed_study_counts_the_runs_on_disk_and_times_those_of_its_own() -> None:
    console, clock = piped(), Clock()
    with StudyView(console, True, replace(study(4, seeds=2), current_arm=None), clock) as view:
        play(view, clock, interleaved()[4:5])
    assert written(console).startswith("[5/6] sync seed 1: ")
    assert written(console).endswith("(1 run left, about 0:02)\n")


def test_crashes_and_interrupts_are_told_at_once_and_tracebacks_printed() -> None:
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
    assert run_words(replace(run, summary=replace(run.summary, **change))).startswith(f"async seed 3: {words}")  # type: ignore[arg-type]


def test_a_live_study_ends_with_the_last_frame_the_tables_and_the_cursor() -> None:
    console, clock = terminal(color_system=None), Clock()
    with StudyView(console, True, replace(study(0, seeds=2), current_arm=None), clock) as view:
        play(view, clock, interleaved())
        view.say("measuring lost updates")
        view.show_comparison(comparison(), ["async is faster"], ["runs/one/report.html"])
    text = written(console)
    assert "6 of 6 runs" in text
    assert "measuring lost updates" in text
    assert text.rindex("● done") < text.rindex(SHOW_CURSOR) < text.index("• async is faster")
    assert text.endswith("• async is faster\n\nruns/one/report.html\n")
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) == 1


def test_a_live_frame_counts_down() -> None:
    console, clock = terminal(color_system=None), Clock()
    with StudyView(console, True, replace(study(0, seeds=2), current_arm=None), clock) as view:
        play(view, clock, interleaved()[:1])
        view.begin("sync", 0)
        clock.now += 1.0
        view.update(sample_status())
    assert "34.2 s" in written(console)
    assert list(dict.fromkeys(re.findall(r"about (\S+) left", written(console)))) == ["0:10", "0:09"]


def test_a_view_that_raises_gives_the_terminal_back_and_goes_on_in_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> RenderableType:
        raise KeyError("boom")

    console, clock = terminal(), Clock()
    with StudyView(console, True, replace(study(0, seeds=2), current_arm=None), clock) as view:
        monkeypatch.setattr(study_dashboard, "render_study", broken)
        play(view, clock, interleaved())
    text = written(console)
    assert text.count("the dashboard failed (KeyError: 'boom'); plain lines from here on") == 1
    assert text.count(SHOW_CURSOR) == 1
    assert text.count("seed") == 6


def test_a_run_of_an_unknown_arm_does_not_end_the_study() -> None:
    console = piped()
    with StudyView(console, False, study(0)) as view:
        view.finished(sample_run("unheard of", 0, 1e4))
    assert "the dashboard failed (KeyError: 'unheard of')" in written(console)


def test_a_reader_that_has_gone_does_not_end_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w")
    monkeypatch.setattr("sys.stdout", pipe)
    view, clock = StudyView(Console(file=pipe), False, study(0, seeds=2)), Clock()
    play(view, clock, interleaved())
    view.show_comparison(comparison(), [], [])


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
        with StudyView(console, True, replace(study(0, seeds=2), current_arm=None), clock) as view:
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
    for whole in COMPARISONS.values():
        for width in (40, 60, 80, 110, 120, 200):
            assert_fits(table_text(whole, width, ["word " * 60, "w" * 300]), width, 500)


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
