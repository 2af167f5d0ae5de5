"""Results in Cloud Storage and S3: tables of every kind, folders that are never a mixture, buckets that fail midway."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import fsspec
import gcsfs
import pytest
import requests
import s3fs

from connectors.sinks.bucket import put_objects
from connectors.sinks.files import FilesSink, Wanted, put_chunks, put_folder
from connectors.sinks.held import file_digest, folder_digest_of
from connectors.tables.protocol import TableFile, TableFolder
from models.domain.errors import OutputUnwritable
from tests.services.fault_proxy import FaultProxy, fault_proxy
from tests.services.gcs import GcsServer
from tests.services.hostile import Answer, Asked
from tests.services.s3 import S3Server
from tests.unit.connectors.dicom.results import make_result, rich_header

_OLD = TableFolder("x", (TableFile("chunk/0", b"old"), TableFile("chunk/1", b"stale"), TableFile("zarr.json", b"{}")))
_NEW = TableFolder("x", (TableFile("chunk/0", b"new"), TableFile("zarr.json", b'{"n": 1}')))


@dataclass(frozen=True)
class Bucket:
    """A bucket behind a proxy, empty at first.

    Parameters
    ----------
    proxy : FaultProxy
    uri : str
    changes : callable
        Whether a request puts an object there or takes one away.
    """

    proxy: FaultProxy
    uri: str
    changes: Callable[[Asked], bool]

    def below(self, uri: str) -> dict[str, bytes]:
        """Return all objects below a URI, by what is left of their names."""
        system, path = fsspec.core.url_to_fs(uri)
        system.invalidate_cache()
        return {name.removeprefix(f"{path}/"): system.cat_file(name) for name in system.find(path)}


@pytest.fixture(params=["gs", "s3"])
def bucket(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bucket]:
    """Put a proxy before Cloud Storage, and before S3; the clients of this process know no other."""
    name = f"results-{tmp_path_factory.mktemp('bucket').name}"
    for system in (gcsfs.GCSFileSystem, s3fs.S3FileSystem):
        system.clear_instance_cache()
    if request.param == "gs":
        gcs: GcsServer = request.getfixturevalue("gcs")
        gcs.create_bucket(name)
        with fault_proxy(gcs.url) as proxy:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            yield Bucket(proxy, f"gs://{name}/out", lambda asked: "/upload/" in asked.path or asked.method == "DELETE")
    else:
        s3: S3Server = request.getfixturevalue("s3")
        requests.put(f"{s3.url}/{name}", timeout=30).raise_for_status()
        with fault_proxy(s3.url) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            yield Bucket(proxy, f"s3://{name}/out", lambda asked: asked.method in {"PUT", "DELETE"})
    for system in (gcsfs.GCSFileSystem, s3fs.S3FileSystem):
        system.clear_instance_cache()


def test_all_that_a_result_leaves(bucket: Bucket) -> None:
    """Tables, annotations and report lie there, are held, and written again they are the same."""
    sink = FilesSink(bucket.uri, Wanted(dicom=True))
    outputs = sink.write(make_result(3, 4, rich_header()))
    assert [output.kind for output in outputs] == ["parquet", "annotations", "report"]
    assert {output.uri.removeprefix(f"{bucket.uri}/") for output in outputs} == set(bucket.below(bucket.uri))
    assert all(sink.holds(output) for output in outputs)
    assert sink.write(make_result(3, 4, rich_header())) == outputs
    system, path = fsspec.core.url_to_fs(outputs[0].uri)
    system.rm_file(path)
    assert [sink.holds(output) for output in outputs] == [False, True, True]


def test_a_folder_takes_the_place_of_another(bucket: Bucket) -> None:
    """What the old one had and the new one has not is gone, and the new one is held by its digest."""
    uri = f"{bucket.uri}/slide.zarr"
    put_folder(uri, _OLD)
    put_folder(uri, _NEW)
    assert bucket.below(uri) == {file.path: file.content for file in _NEW.files}
    assert folder_digest_of(uri) == _NEW.sha256
    assert file_digest(uri) is None or file_digest(uri) != _NEW.sha256
    sent = len([asked for asked in bucket.proxy.asked if bucket.changes(asked)])
    put_folder(uri, _NEW)
    assert len([asked for asked in bucket.proxy.asked if bucket.changes(asked)]) == sent, "the same is left as it is"


@pytest.mark.parametrize("before", [None, _OLD], ids=["nothing", "an old one"])
def test_a_bucket_that_fails_at_the_nth_object(bucket: Bucket, before: TableFolder | None) -> None:
    """Wherever it ends: without its last file no reader takes it for a table; the next writer makes it whole."""
    uri = f"{bucket.uri}/slide.zarr"
    steps = 0
    while True:
        system, path = fsspec.core.url_to_fs(uri)
        if bucket.below(uri):
            system.rm(path, recursive=True)
        if before is not None:
            put_folder(uri, before)
        if _done_before(bucket, uri, steps):
            break
        there = bucket.below(uri)
        assert "zarr.json" not in there or there == {file.path: file.content for file in (before or _NEW).files}
        put_folder(uri, _NEW)
        assert folder_digest_of(uri) == _NEW.sha256
        steps += 1
    assert steps == len(_NEW.files) + (len(_OLD.files) if before else 0)


def _done_before(bucket: Bucket, uri: str, allowed: int) -> bool:
    """Write the new folder to a bucket that allows so many changes and no more; tell whether that was enough."""
    left = [allowed]

    def refuse(asked: Asked) -> Answer | None:
        if not bucket.changes(asked):
            return None
        left[0] -= 1
        return Answer(403, b"{}") if left[0] < 0 else None

    bucket.proxy.before = refuse
    try:
        put_folder(uri, _NEW)
    except OutputUnwritable:
        return False
    finally:
        bucket.proxy.before = lambda _: None
    return True


@pytest.mark.faults
@pytest.mark.parametrize("bucket", ["s3"], indirect=True)  # the emulator of Cloud Storage knows no uploads in parts
def test_an_object_too_large_for_one_request(bucket: Bucket) -> None:
    """It goes up in the store's own parts, and is not there at all if one of them is refused."""
    piece = bytes(range(256)) * 4096
    uri = f"{bucket.uri}/large"
    bucket.proxy.before = lambda asked: Answer(403, b"{}") if "partNumber=2" in asked.path else None
    with pytest.raises(OutputUnwritable):
        put_chunks(uri, (piece for _ in range(110)))
    assert bucket.below(bucket.uri) == {}
    bucket.proxy.before = lambda _: None
    put_chunks(uri, (piece for _ in range(110)))
    assert bucket.below(bucket.uri) == {"large": piece * 110}
    assert any("partNumber=2" in asked.path for asked in bucket.proxy.asked)


def test_an_object_where_a_folder_should_be(bucket: Bucket) -> None:
    """It is left alone."""
    put_chunks(f"{bucket.uri}/slide.zarr", [b"an object"])
    with pytest.raises(FileExistsError):
        put_objects(f"{bucket.uri}/slide.zarr", _NEW)
    assert bucket.below(bucket.uri) == {"slide.zarr": b"an object"}
