"""Frames from servers that refuse forms or numbers, mix up what they send, or do not stop sending."""

import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import stamina
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors import http
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoint, Timeouts
from connectors.negotiation import FRAME_FORMS
from connectors.profile import Profile
from models.domain.errors import EndpointUnreachable, FrameMissing, ResponseInvalid, SlidewireError
from tests.services.dialects.accept import Part, multipart
from tests.services.http import Asked, Reply, StrictServer

_QUICK = Timeouts(connect_s=2.0, read_s=2.0, total_s=5.0, pool_s=5.0)
_STUDY, _SERIES, _INSTANCE = "1.2.826.0.1", "1.2.826.0.2", "1.2.826.0.3"
_BELOW = f"/dicom-web/studies/{_STUDY}/series/{_SERIES}/instances/{_INSTANCE}"
_NATIVE = 300
_DEFAULT, _SINGLE = FRAME_FORMS[0].accept, "application/octet-stream; transfer-syntax=*"
_JPEG = "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50"


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Let retries follow one another at once, as many as there are in earnest."""
    with stamina.set_testing(True, attempts=http._ATTEMPTS, cap=True):
        yield


def _endpoint(server: StrictServer, **more: Any) -> Endpoint:
    return Endpoint(f"{server.url}/dicom-web", "pacs", timeouts=_QUICK, **more)


@pytest.fixture
def web(server: StrictServer) -> Iterator[DicomWeb]:
    """Talk to the server as one that nothing is known of."""
    one = DicomWeb(_endpoint(server))
    yield one
    one.session.close()


def _frame(number: int) -> bytes:
    return b"\xff\xd8\xff\xdb" + f"frame {number}".encode() + b"\xff\xd9"


def _numbers(asked: Asked) -> list[int]:
    return [int(number) for number in asked.path.rpartition("/")[2].split(",")]


def _reply(parts: Sequence[Part]) -> Reply:
    answer = multipart(parts, "image/jpeg")
    return Reply(answer.status, answer.body, answer.headers)


def _good(asked: Asked) -> Reply:
    return _reply([Part(_JPEG, _frame(number)) for number in _numbers(asked)])


def _located(number: int, instance: str = _INSTANCE, body: int | None = None) -> Part:
    place = f"http://internal:8080{_BELOW.replace(_INSTANCE, instance)}/frames/{number}"
    return Part(_JPEG, _frame(number if body is None else body), {"Content-Location": place})


def _fetch(web: DicomWeb, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
    path = dicom_path.FromString(web.session.endpoint.url + _BELOW.removeprefix("/dicom-web"))
    return [(number, bytes(part.data)) for number, part in web.frames(path, numbers, _NATIVE)]


def _right(numbers: Sequence[int]) -> list[tuple[int, bytes]]:
    return [(number, _frame(number)) for number in numbers]


def _sizes(server: StrictServer) -> list[int]:
    return [len(_numbers(asked)) for asked in server.asked]


def _only(accepts: Callable[[str, int], bool], status: int) -> Callable[[Asked], Reply]:
    """Answer requests whose Accept and number of frames will do; refuse others with a status."""

    def answer(asked: Asked) -> Reply:
        accept, numbers = asked.headers["Accept"], _numbers(asked)
        if not accepts(accept, len(numbers)):
            return Reply(status)
        if accept.startswith("application/"):
            return Reply(200, _frame(numbers[0]), {"Content-Type": _JPEG})
        return _good(asked)

    return answer


# The form.


@pytest.mark.parametrize("status", [400, 406, 415])
@pytest.mark.parametrize("form", [form.accept for form in FRAME_FORMS if not form.single])
def test_the_form_that_the_server_knows_is_found(server: StrictServer, web: DicomWeb, form: str, status: int) -> None:
    """Whichever form a server takes and however it refuses others, frames come, and the next request knows."""
    server.replies = [_only(lambda accept, _: accept == form, status)]
    assert _fetch(web, [1, 2, 3]) == _right([1, 2, 3])
    before = len(server.asked)
    other = DicomWeb(web.session.endpoint)  # another job in the same process
    assert _fetch(other, [4, 5]) == _right([4, 5])
    other.session.close()
    assert len(server.asked) == before + 1
    assert server.asked[-1].headers["Accept"] == form


@pytest.mark.parametrize("status", [400, 406])
def test_a_server_of_single_parts(server: StrictServer, web: DicomWeb, status: int) -> None:
    """A server that gives one frame as one part, and no list, is asked for one frame at a time."""
    server.replies = [_only(lambda accept, count: accept == _SINGLE and count == 1, status)]
    assert _fetch(web, [1, 2, 3]) == _right([1, 2, 3])
    assert _sizes(server)[-2:] == [1, 1]
    assert web.mislabelled == set()


def test_a_server_that_only_decodes(server: StrictServer, web: DicomWeb) -> None:
    """Frames that the server decoded are taken if there are no others, and the slide's notes say so."""
    server.replies = [_only(lambda accept, _: accept == "*/*", 406)]
    assert _fetch(web, [1, 2]) == _right([1, 2])
    [note] = web.mislabelled
    assert "decoder" in note


@pytest.mark.parametrize(("status", "kind"), [(406, ResponseInvalid), (415, ResponseInvalid), (400, FrameMissing)])
def test_a_server_that_knows_no_form(
    server: StrictServer, web: DicomWeb, status: int, kind: type[SlidewireError]
) -> None:
    """When no form is answered there is one error; 400 to all of them may be about the frame."""
    server.replies = [Reply(status)]
    with pytest.raises(kind, match=str(status)):
        _fetch(web, [1, 2, 3])
    assert len(server.asked) <= 2 + len(FRAME_FORMS)


def test_a_form_that_fails_for_one_instance(server: StrictServer, web: DicomWeb) -> None:
    """A form that worked and is refused later (another transfer syntax) is replaced by one that is not."""
    server.replies = [_good]
    assert _fetch(web, [1]) == _right([1])
    second = FRAME_FORMS[1].accept
    server.replies = [_only(lambda accept, _: accept == second, 406)]
    assert _fetch(web, [2, 3]) == _right([2, 3])


def test_a_profile_is_where_it_starts(server: StrictServer) -> None:
    """With a profile the first request is right: form, and number of frames."""
    profile = Profile("", "", frame_accept="*/*", frame_pixels="server", most_frames=2)
    web = DicomWeb(_endpoint(server, profile=profile))
    server.replies = [_only(lambda accept, count: accept == "*/*" and count <= 2, 406)]
    assert _fetch(web, [1, 2, 3]) == _right([1, 2, 3])
    assert _sizes(server) == [2, 1]
    assert len(web.mislabelled) == 1
    web.session.close()


# The number of frames.


@pytest.mark.parametrize("status", [400, 413])
def test_too_many_frames_are_halved(server: StrictServer, web: DicomWeb, status: int) -> None:
    """A list that is refused is halved until it is taken; what was learnt is kept for the server."""
    server.replies = [_only(lambda _, count: count <= 5, status)]
    assert _fetch(web, range(1, 33)) == _right(range(1, 33))
    del server.asked[:]
    other = DicomWeb(web.session.endpoint)
    assert _fetch(other, range(1, 33)) == _right(range(1, 33))
    other.session.close()
    assert _sizes(server) == [4] * 8


@pytest.mark.parametrize("status", [414, 431])
def test_too_long_urls_are_halved(server: StrictServer, web: DicomWeb, status: int) -> None:
    """A URL that is refused for its length is shortened, and so are all that follow."""

    def answer(asked: Asked) -> Reply:
        return Reply(status) if len(asked.path) > len(_BELOW) + 60 else _good(asked)

    server.replies = [answer]
    numbers = range(10_000, 10_050)
    assert _fetch(web, numbers) == _right(numbers)
    del server.asked[:]
    assert _fetch(web, numbers) == _right(numbers)
    assert all(len(asked.path) <= len(_BELOW) + 60 for asked in server.asked)


def test_a_server_that_gives_some_of_many(server: StrictServer, web: DicomWeb) -> None:
    """A server that leaves out what is too much for it, without a word, is asked for less."""
    server.replies = [lambda asked: _reply([Part(_JPEG, _frame(number)) for number in _numbers(asked)[:3]])]
    assert _fetch(web, range(1, 13)) == _right(range(1, 13))
    del server.asked[:]
    assert _fetch(web, range(1, 13)) == _right(range(1, 13))
    assert max(_sizes(server)) <= 3


@pytest.mark.parametrize("status", [400, 404, 410])
def test_one_frame_is_missing(server: StrictServer, web: DicomWeb, status: int) -> None:
    """Those before the missing frame come, the error names it, is final, and teaches nothing wrong."""
    server.replies = [_good]
    _fetch(web, [1])
    server.replies = [lambda asked: Reply(status) if 7 in _numbers(asked) else _good(asked)]
    path = dicom_path.FromString(web.session.endpoint.url + _BELOW.removeprefix("/dicom-web"))
    found: list[int] = []
    with pytest.raises(FrameMissing, match="frame 7 ") as caught:
        found.extend(number for number, _ in web.frames(path, range(1, 11), _NATIVE))
    assert found == [1, 2, 3, 4, 5, 6]
    assert not caught.value.retryable
    assert _INSTANCE not in str(caught.value)
    del server.asked[:]
    assert _fetch(web, range(8, 28)) == _right(range(8, 28))
    assert _sizes(server) == [20]


def test_batches_keep_to_the_settings(server: StrictServer) -> None:
    """No request has more frames or a longer URL than the endpoint's settings allow."""
    web = DicomWeb(_endpoint(server, frames_per_request=7, url_characters=200))
    server.replies = [_good]
    numbers = [*range(1, 20), *range(100_000, 100_020)]
    assert _fetch(web, numbers) == _right(numbers)
    assert max(_sizes(server)) == 7
    assert all(len(server.url + asked.path) <= 200 for asked in server.asked)
    web.session.close()


# What comes.


@pytest.mark.parametrize(
    "spoiled",
    [
        Reply(200, b"<html>Dr Who, please log in</html>", {"Content-Type": "text/html"}),
        Reply(200, b"--e\r\nContent-Type: image/jpeg\r\n\r\ntorn", {"Content-Type": "multipart/related; boundary=e"}),
        _reply([]),
        _reply([Part(_JPEG, _frame(1)), Part(_JPEG, _frame(2))]),
        _reply([Part(_JPEG, b"")]),
        _reply([_located(1, "1.2.826.0.4")]),
        _reply([_located(2)]),
        Reply(200, _frame(1), {"Content-Type": _JPEG}, cut=3),
        Reply(reset=True),
    ],
    ids=["html", "torn", "none", "two", "empty", "another-instance", "another-frame", "cut", "reset"],
)
def test_spoiled_answers_are_tried_again(server: StrictServer, web: DicomWeb, spoiled: Reply) -> None:
    """One that is good after three that were not is taken; four that were not are one error."""
    server.replies = [spoiled, spoiled, spoiled, _good]
    assert _fetch(web, [1]) == _right([1])
    server.replies = [spoiled]
    del server.asked[:]
    with pytest.raises(SlidewireError) as caught:
        _fetch(web, [1])
    assert isinstance(caught.value, FrameMissing | ResponseInvalid | EndpointUnreachable)
    assert len(server.asked) == 4
    for secret in ("Who", _INSTANCE, "127.0.0.1", "internal"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("extra", [1, 100_000])
def test_more_parts_than_asked(server: StrictServer, web: DicomWeb, extra: int) -> None:
    """Parts that nobody asked for are an error, whether they fit into the bounds of the body or not."""
    body = [Part(_JPEG, _frame(n)) for n in range(1, 3 + extra)]
    server.replies = [_reply(body)]
    with pytest.raises(FrameMissing if extra == 1 else ResponseInvalid):
        _fetch(web, [1, 2])


def test_another_instances_frames(server: StrictServer, web: DicomWeb) -> None:
    """A part that says it belongs to another instance is refused, though its number and bytes look right."""
    server.replies = [lambda asked: _reply([_located(n, "1.2.826.0.4") for n in _numbers(asked)])]
    with pytest.raises(ResponseInvalid, match="another instance"):
        _fetch(web, [1, 2])


def test_parts_in_another_order(server: StrictServer, web: DicomWeb) -> None:
    """Parts that say which frame they are, are put in the order asked; one that says wrong is refused."""
    server.replies = [lambda asked: _reply([_located(n) for n in reversed(_numbers(asked))])]
    assert _fetch(web, [3, 5, 9]) == _right([3, 5, 9])
    server.replies = [lambda asked: _reply([_located(4) for _ in _numbers(asked)])]
    with pytest.raises(FrameMissing):
        _fetch(web, [3, 5, 9])


def test_only_some_parts_say_which_they_are(server: StrictServer, web: DicomWeb) -> None:
    """Where some parts have a Content-Location, each of those must be at its place."""
    server.replies = [_reply([_located(1), Part(_JPEG, _frame(2))])]
    assert _fetch(web, [1, 2]) == _right([1, 2])
    server.replies = [lambda asked: _reply([*(Part(_JPEG, _frame(1)) for _ in _numbers(asked)[1:]), _located(1)])]
    with pytest.raises(FrameMissing):
        _fetch(web, [1, 2])


@pytest.mark.parametrize(
    "location", ["", "frames/1", "/a/b", "http://[::1", f"{_BELOW}/frames/1,2", f"{_BELOW}/bulkdata/7FE00010"]
)
def test_locations_that_say_nothing(server: StrictServer, web: DicomWeb, location: str) -> None:
    """A Content-Location that names no single frame is passed over: the order decides."""
    server.replies = [
        lambda asked: _reply([Part(_JPEG, _frame(n), {"Content-Location": location}) for n in _numbers(asked)])
    ]
    assert _fetch(web, [1, 2]) == _right([1, 2])


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_larger_than_the_frames_could_be(
    server: StrictServer,
    web: DicomWeb,
    packed: bool,  # noqa: FBT001 - parameter
) -> None:
    """Ten times what two native frames take is given up at once, packed or not, though it is one good part each."""
    body = multipart([Part(_JPEG, bytes(1_000_000))] * 2, "image/jpeg")
    reply = Reply(200, body.body, body.headers)
    if packed:
        reply = replace(reply, body=gzip.compress(reply.body), headers={**reply.headers, "Content-Encoding": "gzip"})
    server.replies = [reply]
    with pytest.raises(ResponseInvalid, match="more than"):
        _fetch(web, [1, 2])
    assert len(server.asked) == 1


# Bulk data and whole instances.


@pytest.mark.parametrize(
    "uri",
    [
        "{base}/studies/1/bulk/2",
        "http://archive.internal:8080/other/rs/studies/1/bulk/2",
        "/dicom-web/studies/1/bulk/2",
        "studies/1/bulk/2",
    ],
)
def test_bulk_data_are_asked_of_this_server(server: StrictServer, web: DicomWeb, uri: str) -> None:
    """A Bulk Data URI that is relative, or names a host inside, is asked for at the configured address."""
    server.replies = [Reply(200, b"profile", {"Content-Type": "application/octet-stream"})]
    assert web.get_bulkdata(uri.format(base=web.session.endpoint.url)) == b"profile"
    assert server.asked[0].path == "/dicom-web/studies/1/bulk/2"


def test_bulk_data_elsewhere_are_not_asked_for(server: StrictServer, web: DicomWeb) -> None:
    """A Bulk Data URI of another host that names no study is refused; so is one of more than 64 MiB."""
    with pytest.raises(SlidewireError, match="another address"):
        web.get_bulkdata("http://169.254.169.254/latest/meta-data")
    assert server.asked == []


@pytest.mark.parametrize("status", [400, 406, 415])
@pytest.mark.parametrize("form", ['multipart/related; type="application/dicom"', "application/dicom"])
def test_whole_instances_in_any_form(server: StrictServer, web: DicomWeb, form: str, status: int) -> None:
    """A server that gives whole instances in another form than the usual one is asked in that, from then on."""

    def answer(asked: Asked) -> Reply:
        if asked.headers["Accept"] != form:
            return Reply(status)
        return Reply(200, b"DICM", {"Content-Type": "application/dicom"})

    server.replies = [answer]
    url = web.session.endpoint.url + "/studies/1/series/2/instances/3"
    assert web.instance(url) == b"DICM"
    before = len(server.asked)
    assert web.instance(url) == b"DICM"
    assert len(server.asked) == before + 1
    server.replies = [Reply(status)]
    with pytest.raises(ResponseInvalid, match=str(status)):
        web.instance(url)
