"""Profiles: kept by server, read back as they were, and believed only if they are whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.profile import Profile, ProfileFolder
from models.domain.errors import SettingsInvalid

_URL = "https://pacs.test/dicom-web"
_FULL = Profile(
    url=_URL,
    probed_at="2026-11-22T12:00:00+00:00",
    frame_accept='multipart/related; type="image/jpeg"',
    single_part="yes",
    most_frames=40,
    frames_refused=80,
    url_characters=523,
    instance_accept="application/dicom",
    metadata_syntax=True,
    declared_syntax="1.2.840.10008.1.2.4.90",
    found_syntax="1.2.840.10008.1.2.4.50",
    search_fields=("00280008",),
    stores_annotations="no",
    request_s=0.2,
    frame_s=0.001,
)


def test_nothing_is_kept_of_a_stranger(tmp_path: Path) -> None:
    """A server that was never probed has no profile, and looking makes no folder."""
    assert ProfileFolder(tmp_path / "profiles").find(_URL) is None
    assert not (tmp_path / "profiles").exists()


@pytest.mark.parametrize("profile", [_FULL, Profile(_URL, "")])
def test_kept_and_found_again(tmp_path: Path, profile: Profile) -> None:
    """What was saved is found, by the address with or without a slash, and by no other address."""
    folder = ProfileFolder(tmp_path / "profiles")
    path = folder.save(profile)
    assert folder.find(f"{_URL}/") == profile
    assert folder.find(f"{_URL}/other") is None
    assert list(folder.folder.iterdir()) == [path]
    assert "pacs.test" not in path.name


def _change(**changes: Any) -> str:
    return json.dumps({**_FULL.to_json(), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "\xff",
        _change(most_frames=0),
        _change(most_frames="many"),
        _change(most_frames=-3),
        _change(frame_accept=None),
        _change(frame_accept="a\r\nX-Other: b"),
        _change(search_fields=None),
    ],
)
def test_damaged_profiles(tmp_path: Path, text: str) -> None:
    """A file that is no whole profile is an error of the settings that says what to do; a header in it is a header."""
    folder = ProfileFolder(tmp_path)
    folder.path(_URL).write_text(text, encoding="latin-1")
    with pytest.raises(SettingsInvalid, match="slidewire doctor"):
        folder.find(_URL)


def test_another_version(tmp_path: Path) -> None:
    """A profile of another version of Slidewire is as good as none."""
    folder = ProfileFolder(tmp_path)
    folder.path(_URL).write_text(_change(version=99))
    assert folder.find(_URL) is None


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    """A profile that cannot be kept is said."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingsInvalid, match="cannot be kept"):
        ProfileFolder(tmp_path / "taken").save(_FULL)


@pytest.mark.parametrize(
    ("request_s", "frame_s", "expected"), [(0.2, 0.001, "request"), (0.001, 0.01, "frame"), (None, None, "")]
)
def test_what_is_paid_for(request_s: float | None, frame_s: float | None, expected: str) -> None:
    """A request that costs as much as many frames is what is paid for."""
    assert Profile(_URL, "", request_s=request_s, frame_s=frame_s).pays_per() == expected
