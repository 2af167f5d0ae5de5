"""The services that tests may ask for: real servers on free ports, started on first use."""

pytest_plugins = [
    "tests.services.slides",
    "tests.services.orthanc",
    "tests.services.redis",
    "tests.services.gcs",
    "tests.services.postgresql",
    "tests.services.command",
    "tests.services.pacs",
]
