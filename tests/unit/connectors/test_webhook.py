"""The webhook against a receiver that checks signatures with the library that Standard Webhooks publishes."""

import base64
import json
import threading
import time
from dataclasses import replace

import pytest
from standardwebhooks import Webhook as Receiver

from connectors.endpoints import Endpoint, Timeouts
from connectors.webhook import Webhook, signing_key
from models.domain.errors import (
    AccessDenied,
    EndpointBusy,
    EndpointError,
    EndpointFailed,
    EndpointUnreachable,
    ResponseInvalid,
    SettingsInvalid,
    SlidewireError,
)
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.ports import free_port

SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
BODY = json.dumps({"type": "job.succeeded"}).encode()


def post(url: str, limit_s: float = 5.0, at: int | None = None) -> None:
    """Post a notice to an address."""
    timeouts = Timeouts(connect_s=limit_s, read_s=limit_s, total_s=limit_s)
    webhook = Webhook(Endpoint(url, "webhook", timeouts=timeouts), signing_key(SECRET))
    try:
        webhook.post("notice-1", BODY, int(time.time()) if at is None else at)
    finally:
        webhook.close()


def verified(asked: Asked) -> object:
    """Check a request as a receiver does; return what it says."""
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return Receiver(SECRET).verify(asked.body, headers)


def test_what_is_posted_can_be_verified() -> None:
    """The published library takes the signature, and finds the body; a changed body it does not take."""
    with hostile_server(lambda _: Answer(204)) as receiver:
        post(receiver.url)
    [asked] = receiver.asked
    assert verified(asked) == {"type": "job.succeeded"}
    assert asked.headers["Webhook-Id"] == "notice-1"
    assert asked.headers["Content-Type"] == "application/json"
    with pytest.raises(Exception, match="signature"):
        verified(replace(asked, body=asked.body.replace(b"succeeded", b"cancelled")))


def test_the_time_is_signed() -> None:
    """What was signed an hour ago is refused by the receiver's library."""
    with hostile_server(lambda _: Answer(200)) as receiver:
        post(receiver.url, at=int(time.time()) - 3600)
    with pytest.raises(Exception, match="too old"):
        verified(receiver.asked[0])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(301, headers={"Location": "http://127.0.0.1:1/"}), ResponseInvalid),
        (Answer(400, b"token=secret"), ResponseInvalid),
        (Answer(401), AccessDenied),
        (Answer(410), ResponseInvalid),
        (Answer(429, headers={"Retry-After": "7"}), EndpointBusy),
        (Answer(500), EndpointFailed),
        (Answer(503), EndpointBusy),
    ],
)
def test_what_is_not_taken_is_an_error(answer: Answer, error: type[SlidewireError]) -> None:
    """Any other answer than 2xx means that the notice was not taken; none is followed elsewhere, or shown."""
    with hostile_server(lambda _: answer) as receiver, pytest.raises(EndpointError) as caught:
        post(receiver.url)
    assert type(caught.value) is error
    assert "secret" not in caught.value.message
    assert len(receiver.asked) == 1
    if answer.status == 429:
        assert caught.value.retry_after_s == 7.0


def test_nobody_there() -> None:
    """An address that nobody listens at is unreachable."""
    with pytest.raises(EndpointUnreachable):
        post(f"http://127.0.0.1:{free_port()}/hook")


def test_a_receiver_that_hangs_is_left() -> None:
    """A receiver that never answers is given up in time."""
    released = threading.Event()

    def hang(_: Asked) -> Answer:
        released.wait(20.0)
        return Answer(200)

    with hostile_server(hang) as receiver:
        began = time.monotonic()
        with pytest.raises(EndpointUnreachable):
            post(receiver.url, limit_s=0.3)
        assert time.monotonic() - began < 10.0
        released.set()


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "hunter2hunter2hunter2hunter2",
        "whsec_???",
        f"whsec_{base64.b64encode(b'short').decode()}",
        base64.b64encode(bytes(range(32))).decode(),
        SECRET.upper()[:6] + SECRET[6:],
    ],
)
def test_a_secret_that_is_no_key_is_refused(secret: str) -> None:
    """The refusal names the setting and how to make a key, and never shows the secret."""
    with pytest.raises(SettingsInvalid) as caught:
        signing_key(secret)
    assert "webhook.secret" in caught.value.message
    assert "openssl" in caught.value.message
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in caught.value.message


def test_a_key_of_64_bytes_is_right_and_one_of_65_is_not() -> None:
    """The bounds are those of Standard Webhooks."""
    for size, good in ((23, False), (24, True), (64, True), (65, False)):
        secret = f"whsec_{base64.b64encode(bytes(size)).decode()}"
        if good:
            assert signing_key(secret) == bytes(size)
        else:
            with pytest.raises(SettingsInvalid):
                signing_key(secret)
