"""Weights come from the hub whole and checked, or not at all; what broke off goes on; the token is never said."""

import hashlib
import json
import logging
import os
import shutil
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import stamina

from connectors import http
from connectors.endpoints import Timeouts
from connectors.hub_access import HubAccess
from connectors.weights_fetch import Fetched, Watched, fetch_weights
from models.domain.errors import (
    AccessDenied,
    EndpointBusy,
    EndpointFailed,
    EndpointUnreachable,
    ExtraMissing,
    OutputUnavailable,
    OutputUnwritable,
    RequestError,
    ResponseInvalid,
    SettingsInvalid,
    SlidewireError,
    WeightsInvalid,
)
from models.encoders.pixel_grid import MODEL
from models.encoders.protocol import Hub
from models.encoders.weights.digest import weights_digest
from models.encoders.weights.published import find_weights
from models.encoders.weights.store import LOCK
from tests.services.http import Reply, StrictServer
from tests.services.hub import HubServer, Repository
from tests.services.ports import free_port, wait_until

_TOKEN = "hf_s3cr3tT0k3n"
_NAME = "owner/net"
_CONTENT = bytes(range(256)) * 8000  # 2 MB: more than one piece
_SHA = hashlib.sha256(_CONTENT).hexdigest()
_SMALL = b'{"width": 3}'
_SPEC = replace(MODEL.spec, name="net", revision="main", hub=Hub(_NAME, ("model.bin",)))
_WHOLE = replace(_SPEC, hub=Hub(_NAME, ("*.bin", "sub/*")))
_QUICK = Timeouts(connect_s=2.0, read_s=1.0, total_s=30.0, least_bytes_s=0.0)


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Retry as often as ever, without waiting between."""
    with stamina.set_testing(True, attempts=http._ATTEMPTS, cap=True):
        yield


@dataclass
class Fetching:
    """A fetch that can be repeated, and what it said."""

    hub: HubServer
    store: Path
    token: str = ""
    timeouts: Timeouts = _QUICK
    said: list[str] = field(default_factory=list)
    counted: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, spec: object = _SPEC, revision: str = "", url: str = "") -> Fetched:
        """Fetch."""
        access = HubAccess(url or self.hub.url, self.token, self.timeouts)
        watched = Watched(self.said.append, lambda done, total: self.counted.append((done, total)))
        return fetch_weights(spec, self.store, access, revision, watched)  # type: ignore[arg-type]

    def fails(self, kind: type[SlidewireError], match: str, spec: object = _SPEC, revision: str = "") -> str:
        """Fetch, which must fail so, leave nothing that is used, and not say the token."""
        with pytest.raises(kind, match=match) as caught:
            self(spec, revision)
        assert type(caught.value) is kind
        assert "\n" not in caught.value.message
        texts = [caught.value.message, repr(caught.value), repr(caught.value.__cause__), *self.said]
        assert not [text for text in texts if _TOKEN in text or "Signature" in text]
        with pytest.raises(WeightsInvalid):
            find_weights(_SPEC, None, self.store)
        return caught.value.message

    @property
    def bytes(self) -> int:
        """What the store has sent so far."""
        return self.hub.sent


@pytest.fixture
def fetch(hub: HubServer, tmp_path: Path) -> Fetching:
    """Give a fetch from a hub that holds one repository with two large files and a small one."""
    files = {
        "model.bin": _CONTENT,
        "other.txt": b"x" * 5000,
        "sub/config.json": _SMALL,
        "sub/empty": b"",
        ".hidden.bin": b"no",
    }
    hub.repositories[_NAME] = Repository(files)
    return Fetching(hub, tmp_path / "store")


def test_one_file(fetch: Fetching) -> None:
    """The file is there, byte for byte; the lock says what it is; only it was asked for; the commit is said."""
    fetched = fetch()
    commit = fetch.hub.repositories[_NAME].commit
    assert fetched.path.read_bytes() == _CONTENT
    assert fetched.path == find_weights(_SPEC, None, fetch.store)
    assert not fetched.already
    lock = json.loads((fetch.store / "net" / LOCK).read_text())
    assert lock.pop("fetched_at").endswith("+00:00")
    facts = {"model.bin": {"sha256": _SHA, "bytes": len(_CONTENT)}}
    assert lock == {"repository": _NAME, "revision": commit, "asked": "", "files": facts, "sha256": _SHA}
    assert fetch.said == [f"{_NAME}: main is commit {commit}"]
    assert fetch.counted[-1] == (len(_CONTENT), len(_CONTENT))
    assert fetch.bytes == len(_CONTENT)
    assert not [path for _, path in fetch.hub.asked if "other" in path or "config" in path]


def test_a_folder(fetch: Fetching) -> None:
    """Patterns bring all that they fit, large and small, in their places; hidden files are not the model's."""
    fetched = fetch(_WHOLE)
    files = {path.relative_to(fetched.path).as_posix() for path in fetched.path.rglob("*") if path.is_file()}
    assert files == {"model.bin", "sub/config.json", "sub/empty"}
    assert (fetched.path / "sub" / "config.json").read_bytes() == _SMALL
    assert fetched.lock.sha256 == weights_digest(fetched.path)
    assert fetched.lock.files["sub/config.json"].sha256 == hashlib.sha256(_SMALL).hexdigest()


def test_a_second_fetch_asks_nobody(fetch: Fetching) -> None:
    """What is here is here, even without a network."""
    first = fetch()
    fetch.hub.stop()
    again = fetch()
    assert again == replace(first, already=True)


def test_loading_asks_nobody(fetch: Fetching) -> None:
    """With the hub gone, weights are found, and their digest is the lock's."""
    lock = fetch().lock
    fetch.hub.stop()
    assert weights_digest(find_weights(_SPEC, None, fetch.store)) == lock.sha256


@pytest.mark.parametrize("damage", [b"", _CONTENT[:-1], _CONTENT[:-1] + b"?", None])
def test_a_second_fetch_repairs(fetch: Fetching, damage: bytes | None) -> None:
    """A file that is gone, short or changed comes again."""
    path = fetch().path
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert not fetch().already
    assert path.read_bytes() == _CONTENT


def test_only_what_is_missing_comes_again(fetch: Fetching) -> None:
    """Of several files, the sound ones stay."""
    path = fetch(_WHOLE).path
    (path / "sub" / "config.json").write_bytes(_SMALL[::-1])
    before = fetch.bytes
    assert not fetch(_WHOLE).already
    assert (path / "sub" / "config.json").read_bytes() == _SMALL
    assert fetch.bytes == before


def test_another_revision_on_purpose(fetch: Fetching) -> None:
    """It replaces the one before only when it is whole, is kept by its commit, and asked for again it is here."""
    old = fetch()
    newer = _CONTENT[::-1]
    fetch.hub.repositories[_NAME] = Repository({"model.bin": newer}, commit="b" * 40)
    assert fetch().already
    fetch.hub.faults.refusals = [403] * 20
    with pytest.raises(EndpointFailed):
        fetch(revision="main")
    assert find_weights(_SPEC, None, fetch.store) == old.path
    fetch.hub.faults.refusals = []
    new = fetch(revision="main")
    assert (new.lock.revision, new.lock.asked, new.already) == ("b" * 40, "main", False)
    assert find_weights(_SPEC, None, fetch.store).read_bytes() == newer
    assert fetch(revision="main").already
    own = fetch()
    assert (own.already, own.lock.asked) == (False, "")
    assert old.path.read_bytes() == _CONTENT


def test_a_line_that_breaks_again_and_again(fetch: Fetching) -> None:
    """Each try goes on where the one before broke off, as long as each brings something; no byte comes twice."""
    fetch.hub.faults.cuts = [250_000] * 7
    assert fetch().path.read_bytes() == _CONTENT
    assert fetch.bytes == len(_CONTENT)
    assert fetch.hub.ranges == ["", *(f"bytes={250_000 * n}-" for n in range(1, 8))]


def test_a_line_that_is_dead(fetch: Fetching) -> None:
    """After a few tries that bring nothing it is given up; the next fetch goes on from there."""
    fetch.hub.faults.cuts = [300_000, 0, 0, 0, 0]
    fetch.fails(EndpointUnreachable, "hub 127")
    assert fetch().path.read_bytes() == _CONTENT
    assert fetch.hub.ranges[-1] == "bytes=300000-"
    assert fetch.bytes == len(_CONTENT)


def test_a_silent_server(fetch: Fetching) -> None:
    """Bytes that stop coming are waited for as long as the settings say, then asked for again."""
    fetch.hub.faults.hold_at = 300_000
    fetch.timeouts = replace(_QUICK, read_s=0.3)
    assert fetch().path.read_bytes() == _CONTENT
    assert fetch.hub.ranges == ["", "bytes=300000-"]


def test_a_store_without_ranges(fetch: Fetching) -> None:
    """It sends the whole file again, which is not put behind its beginning."""
    fetch.hub.faults.cuts = [300_000]
    fetch.hub.faults.no_ranges = True
    assert fetch().path.read_bytes() == _CONTENT


@pytest.mark.parametrize("length", [len(_CONTENT), len(_CONTENT) + 5])
def test_a_beginning_that_is_too_long(fetch: Fetching, length: int) -> None:
    """What is left of another file, as long or longer, does not become this one."""
    part = fetch.store / "net" / ("a" * 40) / ".model.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * length)
    if length == len(_CONTENT):
        fetch.fails(WeightsInvalid, "digest differs")
    assert fetch().path.read_bytes() == _CONTENT


def test_a_beginning_that_the_store_does_not_go_on_with(fetch: Fetching) -> None:
    """It is thrown away, and the file comes from its first byte."""
    part = fetch.store / "net" / ("a" * 40) / ".model.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 5)
    fetch.hub.faults.refusals = [416]
    assert fetch().path.read_bytes() == _CONTENT
    assert fetch.hub.ranges == [""]


def test_other_bytes_than_declared(fetch: Fetching) -> None:
    """They are thrown away, and the next fetch begins anew."""
    fetch.hub.faults.other_bytes = True
    fetch.fails(WeightsInvalid, r"model\.bin is not what the hub declares")
    assert not [path for path in fetch.store.rglob("*") if path.is_file() and path.name != ".lock"]
    fetch.hub.faults.other_bytes = False
    assert fetch().path.read_bytes() == _CONTENT


def test_the_digest_that_the_encoder_declares(fetch: Fetching) -> None:
    """Other weights than the known ones are refused before a byte of them; the known ones are taken."""
    fetch.fails(WeightsInvalid, f"begins with {_SHA[:12]}, not 00000000", replace(_SPEC, weights_sha256="0" * 64))
    assert fetch.bytes == 0
    assert fetch(replace(_SPEC, weights_sha256=_SHA)).lock.sha256 == _SHA


def test_the_digest_of_a_folder_that_the_encoder_declares(fetch: Fetching) -> None:
    """It is known only when all is here, and then nothing of it stays."""
    fetch.fails(WeightsInvalid, "not 00000000", replace(_WHOLE, weights_sha256="0" * 64))
    assert not list(fetch.store.rglob("*.bin"))


def test_a_gated_model_without_a_token(fetch: Fetching) -> None:
    """The message says where to agree, and where the token goes."""
    fetch.hub.repositories[_NAME] = replace(fetch.hub.repositories[_NAME], gated=True)
    said = fetch.fails(AccessDenied, "agree to the licence")
    assert f"{fetch.hub.url}/{_NAME}" in said
    assert "HF_TOKEN" in said


def test_a_gated_model_with_a_token(fetch: Fetching, caplog: pytest.LogCaptureFixture) -> None:
    """One that is unknown, one whose account did not agree, one that did; the store never sees a token."""
    caplog.set_level(logging.DEBUG)
    fetch.hub.repositories[_NAME] = replace(fetch.hub.repositories[_NAME], gated=True)
    fetch.token = _TOKEN
    fetch.fails(AccessDenied, "does not know the token in HF_TOKEN")
    fetch.hub.members[_TOKEN] = set()
    assert f"{fetch.hub.url}/{_NAME}" in fetch.fails(AccessDenied, r"to the account .*agree to the licence")
    fetch.hub.members[_TOKEN] = {_NAME}
    assert fetch().path.read_bytes() == _CONTENT
    assert _TOKEN not in caplog.text
    assert not [path for path in fetch.store.rglob("*") if path.is_file() and _TOKEN.encode() in path.read_bytes()]


def test_the_token_is_not_shown_with_the_settings() -> None:
    """Not in words, and not in a traceback's."""
    assert _TOKEN not in repr(HubAccess("https://hub.test", _TOKEN))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hub": Hub("owner/none", ("model.bin",))}, "owner/none"),
        ({"hub": Hub(_NAME, ("absent.bin",))}, "There is no absent.bin"),
        ({"hub": Hub(_NAME, ("../*",))}, "There is no"),
        ({"revision": "v9"}, "no revision 'v9'"),
        ({"hub": None}, "no weights on the hub"),
    ],
)
def test_what_the_hub_does_not_have(fetch: Fetching, change: dict[str, object], says: str) -> None:
    """A repository, revision or file that is not there is said by its name."""
    fetch.token = _TOKEN
    fetch.hub.members[_TOKEN] = set()
    fetch.fails(RequestError, says, replace(_SPEC, **change))  # type: ignore[arg-type]


def test_names_that_lead_outside(fetch: Fetching) -> None:
    """A repository that names files outside itself writes nothing there."""
    fetch.hub.repositories[_NAME] = Repository({"../../evil.bin": _CONTENT, "/evil.bin": _CONTENT, "good.bin": b"1"})
    fetched = fetch(replace(_SPEC, hub=Hub(_NAME, ("*.bin", "good.*"))))
    assert list(fetched.lock.files) == ["good.bin"]
    assert not list(fetch.store.parent.rglob("evil.bin"))


def test_no_network(fetch: Fetching) -> None:
    """Nobody there: one error, worth another try."""
    fetch.hub.stop()
    with pytest.raises(EndpointUnreachable, match="cannot be reached"):
        fetch(url=f"http://127.0.0.1:{free_port()}")


def test_a_busy_hub(fetch: Fetching) -> None:
    """It is asked again a few times, then believed."""
    fetch.hub.faults.busy = 2
    assert fetch().path.read_bytes() == _CONTENT
    fetch.hub.faults.busy = 50
    with pytest.raises(EndpointBusy, match="503"):
        fetch(revision="main")


def test_a_link_that_got_old(fetch: Fetching) -> None:
    """The hub is asked for a new one; a store that goes on refusing is no question of the token."""
    fetch.hub.faults.refusals = [403, 500, 416]
    assert fetch().path.read_bytes() == _CONTENT
    shutil.rmtree(fetch.store)
    fetch.hub.faults.refusals = [403] * 20
    fetch.fails(EndpointFailed, r"keeps model\.bin where it cannot be read")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>Sign in</html>", {"Content-Type": "text/html"}),
        Reply(200, b"[]", {"Content-Type": "application/json"}),
        Reply(200, b"{}", {"Content-Type": "application/json"}),
        Reply(200, b'{"id": "owner/net", "sha": "../..", "siblings": []}', {"Content-Type": "application/json"}),
        Reply(200, b'{"id": "owner/net", "sha": "%s", "siblings": [{}]}' % (b"a" * 40,)),
    ],
)
def test_something_else_than_a_hub(fetch: Fetching, server: StrictServer, reply: Reply) -> None:
    """A login page or another service is named as what it is."""
    server.replies = [reply]
    with pytest.raises(ResponseInvalid, match="HF_ENDPOINT"):
        fetch(url=server.url)


@pytest.mark.parametrize(
    ("url", "token", "says"),
    [
        ("ftp://hub.test", "", "HF_ENDPOINT"),
        ("http://user:hf_s3cr3tT0k3n@hub.test", "", "HF_ENDPOINT"),
        ("http://hub.test?token=hf_s3cr3tT0k3n", "", "HF_ENDPOINT"),
        ("", "hf_s3cr3tT0k3n\nX-Evil: 1", "HF_TOKEN"),
        ("", "hf_s3cr3tT0k3n ä", "HF_TOKEN"),
    ],
)
def test_settings_that_cannot_be_used(fetch: Fetching, url: str, token: str, says: str) -> None:
    """The message names the variable and does not show it; nobody is asked."""
    fetch.token = token
    with pytest.raises(SettingsInvalid, match=says) as caught:
        fetch(url=url)
    assert _TOKEN not in repr(caught.value)
    assert fetch.hub.asked == []


def test_a_disk_that_is_too_small(fetch: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before the first byte, with how much is needed."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - what shutil returns
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1_000_000))
    fetch.fails(OutputUnavailable, "0.00 GB are free")
    assert fetch.bytes == 0


def test_a_disk_that_fills_up(fetch: Fetching) -> None:
    """A disk that fails in the middle is one error, and no weights; what is there is gone on with."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, limits[1]))
    try:
        fetch.fails(OutputUnavailable, "cannot be written into the folder of weights")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert fetch().path.read_bytes() == _CONTENT
    assert fetch.hub.ranges[-1].startswith("bytes=")


def test_a_store_that_is_no_folder(fetch: Fetching) -> None:
    """What cannot ever be written to is not tried again."""
    fetch.store.write_bytes(b"")
    with pytest.raises(OutputUnwritable):
        fetch()


def test_two_at_once(fetch: Fetching) -> None:
    """The second waits for the first, says so, and finds the weights here."""
    fetch.hub.faults.hold_at = 300_000
    fetch.timeouts = replace(_QUICK, read_s=60.0)
    second = Fetching(fetch.hub, fetch.store)
    done: list[Fetched] = []
    threads = [threading.Thread(target=lambda one=one: done.append(one())) for one in (fetch, second)]
    threads[0].start()
    assert fetch.hub.held.wait(20.0)
    threads[1].start()
    wait_until(lambda: any("waiting" in text for text in second.said), "the second to say that it waits")
    fetch.hub.released.set()
    for thread in threads:
        thread.join(30.0)
    assert [one.already for one in done] == [False, True]
    assert done[0].path.read_bytes() == _CONTENT
    assert fetch.bytes == len(_CONTENT)


@pytest.mark.parametrize("module", ["huggingface_hub", "filelock"])
def test_an_extra_that_is_missing(fetch: Fetching, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """The message names it."""
    monkeypatch.setitem(sys.modules, module, None)
    fetch.fails(ExtraMissing, r"pip install 'slidewire\[hub\]'")


def test_no_more_is_said_to_the_hub_than_needed(
    fetch: Fetching, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is asked besides what is needed, no list of what is installed is given, ~/.netrc is not read."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\nmachine localhost login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fetch()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert {path.split("/")[1] for _, path in fetch.hub.asked} == {"api", "owner", "blobs"}
    assert not [agent for agent in fetch.hub.agents if "torch" in agent or "agent/" in agent]
