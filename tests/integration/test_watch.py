"""`slidewire watch` as a hospital runs it: a real Orthanc, a worker, rules; and what it refuses to start with."""

import pytest

from tests.services.command import Slidewire
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs
from tests.services.ports import wait_until
from tests.services.watched import RULE, watched

_WEBHOOK = '[webhook]\nurl = "https://hook"\nsecret = "env:NOT_THERE"\n'
_ANY_MODALITY = RULE.replace('name = "all"', 'name = "all"\nmodality = ["*"]')


def test_a_slide_arrives_and_is_embedded(
    slidewire: Slidewire, cleared_orthanc: Orthanc, pacs_slide: SlideInPacs
) -> None:
    """Nobody types anything between the slide and its annotations; these start nothing, though a rule is for all."""
    slide = pacs_slide.slide
    site = watched(slidewire, cleared_orthanc, rules=_ANY_MODALITY, quiet_s=0.5)
    watch = site.watch()
    site.worker()
    there = site.send(slide)
    job = site.becomes(slide, "submitted")["job_id"]
    slidewire.wait_for(job)
    assert len(there.found("ANN")) == 1
    wait_until(lambda: _tally(slidewire)["passed-over"] == 2, "our own two series to be passed over")
    [report] = slidewire.done("watch", "--status").json
    assert report["codes"]["passed-over"] == {"OWN_RESULT": 2}
    assert report["arrivals"]["submitted"] == len(site.jobs()) == 1
    [row] = slidewire.done("watch", "pacs", "--list", "submitted").json
    assert row["job"] == job
    assert slide.series_uid not in str(row)
    told = slidewire.done("watch", "pacs", "--explain", slide.series_uid).json
    assert (told["rule"], told["whole"], told["arrival"]["job"], told["job"]) == ("all", True, job, None)
    assert watch.terminate() == 0
    assert slide.series_uid not in watch.log


@pytest.mark.parametrize(
    ("rules", "arguments", "code", "names"),
    [
        ("", ("watch", "pacs"), "SETTINGS_INVALID", "rules"),
        (RULE, ("watch", "elsewhere"), "SETTINGS_INVALID", "[endpoints.elsewhere]"),
        (RULE.replace("pixel-grid", "pixel-gird"), ("watch", "pacs"), "SETTINGS_INVALID", "rules.all.encoder"),
        (RULE.replace("write_back = true", ""), ("watch", "pacs"), "SETTINGS_INVALID", "write_back = true"),
        (RULE + "[watch.more]\n", ("watch", "pacs"), "SETTINGS_INVALID", "watch.more"),
        (RULE, ("watch",), "REQUEST_INVALID", "ENDPOINT"),
        (RULE, ("watch", "--retry", "failed"), "REQUEST_INVALID", "ENDPOINT"),
        (RULE, ("watch", "pacs", "--from", "2026-01-01"), "REQUEST_INVALID", "--reconcile"),
        (RULE, ("watch", "pacs", "--status", "--reconcile"), "REQUEST_INVALID", "one at a time"),
        (RULE + _WEBHOOK, ("watch", "pacs"), "SETTINGS_INVALID", "NOT_THERE"),
    ],
)  # fmt: skip
def test_a_start_that_is_refused(
    slidewire: Slidewire, orthanc: Orthanc, rules: str, arguments: tuple[str, ...], code: str, names: str
) -> None:
    """What is wrong or missing is named, with what would be right, before anything is watched."""
    watched(slidewire, orthanc, rules=rules)
    said = slidewire.failed(code, *arguments)
    assert names in said.json["error"]["message"]


def test_a_search_by_hand(slidewire: Slidewire, cleared_orthanc: Orthanc, pacs_slide: SlideInPacs) -> None:
    """`--reconcile` finds a slide that no event told of, once; `--retry` lets what was left be looked at again."""
    site = watched(slidewire, cleared_orthanc, events="")
    site.send(pacs_slide.slide)
    assert slidewire.done("watch", "pacs", "--reconcile").json == {"new": 1}
    assert slidewire.done("watch", "pacs", "--reconcile").json == {"new": 0}
    assert site.arrival(pacs_slide.slide)["state"] == "settling"
    slidewire.failed("REQUEST_INVALID", "watch", "pacs", "--retry", "settling")


def _tally(slidewire: Slidewire) -> dict[str, int]:
    return dict(slidewire.done("watch", "pacs", "--status").json[0]["arrivals"])
