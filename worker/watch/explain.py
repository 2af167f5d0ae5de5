"""Why a series becomes a job or does not: what the watch finds out about it, criterion by criterion, level by level."""

from dataclasses import asdict, dataclass
from typing import Any

from connectors.one_series import study_of
from models.domain.errors import JobNotFound, RequestError
from models.domain.job import JobState
from models.domain.slide import SlideRef
from worker.ledger.arrival_records import Arrival, ArrivalState
from worker.watch.look import Look, Outcome, Seen
from worker.watch.rules import rules_of
from worker.wiring import Installation


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the watch makes of a series; what was found in it may be about the patient: for a screen, not a log.

    Parameters
    ----------
    seen : Seen
    outcome : Outcome
        What would be done now.
    arrival : Arrival or None
        What the ledger knows of it; None if it never came.
    job_state : JobState or None
        Of its job; None if it has none.
    """

    seen: Seen
    outcome: Outcome
    arrival: Arrival | None
    job_state: JobState | None

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts, without UIDs."""
        seen, decision, job = self.seen, self.outcome.decision, self.outcome.job
        return {
            "endpoint": seen.traits.endpoint,
            "would_be": str(decision.state),
            "code": decision.code,
            "why": self.outcome.why,
            "rule": decision.rule,
            "job": None if job is None else {"encoder": job.encoder, "patches": job.patches, "lane": str(job.lane)},
            "instances": seen.instances,
            "traits": asdict(seen.traits),
            "rules": [
                {"rule": name, "holds": all(check.holds for check in checks), "checks": [asdict(one) for one in checks]}
                for name, checks in seen.verdict.checked
            ],
            "whole": seen.completeness.whole if seen.completeness is not None else None,
            "missing": list(seen.completeness.missing) if seen.completeness is not None else [],
            "levels": self._levels(),
            "refusal": str(seen.refusal.code) if seen.refusal is not None else "",
            "arrival": self._arrival(),
        }

    def _levels(self) -> list[dict[str, Any]]:
        found = self.seen.completeness
        if found is None or found.slide is None:
            return []
        return [
            {
                "width_px": level.width_px,
                "height_px": level.height_px,
                "spacing_um": level.spacing_um,
                "instances": len(level.instances),
                "lacks": lack,
            }
            for level, lack in zip(found.slide.levels, found.lacks, strict=True)
        ]

    def _arrival(self) -> dict[str, Any] | None:
        arrival = self.arrival
        if arrival is None:
            return None
        return {
            "serial": arrival.serial,
            "state": str(arrival.state),
            "code": arrival.code,
            "rule": arrival.rule,
            "tries": arrival.tries,
            "due_s": round(arrival.due_at - arrival.now, 3),
            "late": arrival.late,
            "job": arrival.job_id,
            "job_state": str(self.job_state) if self.job_state is not None else "",
        }


def explain(installation: Installation, endpoint: str, series: str) -> Explanation:
    """Do all that the watch would do for a series, and write nothing.

    Parameters
    ----------
    installation : Installation
    endpoint : str
        Name of the archive that is watched.
    series : str
        ENDPOINT/STUDY_UID/SERIES_UID, STUDY_UID/SERIES_UID, the URL of a series, or its UID alone.

    Raises
    ------
    SettingsInvalid
        A watch of that endpoint would not start.
    RequestError
        That names no series of that endpoint.
    SeriesNotFound, EndpointError
        The archive does not give it.
    """
    rules = rules_of(installation.settings, endpoint)
    study_uid, series_uid = _uids(installation, endpoint, series)
    arrival = installation.ledger.arrivals.of_series(endpoint, study_uid, series_uid)
    looked_at = arrival or _newcomer(installation, endpoint, study_uid, series_uid)
    look = Look(installation, rules)
    seen = look.see(looked_at, fully=True)
    return Explanation(seen, look.outcome(looked_at, seen), arrival, _job_state(installation, arrival))


def _uids(installation: Installation, endpoint: str, series: str) -> tuple[str, str]:
    endpoints = installation.endpoints
    if "/" not in series:
        archive = endpoints.of_ref(SlideRef("dicomweb", endpoints.named(endpoint).url, endpoint))
        return study_of(archive, series), series
    ref = endpoints.locate(f"{endpoint}/{series}" if series.count("/") == 1 else series)
    if ref.endpoint != endpoint or ref.kind != "dicomweb":
        raise RequestError(f"That is no series of the endpoint {endpoint!r}: name the endpoint that it is at.")
    return ref.study_uid, ref.series_uid


def _newcomer(installation: Installation, endpoint: str, study_uid: str, series_uid: str) -> Arrival:
    """Return a series that has just come, as the ledger would have it."""
    deadline_s = installation.settings.watch.patience.deadline_s
    return Arrival(
        serial=0,
        endpoint=endpoint,
        study_uid=study_uid,
        series_uid=series_uid,
        calling_aet="",
        state=ArrivalState.SETTLING,
        code="",
        rule="",
        job_id="",
        set_sha256="",
        instances=0,
        version=1,
        tries=0,
        first_at=0.0,
        changed_at=0.0,
        due_at=0.0,
        deadline_at=deadline_s,
        now=0.0,
    )


def _job_state(installation: Installation, arrival: Arrival | None) -> JobState | None:
    if arrival is None or not arrival.job_id:
        return None
    try:
        return installation.ledger.jobs.get(arrival.job_id).state
    except JobNotFound:
        return None
