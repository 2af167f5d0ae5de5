"""How a backfill is watched: a bar on a terminal, a line every half minute in a pipe, nothing for scripts."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.cli.reply import print_notice

if TYPE_CHECKING:
    from worker.ledger.backfills import Backfills, Tally

Watch = Callable[[str], None]
_BAR_S, _LINE_S = 1.0, 30.0


class Pulse:
    """Rates since the start of a run, and the time that is left at them.

    Parameters
    ----------
    first : Tally
        How it stood then.
    """

    def __init__(self, first: "Tally") -> None:
        self._first = first
        self._since = time.monotonic()

    def line(self, tally: "Tally") -> str:
        """Return how it stands in words: patches a second, failures by code, time left."""
        passed_s = max(1e-3, time.monotonic() - self._since)
        patches_s = max(0, tally.patches - self._first.patches) / passed_s
        said = [f"{patches_s:.0f} patches/s"]
        said += [f"{number} {code}" for code, number in tally.failed.items()]
        if tally.skipped:
            said.append(f"{sum(tally.skipped.values())} skipped")
        ended = tally.ended - self._first.ended
        if ended > 0 and tally.ended < tally.found:
            said.append(f"{_span((tally.found - tally.ended) * passed_s / ended)} left")
        return ", ".join(said)


@contextmanager
def watching(backfills: "Backfills", *, quiet: bool) -> Iterator[Watch]:
    """Show on standard error how a backfill gets on.

    Yields
    ------
    callable
        To be called with its id, often; it looks into the ledger once a second, or every half minute.
    """
    if quiet:
        yield lambda _: None
    elif not sys.stderr.isatty():
        yield _Seldom(_LINE_S, backfills, _print_line)
    else:
        with _bar() as show:
            yield _Seldom(_BAR_S, backfills, show)


class _Seldom:
    """Looks into the ledger now and then, and shows what is there."""

    def __init__(self, every_s: float, backfills: "Backfills", show: Callable[["Tally", str], None]) -> None:
        self._every_s, self._backfills, self._show = every_s, backfills, show
        self._next = time.monotonic()
        self._pulse: Pulse | None = None

    def __call__(self, backfill_id: str) -> None:
        if time.monotonic() < self._next:
            return
        tally = self._backfills.tally(backfill_id)
        self._pulse = self._pulse or Pulse(tally)
        self._show(tally, self._pulse.line(tally))
        self._next = time.monotonic() + self._every_s


def _print_line(tally: "Tally", line: str) -> None:
    print_notice(f"{tally.ended} of {tally.found} slides, {line}")


@contextmanager
def _bar() -> Iterator[Callable[["Tally", str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("slides"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[line]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("slides", total=None, line="")
        yield lambda tally, line: progress.update(task, completed=tally.ended, total=tally.found, line=line)


def _span(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else "less than a minute"
