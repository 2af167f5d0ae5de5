"""The digest of weights: what sha256sum says, of a file and of a folder, and nothing else that happens to lie there."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from models.domain.errors import WeightsInvalid
from models.encoders.weights.digest import weights_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a folder as a SavedModel has it."""
    made = tmp_path / "saved model"
    (made / "variables").mkdir(parents=True)
    (made / "saved_model.pb").write_bytes(b"graph")
    (made / "variables" / "variables.index").write_bytes(b"index")
    (made / "variables" / "variables.data-00000-of-00001").write_bytes(b"data")
    return made


def test_digest_of_what_is_not_there(tmp_path: Path) -> None:
    """A missing file and an empty folder are named, without their path."""
    empty = tmp_path / "empty"
    (empty / "variables").mkdir(parents=True)
    for path in (tmp_path / "none.pth", empty):
        with pytest.raises(WeightsInvalid, match=path.name) as caught:
            weights_digest(path)
        assert str(tmp_path) not in str(caught.value)


def test_digest_follows_the_file(tmp_path: Path) -> None:
    """A file that changes has another digest, though it was asked for before; no weights have none."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    assert weights_digest(path) == weights_digest(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert weights_digest(path) == hashlib.sha256(b"two").hexdigest()
    assert weights_digest(None) == ""


def test_a_folder_has_the_digest_that_sha256sum_gives(folder: Path) -> None:
    """Anybody can check it: sha256sum of what sha256sum prints of the files, in the order of their paths."""
    (folder / "variables.txt").write_bytes(b"sorts before the folder of that name")
    program = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    said = subprocess.run(["/bin/sh", "-c", program], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert weights_digest(folder) == said.split()[0]


@pytest.mark.parametrize("change", ["content", "name", "place", "one more", "one less"])
def test_any_change_of_a_folder_shows(folder: Path, change: str) -> None:
    """Another content, name or place of a file, one more and one less: each is another model."""
    before = weights_digest(folder)
    data = folder / "variables" / "variables.data-00000-of-00001"
    if change == "content":
        data.write_bytes(b"dato")
        os.utime(data, ns=(1, 1))
    elif change == "name":
        data.rename(data.with_name("variables.data"))
    elif change == "place":
        data.rename(folder / data.name)
    elif change == "one more":
        (folder / "fingerprint.pb").write_bytes(b"")
    else:
        data.unlink()
    assert weights_digest(folder) != before


def test_a_copy_elsewhere_is_the_same(folder: Path, tmp_path: Path) -> None:
    """Neither the folder's name, nor times, nor what clients keep for themselves in hidden places matters."""
    before = weights_digest(folder)
    moved = folder.rename(tmp_path / "other")
    os.utime(moved / "saved_model.pb", ns=(1, 1))
    (moved / ".cache" / "huggingface").mkdir(parents=True)
    (moved / ".cache" / "huggingface" / "trees.json").write_bytes(b"{}")
    (moved / ".gitattributes").write_bytes(b"*.pb filter=lfs")
    (moved / "variables" / ".lock").write_bytes(b"")
    assert weights_digest(moved) == before


def test_a_snapshot_of_links_is_what_it_links_to(folder: Path, tmp_path: Path) -> None:
    """The hub's client keeps a snapshot as links into its store of files; linked folders are followed too."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "saved_model.pb").symlink_to(folder / "saved_model.pb")
    (snapshot / "variables").symlink_to(folder / "variables")
    assert weights_digest(snapshot) == weights_digest(folder)
    whole = tmp_path / "link"
    whole.symlink_to(snapshot)
    assert weights_digest(whole) == weights_digest(folder)


@pytest.mark.parametrize("target", ["/nowhere/blob", "saved_model.pb.tmp"])
def test_a_link_to_nothing_is_named(folder: Path, target: str) -> None:
    """A snapshot whose files were cleared away has no digest of the rest."""
    (folder / "variables" / "variables.index").unlink()
    (folder / "variables" / "variables.index").symlink_to(target)
    with pytest.raises(WeightsInvalid, match=r"variables\.index is a link to what is not there"):
        weights_digest(folder)


def test_a_circle_of_links_ends(folder: Path) -> None:
    """A folder that holds itself is refused, not walked for ever; so is a link to itself."""
    (folder / "variables" / "again").symlink_to(folder)
    with pytest.raises(WeightsInvalid, match="saved model hold a link"):
        weights_digest(folder)
    (folder / "variables" / "again").unlink()
    (folder / "variables" / "again").symlink_to("again")
    with pytest.raises(WeightsInvalid, match="again"):
        weights_digest(folder)


def test_a_pipe_is_not_read(folder: Path) -> None:
    """What would block for ever is refused."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(WeightsInvalid, match="pipe is neither"):
        weights_digest(folder)
