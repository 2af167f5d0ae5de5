"""The services that tests may ask for: real servers on free ports, started on first use."""

from hypothesis import settings

# A busy machine is no failure: time limits are pytest-timeout's business.
settings.register_profile("slidewire", deadline=None)
settings.load_profile("slidewire")

pytest_plugins = [
    "tests.services.http",
    "tests.services.slides",
    "tests.services.orthanc",
    "tests.services.redis",
    "tests.services.gcs",
    "tests.services.postgresql",
    "tests.services.command",
    "tests.services.pacs",
]
