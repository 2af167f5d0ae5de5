"""An archive that is watched: a real Orthanc, the slidewire command with rules for it, and what came of slides."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.services.command import Running, Slidewire
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk

_SETTINGS = """\
[endpoints.pacs]
url = "{dicomweb}"
{events}

[watch]
quiet_s = {quiet_s}
deadline_h = {deadline_h}
events_s = {events_s}
reconcile_s = {reconcile_s}
reconcile_days = 0

{rules}
"""
RULE = """\
[[rules]]
name = "all"
encoder = "pixel-grid"
write_back = true
[rules.patches]
all_patches = true
"""


@dataclass
class Watched:
    """The command beside an archive.

    Parameters
    ----------
    slidewire : Slidewire
    orthanc : Orthanc
    """

    slidewire: Slidewire
    orthanc: Orthanc

    def configure(
        self,
        rules: str = RULE,
        *,
        quiet_s: float = 1.0,
        deadline_h: float = 24.0,
        reconcile_s: float = 3600.0,
        events: str | None = None,
        events_s: float = 0.1,
    ) -> None:
        """Write the settings; `events` is where Orthanc's own API is asked, "" for nowhere."""
        url = self.orthanc.url if events is None else events
        line = f'orthanc_url = "{url}"' if url else ""
        text = _SETTINGS.format(
            dicomweb=self.orthanc.dicomweb, events=line, quiet_s=quiet_s, deadline_h=deadline_h,
            reconcile_s=reconcile_s, events_s=events_s, rules=rules,
        )  # fmt: skip
        (self.slidewire.folder / "slidewire.toml").write_text(text)

    def watch(self, *armed: str) -> Running:
        """Start the watch; wait until it reads events, unless it is armed."""
        running = self.slidewire.start("watch", "pacs", armed=armed)
        if not armed:
            wait_until(lambda: "watching" in running.log or running.process.poll() is not None, "the watch to start")
            assert running.process.poll() is None, running.log
        return running

    def worker(self, *armed: str) -> Running:
        """Start a worker."""
        return self.slidewire.start("worker", armed=armed)

    def send(self, slide: SlideOnDisk, levels: Iterable[int] | None = None) -> SlideInPacs:
        """Store levels of a slide, all of them if none are named."""
        for number, level in enumerate(slide.levels):
            if levels is None or number in set(levels):
                self.orthanc.load(level)
        return SlideInPacs(self.orthanc, slide)

    def arrival(self, slide: SlideOnDisk) -> dict[str, Any]:
        """Return what the ledger has of a slide's series; empty if nothing."""
        names = ("state", "code", "rule", "job_id", "version", "tries", "instances", "calling_aet", "due_at")
        query = f"SELECT {', '.join(names)} FROM arrival WHERE series_uid = '{slide.series_uid}'"
        rows = self.slidewire.rows(query)
        return dict(zip(names, rows[0], strict=True)) if rows else {}

    def becomes(self, slide: SlideOnDisk, state: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a slide's series is in a state; return what the ledger has of it."""
        wait_until(lambda: self.arrival(slide).get("state") == state, f"the series to be {state}", timeout_s)
        return self.arrival(slide)

    def jobs(self) -> list[tuple[str, str]]:
        """Return id and state of every job, oldest first."""
        return [(row[0], row[1]) for row in self.slidewire.rows("SELECT id, state FROM job ORDER BY serial")]

    def embedded(self, slide: SlideOnDisk, times: int = 1, timeout_s: float = 120.0) -> list[str]:
        """Wait until a slide has been annotated so often; return the UIDs of the series of annotations."""
        there = SlideInPacs(self.orthanc, slide)
        wait_until(lambda: len(there.found("ANN")) >= times, "the annotations", timeout_s)
        found = there.found("ANN")
        assert len(found) == times
        return found


def watched(slidewire: Slidewire, orthanc: Orthanc, **settings: Any) -> Watched:
    """Return the command with settings for an Orthanc."""
    found = Watched(slidewire, orthanc)
    found.configure(**settings)
    return found
