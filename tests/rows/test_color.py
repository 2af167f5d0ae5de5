"""Rows 22 and 23: the ICC profile, missing, broken, or not where one reads it at once; from files and from Orthanc."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from ez_wsi_dicomweb import dicom_slide, image_util
from PIL import ImageCms

from connectors.endpoints import Endpoint, Endpoints
from connectors.protocols import Source
from connectors.sources.dicom_files import DicomFilesSource
from connectors.sources.dicomweb import DicomWebSource
from models.domain.errors import ColorUnavailable
from models.domain.slide import SlideRef
from models.imaging.color import color_transform
from models.imaging.decode import decode_frame
from tests.services.dialects.products import Azure
from tests.services.dialects.running import TOKEN_VARIABLE, running
from tests.services.dialects.server import TOKEN
from tests.services.orthanc import Orthanc
from tests.services.pacs import load, renamed
from tests.services.slides import SlideOnDisk

Change = Callable[[pydicom.Dataset], None]
Open = Callable[[Change], Source]


def _rewritten(slide: SlideOnDisk, folder: Path, change: Change) -> SlideOnDisk:
    copy = renamed(slide, folder)
    for path in copy.levels:
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path, enforce_file_format=True)
    return copy


@pytest.fixture(params=["files", "orthanc"])
def opened(request: pytest.FixtureRequest, orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path) -> Iterator[Open]:
    """Change the sample slide, and open it: as files, or from Orthanc."""
    with ExitStack() as stack:

        def open_changed(change: Change) -> Source:
            slide = _rewritten(cmu_slide, tmp_path / "slide", change)
            source: Source
            if request.param == "files":
                source = DicomFilesSource(SlideRef("dicom-files", str(slide.folder)))
            else:
                ref = Endpoints().locate(load(orthanc, slide).url)
                source = DicomWebSource(ref, Endpoint(orthanc.dicomweb))
            return stack.enter_context(closing(source))

        yield open_changed


def _profile_is(profile: bytes | None) -> Change:
    def change(dataset: pydicom.Dataset) -> None:
        [path] = dataset.OpticalPathSequence
        if profile is None:
            del path.ICCProfile
        else:
            path.ICCProfile = profile

    return change


def _at_the_top(dataset: pydicom.Dataset) -> None:
    [path] = dataset.OpticalPathSequence
    del path.ICCProfile
    dataset.ICCProfile = dicom_slide.get_adobergb_icc_profile_bytes()


def test_row_22_no_profile(opened: Open) -> None:
    """A slide without a profile is read, and says that its colours cannot be brought anywhere."""
    source = opened(_profile_is(None))
    profile = source.icc_profile(0)
    assert profile is None
    with pytest.raises(ColorUnavailable, match="no ICC profile"):
        color_transform(profile, "srgb")
    [frame] = source.frames(0, [0])
    assert decode_frame(frame, source.slide.levels[0]).any()


@pytest.mark.parametrize(
    "profile", [b"no profile at all", bytes(600), ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()]
)
def test_row_22_a_broken_profile(opened: Open, profile: bytes) -> None:
    """A profile that is broken, or is not one of RGB pixels, is an error of ours and not littleCMS's."""
    source = opened(_profile_is(profile + b"\0" * (len(profile) % 2)))
    with pytest.raises(ColorUnavailable, match=r"broken|not one of RGB"):
        color_transform(source.icc_profile(0), "srgb")


@pytest.mark.parametrize("change", [_profile_is(dicom_slide.get_adobergb_icc_profile_bytes()), _at_the_top])
def test_row_23_the_profile_is_fetched(opened: Open, change: Any) -> None:
    """The profile comes byte by byte, wherever the server keeps it, and gives EZ-WSI's own pixels."""
    source = opened(change)
    expected = dicom_slide.get_adobergb_icc_profile_bytes()
    for level in range(len(source.slide.levels)):
        assert source.icc_profile(level) == expected
    [frame] = source.frames(0, [20])
    pixels = decode_frame(frame, source.slide.levels[0])
    theirs = image_util.create_icc_profile_transformation(expected, dicom_slide.get_srgb_icc_profile_bytes())
    found = color_transform(source.icc_profile(0), "srgb").apply(pixels)
    assert np.array_equal(found, image_util.transform_image_bytes_color(pixels.copy(), theirs))
    assert not np.array_equal(found, pixels)


def test_row_23_the_profile_costs_little(opened: Open) -> None:
    """To have the profile, nothing like a level's pixels is read."""
    source = opened(_profile_is(dicom_slide.get_adobergb_icc_profile_bytes()))
    source.icc_profile(0)
    assert source.close().bytes_read < 100_000


def test_row_23_a_server_that_drops_it_from_metadata(
    cmu_slide: SlideOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /metadata have no binary attribute at all (Azure), the smallest instance is fetched for its header."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    profile = dicom_slide.get_adobergb_icc_profile_bytes()
    slide = _rewritten(cmu_slide, tmp_path / "slide", _profile_is(profile))
    with running(Azure, slide) as azure:
        source = DicomWebSource(Endpoints().locate(azure.series_url), azure.endpoint)
        with closing(source):
            assert source.icc_profile(0) == profile
            assert source.icc_profile(1) == profile
    whole = [path for path in azure.asked("/instances/") if "/frames/" not in path and "metadata" not in path]
    assert len(whole) == 1
