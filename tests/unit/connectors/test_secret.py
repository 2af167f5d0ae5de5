"""References to secrets; where they lead nowhere, nothing secret is told."""

from pathlib import Path

import pytest

from connectors.secret import resolve_secret
from models.domain.errors import SettingsInvalid


@pytest.mark.parametrize("reference", ["", "hunter2", "env:", "file:", "ENV:HOME", "https://h/hunter2", "env"])
def test_a_secret_itself_is_refused(reference: str) -> None:
    """What is no reference may be the secret, and is not repeated."""
    with pytest.raises(SettingsInvalid, match="env:NAME or file:PATH") as caught:
        resolve_secret(reference)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_variable_is_refused(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """A variable that is not set, or empty, is named."""
    monkeypatch.delenv("SLIDEWIRE_TEST_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("SLIDEWIRE_TEST_SECRET", value)
    with pytest.raises(SettingsInvalid, match="SLIDEWIRE_TEST_SECRET"):
        resolve_secret("env:SLIDEWIRE_TEST_SECRET")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfehunter2"])
def test_an_unusable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file or one that is no text is named, its content is not."""
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsInvalid, match="secret") as caught:
        resolve_secret(f"file:{tmp_path / 'secret'}")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("place", ["/no/such/file", "/", "~nobody-of-that-name/secret"])
def test_a_missing_file_is_refused(place: str) -> None:
    """A file that is not there, or a folder, is an error of the settings."""
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        resolve_secret(f"file:{place}")


def test_references_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is taken as it is, a file without the line break that editors leave."""
    monkeypatch.setenv("SLIDEWIRE_TEST_SECRET", "a:b c")
    (tmp_path / "secret").write_text("hünter2\n", encoding="utf-8")
    assert resolve_secret("env:SLIDEWIRE_TEST_SECRET") == "a:b c"
    assert resolve_secret(f"file:{tmp_path / 'secret'}") == "hünter2"
