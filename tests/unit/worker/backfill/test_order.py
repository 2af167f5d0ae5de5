"""What makes two backfills the same one, and what cannot be ordered."""

import datetime as dt
from dataclasses import replace

import pytest

from connectors.endpoints import Endpoint, Endpoints
from models.domain.errors import EndpointNotAllowed, RequestError
from tests.unit.worker.backfill.orders import FIRST, order

_URL = "https://pacs.example.org/dicom-web"


def test_days_in_the_wrong_order_are_refused() -> None:
    """The last day is not before the first."""
    with pytest.raises(RequestError, match="--to is before --from"):
        order(FIRST, FIRST - dt.timedelta(days=1))


def test_a_slide_is_no_archive() -> None:
    """ENDPOINT/STUDY/SERIES is for `submit`."""
    with pytest.raises(RequestError, match="whole archive"):
        order(archive="pacs/1.2.3/1.2.3.4")


@pytest.mark.parametrize(
    "other",
    [
        order(FIRST + dt.timedelta(days=1)),
        order(last=FIRST),
        order(None),
        order(archive="other"),
        replace(order(), modality="XC"),
        replace(order(), request=replace(order().request, encoder="efficientnet-lite0")),
    ],
)
def test_another_order_has_another_key(other: object) -> None:
    """Whatever is asked for differently makes another backfill."""
    assert order().key == order().key
    assert order().key != getattr(other, "key")  # noqa: B009


def test_relative_folder_belongs_to_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """The same words in another folder are another order: the tables go elsewhere."""
    request = replace(order().request, output=replace(order().request.output, folder="out"))
    here = replace(order(), request=request).key
    monkeypatch.chdir(str(tmp_path))
    assert replace(order(), request=request).key != here


def test_slides_are_named_as_submit_takes_them() -> None:
    """By endpoint, or by URL."""
    assert order().slide("1.2", "1.2.3").source == "pacs/1.2/1.2.3"
    assert order(archive=f"{_URL}/").slide("1.2", "1.2.3").source == f"{_URL}/studies/1.2/series/1.2.3"


def test_the_server_is_one_that_is_allowed() -> None:
    """A URL goes through the allow-list, with the credentials of the endpoint it lies under."""
    named = Endpoint("https://pacs.example.org", "pacs", connections=7)
    endpoints = Endpoints([named], allowed_urls=())
    found = order(archive=_URL).endpoint(endpoints)
    assert (found.url, found.connections) == (_URL, 7)
    assert order().endpoint(endpoints) == named
    with pytest.raises(EndpointNotAllowed):
        order(archive="https://elsewhere.example.org").endpoint(endpoints)
