"""The key of de-identification: a reference in the settings, followed when it is needed, and never shown."""

from pathlib import Path

import pytest

from models.domain.errors import SettingsInvalid
from worker.deidentification import policy_of
from worker.settings import Settings

_KEY = "00112233445566778899aabbccddeeff"


def test_a_key_in_a_file(tmp_path: Path) -> None:
    """The file's hexadecimal digits are the key, line end or not."""
    file = tmp_path / "key"
    file.write_text(f"{_KEY}\n")
    policy = policy_of(Settings(deidentify_key=f"file:{file}"), "shift")
    assert (policy.key, policy.dates) == (bytes.fromhex(_KEY), "shift")
    assert _KEY not in repr(policy)


def test_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that is named holds it; dates are dropped unless asked otherwise."""
    monkeypatch.setenv("RESEARCH_KEY", _KEY)
    monkeypatch.setenv("SLIDEWIRE_DEIDENTIFY_KEY", "env:RESEARCH_KEY")
    settings = Settings()
    assert policy_of(settings).dates == "drop"
    assert "RESEARCH_KEY" not in repr(settings)


def test_no_key_is_an_error_that_says_how() -> None:
    """Without a key nothing is de-identified: the message says what to set and how a key is made."""
    with pytest.raises(SettingsInvalid, match=r"deidentify_key.*openssl rand -hex 32"):
        policy_of(Settings(deidentify_key=""))


@pytest.mark.parametrize("reference", [_KEY, "env:NO_SUCH_VARIABLE", "file:/no/such/file"])
def test_a_reference_that_leads_nowhere(reference: str) -> None:
    """A key in place of a reference is refused, too, and not repeated."""
    with pytest.raises(SettingsInvalid) as caught:
        policy_of(Settings(deidentify_key=reference))
    assert _KEY not in str(caught.value)


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    """What can be tried out is no key."""
    file = tmp_path / "key"
    file.write_text(_KEY[:30])
    with pytest.raises(SettingsInvalid, match="fewer than 16"):
        policy_of(Settings(deidentify_key=f"file:{file}"))
