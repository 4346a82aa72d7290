"""How a run is shown: live in a terminal, in plain lines everywhere else."""

import sys
from collections.abc import Sequence

from workers.console.text import PlainView


def run_view(dashboard: str, options: Sequence[str] = ()) -> PlainView:
    """The view of a run: `auto` draws live where the output is a terminal, `on` and `off` force it.

    Args:
        options: the run's, where they are not the defaults, as arguments of the command line.
    """
    if dashboard != "on" and not (sys.stdout and sys.stdout.isatty()):
        return PlainView(sys.stdout, options)
    from workers.console.screen import Dashboard, console_for

    return Dashboard(*console_for(dashboard), options)
