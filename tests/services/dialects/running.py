"""The dialects as running servers, by fixtures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors.endpoints import Credentials, Endpoint
from tests.services.dialects.products import PRODUCTS
from tests.services.dialects.server import TOKEN, Dialect
from tests.services.hostile import HostileServer, hostile_server
from tests.services.slides import SlideOnDisk

TOKEN_VARIABLE = "SLIDEWIRE_TEST_DIALECT_TOKEN"


@dataclass(frozen=True)
class RunningDialect:
    """A dialect that answers on a port and holds one slide."""

    dialect: Dialect
    server: HostileServer
    slide: SlideOnDisk

    @property
    def series_url(self) -> str:
        """DICOMweb URL of the slide's series."""
        return f"{self.server.url}/studies/{self.slide.study_uid}/series/{self.slide.series_uid}"

    @property
    def source(self) -> str:
        """The series at an endpoint `pacs`."""
        return f"pacs/{self.slide.study_uid}/{self.slide.series_uid}"

    @property
    def endpoint(self) -> Endpoint:
        """The server as an endpoint `pacs`, with the token if it wants one."""
        kind = Credentials("bearer", secret=f"env:{TOKEN_VARIABLE}") if self.dialect.needs_token else Credentials()
        return Endpoint(self.server.url, "pacs", kind)

    @property
    def settings(self) -> dict[str, str]:
        """The same as environment of the command."""
        found = {"SLIDEWIRE_ENDPOINTS__PACS__URL": self.server.url}
        if self.dialect.needs_token:
            found |= {
                "SLIDEWIRE_ENDPOINTS__PACS__AUTH": "bearer",
                "SLIDEWIRE_ENDPOINTS__PACS__SECRET": f"env:{TOKEN_VARIABLE}",
                TOKEN_VARIABLE: TOKEN,
            }
        return found

    def asked(self, what: str) -> list[str]:
        """Return the paths of requests so far that hold a text."""
        return [asked.path for asked in self.server.asked if what in asked.path]


@contextmanager
def running(product: type[Dialect], slide: SlideOnDisk, folder: Path | None = None) -> Iterator[RunningDialect]:
    """Run a dialect for the length of a block."""
    dialect = product(folder or slide.folder)
    with hostile_server(dialect.answer) as server:
        yield RunningDialect(dialect, server, slide)


@pytest.fixture(params=sorted(PRODUCTS))
def dialect(
    request: pytest.FixtureRequest, cmu_slide: SlideOnDisk, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningDialect]:
    """Run each product's dialect with a slide in it."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with running(PRODUCTS[request.param], cmu_slide) as one:
        yield one
