"""The servers that the other tests rely on do start, answer, and come back."""

import os
import subprocess
import sys

import numpy as np
import pytest
import requests
from redis import Redis

from tests.services.gcs import GcsServer
from tests.services.orthanc import Orthanc
from tests.services.process import ServerFailed, ServerProcess
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk


def test_orthanc_serves_the_slide(orthanc: Orthanc, cmu_slide: SlideOnDisk) -> None:
    """A slide loaded into Orthanc is found over DICOMweb with every level."""
    orthanc.load(cmu_slide.folder)
    answer = requests.get(
        f"{orthanc.dicomweb}/studies/{cmu_slide.study_uid}/series/{cmu_slide.series_uid}/instances",
        headers={"Accept": "application/dicom+json"},
        timeout=30,
    )
    assert answer.ok
    assert len(answer.json()) == len(cmu_slide.levels) == 5


def test_orthanc_keeps_what_it_has_across_a_kill(empty_orthanc: Orthanc, cmu_slide: SlideOnDisk) -> None:
    """An Orthanc of one's own can be killed and comes back on the same port with its slides."""
    assert requests.get(f"{empty_orthanc.url}/series", timeout=30).json() == []
    series = empty_orthanc.load(cmu_slide.levels[-1])
    empty_orthanc.kill()
    with pytest.raises(requests.ConnectionError):
        requests.get(empty_orthanc.url, timeout=5)
    empty_orthanc.start()
    assert requests.get(f"{empty_orthanc.url}/series", timeout=30).json() == [series]
    empty_orthanc.clear()
    assert requests.get(f"{empty_orthanc.url}/series", timeout=30).json() == []


def test_redis_forgets_when_killed(own_redis: RedisServer) -> None:
    """A Redis of one's own can be killed and comes back empty."""
    with Redis.from_url(own_redis.url) as client:
        client.set("doorbell", "rings")
        assert client.get("doorbell") == b"rings"
    own_redis.kill()
    own_redis.start()
    with Redis.from_url(own_redis.url) as client:
        assert client.get("doorbell") is None


def test_redis_flushes(redis_server: RedisServer) -> None:
    """The shared Redis is emptied on request."""
    with Redis.from_url(redis_server.url) as client:
        client.set("doorbell", "rings")
        redis_server.flush()
        assert client.dbsize() == 0


def test_gcs_gives_back_what_it_got(gcs: GcsServer) -> None:
    """What goes into the emulator comes out, by hand and through Google's client."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    data = np.random.default_rng(7).bytes(100_000)
    assert gcs.upload("services", "a folder/slide.bin", data) == "gs://services/a folder/slide.bin"
    assert gcs.download("services", "a folder/slide.bin") == data
    client = storage.Client(project="any", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    assert client.bucket("services").blob("a folder/slide.bin").download_as_bytes() == data
    client.bucket("services").blob("second").upload_from_string(b"2")
    client.close()
    assert gcs.names("services") == ["a folder/slide.bin", "second"]


def test_no_emulator_outside_its_fixture(gcs_server: GcsServer) -> None:
    """The emulator that runs for the session redirects nobody by itself."""
    assert gcs_server.url
    assert "STORAGE_EMULATOR_HOST" not in os.environ


def test_a_server_that_ends_says_why(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server that does not come up is reported with the end of its log."""
    command = [sys.executable, "-c", "raise SystemExit('no such config')"]
    server = ServerProcess(command, tmp_path_factory.mktemp("broken") / "log", lambda: False)
    with pytest.raises(ServerFailed, match="no such config"):
        server.start()
    server.stop()


def test_dcmtk_reads_the_slide(cmu_slide: SlideOnDisk) -> None:
    """DCMTK, the toolkit behind many archives, parses every level."""
    from tests.services.process import find_program

    program = find_program("dcmftest", "apt-get install dcmtk")
    done = subprocess.run([program, *map(str, cmu_slide.levels)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
