"""What a server has decoded is RGB; what it gives as it is stored is what its metadata say."""

import pytest

from connectors.dicom.photometric import photometric_of
from models.domain.errors import PixelsUnsupported

_NATIVE, _JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"


def said(photometric: str, lossy: str = "", **syntax: str) -> dict[str, object]:
    """Return an instance's metadata."""
    named = {"available": "00083002", "own": "00020010"}
    item: dict[str, object] = {"00280004": {"vr": "CS", "Value": [photometric]}}
    if lossy:
        item["00282110"] = {"vr": "CS", "Value": [lossy]}
    return item | {named[key]: {"vr": "UI", "Value": [uid]} for key, uid in syntax.items()}


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"])
@pytest.mark.parametrize("length", [27, 28])
def test_what_the_server_decoded_is_rgb(photometric: str, length: int) -> None:
    """Uncompressed samples of a slide that is stored compressed have been decoded, by whatever it is known."""
    for item in (said(photometric, available=_JPEG), said(photometric, own=_JPEG)):
        assert photometric_of(item, bytes(length), 27) == "RGB"


def test_what_cannot_be_told_is_refused() -> None:
    """Samples that may be luminance as stored, or RGB as decoded, are not guessed at."""
    with pytest.raises(PixelsUnsupported, match="cannot be told"):
        photometric_of(said("YBR_FULL", lossy="01"), bytes(27), 27)


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"])
def test_what_full_samples_cannot_be(photometric: str) -> None:
    """Three samples for each pixel are none of the models that share or transform them."""
    assert photometric_of(said(photometric), bytes(27), 27) == "RGB"


def test_what_is_stored_as_it_comes() -> None:
    """Luminance that is stored uncompressed, and everything compressed, are what the metadata call them."""
    assert photometric_of(said("YBR_FULL"), bytes(27), 27) == "YBR_FULL"
    assert photometric_of(said("YBR_FULL", lossy="01", available=_NATIVE), bytes(27), 27) == "YBR_FULL"
    assert photometric_of(said("YBR_FULL", lossy="01", own=_NATIVE), bytes(27), 27) == "YBR_FULL"
    assert photometric_of(said("YBR_FULL_422"), bytes(18), 27) == "YBR_FULL_422"
    assert photometric_of(said("YBR_FULL", available=_JPEG), bytes(11), 27) == "YBR_FULL"
    assert photometric_of(said("RGB", lossy="01"), bytes(27), 27) == "RGB"
    assert photometric_of({}, bytes(27), 27) == ""
