"""The look at a series that has been quiet for a while: which rule holds, whether it is whole, and what follows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from connectors.dicom.attributes import integer
from connectors.dicom.completeness import Completeness, completeness_of, set_digest
from connectors.dicom.traits import ASKED_OF_SEARCH, traits_of
from connectors.one_series import RELATED_INSTANCES, OneSeries
from models.domain.errors import (
    EndpointError,
    EndpointFailed,
    LedgerError,
    NotASlide,
    ResponseInvalid,
    SeriesNotFound,
    SlideIncomplete,
    SlidewireError,
    SourceError,
    SpacingTooFine,
)
from models.domain.rule import Rule, Traits, Verdict, judge, prejudge
from worker.ledger import NewJob
from worker.ledger.arrival_records import Arrival, ArrivalState, Decision
from worker.ledger.backoff import delay_s
from worker.stages.plan import check_spacing
from worker.submission import Ways, prepare
from worker.wiring import Installation

MOST_WAIT_S: Final = 900.0
"""The longest that a slide which is not whole waits for another look; what comes to it meanwhile is an event."""

_MOST_AWAY_S = 60.0  # while the archive does not answer; the breaker sees to it that it is left alone
_NO_SLIDE = (NotASlide, SeriesNotFound)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out about a series.

    Parameters
    ----------
    traits : Traits
    verdict : Verdict
    instances : int
        That the series has; 0 if that is not known.
    completeness : Completeness or None
        None if no rule asks for it, or if there is a refusal.
    refusal : SourceError or None
        Why the series cannot be read as a slide, whatever may still come.
    """

    traits: Traits
    verdict: Verdict
    instances: int
    completeness: Completeness | None = None
    refusal: SourceError | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to become of a series.

    Parameters
    ----------
    decision : Decision
    job : NewJob or None
        To be queued together with it.
    why : str
        In a sentence, without identifying data.
    """

    decision: Decision
    job: NewJob | None = None
    why: str = ""


class Look:
    """Looks at series; for several threads at a time. Writes nothing.

    Parameters
    ----------
    installation : Installation
    rules : sequence of Rule
        As `worker.watch.rules.rules_of` gives them.
    """

    def __init__(self, installation: Installation, rules: Sequence[Rule]) -> None:
        self._installation, self._rules = installation, tuple(rules)
        self._quiet_s = installation.settings.watch.quiet_s

    def look(self, arrival: Arrival) -> Outcome:
        """Say what is to become of a series.

        Raises
        ------
        LedgerError
            The ledger does not answer, which knows whether the archive may be asked: nothing was found out.
        """
        try:
            seen = self.see(arrival)
        except LedgerError:
            raise
        except SlidewireError as exc:
            outcome = self._refused(arrival, exc)
            return replace(outcome, decision=replace(outcome.decision, rule=arrival.rule))
        return self.outcome(arrival, seen)

    def see(self, arrival: Arrival, *, fully: bool = False) -> Seen:
        """Find out about a series: what a search says, and if that leaves a rule possible, or `fully`, its metadata.

        Raises
        ------
        SeriesNotFound, EndpointError
        """
        ref = self._installation.endpoints.locate(_source(arrival))
        series = OneSeries(self._installation.endpoints.of_ref(ref), ref.study_uid, ref.series_uid)
        found = series.found(ASKED_OF_SEARCH)
        instances = max(0, integer(found, RELATED_INSTANCES))
        traits = traits_of(arrival.endpoint, [found], arrival.calling_aet)
        if traits.modality and not fully and (verdict := prejudge(self._rules, traits)) is not None:
            return Seen(traits, verdict, instances)
        metadata = _given(series, found=bool(found))
        traits = traits_of(arrival.endpoint, metadata, arrival.calling_aet)
        verdict = judge(self._rules, traits)
        seen = Seen(traits, verdict, instances or len(metadata))
        if verdict.passed_over is not None and not fully:
            return seen
        try:
            return replace(seen, completeness=completeness_of(metadata))
        except SourceError as exc:
            return replace(seen, refusal=exc)

    def outcome(self, arrival: Arrival, seen: Seen) -> Outcome:
        """Say what is to become of a series of which that has been found out.

        Raises
        ------
        LedgerError
        """
        rule = seen.verdict.rule.name if seen.verdict.rule is not None else ""
        try:
            outcome = self._decide(arrival, seen)
        except LedgerError:
            raise
        except SlidewireError as exc:
            outcome = self._refused(arrival, exc)
        return replace(outcome, decision=replace(outcome.decision, rule=rule, instances=seen.instances))

    def _decide(self, arrival: Arrival, seen: Seen) -> Outcome:
        rule, completeness = seen.verdict.rule, seen.completeness
        if seen.verdict.passed_over is not None:
            return Outcome(Decision(ArrivalState.PASSED_OVER, str(seen.verdict.passed_over)))
        if seen.refusal is not None:
            raise seen.refusal
        assert rule is not None
        assert completeness is not None
        if completeness.slide is None and arrival.late:
            raise NotASlide("There is no level of a pyramid in the series, and none came in time.")
        if not completeness.whole:
            raise SlideIncomplete(f"The slide is not whole: {'; '.join(completeness.missing)}.")
        submitted = Decision(ArrivalState.SUBMITTED, set_sha256=completeness.set_sha256)
        if arrival.job_id and arrival.set_sha256 == completeness.set_sha256:
            return Outcome(submitted, why="These instances have been submitted before.")
        job = self._job(arrival, rule, completeness)
        if job is None:
            again = Decision(ArrivalState.SETTLING, again_s=self._quiet_s)
            return Outcome(again, why="Something came while it was looked at.")
        return Outcome(submitted, job)

    def _job(self, arrival: Arrival, rule: Rule, completeness: Completeness) -> NewJob | None:
        """Return the job of a slide; None if it is another one now than the one that was found whole."""
        assert rule.request is not None
        assert completeness.slide is not None
        installation = self._installation
        check_spacing(completeness.slide, rule.request.patches)  # before its pixels are looked at
        request = replace(rule.request, source=_source(arrival))
        prepared = prepare(request, installation.endpoints, Ways.of(installation.settings))
        if set_digest(prepared.plan.slide) != completeness.set_sha256:
            return None
        endpoint = installation.endpoints.key_of(prepared.ref)
        return prepared.job(installation.settings.shard_patches, rule.lane, endpoint)

    def _refused(self, arrival: Arrival, error: SlidewireError) -> Outcome:
        """Say what follows from an error: what may pass is waited for; the slide's own, and the rule's, are told."""
        code = str(error.code)
        if isinstance(error, _NO_SLIDE):
            return Outcome(Decision(ArrivalState.PASSED_OVER, code), why=error.message)
        if isinstance(error, SlideIncomplete | SpacingTooFine):
            again_s = _left_s(arrival)
            # Where a finer level lacks there is nothing to look at until it comes, and that is an event.
            if isinstance(error, SlideIncomplete):
                again_s = min(self._quiet_s * 2.0 ** min(arrival.tries, 32), MOST_WAIT_S, again_s)
            waits = Decision(ArrivalState.INCOMPLETE, code, again_s=again_s)
            return Outcome(Decision(ArrivalState.OVERDUE, code) if arrival.late else waits, why=error.message)
        invalid = isinstance(error, ResponseInvalid) and arrival.late
        if error.retryable or (isinstance(error, EndpointError) and not invalid):
            again_s = max(min(delay_s(arrival.tries + 1, None), _MOST_AWAY_S), error.retry_after_s or 0.0)
            waits = Decision(ArrivalState.SETTLING, code, again_s=min(again_s, MOST_WAIT_S))
            return Outcome(waits, why=error.message)
        return Outcome(Decision(ArrivalState.FAILED, code), why=error.message)


def _given(series: OneSeries, *, found: bool) -> list[Any]:
    """Return the metadata of a series; of one that was just found, that it is not there is no answer."""
    try:
        return series.metadata()
    except SeriesNotFound as exc:
        if not found:
            raise
        raise EndpointFailed(
            "The archive finds the series, and does not give its metadata: look into its log."
        ) from exc


def _source(arrival: Arrival) -> str:
    return f"{arrival.endpoint}/{arrival.study_uid}/{arrival.series_uid}"


def _left_s(arrival: Arrival) -> float:
    return max(0.0, arrival.deadline_at - arrival.now)
