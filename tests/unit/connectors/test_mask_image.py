"""Masks as images: what is not black is tissue, in every kind of PNG, TIFF and JPEG that tools write."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from connectors import mask_image
from connectors.mask_image import read_mask_image
from models.domain.errors import TissueFileInvalid

_SLIDE = (40_000, 20_000)


def _field() -> NDArray[np.uint8]:
    """Return a mask of 200 x 100 px whose left half is marked, but for a corner."""
    field = np.zeros((100, 200), np.uint8)
    field[:, :100] = 255
    field[:10, :10] = 0
    return field


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder are one error of ours."""
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(TissueFileInvalid, match="cannot be read"):
            read_mask_image(path, _SLIDE)


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(99), b"<svg></svg>", bytes(500), b"BM" + bytes(99)])
def test_no_image(tmp_path: Path, data: bytes) -> None:
    """What is neither PNG, TIFF nor JPEG is not guessed at."""
    path = tmp_path / "mask.png"
    path.write_bytes(data)
    with pytest.raises(TissueFileInvalid, match="neither PNG"):
        read_mask_image(path, _SLIDE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("kept", [9, 40, 0.5, 0.9])
def test_a_torn_image(tmp_path: Path, kind: str, kept: float) -> None:
    """An image that ends early is refused: what is missing is not taken for glass."""
    path = tmp_path / "mask"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (100, 200), np.uint8)).save(path, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept if kept > 1 else len(data) * kept)])
    with pytest.raises(TissueFileInvalid, match="damaged"):
        read_mask_image(path, _SLIDE)


def test_the_wrong_slide(tmp_path: Path) -> None:
    """A mask of another aspect ratio is of another slide, or of a part of this one."""
    path = tmp_path / "mask.png"
    Image.fromarray(_field()).save(path)
    with pytest.raises(TissueFileInvalid, match="200 x 100 px, the slide 40000 x 21500 px"):
        read_mask_image(path, (40_000, 21_500))


def test_black_throughout(tmp_path: Path) -> None:
    """A mask that marks nothing is a mistake, not a request for no patches."""
    path = tmp_path / "mask.png"
    Image.new("L", (200, 100)).save(path)
    with pytest.raises(TissueFileInvalid, match="black throughout"):
        read_mask_image(path, _SLIDE)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image beyond the bound is refused by its header, before its pixels are unpacked."""
    path = tmp_path / "mask.png"
    Image.new("1", (30_000, 15_000)).save(path)  # 450 million pixels in 60 kB
    with pytest.raises(TissueFileInvalid, match=r"2\^28"):
        read_mask_image(path, _SLIDE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_pixel(tmp_path: Path, kind: str, mode: str) -> None:
    """Black and white, grey, palette, colour, 16 bit, with alpha or without: the same mask."""
    field, path = _field(), tmp_path / "mask"
    if mode == "I;16":
        image = Image.fromarray(field.astype(np.uint16) * 3)
    elif mode == "P":
        image = Image.fromarray(field).convert("L").quantize(2)
    else:
        image = Image.fromarray(field).convert(mode)
    image.save(path, kind)
    found = read_mask_image(path, _SLIDE)
    assert np.array_equal(found.mask, field > 0)
    assert (found.method, found.looked_at) == ("mask", "a mask of 200 x 100 px")
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("value", [(0, 0, 1), (1, 0, 0), (3, 3, 3)])
def test_labels_are_tissue(tmp_path: Path, value: tuple[int, int, int]) -> None:
    """Any value but 0 in any channel counts, be it only 1; alpha alone does not."""
    path = tmp_path / "mask.png"
    pixels = np.zeros((100, 200, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[20:30, :, :3] = value
    Image.fromarray(pixels).save(path)
    mask = read_mask_image(path, _SLIDE).mask
    assert mask[20:30].all()
    assert mask.sum() == 10 * 200


def test_a_jpeg(tmp_path: Path) -> None:
    """A JPEG mask is read; its fields are what they were, away from their edges."""
    path = tmp_path / "mask.jpg"
    field = np.zeros((100, 200), np.uint8)
    field[:, :96] = 255
    Image.fromarray(field).save(path, quality=90)
    mask = read_mask_image(path, _SLIDE).mask
    assert mask[:, :88].all()
    assert not mask[:, 112:].any()


@pytest.mark.parametrize("bound", [5000, 1300])
def test_large_masks_are_brought_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    """A mask beyond what is kept is halved, or more: the same share, at most the bound in pixels, band by band."""
    monkeypatch.setattr(mask_image, "_KEPT_PX", bound)
    monkeypatch.setattr(mask_image, "_BAND_ROWS", 7)
    path = tmp_path / "mask.png"
    Image.fromarray(_field()).save(path)
    mask = read_mask_image(path, _SLIDE).mask
    assert mask.size <= bound
    assert mask.mean() == pytest.approx((_field() > 0).mean(), abs=0.02)
    assert mask[-1, 0]
    assert not mask[0, 0]
    assert not mask[:, -1].any()


def test_blocks_are_tissue_from_half_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brought down, a block of four pixels with one marked is no tissue; with two it is."""
    monkeypatch.setattr(mask_image, "_KEPT_PX", 5000)
    path, field = tmp_path / "mask.png", np.zeros((100, 200), np.uint8)
    field[0::2, 0:100:2] = 1
    field[0::2, 100:] = 1
    Image.fromarray(field).save(path)
    mask = read_mask_image(path, _SLIDE).mask
    assert mask.shape == (50, 100)
    assert not mask[:, :50].any()
    assert mask[:, 50:].all()
