"""Orders for made-up archives, and a way through them."""

import datetime as dt

from connectors.archive import Archive, FoundSeries, Window
from connectors.endpoints import Endpoint
from models.domain.request import EmbedRequest, OutputSpec
from tests.services.hostile import HostileServer
from worker.backfill.order import Order
from worker.survey import Survey

FIRST, TODAY = dt.date(2020, 1, 1), dt.date(2020, 3, 1)


def order(first: dt.date | None = FIRST, last: dt.date | None = None, archive: str = "pacs") -> Order:
    """Return an order of slides for pixel-grid."""
    return Order(archive, "SM", first, last, EmbedRequest("", "pixel-grid", OutputSpec("/tmp/out")))


def survey_of(server: HostileServer, asked: Order, today: dt.date = TODAY) -> Survey:
    """Return the way through a server's archive."""
    return Survey(Archive(Endpoint(server.url, "pacs"), {asked.modality}), Window(asked.first, asked.last), today)


def walk(survey: Survey, most: int = 500) -> list[FoundSeries]:
    """Go all the way; fail if it takes more than `most` pages."""
    cursor, found = survey.start, list[FoundSeries]()
    for _ in range(most):
        if cursor.listed:
            return found
        cursor, series = survey.step(cursor)
        found += series
    raise AssertionError("the search comes to no end")
