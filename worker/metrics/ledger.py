"""What the ledger knows, in numbers for Prometheus: asked for when somebody looks, and not more than every ten seconds.

A ledger that does not answer, or not soon, makes a scrape that says so: the scrape itself succeeds.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, Self

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connectors.endpoints import name_of
from models.domain.errors import LedgerError
from models.domain.job import JobState, Lane
from worker.ledger import Ledger
from worker.ledger.arrival_records import ArrivalState
from worker.ledger.census import Figures
from worker.settings import Settings

_FRESH_S: Final = 10.0
_PATIENCE_S: Final = 5.0  # half of what Prometheus itself waits for an answer


class LedgerMetrics(Collector):
    """Numbers of one ledger; safe to use from several threads.

    Parameters
    ----------
    ledger : Ledger
    endpoints : mapping of str to bool
        The configured ones: whether there is an event log to be followed. Of others no watch is told.
    webhook : bool
        Whether anybody is told of notices; else they are none.
    fresh_s : float
        For so long a census is told again.
    """

    def __init__(
        self, ledger: Ledger, endpoints: Mapping[str, bool], *, webhook: bool = False, fresh_s: float = _FRESH_S
    ) -> None:
        self._ledger, self._endpoints, self._webhook, self._fresh_s = ledger, dict(endpoints), webhook, fresh_s
        self._condition = threading.Condition()
        self._asking = False
        self._figures: Figures | None = None
        self._taken_at = float("-inf")

    def registry(self) -> CollectorRegistry:
        """Return a registry of these numbers alone."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that to register this asks no ledger."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers, or only that there are none."""
        figures = self._current()
        yield _gauge("ledger_up", "Whether the ledger answers.", float(figures is not None))
        if figures is None:
            return
        yield from _queue(figures)
        yield CounterMetricFamily(
            "slidewire_lease_expiries", "Leases that ran out since this process began to count.", value=figures.expiries
        )
        yield from _jobs(figures)
        yield _endpoints(figures)
        yield from _intake(figures, self._endpoints.keys())
        yield from self._watches(figures)
        if self._webhook:
            yield _gauge("notices_due", "Notices of the webhook that are to be sent.", figures.notices)

    @classmethod
    def of(cls, ledger: Ledger, settings: Settings) -> Self:
        """Return the numbers of a ledger as the settings want them told."""
        return cls(ledger, settings.followed, webhook=settings.webhook is not None)

    def _current(self) -> Figures | None:
        """Return the last census if it is fresh, else a new one; None if none comes soon."""
        with self._condition:
            if time.monotonic() - self._taken_at < self._fresh_s:
                return self._figures
            if not self._asking:
                self._asking = True
                threading.Thread(target=self._ask, name="census", daemon=True).start()
            answered = self._condition.wait_for(lambda: not self._asking, _PATIENCE_S)
            return self._figures if answered else None

    def _ask(self) -> None:
        figures: Figures | None = None
        try:
            figures = self._ledger.census.take()
        except LedgerError:
            pass  # ledger_up says it
        finally:
            with self._condition:
                self._figures, self._taken_at, self._asking = figures, time.monotonic(), False
                self._condition.notify_all()

    def _watches(self, figures: Figures) -> Iterator[Metric]:
        behind = _gauge("watch_behind_seconds", "Seconds since the event log was read.", labels="endpoint")
        reconciled = _gauge("reconciled_age_seconds", "Seconds since a reconciliation ended.", labels="endpoint")
        for watch in figures.watches:
            if watch.endpoint not in self._endpoints:
                continue  # nobody is meant to watch it any more
            if self._endpoints[watch.endpoint]:
                behind.add_metric([watch.endpoint], max(0.0, _since(watch.read_s, watch.watched_s)))
            reconciled.add_metric([watch.endpoint], max(0.0, _since(watch.reconciled_s, watch.watched_s)))
        yield behind
        yield reconciled


def _since(last_s: float | None, watched_s: float) -> float:
    return watched_s if last_s is None else last_s


def _gauge(name: str, text: str, value: float | None = None, *, labels: str = "") -> GaugeMetricFamily:
    named = labels.split() if labels else None
    return GaugeMetricFamily(f"slidewire_{name}", text, value=value, labels=named)


def _queue(figures: Figures) -> Iterator[Metric]:
    age = _gauge("queue_age_seconds", "Since the longest waiting shard that may be claimed became due.", labels="lane")
    for lane in Lane:
        age.add_metric([lane], max((one.oldest_s for one in figures.waiting if one.lane is lane), default=0.0))
    yield age
    due = _gauge("due_shards", "Shards that may be claimed, up to 10,000 an endpoint.", labels="lane encoder")
    for one in figures.waiting:
        due.add_metric([one.lane, one.encoder], one.due)
    yield due
    leased = _gauge("leased_shards", "Shards that are worked on.", labels="encoder")
    for encoder in sorted({*figures.leased, *(one.encoder for one in figures.waiting)}):
        leased.add_metric([encoder], figures.leased.get(encoder, 0))
    yield leased
    yield _gauge(
        "oldest_unclaimed_shard_seconds",
        "Since the submission of the oldest job of which a shard waits, whatever for.",
        figures.oldest_unclaimed_s,
    )


def _jobs(figures: Figures) -> Iterator[Metric]:
    jobs = _gauge("jobs", "Jobs by state.", labels="state")
    for state, count in figures.jobs.items():
        jobs.add_metric([state], count)
    yield jobs
    quarantined = figures.jobs.get(JobState.QUARANTINED, 0)
    yield _gauge("quarantined_jobs", "Jobs that brought down three workers.", quarantined)


def _endpoints(figures: Figures) -> Metric:
    """Return which servers are left alone; those without a name are counted together."""
    counts: dict[str, int] = {}
    for key, is_open in figures.open_endpoints.items():
        name = name_of(key)
        counts[name] = counts.get(name, 0) + is_open
    family = _gauge(
        "endpoint_open", "Whether a server is left alone; of those without a name, how many.", labels="endpoint"
    )
    for name, count in sorted(counts.items()):
        family.add_metric([name], count)
    return family


def _intake(figures: Figures, configured: AbstractSet[str]) -> Iterator[Metric]:
    watched = {watch.endpoint for watch in figures.watches} & configured
    arrivals = _gauge("arrivals", "Series that came into watched archives.", labels="endpoint state")
    overdue = _gauge("overdue_slides", "Slides that are not whole after their deadline.", labels="endpoint")
    for name in sorted(watched):
        for state in ArrivalState:
            arrivals.add_metric([name, state], figures.arrivals.get((name, state), 0))
        overdue.add_metric([name], figures.arrivals.get((name, ArrivalState.OVERDUE), 0))
    yield arrivals
    yield overdue
