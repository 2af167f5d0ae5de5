"""`slidewire doctor`: what each server can do is found, said and kept; what is wrong is one line with a code."""

import json
import re
import ssl
from pathlib import Path

import pytest

from connectors.profile import ProfileFolder
from tests.services.certificates import Authority
from tests.services.command import Said, Slidewire
from tests.services.dialects.products import Dcm4chee
from tests.services.dialects.running import RunningDialect, running
from tests.services.dialects.server import TOKEN, Refusal
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.http import Reply, StrictServer
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs, assert_valid, fetch_instance, load, renamed
from tests.services.ports import free_port
from tests.services.slides import SlideOnDisk

_NAME = "SLIDEWIRE_ENDPOINTS__PACS__URL"
_UID = re.compile(r"[0-9]+(\.[0-9]+){4,}")  # of an instance; transfer syntaxes are no secret


def _uids(said: Said) -> set[str]:
    found = {match[0] for match in _UID.finditer(said.stdout + said.stderr)}
    return {uid for uid in found if not uid.startswith("1.2.840.10008.")}


def _profile(slidewire: Slidewire, url: str) -> object:
    return ProfileFolder(Path(slidewire.environment["SLIDEWIRE_STATE_FOLDER"]) / "profiles").find(url)


# What is wrong.


def test_a_closed_port(slidewire: Slidewire) -> None:
    """Nobody listens: unreachable, and nothing is kept."""
    slidewire.environment[_NAME] = f"http://127.0.0.1:{free_port()}/dicom-web"
    slidewire.failed("ENDPOINT_UNREACHABLE", "doctor", "pacs")
    assert not list(slidewire.folder.rglob("profiles/*"))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(401, b"canary"), "ACCESS_DENIED"),
        (Answer(403), "ACCESS_DENIED"),
        (Answer(200, b"<html>Please log in, canary</html>", {"Content-Type": "text/html"}), "RESPONSE_INVALID"),
        (Answer(200, b"[{", {"Content-Type": "application/dicom+json"}), "RESPONSE_INVALID"),
        (Answer(204), "SERIES_NOT_FOUND"),
        (Answer(404), "SERIES_NOT_FOUND"),
        (Answer(200, b'[{"0020000D": {"vr": "UI", "Value": ["../x"]}}]', {"Content-Type": "application/json"}),
         "RESPONSE_INVALID"),
    ],
)  # fmt: skip
def test_servers_that_cannot_be_used(slidewire: Slidewire, answer: Answer, code: str) -> None:
    """A refusal, a login page, broken JSON, no slide, a UID that is none: each its code, and nothing repeated."""
    with hostile_server(lambda _: answer) as server:
        slidewire.environment[_NAME] = server.url
        said = slidewire.failed(code, "doctor", "pacs")
    assert "canary" not in said.stderr
    assert not list(slidewire.folder.rglob("profiles/*"))


def test_a_certificate_that_is_not_trusted(slidewire: Slidewire, server: StrictServer, tmp_path: Path) -> None:
    """The message says what to give; given, the server is asked."""
    authority = Authority(tmp_path)
    context: ssl.SSLContext = authority.server_context()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.replies = [Reply(204)]
    slidewire.environment[_NAME] = server.url.replace("http:", "https:")
    assert "ca_bundle" in slidewire.failed("ENDPOINT_INVALID", "doctor", "pacs").stderr
    slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__CA_BUNDLE"] = str(authority.bundle)
    slidewire.failed("SERIES_NOT_FOUND", "doctor", "pacs")


@pytest.mark.parametrize("server", ["no-such-endpoint", "pacs/1.2", "https://me:canary@h.test/dicom-web", "."])
def test_servers_that_are_none(slidewire: Slidewire, server: str) -> None:
    """What is neither an endpoint nor a URL nor a series of one is refused, passwords unsaid."""
    said = slidewire("doctor", server, "--json")
    assert said.rc == 1
    assert said.json["error"]["code"] in {"REQUEST_INVALID", "SOURCE_UNREADABLE"}
    assert "canary" not in said.stderr


def test_frames_in_no_form(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """A server that answers everything but frames is found out."""

    class NoFrames(Dcm4chee):
        def answer(self, asked: Asked) -> Answer:
            return Refusal(406).answer if "/frames/" in asked.path else super().answer(asked)

    with running(NoFrames, cmu_slide) as one:
        slidewire.environment |= one.settings
        assert "406" in slidewire.failed("RESPONSE_INVALID", "doctor", "pacs").stderr


def test_an_archive_that_refuses_annotations(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Slides can be read, results not be stored: said as such, with what to do instead."""
    refuse = lambda asked: Answer(409) if asked.method == "POST" else None  # noqa: E731
    with hostile_server(refuse, pacs_slide.orthanc.dicomweb) as server:
        slidewire.environment[_NAME] = server.url
        said = slidewire("doctor", pacs_slide.source, "--write-test")
        again = slidewire("doctor", pacs_slide.source, "--write-test", "--json")
    assert said.rc == 0
    assert "BAD" in said.stdout
    assert "--out" in said.stdout
    assert again.json["usable"] is False
    assert again.json["profile"]["stores_annotations"] == "no"


# What is right.


def test_each_dialect(slidewire: Slidewire, dialect: RunningDialect) -> None:
    """Each product's ways are found, kept, and jobs start from them: the first request for frames is right."""
    slidewire.environment |= dialect.settings
    said = slidewire.done("doctor", "pacs")
    found = said.json["profile"]
    name = dialect.dialect.name
    assert found["frame_pixels"] == "stored", "as they are stored, whatever the product does for others"
    assert found["found_syntax"] == "1.2.840.10008.1.2.4.50"
    assert ("image/jpeg" in found["frame_accept"]) == (name == "dcm4chee")
    assert (found["declared_syntax"] == found["found_syntax"]) == (name != "dcm4chee")
    assert found["single_part"] == ("no" if name in {"dcm4chee", "aws"} else "yes")
    assert found["metadata_syntax"] == (name == "google")
    assert (found["most_frames"] is not None) == (name == "aws")
    assert found["stores_annotations"] == "unknown"
    assert not dialect.server.stored
    assert not _uids(said)
    assert TOKEN not in said.stdout + said.stderr
    del dialect.server.asked[:]
    slidewire.done("embed", dialect.source, "--encoder", "pixel-grid", "--all-patches", "--out", "out")
    asked = [asked for asked in dialect.server.asked if "/frames/" in asked.path]
    assert {one.headers["Accept"] for one in asked} == {found["frame_accept"]}
    if name == "aws":
        assert max(one.path.count(",") + 1 for one in asked) <= found["most_frames"] <= 40


def test_orthanc(slidewire: Slidewire, orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """Orthanc's ways; the write test leaves one valid object, once, and says so."""
    pacs = load(orthanc, renamed(cmu_slide, tmp_path / "slide"))
    slidewire.environment |= pacs.endpoint
    before = set(pacs.instances())
    said = slidewire.done("doctor", pacs.source, "--write-test")
    found = said.json["profile"]
    assert (found["frame_pixels"], found["single_part"], found["most_frames"]) == ("stored", "no", None)
    assert found["found_syntax"] == found["declared_syntax"] == "1.2.840.10008.1.2.4.50"
    assert found["stores_annotations"] == "yes"
    assert found["request_s"] > 0
    assert found["frame_s"] >= 0
    assert not _uids(said)
    [left] = set(pacs.instances()) - before
    (tmp_path / "left.dcm").write_bytes(fetch_instance(orthanc, f"/{left}"))
    assert_valid(tmp_path / "left.dcm")
    slidewire.done("doctor", pacs.source, "--write-test")
    assert set(pacs.instances()) == before | {left}
    people = slidewire("doctor", pacs.source)
    assert (people.rc, people.stderr) == (0, "")
    assert "--write-test" in people.stdout.splitlines()[-1]
    assert not _uids(people)


def test_a_url_and_nothing_kept(slidewire: Slidewire, dialect: RunningDialect) -> None:
    """A URL of the service or of a series will do; with --no-save nothing is kept, and tokens go nowhere else."""
    if dialect.dialect.needs_token:
        slidewire.failed("ACCESS_DENIED", "doctor", dialect.server.url, "--no-save")
        slidewire.environment |= dialect.settings
    for server in (dialect.server.url, dialect.series_url):
        assert slidewire.done("doctor", server, "--no-save").json["saved"] is False
    assert not list(slidewire.folder.rglob("profiles/*"))
    slidewire.done("doctor", dialect.server.url)
    assert _profile(slidewire, dialect.server.url) is not None


def test_a_damaged_profile(slidewire: Slidewire, dialect: RunningDialect) -> None:
    """A kept profile that cannot be read stops a job with what to do, and that is to ask the doctor again."""
    slidewire.environment |= dialect.settings
    slidewire.done("doctor", "pacs")
    [kept] = slidewire.folder.rglob("profiles/*.json")
    kept.write_text(kept.read_text()[:-20])
    embed = ("embed", dialect.source, "--encoder", "pixel-grid", "--all-patches", "--out", "out")
    assert "slidewire doctor" in slidewire.failed("SETTINGS_INVALID", *embed).stderr
    slidewire.done("doctor", "pacs")
    slidewire.done(*embed)
    assert json.loads(kept.read_text())["version"] == 1
