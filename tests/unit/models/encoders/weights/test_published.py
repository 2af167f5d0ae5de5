"""Published weights: found where they were given or fetched, and refused if they are not whole; without a network."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.domain.errors import WeightsInvalid
from models.encoders.pixel_grid import MODEL
from models.encoders.protocol import EncoderSpec, Hub
from models.encoders.weights.digest import weights_digest
from models.encoders.weights.published import check_fetched, find_weights
from models.encoders.weights.store import LOCK, StoredFile, WeightsLock, WeightsShelf

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_CONTENT = b"weights"
_FILE = replace(MODEL.spec, name="net", revision="main", hub=Hub("owner/net", ("sub/model.bin",)))
_FOLDER = replace(_FILE, hub=Hub("owner/net", ("sub/*",)))
_SOURCE = replace(_FILE, hub=None, source="https://example.org/net")


def _fetched(spec: EncoderSpec, store: Path, **other: str) -> Path:
    """Lay weights into the store as a fetch leaves them; return the file."""
    shelf = WeightsShelf(spec, store)
    file = shelf.folder / _COMMIT / "sub" / "model.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(_CONTENT)
    files = {"sub/model.bin": StoredFile(weights_digest(file), len(_CONTENT))}
    digest = weights_digest(shelf.path(_COMMIT))
    lock = WeightsLock("owner/net", _COMMIT, "", files, digest, "2026-01-01T00:00:00+00:00")
    shelf.write(replace(lock, **other))  # type: ignore[arg-type]
    return file


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        path = file.parents[2] / LOCK
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return edit


def test_nothing_here(tmp_path: Path) -> None:
    """The message says exactly what to type, or where they are published if no hub has them."""
    for store in (None, tmp_path, tmp_path / "none"):
        with pytest.raises(WeightsInvalid, match=r"slidewire encoders fetch net, .*--weights"):
            find_weights(_FILE, None, store)
    with pytest.raises(WeightsInvalid, match=r"https://example\.org/net, .*--weights"):
        find_weights(_SOURCE, None, tmp_path)


def test_given_ones_come_first(tmp_path: Path) -> None:
    """A given file or folder is taken as it is, and missed if it is not there."""
    given = tmp_path / "mine.bin"
    with pytest.raises(WeightsInvalid, match=r"mine\.bin.*--weights") as caught:
        find_weights(_FILE, given, tmp_path)
    assert str(tmp_path) not in caught.value.message
    given.touch()
    _fetched(_FILE, tmp_path / "store")
    assert find_weights(_FILE, given, tmp_path / "store") == given
    assert find_weights(_SOURCE, tmp_path, None) == tmp_path


def test_fetched_ones_are_found(tmp_path: Path) -> None:
    """One named file is the weights; of patterns, the folder is."""
    file = _fetched(_FILE, tmp_path)
    assert find_weights(_FILE, None, tmp_path) == file
    assert find_weights(_FOLDER, None, tmp_path) == file.parents[1]


def test_names_with_colons_and_slashes_are_folders_of_their_own(tmp_path: Path) -> None:
    """A name of a family leads to no other folder than its own, inside the store."""
    odd = [replace(_FILE, name=name) for name in ("timm:a/b", "timm:a", "timm%3Aa", "../net")]
    folders = {WeightsShelf(spec, tmp_path).folder for spec in odd}
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path}
    assert all(".." not in folder.parts for folder in folders)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: file.unlink(), r"model\.bin is not there"),
        (lambda file: file.write_bytes(b"wei"), "3 bytes instead of 7"),
        (lambda file: (file.parents[2] / LOCK).write_text("{"), "cannot be read"),
        (lambda file: (file.parents[2] / LOCK).write_text("[]"), "cannot be read"),
        (_edit(lambda lock: lock.pop("revision")), "cannot be read"),
        (_edit(lambda lock: lock.update(more=1)), "cannot be read"),
        (_edit(lambda lock: lock.update(files={})), "cannot be read"),
        (_edit(lambda lock: lock.update(revision="../../elsewhere")), "cannot be read"),
        (_edit(lambda lock: lock.update(revision=7)), "cannot be read"),
        (_edit(lambda lock: lock.update(sha256="")), "cannot be read"),
        (_edit(lambda lock: lock["files"].update({"../x": {"sha256": "", "bytes": 1}})), "cannot be read"),
        (_edit(lambda lock: lock.update(repository="other/net")), "another repository"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    """Every damage is one error that says to fetch again, and no weights."""
    damage(_fetched(_FILE, tmp_path))
    with pytest.raises(WeightsInvalid, match=says + r".*slidewire encoders fetch net"):
        find_weights(_FILE, None, tmp_path)


def test_a_new_version_wants_its_own_revision(tmp_path: Path) -> None:
    """Weights of the revision before are not taken for the pinned one, unless somebody asked for them on purpose."""
    _fetched(_FILE, tmp_path / "old")
    file = _fetched(_FILE, tmp_path / "chosen", asked="v1")
    assert find_weights(replace(_FILE, revision=_COMMIT), None, tmp_path / "old")
    pinned = replace(_FILE, revision="f" * 40)
    with pytest.raises(WeightsInvalid, match="revision 0123456789ab, and this version uses ffffffffffff"):
        find_weights(pinned, None, tmp_path / "old")
    assert find_weights(pinned, None, tmp_path / "chosen") == file


def test_a_new_version_wants_more_files(tmp_path: Path) -> None:
    """What an older version fetched is not taken for all of it."""
    _fetched(_FOLDER, tmp_path)
    with pytest.raises(WeightsInvalid, match=r"they have no \*\.json.*slidewire encoders fetch net"):
        find_weights(replace(_FOLDER, hub=Hub("owner/net", ("sub/*", "*.json"))), None, tmp_path)


@pytest.mark.parametrize("spec", [_FILE, _FOLDER])
def test_bytes_that_changed_are_noticed_by_their_digest(tmp_path: Path, spec: EncoderSpec) -> None:
    """Same length, other bytes: found when the digest is taken, before any patch is spent."""
    file = _fetched(spec, tmp_path)
    weights = find_weights(spec, None, tmp_path)
    check_fetched(spec, weights, tmp_path, weights_digest(weights))
    file.write_bytes(b"weighty")
    with pytest.raises(WeightsInvalid, match=r"damaged.*slidewire encoders fetch net"):
        check_fetched(spec, weights, tmp_path, weights_digest(weights))


def test_given_ones_are_not_compared_with_fetched_ones(tmp_path: Path) -> None:
    """Whoever gives a file is not told that it is not the fetched one; nor are encoders without weights."""
    _fetched(_FILE, tmp_path)
    given = tmp_path / "mine.bin"
    given.write_bytes(b"mine")
    check_fetched(_FILE, given, tmp_path, weights_digest(given))
    check_fetched(_FILE, None, tmp_path, "")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The lock comes back as it was, and no half of it is ever there."""
    _fetched(_FILE, tmp_path)
    shelf = WeightsShelf(_FILE, tmp_path)
    lock = shelf.read()
    assert lock is not None
    assert WeightsLock.from_json(json.loads(json.dumps(lock.to_json()))) == lock
    assert [path.name for path in shelf.folder.iterdir() if path.is_file()] == [LOCK]
