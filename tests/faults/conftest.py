"""What the fault tests share: a record of each fault, from which docs/reliability.md is made."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from tests.faults.fleet import forked
from tests.services.command import Slidewire
from tests.services.warm import WarmProcess

RECORDS = Path(__file__).parents[2] / ".faults" / "records.jsonl"


@dataclass
class Fault:
    """What a test injected and what came of it; written down when the test has passed.

    Parameters
    ----------
    test : str
        Name of the test.
    number : int
        Of the fault in the plan (docs/reliability.md); 0 until the test says so.
    what, how : str
        The fault, and how it was injected.
    times : int
        How often.
    outcome : str
        What became of the jobs that were hit: "same bytes", or the state and code they end with.
    recovery_s : float or None
        From the fault to the work going on, or to the end of the job.
    """

    test: str
    number: int = 0
    what: str = ""
    how: str = ""
    times: int = 0
    outcome: str = "same bytes"
    recovery_s: float | None = None
    _since: float = field(default=0.0, repr=False)

    def is_number(self, number: int, what: str, how: str) -> None:
        """Say which fault of the plan this is."""
        self.number, self.what, self.how = number, what, how

    def strikes(self) -> None:
        """Note that the fault has just been injected."""
        self.times += 1
        self._since = time.monotonic()

    def is_over(self) -> None:
        """Note that the system has recovered; the longest recovery is kept."""
        self.recovery_s = max(self.recovery_s or 0.0, time.monotonic() - self._since)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """Give the record of a fault; it must be filled in."""
    record = Fault(request.node.name)
    failed = request.session.testsfailed
    yield record
    if request.session.testsfailed == failed:
        assert record.number, "the test did not say which fault it injects"
        assert record.times, "the fault was never injected"
        RECORDS.parent.mkdir(exist_ok=True)
        line = {name: value for name, value in asdict(record).items() if not name.startswith("_")}
        with RECORDS.open("a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture(scope="session")
def processes() -> Iterator[list[WarmProcess]]:
    """Keep two processes from which workers are forked that are killed, stopped and started again."""
    with forked(2) as both:
        yield both


@pytest.fixture
def on_postgresql(slidewire: Slidewire, postgresql_url: str) -> Slidewire:
    """Give the slidewire command with its ledger in a PostgreSQL."""
    slidewire.environment["SLIDEWIRE_LEDGER_URL"] = postgresql_url
    return slidewire


@pytest.fixture(params=["sqlite", "postgresql"])
def on_either(request: pytest.FixtureRequest, slidewire: Slidewire) -> Slidewire:
    """Give the slidewire command once with its ledger in a file, once in a PostgreSQL."""
    if request.param == "sqlite":
        return slidewire
    found: Slidewire = request.getfixturevalue("on_postgresql")
    return found
