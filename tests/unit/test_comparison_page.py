"""What is said and drawn of a study."""

import base64
import math
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markupsafe import escape

from tests.unit.comparison_samples import BUDGET, sample_log, sample_runs
from workers.comparison import statistics
from workers.comparison.analysis import arm_result, contrasts
from workers.comparison.findings import findings, verdict
from workers.comparison.page import render_page
from workers.comparison.results import Comparison, Interval, LostUpdates
from workers.comparison.tables import tables
from workers.comparison.text import estimate, inverse, number, percent, times

VOID = ("meta", "img", "br")
EASY, HARD, HOPELESS = 4_000.0, 12_000.0, 90_000.0  # median env steps; the budget is 20,000
HOSTILE = "<script>alert('x')</script> & \"y\""


def study(medians, seeds=10, target=475.0, mode="async", tuned=False, workers=None):
    """A comparison of arms by their median env steps to the target."""
    runs = sample_runs(medians, seeds)
    values = {name: {"workers": workers[place]} if workers else {"mode": name} for place, name in enumerate(medians)}
    lost = LostUpdates(1000, 0.0002, 0.02, 0.01)
    arms = [arm_result(name, values[name], [run for run in runs if run.arm == name], lost) for name in medians]
    return Comparison(
        command="python run_a3c.py compare --modes async sync",
        env_id="CartPole-v1",
        target_return=target,
        max_env_steps=BUDGET,
        factors={"workers": tuple(workers)} if workers else {"mode": tuple(medians)},
        options={"learning_rate": 0.01, "mode": mode, "note": None},
        tuned=tuned,
        seeds=tuple(range(seeds)),
        machine={"cpus": 2, "platform": "Linux", "versions": {"python": "3.11"}},
        planned_runs=len(runs),
        runs=tuple(runs),
        arms=tuple(arms),
        contrasts=contrasts(list(medians), runs),
    )


def entropy_study(with_bonus, without, bonus_first=True):
    """Arms with and without the entropy bonus, by the variance of their policy losses; their runs were logged."""
    arms = {"entropy_coef 0.01": (0.01, with_bonus), "entropy_coef 0": (0.0, without)}
    names = list(arms) if bonus_first else list(arms)[::-1]
    runs = [
        replace(
            run,
            log=sample_log(10_000, 4.0),
            summary=replace(run.summary, policy_loss_variance=arms[run.arm][1] * (1 + 0.02 * run.seed)),
        )
        for run in sample_runs(dict.fromkeys(names, EASY))
    ]
    results = [
        arm_result(name, {"entropy_coef": arms[name][0]}, [run for run in runs if run.arm == name]) for name in names
    ]
    return replace(
        study_of("async wins"),
        factors={"entropy_coef": (0.01, 0.0)},
        runs=tuple(runs),
        arms=tuple(results),
        contrasts=contrasts(names, runs),
    )


STUDIES = {
    "async wins": {"medians": {"async": EASY, "sync": HARD}},
    "async loses": {"medians": {"async": HARD, "sync": EASY}},
    "no difference": {"medians": {"async": EASY, "sync": EASY, "locked": EASY}},
    "all censored": {"medians": {"async": HOPELESS, "sync": HOPELESS}},
    "one half censored": {"medians": {"async": EASY, "sync": float(BUDGET)}},
    "three seeds": {"medians": {"async": EASY, "sync": HARD}, "seeds": 3},
    "one seed": {"medians": {"async": EASY, "sync": HOPELESS}, "seeds": 1},
    "no target": {"medians": {"async": EASY, "sync": HARD}, "target": None},
    "tuned": {"medians": {"async": EASY, "sync": HARD}, "tuned": True},
    "no runs": {"medians": {"async": EASY, "sync": HARD}, "seeds": 0},
    "workers": {"medians": {"1 worker": HARD, "4 workers": EASY}, "workers": [1, 4]},
    "hostile": {"medians": {"async": EASY, HOSTILE: HARD}},
}


@pytest.fixture(scope="module", autouse=True)
def _fewer_resamples():
    """What is tested is words and pictures; that intervals cover is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 200)
        yield


@cache
def study_of(name):
    return study(**STUDIES[name])


def told(name):
    return " ".join(findings(study_of(name)))


class Page(HTMLParser):
    """Its text, its attributes, and whether every tag is closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += f"{data} "


def test_where_async_wins_it_is_told_by_env_steps_and_by_seconds():
    assert "async reached 475 with fewer env steps than sync: a run of async beats one of sync" in told("async wins")
    assert "async reached 475 in less time than sync" in told("async wins")


def test_where_async_loses_the_winner_is_named_first():
    assert "sync reached 475 with fewer env steps than async: a run of sync beats one of async" in told("async loses")
    assert "async reached" not in told("async loses").replace("than async", "")
    assert re.search(r"in the median async needs [23]\.\d times", told("async loses"))


def test_where_the_interval_contains_a_half_the_data_do_not_tell():
    sentences = findings(study_of("no difference"))
    assert sum(sentence.startswith("The data do not tell whether") for sentence in sentences) == 4
    assert not any(" reached 475 with fewer" in sentence for sentence in sentences)


def test_opposite_answers_by_env_steps_and_by_seconds_are_pointed_out():
    comparison = study_of("async wins")
    (contrast,) = comparison.contrasts
    opposed = replace(contrast, sooner=Interval(0.9, 0.7, 0.97), seconds_ratio=inverse(contrast.seconds_ratio))
    both = replace(comparison, contrasts=(opposed,))
    assert "go opposite ways: async needs fewer env steps, and sync is there sooner" in " ".join(findings(both))


def test_arms_that_never_arrive_are_not_compared():
    assert "Neither async nor sync ever reached 475" in told("all censored")
    assert "None of the 10 runs of async reached 475 within 20,000 env steps" in told("all censored")
    assert "Median" not in told("all censored")


def test_censored_runs_are_counted_and_kept():
    unsolved = study_of("one half censored").arms[1].env_steps.censored
    assert 0 < unsolved < 10
    assert f"{unsolved} of 10 runs of sync never reached 475 within 20,000 env steps; they" in told("one half censored")
    assert "as infinitely long, not left out" in told("one half censored")


def test_three_seeds_decide_nothing_however_they_fall():
    assert "The data do not tell whether async or sync" in told("three seeds")
    assert "With only 3 runs in an arm the intervals are wide" in told("three seeds")
    assert "3 runs against 3 cannot tell two arms apart" in told("three seeds")
    assert verdict(Interval(1.0, 0.6, 1.0), 3, 3) == 0
    assert verdict(Interval(1.0, 0.6, 1.0), 4, 4) == 1


def test_more_than_two_arms_are_told_to_be_uncorrected():
    assert "not corrected for looking at 2 contrasts" in told("no difference")
    assert "not corrected" not in told("async wins")


def test_without_a_target_nothing_is_said_of_solving():
    assert "best evaluation" in told("no target")
    assert not re.search(r"475|solved|beats|reached 4", told("no target"))


def test_races_are_told_of_asynchronous_arms_alone():
    assert "async: a gradient was on average 1.8 updates old when it was applied (95 % at most 3, none above 3)" in (
        told("async wins")
    )
    assert "0.02 % of all element updates were overwritten" in told("async wins")
    assert "sync: a gradient" not in told("async wins").replace("async: a gradient", "")


def test_workers_are_told_as_a_speed_up_beside_the_ideal():
    assert re.search(
        r"4 workers against 1 worker: a speed-up of [\d.]+ \(.*\) in the median seconds .* where 4", told("workers")
    )


def test_limits_name_the_machine_and_whom_the_settings_favour():
    limited = text_of(render_page(study_of("async wins"), [], {}))
    assert "one machine with 2 cores" in limited
    assert "may favour async" in limited
    assert "took turns" not in limited
    assert "may favour async" not in text_of(render_page(study_of("tuned"), [], {}))
    assert "Up to 4 workers, and the monitor beside them, took turns on 2 cores" in text_of(
        render_page(study_of("workers"), [], {})
    )


def test_a_study_without_runs_says_so():
    assert findings(study_of("no runs")) == ["No run has finished yet: there is nothing to tell."]


def test_numbers_in_words():
    words = [number(value) for value in (math.inf, math.nan, 0.0, 8012.4, 0.4567)]
    assert words == ["not within the budget", "–", "0", "8,012", "0.457"]  # noqa: RUF001


def test_intervals_in_words():
    assert estimate(Interval(8000.0, 6900.0, math.inf)) == "8,000 (6,900 or more)"
    assert estimate(Interval(math.inf, math.inf, math.inf)) == "not within the budget"
    assert estimate(Interval(8000.0, math.nan, math.nan)) == "8,000"
    assert times(Interval(math.inf, 1.8, math.inf)) == "at least 1.8 times"
    assert times(inverse(Interval(0.5, 0.25, 1.0))) == "2.0 times (1.0 to 4.0)"
    assert (percent(0.0), percent(1e-6), percent(0.0002), percent(0.021)) == (
        "0 %",
        "less than 0.001 %",
        "0.02 %",
        "2.1 %",
    )


def text_of(page):
    return " ".join(Page(page).text.split())


def assert_well_formed(page):
    """Every tag is closed in order, nothing comes from outside, and every column and row has its heading."""
    parsed = Page(page)
    assert parsed.open == []
    assert "script" not in parsed.tags and "link" not in parsed.tags and "url(" not in page
    addresses = [value for _, attribute, value in parsed.attributes if attribute in ("src", "href", "srcset")]
    assert all(address.startswith("data:") for address in addresses)
    assert ("html", "lang", "en") in parsed.attributes and parsed.tags.count("title") == parsed.tags.count("h1") == 1
    assert parsed.tags.count("th") == sum(attribute == "scope" for _, attribute, _ in parsed.attributes)


def test_every_page_is_well_formed_holds_every_finding_and_no_number_that_is_none():
    for name in STUDIES:
        comparison = study_of(name)
        page = render_page(comparison, [], {"sync": math.nan})
        assert_well_formed(page)
        text = text_of(page)
        assert [sentence for sentence in findings(comparison) if " ".join(sentence.split()) not in text] == []
        assert all(heading in text for heading in ("What the data do not show", "Method", "Setting", "Every run"))
        assert not re.search(r"\b(inf|Inf|nan|NaN|infinity|None)\b(?! of the)", text), name


def test_the_page_has_every_figure_of_the_tables_and_every_run():
    comparison = study_of("one half censored")
    text = text_of(render_page(comparison, [], {"sync": 0.04}))
    for table in tables(comparison):
        for row in table.rows.values():
            cells = [column.cell(comparison, row) for column in table.columns]
            assert [cell.text for cell in cells if cell.text not in text] == []
    assert "0.040" in text and "Kaplan-Meier" in text and "learning_rate 0.01" in text
    assert all(run.path in text for run in comparison.runs)


def test_names_from_outside_are_escaped():
    page = render_page(study_of("hostile"), [], {HOSTILE: 0.5})
    assert HOSTILE not in page and str(escape(HOSTILE)) in page
    assert "script" not in Page(page).tags


def test_fewer_than_five_runs_are_told_to_have_no_95_percent_interval():
    assert "a median of 3 runs holds it at most 75 times in 100" in told("three seeds")
    assert "times in 100" not in told("async wins")


@pytest.fixture(scope="module", name="figures")
def _figures():
    """Drawn where matplotlib and scipy are installed."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    from workers.comparison import figures

    return figures


@pytest.mark.parametrize("name", ["hostile", "workers", "one half censored"])
def test_every_figure_is_a_png_and_an_svg_whose_text_is_text(figures, name, tmp_path):
    paths = figures.save_figures(study_of(name), tmp_path / "figures")
    assert [path.stem for path in paths[::2]] == [
        "learning_curves",
        "time_to_target",
        "solved_share",
        "throughput",
        "staleness",
        "advantage",
    ]
    for svg, png in zip(paths[::2], paths[1::2], strict=True):
        assert png.read_bytes().startswith(b"\x89PNG") and png.stat().st_size > 10_000
        root = ElementTree.parse(svg).getroot()
        assert root.tag.endswith("svg") and any(element.tag.endswith("text") for element in root.iter())


def test_runs_that_were_logged_have_their_advantages_drawn_over_training(figures, tmp_path):
    drawn = {path.stem for path in figures.save_figures(entropy_study(0.5, 1.0), tmp_path)}
    assert "advantage_curves" in drawn


@pytest.mark.parametrize(
    ("name", "missing"), [("all censored", {"solved_share"}), ("no target", {"solved_share", "time_to_target"})]
)
def test_figures_without_data_are_left_out(figures, name, missing, tmp_path):
    drawn = {path.stem for path in figures.save_figures(study_of(name), tmp_path)}
    assert not drawn & missing and "learning_curves" in drawn


def test_the_same_runs_give_the_same_svg(figures, tmp_path):
    first, second = (figures.save_figures(study_of("one half censored"), tmp_path / name) for name in ("a", "b"))
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_page_embeds_every_svg_with_a_caption_and_words_for_who_cannot_see_it(figures, tmp_path):
    comparison = study_of("async wins")
    paths = figures.save_figures(comparison, tmp_path)
    page = Page(render_page(comparison, paths, figures.log_rank(comparison)))
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert [base64.b64decode(source.split(",")[1]) for source in sources] == [path.read_bytes() for path in paths[::2]]
    assert page.tags.count("figcaption") == page.tags.count("figure") == len(paths) // 2
    assert all(value for tag, name, value in page.attributes if (tag, name) == ("img", "alt"))


def test_log_rank_tells_a_large_difference_and_leaves_out_what_it_cannot_tell(figures):
    assert figures.log_rank(study_of("async wins"))["sync"] < 0.001
    assert figures.log_rank(study_of("no difference"))["locked"] > 0.05
    assert figures.log_rank(study_of("all censored")) == {}
    assert figures.log_rank(study_of("no target")) == {}
