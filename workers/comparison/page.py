"""A study as one HTML page that needs nothing else: the values of report.html.j2; needs jinja2 (the extra `report`)."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from workers.comparison.findings import findings
from workers.comparison.results import Comparison
from workers.comparison.stored_runs import diverged
from workers.comparison.tables import tables
from workers.comparison.text import UNKNOWN, number, plural, subject, target_of


def render_page(comparison: Comparison, figures: Sequence[Path], p_values: Mapping[str, float]) -> str:
    """The report of a study.

    Args:
        figures: files of `workers.comparison.figures.save_figures`; of these the SVGs are embedded, in this order.
        p_values: of the log-rank tests against the first arm, by the other arm's name.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals |= {"number": number, "plural": plural, "subject": subject, "target_of": target_of}
    environment.globals |= {"plain": _plain, "diverged": diverged, "unknown": UNKNOWN}
    drawn = [path for path in figures if path.suffix == ".svg"]
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        findings=findings(comparison),
        tables=tables(comparison, p_values),
        figures=[(path.stem, base64.b64encode(path.read_bytes()).decode()) for path in drawn],
        setting={
            **comparison.factors,
            "seeds": comparison.seeds,
            "budget of a run": f"{comparison.max_env_steps:,} env steps",
            **comparison.machine,
        },
        machines=len({(version.facts.get("platform"), version.facts.get("cpus")) for version in comparison.versions}),
        versions={path: version.name for version in comparison.versions for path in version.runs},
    )


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(map(_plain, value))
    return UNKNOWN if value is None or value != value else str(value)
