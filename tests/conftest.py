"""The services that tests may ask for: real servers on free ports, started on first use."""

import pytest
from hypothesis import settings

# A busy machine is no failure: time limits are pytest-timeout's business.
settings.register_profile("slidewire", deadline=None)
settings.load_profile("slidewire")

pytest_plugins = [
    "tests.services.browser",
    "tests.services.http",
    "tests.services.hub",
    "tests.services.slides",
    "tests.services.orthanc",
    "tests.services.redis",
    "tests.services.rabbitmq",
    "tests.services.gcs",
    "tests.services.s3",
    "tests.services.postgresql",
    "tests.services.command",
    "tests.services.pacs",
    "tests.services.saved_model",
    "tests.services.dialects.running",
]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Know nothing of any server at first: ports are used again, and what was learnt of one is not true of the next."""
    from connectors.negotiation import forget

    forget()
