"""A remote encoder: pixels arrive as they were, answers are taken apart with care, and every failure is one of ours."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina
from numpy.typing import NDArray

from connectors import http
from connectors.endpoints import Credentials, Endpoint, Timeouts
from connectors.remote_encoder import RemoteModel, patches_a_request
from models.domain.errors import (
    AccessDenied,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    RequestError,
    ResponseInvalid,
    SettingsInvalid,
    SlidewireError,
    WeightsInvalid,
)
from models.encoders.protocol import Encoder, EncoderSpec, Licence
from tests.services.http import Asked, Reply, StrictServer
from tests.services.path_foundation_server import DIMENSION, PathFoundation, embedding_of
from tests.services.ports import free_port

_TOKEN = "canary-t0ken"
_CANARY = "PATIENT^NAME"
_JSON = {"Content-Type": "application/json"}
_PATCHES = np.random.default_rng(0).integers(0, 256, (14, 64, 64, 3), np.uint8)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Let retries follow one another at once, as many as there are in earnest."""
    with stamina.set_testing(True, attempts=http._ATTEMPTS, cap=True):
        yield


@pytest.fixture
def service(server: StrictServer) -> PathFoundation:
    """Let the server be Path Foundation's, for patches of 64 px."""
    service = PathFoundation(token=_TOKEN, side_px=64)
    server.replies = [service]
    return service


def model(url: str, side_px: int = 64, dimension: int = DIMENSION, **more: Any) -> RemoteModel:
    """Return the model of a server."""
    spec = EncoderSpec(
        name="remote", family="on a server", dimension=dimension, input_px=side_px, spacings_um=(),
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="area", extra="", licence=Licence("none"),
        source=url, revision="1", weights_sha256="", preprocessing_version=1, remote=True,
    )  # fmt: skip
    more.setdefault("credentials", Credentials("bearer", secret="env:SLIDEWIRE_TEST_TOKEN"))
    more.setdefault("timeouts", Timeouts(connect_s=2.0, read_s=2.0, total_s=5.0, pool_s=5.0))
    return RemoteModel(spec, Endpoint(url, "remote", **more))


@pytest.fixture
def encoder(server: StrictServer, service: PathFoundation, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """Give the encoder behind the server."""
    del service
    monkeypatch.setenv("SLIDEWIRE_TEST_TOKEN", _TOKEN)
    return model(f"{server.url}/predict").load(None, {})


def _fails(encoder: Encoder, pixels: NDArray[np.uint8] = _PATCHES) -> SlidewireError:
    with pytest.raises(SlidewireError) as caught:
        encoder.encode(pixels)
    for secret in (_TOKEN, _CANARY, "127.0.0.1", "canary"):
        assert secret not in str(caught.value)
    return caught.value


def _spoiled(service: PathFoundation, spoil: Callable[[list[Any]], object]) -> Callable[[Asked], Reply]:
    """Return the service with its list of a request's embeddings spoilt."""

    def reply(asked: Asked) -> Reply:
        said = json.loads(service(asked).body)
        spoil(said["predictions"][0]["result"]["patch_embeddings"])
        return Reply(200, json.dumps(said).encode(), _JSON)

    return reply


class TestFaults:
    """What goes wrong, and what it is called."""

    @pytest.mark.parametrize(
        ("reply", "error", "times"),
        [
            (Reply(500, _CANARY.encode()), EndpointFailed, 4),
            (Reply(429, _CANARY.encode()), EndpointBusy, 4),
            (Reply(503, headers={"Retry-After": "3600"}), EndpointBusy, 1),
            (Reply(reset=True), EndpointUnreachable, 4),
            (Reply(200, b'{"predictions": []}', _JSON, cut=5), EndpointUnreachable, 4),
            (Reply(401, _CANARY.encode()), AccessDenied, 1),
            (Reply(403, _CANARY.encode()), AccessDenied, 1),
            (Reply(400, _CANARY.encode()), ResponseInvalid, 1),
            (Reply(404, _CANARY.encode()), ResponseInvalid, 1),
            (Reply(302, headers={"Location": f"http://{_CANARY}/"}), ResponseInvalid, 1),
        ],
    )
    def test_statuses_and_lines(
        self, server: StrictServer, encoder: Encoder, reply: Reply, error: type, times: int
    ) -> None:
        """What may pass is tried again, a bounded number of times; what will not is said at once."""
        server.replies = [reply]
        found = _fails(encoder, _PATCHES[:1])
        assert type(found) is error
        assert len(server.asked) == times

    def test_a_failure_that_passes_is_no_failure(
        self, server: StrictServer, service: PathFoundation, encoder: Encoder
    ) -> None:
        """After a failure, a busy moment and a broken connection the embeddings come, each in its place."""
        server.replies = [Reply(500), Reply(429), Reply(reset=True), service]
        assert np.array_equal(encoder.encode(_PATCHES).matrix, np.stack([embedding_of(one) for one in _PATCHES]))

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            ("INVALID_CREDENTIALS_ERROR", AccessDenied),
            ("UNAPPROVED_GCS_BUCKET_ERROR", AccessDenied),
            ("PATCH_DIMENSIONS_DO_NOT_MATCH_ENDPOINT_INPUT_DIMENSIONS_ERROR", SettingsInvalid),
            ("HTTP_ERROR", EndpointFailed),
            ("INVALID_REQUEST_FIELD_ERROR", ResponseInvalid),
            (_CANARY, ResponseInvalid),
            (7, ResponseInvalid),
            ([], ResponseInvalid),
        ],
    )
    @pytest.mark.parametrize("form", ["text", "object", "instance"])
    def test_codes_of_the_contract(
        self, server: StrictServer, encoder: Encoder, code: object, error: type, form: str
    ) -> None:
        """A code that comes with status 200, for all of a request or an image, is an error, and not asked about again.

        EZ-WSI asks for ever if the code is INVALID_CREDENTIALS_ERROR.
        """
        said: Any = {"error": code if form == "text" else {"code": code, "description": _CANARY}}
        said = {"predictions": [said]} if form == "instance" else said
        server.replies = [Reply(200, json.dumps(said).encode(), _JSON)]
        assert type(_fails(encoder, _PATCHES[:1])) is error
        assert len(server.asked) == 1

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>PATIENT^NAME</html>", b"", b"null", b"[]", b"7", b"{}", b'{"predictions": null}',
            b'{"predictions": []}', b'{"predictions": [7]}', b'{"predictions": [{}]}',
            b'{"predictions": [{"result": 7}]}',
            b'{"predictions": [{"result": {"patch_embeddings": [7]}}]}',
            b'{"predictions": [{"result": {"patch_embeddings": []}}, {}]}', b"[" * 100_000, b"\xff\xfe",
        ],
    )  # fmt: skip
    def test_what_is_no_answer(self, server: StrictServer, encoder: Encoder, body: bytes) -> None:
        """HTML, other JSON, nested for ever or no text at all: the answer is refused, in our words."""
        server.replies = [Reply(200, body, _JSON)]
        assert type(_fails(encoder, _PATCHES[:1])) is ResponseInvalid

    @pytest.mark.parametrize(
        "spoil",
        [
            list.pop,
            lambda rows: rows.append(copy.deepcopy(rows[0])),
            list.reverse,
            lambda rows: rows[1]["embedding_vector"].pop(),
            lambda rows: rows[1].update(embedding_vector=7.0),
            lambda rows: rows[1].update(embedding_vector=["1"] * DIMENSION),
            lambda rows: rows[1].update(embedding_vector=[True] * DIMENSION),
            lambda rows: rows[1].update(embedding_vector=[[1.0], 2.0]),
            lambda rows: rows[1]["embedding_vector"].__setitem__(5, float("nan")),
            lambda rows: rows[1]["embedding_vector"].__setitem__(5, float("inf")),
            lambda rows: rows[1]["embedding_vector"].__setitem__(5, 1e300),
            lambda rows: rows[1]["patch_coordinate"].update(x_origin=64),
            lambda rows: rows[1].pop("patch_coordinate"),
            lambda rows: rows[1].pop("embedding_vector"),
        ],
    )
    def test_rows_that_are_not_the_patches(
        self, server: StrictServer, service: PathFoundation, encoder: Encoder, spoil: Callable[[list[Any]], object]
    ) -> None:
        """Too few or many, another order, another dimension, text, NaN: nothing of it is taken."""
        server.replies = [_spoiled(service, spoil)]
        assert type(_fails(encoder, _PATCHES[:3])) is ResponseInvalid

    def test_another_size_and_another_dimension_than_the_servers(
        self, server: StrictServer, service: PathFoundation, encoder: Encoder
    ) -> None:
        """What the settings say of size and dimension is not what the server takes and gives: both are named."""
        del encoder
        found = _fails(model(f"{server.url}/predict", side_px=32).load(None, {}))
        assert type(found) is SettingsInvalid
        assert "32 px" in found.message
        found = _fails(model(f"{server.url}/predict", dimension=768).load(None, {}))
        assert "768 numbers" in found.message
        assert service.counts

    def test_a_server_that_says_nothing(self, server: StrictServer, encoder: Encoder) -> None:
        """It is waited for as long as the settings say, and no longer; EZ-WSI waits for ever."""
        del encoder
        server.replies = [Reply(silent=True)]
        quick = Timeouts(connect_s=2.0, read_s=0.2, total_s=5.0, pool_s=5.0)
        assert type(_fails(model(server.url, timeouts=quick).load(None, {}))) is EndpointUnreachable

    def test_nobody_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that is not there is said to be so."""
        monkeypatch.setenv("SLIDEWIRE_TEST_TOKEN", _TOKEN)
        encoder = model(f"http://127.0.0.1:{free_port()}/predict").load(None, {})
        assert type(_fails(encoder, _PATCHES[:1])) is EndpointUnreachable

    def test_a_token_that_is_not_there(self, server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A secret that refers to nothing is found before anything is sent."""
        monkeypatch.delenv("SLIDEWIRE_TEST_TOKEN", raising=False)
        with pytest.raises(SettingsInvalid, match="SLIDEWIRE_TEST_TOKEN"):
            model(server.url).load(None, {})
        assert server.asked == []

    def test_a_wrong_token(self, server: StrictServer, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token that the server does not take is refused access, and repeated nowhere."""
        del encoder
        monkeypatch.setenv("SLIDEWIRE_TEST_TOKEN", "canary-wrong")
        found = _fails(model(f"{server.url}/predict").load(None, {}))
        assert type(found) is AccessDenied

    def test_options_and_weights_it_has_not(self, server: StrictServer) -> None:
        """An option that no encoder has, and weights, are refused."""
        with pytest.raises(RequestError, match="tile"):
            model(server.url).settle({"tile": "1"})
        with pytest.raises(WeightsInvalid, match="leave --weights out"):
            model(server.url).weights(Path("any.pt"))
        assert model(server.url).weights(None) is None


class TestRequests:
    """What is sent."""

    def test_pixels_arrive_as_they_are(self, service: PathFoundation, encoder: Encoder) -> None:
        """Every patch arrives, once, to the bit, and its embedding comes back at its place."""
        found = encoder.encode(_PATCHES).matrix
        assert sorted(one.tobytes() for one in service.patches) == sorted(one.tobytes() for one in _PATCHES)
        assert found.dtype == np.float32
        assert np.array_equal(found, np.stack([embedding_of(one) for one in _PATCHES]))

    def test_many_requests_under_way_keep_their_order(
        self, server: StrictServer, service: PathFoundation, encoder: Encoder
    ) -> None:
        """Several connections carry the requests; the rows come back in the order of the patches."""
        del encoder
        service.most_patches = 1
        several = model(f"{server.url}/predict", connections=4).load(None, {})
        expected = np.stack([embedding_of(one) for one in _PATCHES])
        for _ in range(3):
            assert np.array_equal(several.encode(_PATCHES).matrix, expected)
        assert 1 < server.connections <= 4

    @pytest.mark.parametrize("most", [1, 3, 5])
    def test_fewer_patches_where_the_server_wants_fewer(
        self, service: PathFoundation, encoder: Encoder, most: int
    ) -> None:
        """A request that holds too many is halved until it does not, and stays so."""
        service.most_patches = most
        expected = np.stack([embedding_of(one) for one in _PATCHES])
        assert np.array_equal(encoder.encode(_PATCHES).matrix, expected)
        service.counts.clear()
        encoder.encode(_PATCHES)
        assert max(service.counts) <= most
        assert sum(service.counts) == len(_PATCHES)

    def test_smaller_requests_where_the_server_wants_smaller(self, service: PathFoundation, encoder: Encoder) -> None:
        """Status 413 is answered with smaller requests; one patch that is too large ends it."""
        service.most_bytes = 70_000
        assert len(encoder.encode(_PATCHES)) == len(_PATCHES)
        service.most_bytes = 1000
        assert "one patch" in _fails(encoder).message

    @pytest.mark.parametrize("side_px", [32, 64, 224, 400, 512, 560])
    def test_requests_stay_within_the_bound(
        self, server: StrictServer, monkeypatch: pytest.MonkeyPatch, side_px: int
    ) -> None:
        """Not even noise, which cannot be packed, makes a request of over 1.3 MB or 100 patches."""
        monkeypatch.setenv("SLIDEWIRE_TEST_TOKEN", _TOKEN)
        server.replies = [service := PathFoundation(token=_TOKEN, side_px=side_px)]
        count = 2 * patches_a_request(side_px) + 1
        noise = np.random.default_rng(1).integers(0, 256, (count, side_px, side_px, 3), np.uint8)
        encoder = model(f"{server.url}/predict", side_px).load(None, {})
        assert np.array_equal(encoder.encode(noise).matrix, np.stack([embedding_of(one) for one in noise]))
        assert max(len(asked.body) for asked in server.asked) <= 1_300_000
        assert max(service.counts) <= 100
        assert len(service.counts) == 3

    def test_a_patch_that_fits_into_no_request(self) -> None:
        """Beyond a size, not one patch fits."""
        assert patches_a_request(560) == 1
        assert patches_a_request(600) == 0

    @pytest.mark.parametrize("side", [32, 100, 128])
    def test_other_sizes_are_brought_to_the_servers(self, service: PathFoundation, encoder: Encoder, side: int) -> None:
        """Patches of another size are resized first; a plain colour stays what it is."""
        plain = np.full((2, side, side, 3), (180, 90, 150), np.uint8)
        found = encoder.encode(plain).matrix
        assert [one.shape for one in service.patches] == [(64, 64, 3)] * 2
        assert np.array_equal(found, np.stack([embedding_of(one) for one in service.patches]))
        assert (service.patches[0] == (180, 90, 150)).all()

    def test_only_the_header_knows_the_token(self, server: StrictServer, encoder: Encoder) -> None:
        """The token is in the header of each request, and in no body: the server needs none to read the pixels."""
        encoder.encode(_PATCHES[:2])
        for asked in server.asked:
            assert asked.headers["authorization"] == f"Bearer {_TOKEN}"
            assert _TOKEN.encode() not in asked.body
            assert b"bearer_token" not in asked.body

    def test_equal_models_are_equal(self, server: StrictServer) -> None:
        """The same declaration twice is the same model; another address is another."""
        assert model(server.url) == model(server.url)
        assert model(server.url) != model(f"{server.url}/other")
