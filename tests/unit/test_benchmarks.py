"""The benchmarks' bookkeeping; what they measure is measured by `make bench`."""

import dataclasses
import json
import math

import pytest

from benchmarks import __main__ as command
from benchmarks.bars import ASKED, asked_rows
from benchmarks.benchmark import Benchmark, Size
from benchmarks.catalogue import CATALOGUE
from benchmarks.figures import Count, Figure, Joint, Limit, at_least, number, quantile, table
from benchmarks.machine import program_digest
from benchmarks.page import page, results_text
from benchmarks.progress import Progress
from benchmarks.results import Record, Results, outstanding, planned, under
from benchmarks.studies import FIGURES, STUDIES
from benchmarks.tutorial.claims import at, told
from workers.commands import parse
from workers.comparison.study import plan

HERE = {
    "cpu": "a",
    "cores": 2,
    "memory_gib": 4,
    "system": "s",
    "program": "p",
    **dict.fromkeys(("python", "torch", "gymnasium", "numpy"), "1"),
}


def record(number, conditions=HERE, seconds=None, **values):
    return Record("steps", {"number": number}, values, conditions, "commit", "2025-01-02T03:04:05+00:00", 0.1, seconds)


def counting_benchmark(measured, failing=()):
    """Three trials whose value is their own number; those in `failing` are interrupted."""

    def measure(parameters):
        if parameters["number"] in failing:
            raise KeyboardInterrupt
        measured.append(parameters["number"])
        return {"value": parameters["number"]}

    def rows(trials):
        return [Figure("value", tuple(float(trial.values["value"]) for trial in trials))]

    return Benchmark("steps", "counts", lambda size: [{"number": number} for number in range(3)], measure, rows)


def bench(directory, benchmark, *options):
    return command.main(["--results", str(directory), *options], {benchmark.name: benchmark})


@pytest.mark.parametrize(
    ("samples", "fraction", "expected"),
    [
        ((3, 1, 2), 0.5, 2),
        ((1, 2), 0.5, 1.5),
        ((1, 2, 3, 4, 5), 0.25, 2),
        ((1, 2, 3, 4), 0.75, 3.25),
        ((7,), 0.25, 7),
        ((1, math.inf), 0.0, 1),
        ((1, math.inf, math.inf), 0.5, math.inf),
        ((1, 2, math.inf), 0.5, 2),
    ],
)
def test_quantile_is_linear_between_neighbours_and_bears_infinite_samples(samples, fraction, expected):
    assert quantile(samples, fraction) == expected


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ((Limit(2), Limit(1.5)), "met, not the aim"),
        ((Limit(2), Limit(1.9)), "met, and the aim"),
        ((Limit(1.5), Limit(1)), "**missed**"),
        ((Limit(1.5, at_most=False), None), "met"),
        ((Limit(2, at_most=False), None), "**missed**"),
        ((None, None), "-"),
    ],
)
def test_verdict_compares_the_median_with_bar_and_aim(limits, verdict):
    assert Figure("f", (1.0, 1.8, 9.0), "x", *limits).verdict() == verdict


def test_a_run_that_never_got_there_counts_against_the_bar():
    assert Figure("f", (1.0, math.inf, math.inf), "x", Limit(2)).row()[-2:] == (
        "never x (range 1.00 to never, n 3)",
        "**missed**",
    )


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [((True,) * 3, "met"), ((True,) * 2, "open: needs 3"), ((True, False), "**missed**"), ((), "open: needs 3")],
)
def test_a_count_is_met_by_enough_successes_and_missed_by_one_failure(outcomes, verdict):
    assert Count("f", outcomes, needed=3).verdict() == verdict


@pytest.mark.parametrize(
    ("samples", "verdict", "measured"),
    [
        ((1.0,) * 3, "met", "1.00 (range 1.00 to 1.00, n 3, all got there)"),
        ((1.0,) * 2, "open: needs 3", "1.00 (range 1.00 to 1.00, n 2, all got there)"),
        ((1.0, 1.0, math.inf), "**missed**", "1.00 (range 1.00 to never, n 3, 1 never)"),
        ((1.0, math.inf), "**missed**", "never (range 1.00 to never, n 2, 1 never)"),
        ((3.0,) * 3, "**missed**", "3.00 (range 3.00 to 3.00, n 3, all got there)"),
        ((), "-", "not measured"),
    ],
)
def test_a_bar_that_asks_for_all_is_met_by_enough_samples_none_of_which_is_never(samples, verdict, measured):
    figure = Figure("f", samples, "", Limit(2), needed=3)
    assert (figure.verdict(), figure.measured()) == (verdict, measured)


def test_figures_asked_together_stand_in_one_row_each_with_its_bar_and_verdict():
    joint = Joint("both", (Figure("a", (4.0,), "x", at_least(3), at_least(8)), Figure("p", (4.0,), "x", at_least(8))))
    assert table([joint]).splitlines()[-1] == (
        "| both | at least 3 x / at least 8 x | at least 8 x /  | 4.00 x (n 1) / 4.00 x (n 1) | "
        "met, not the aim / **missed** |"
    )


def test_table_shows_quartiles_of_many_samples_and_the_range_of_few():
    text = table(
        [
            Figure("many", tuple(map(float, range(1, 10))), "s", Limit(40_000)),
            Figure("few", (1.0, 2.0)),
            Figure("one", (1234.5,)),
            Figure("none", (), "", Limit(1)),
        ]
    )
    assert text.splitlines()[2:] == [
        "| many | at most 40,000 s |  | 5.00 s (quartiles 3.00 to 7.00, n 9) | met |",
        "| few |  |  | 1.50 (range 1.00 to 2.00, n 2) | - |",
        "| one |  |  | 1,234 (n 1) | - |",
        "| none | at most 1 |  | not measured | - |",
    ]


def test_numbers_keep_about_three_digits():
    assert [number(value) for value in (0.567, 12.34, 123.4, 12345.6, -0.5)] == [
        "0.57",
        "12.3",
        "123",
        "12,346",
        "-0.50",
    ]


def test_an_interrupted_bench_measures_only_what_is_left(tmp_path, capsys):
    measured = []
    assert bench(tmp_path, counting_benchmark(measured, failing={1})) == command.EXIT_INTERRUPTED
    assert bench(tmp_path, counting_benchmark(measured)) == 0
    assert measured == [0, 1, 2]
    assert "| value |  |  | 1.00 (range 0.00 to 2.00, n 3) | - |" in capsys.readouterr().out
    assert bench(tmp_path, counting_benchmark(measured), "--fresh") == 0
    assert measured == [0, 1, 2, 0, 1, 2]


def test_report_measures_nothing(tmp_path, capsys):
    measured = []
    assert bench(tmp_path, counting_benchmark(measured), "--report") == command.EXIT_USAGE
    bench(tmp_path, counting_benchmark(measured))
    capsys.readouterr()
    assert bench(tmp_path, counting_benchmark(measured), "--report") == 0
    assert measured == [0, 1, 2]
    assert "n 3" in capsys.readouterr().out


def test_results_under_other_conditions_are_not_mixed_in():
    elsewhere = {**HERE, "program": "older"}
    records = under([record(0, elsewhere), record(1), record(2)], HERE)
    plan = [{"number": number} for number in range(3)]
    assert outstanding(plan, records) == [{"number": 0}]
    assert planned(plan[:2], records) == [record(1)]


@pytest.mark.parametrize(
    "torn", ['{"benchmark": "steps", "param', '{"benchmark": "steps", "parameters": {"number": 7}']
)
def test_a_line_cut_short_is_measured_again_and_does_no_harm(tmp_path, torn):
    results = Results(tmp_path)
    results.append(record(0))
    with open(tmp_path / "steps.jsonl", "a") as file:
        file.write(torn)
    assert results.load("steps") == [record(0)]
    results.append(record(1))
    assert results.load("steps") == [record(0), record(1)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["slove"], "unknown benchmark 'slove'; did you mean solve?"),
        (["xyzzy"], f"unknown benchmark 'xyzzy'; there are {', '.join(CATALOGUE)}"),
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--quick", "--write"], "--quick measures nothing"),
        (["--fresh", "--report"], "--fresh discards what --report is to show"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options, complaint, capsys):
    assert command.main(options) == 2
    assert complaint in capsys.readouterr().err


def test_no_two_trials_of_a_plan_are_the_same():
    for size in (Size(), Size(seeds=3, quick=True)):
        for benchmark in CATALOGUE.values():
            identities = [json.dumps(parameters, sort_keys=True) for parameters in benchmark.plan(size)]
            assert len(set(identities)) == len(identities) > 0


def test_page_tells_figures_machine_and_method():
    benchmark = counting_benchmark([])
    text = page({"steps": [record(0, value=1), record(1, value=3)]}, {"steps": benchmark})
    for part in ("| value |  |  | 2.00", "2 cores", "commit commit", "2025-01-02", "### steps\n\ncounts\n\n| figure |"):
        assert part in text


# What is asked, in the order of the table: the bars and the aims, "at most" or "at least".
ASKED_LIMITS = [
    ("at most 1.7 x", "at most 1.3 x"),
    ("at least 1.7 x", "at least 2.5 x"),
    ("at least 3 x / at least 8 x", "at least 8 x / at least 20 x"),
    ("at least 15 x", "at least 30 x"),
    ("at least 20 %", "at least 50 %"),
    ("at least 20 %", "at least 50 %"),
    ("at most 20,000", "at most 8,000"),
    ("at most 10,000", "at most 5,000"),
    ("at most 5 %", "at most 2 %"),
    ("at most 60 MB", "at most 25 MB"),
]


def test_the_table_of_what_is_asked_has_its_rows_in_order_with_bars_and_aims_even_when_nothing_is_measured():
    rows = asked_rows({name: benchmark.rows(()) for name, benchmark in CATALOGUE.items()})
    assert [row.row()[1:3] for row in rows] == ASKED_LIMITS
    assert [row.name for row in rows] == [asked.name for asked in ASKED]
    assert all(set(row.row()[3].split(" / ")) == {"not measured"} for row in rows)


def test_the_page_begins_with_what_is_asked_and_a_bench_of_some_ends_with_their_part_of_it():
    text = page(dict.fromkeys(CATALOGUE, ()), CATALOGUE)
    assert text.index("## What is asked") < text.index(ASKED[0].name) < text.index("## Everything else")
    named = {"stable-baselines3": CATALOGUE["stable-baselines3"]}
    printed = results_text(dict.fromkeys(named, ()), named)
    assert printed.index("whole process, PPO / ours") < printed.index("what is asked") < printed.index(ASKED[1].name)
    assert ASKED[0].name not in printed


def test_a_benchmark_measured_before_the_program_changed_says_so_and_answers_nothing_asked():
    asked = ASKED[-1]  # the one row of its benchmark
    answering = dataclasses.replace(
        counting_benchmark([]), name=asked.benchmark, rows=lambda trials: [Figure(asked.figures[0], (1.0,))]
    )
    now, before = record(0, value=1), record(0, {**HERE, "program": "older"}, value=1)
    before = dataclasses.replace(before, date="2024-12-31T00:00:00+00:00", commit="before")
    for one, said in ((now, False), (before, True)):
        benchmarks = {"steps": counting_benchmark([]), asked.benchmark: answering}
        text = page({"steps": [now], asked.benchmark: [one]}, benchmarks)
        assert ("Measured earlier than the rest, on\n\n- a, 2 cores" in text) is said
        assert ("commit before (sources older)" in text) is said
        assert (f"| {asked.name} |" not in text) is said


def test_what_is_left_is_estimated_from_what_trials_took_now_and_in_an_earlier_version(tmp_path):
    results, steps = Results(tmp_path), counting_benchmark([])
    others = {name: dataclasses.replace(steps, name=name) for name in ("unknown", "done")}
    results.append(record(7, {**HERE, "program": "older"}, seconds=100.0))
    results.append(record(0, seconds=100.0))
    for trial in range(3):
        results.append(dataclasses.replace(record(trial, seconds=9.0), benchmark="done"))
    progress = Progress({"steps": steps, **others}, Size(), results, HERE)
    assert str(progress) == "3 min and 1 benchmark of unknown length left"
    progress.measured("steps", 10.0)
    assert str(progress) == "100 s and 1 benchmark of unknown length left"
    progress.measured("unknown", 1.0)
    assert str(progress) == "102 s left"


def test_the_bench_tells_how_long_it_will_still_take(tmp_path, capsys):
    bench(tmp_path, counting_benchmark([]))
    assert "steps 3/3 (0 s; 0 s left): value 2" in capsys.readouterr().out


def test_only_write_writes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    for options, written in (((), False), (("--write",), True)):
        assert bench(tmp_path / "results", counting_benchmark([]), *options) == 0
        assert command.PAGE.exists() is written
    assert "n 3" in command.PAGE.read_text()


def test_every_benchmark_makes_rows_of_nothing_measured():
    assert "not measured" in page(dict.fromkeys(CATALOGUE, ()), CATALOGUE)


def test_program_digest_follows_the_sources(tmp_path):
    (tmp_path / "a3c").mkdir()
    before = program_digest(tmp_path)
    (tmp_path / "a3c" / "x.py").write_text("1")
    assert program_digest(tmp_path) != before == program_digest(tmp_path / "a3c")


def test_records_survive_the_file(tmp_path):
    Results(tmp_path).append(record(0, value=[1.5, None]))
    (loaded,) = Results(tmp_path).load("steps")
    assert dataclasses.asdict(loaded) == dataclasses.asdict(record(0, value=[1.5, None]))


@pytest.mark.parametrize("name", STUDIES)
def test_every_published_study_is_one_that_compare_can_make(name: str) -> None:
    options, figures = STUDIES[name]
    command = parse(["compare", *options.split()])
    assert plan(command.training, command.seeds, command.tuned).factors
    assert all((FIGURES / f"{name}-{figure}.svg").exists() for figure in figures)


def test_a_claim_is_judged_by_the_last_row_up_to_its_update_and_not_where_the_run_ended_before():
    log = [
        {"updates": "10", "mean_return": ""},
        {"updates": "70", "mean_return": "21.5"},
        {"updates": "90", "mean_return": "400"},
    ]
    assert at(log, 80, "mean_return") == 21.5
    assert at(log, 90, "mean_return") == 400
    assert at(log, 91, "mean_return") is None
    assert at(log, 20, "mean_return") is None
    assert at([], 20, "mean_return") is None


def test_runs_that_never_got_there_are_counted_beside_those_that_did():
    assert told([3.0, None, 1.0, 2.0]) == "2 (1 to 3), 3 of 4 runs"
    assert told([None, None]) == "never, 0 of 2 runs"
