"""The probe believes what it sees; what it finds at each server is tested with the command (test_doctor.py)."""

from dataclasses import replace

import pytest

from connectors.probe import Finding, Probe, usable
from connectors.profile import Profile
from tests.services.dialects.products import Azure
from tests.services.dialects.running import TOKEN_VARIABLE, running
from tests.services.dialects.server import TOKEN
from tests.services.slides import SlideOnDisk


def test_an_old_profile_is_not_believed(cmu_slide: SlideOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was probed before, and has changed since, is found as it is now."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with running(Azure, cmu_slide) as one:
        old = Profile(one.server.url, "", frame_accept="*/*", frame_pixels="server", most_frames=1)
        probe = Probe(replace(one.endpoint, profile=old))
        found, findings = probe.run()
        probe.close()
    assert (found.frame_pixels, found.most_frames) == ("stored", None)
    assert found.frame_accept != "*/*"
    assert usable(findings)


def test_one_bad_finding_is_enough() -> None:
    """A remark does not stand in the way; what is bad does."""
    good, note = Finding("a", "b", "c"), Finding("a", "b", "c", "note")
    assert usable([good, note])
    assert not usable([good, Finding("a", "b", "c", "bad")])
