"""What a source is, which server it belongs to, and which URLs may be used at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.endpoints import Endpoint, Endpoints, lies_under
from models.domain.errors import EndpointNotAllowed, RequestError, SlidewireError, SourceUnreadable
from models.domain.slide import SlideRef

_STUDY, _SERIES = "1.2.826.0.1", "1.2.826.0.2"
_TAIL = f"/studies/{_STUDY}/series/{_SERIES}"
_PACS = Endpoint("https://pacs.test:8443/dicom-web", "pacs", frames_per_request=7)
_OPEN = Endpoints([_PACS])
_CLOSED = Endpoints([_PACS], allowed_urls=["https://host.trusted/dicom", "http://localhost:8042"])


@pytest.mark.parametrize(
    "base",
    [
        "https://host.trusted.evil/dicom",
        "https://host.trusted@evil/dicom",
        "https://evil/host.trusted/dicom",
        "https://evil/https://host.trusted/dicom",
        "http://host.trusted/dicom",
        "https://host.trusted:444/dicom",
        "https://host.trusted/dicom-web",
        "https://host.trusted/dicomweb",
        "https://host.trusted/other",
        "https://host.trusted",
        "https://host.trusted/Dicom",
        "https://host.trusted/dicom/../other",
        "https://host.trusted/dicom/%2e%2e/other",
        "https://host.trusted/dicom/%2E./other",
        "https://host.trusted/dicom%2f..%2fother",
        "https://xn--hst-tna.trusted/dicom",
        "http://localhost:8043",
        "http://localhost",
        "https://pacs.test:8443/dicom-webx",
    ],
)
def test_urls_that_are_on_no_list(base: str) -> None:
    """Only what lies under an allowed base by scheme, host, port and path segments is used."""
    with pytest.raises(RequestError) as caught:
        _CLOSED.locate(base + _TAIL)
    assert _STUDY not in str(caught.value)
    if "@" not in base:
        assert caught.type is EndpointNotAllowed


@pytest.mark.parametrize(
    "base",
    [
        "https://host.trusted/dicom",
        "https://HOST.trusted:443/dicom",
        "https://host.trusted//dicom/",
        "https://host.trusted/dicom/store/7",
        "https://host.trusted/%64icom",
        "http://localhost:8042/any/thing",
        "https://pacs.test:8443/dicom-web",
    ],
)
def test_urls_that_are_on_the_list(base: str) -> None:
    """Different spellings of an allowed place, and what lies below it, are allowed; named endpoints always are."""
    assert _CLOSED.locate(base + _TAIL).series_uid == _SERIES
    assert _OPEN.locate(base + _TAIL).study_uid == _STUDY


def test_an_empty_list_allows_nothing() -> None:
    """A list without entries is not the same as no list."""
    with pytest.raises(EndpointNotAllowed):
        Endpoints(allowed_urls=[]).locate("https://anything.test" + _TAIL)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@pacs.test:8443/dicom-web" + _TAIL,
        "https://hunter2@pacs.test:8443/dicom-web" + _TAIL,
        f"https://pacs.test:8443/dicom-web?token=hunter2&x={_TAIL}",
        f"https://pacs.test:8443/dicom-web#hunter2{_TAIL}",
        f"https://pacs.test:8443/dicom-web{_TAIL}?token=hunter2",
        "https://" + _TAIL,
        "https://[::1" + _TAIL,
        "https://pacs.test:port" + _TAIL,
        "https://pacs.test:99999" + _TAIL,
    ],
)
def test_urls_with_secrets_or_without_sense(url: str) -> None:
    """A password, a query, a fragment, a missing host or a wrong port are refused without being repeated."""
    with pytest.raises(RequestError) as caught:
        _OPEN.locate(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "/",
        f"/studies/{_STUDY}",
        f"/studies/{_STUDY}/series",
        f"/studies/{_STUDY}/series/{_SERIES}/instances/1.2",
        f"/studies/{_STUDY}x/series/{_SERIES}",
        f"/studies/../series/{_SERIES}",
        f"/studies/{_STUDY}/series/1..2",
        f"/studies/{_STUDY}/series/.1",
        f"/studies/{_STUDY}/series/1.",
        f"/studies/{'1.' * 32}1/series/{_SERIES}",
        f"/studies/{_STUDY}/series/%31",
        f"/studies/١.٢/series/{_SERIES}",  # noqa: RUF001 - Arabic digits are digits to Python, not to DICOM
    ],
)
def test_urls_that_name_no_series(tail: str) -> None:
    """A URL ends in a study and a series, both real UIDs (PS3.5 9.1)."""
    with pytest.raises(RequestError):
        _OPEN.locate("https://pacs.test:8443/dicom-web" + tail)


@pytest.mark.parametrize("uid", ["", "1.2.x", "1.2/../3", "1" * 65, "1.2\n"])
def test_instances_must_be_uids(uid: str) -> None:
    """What is named as an instance ends up in URLs, so it is looked at first."""
    with pytest.raises(RequestError):
        _OPEN.locate("pacs/1.2/1.3", ("1.2.3", uid))


def test_unknown_endpoint() -> None:
    """Who mistypes a name is told those that exist, or how to make one."""
    with pytest.raises(RequestError, match="pacs"):
        _OPEN.locate("pax/1.2/1.3")
    with pytest.raises(RequestError, match=r"slidewire\.toml"):
        Endpoints().locate("pacs/1.2/1.3")


@pytest.mark.parametrize("source", ["", "no/such/file.svs", "a" * 5000, "~nobody-of-that-name/x", "a\0b", "pacs/1.2"])
def test_sources_that_do_not_exist(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is neither URL nor endpoint nor file is unreadable, and the message lists what a source can be."""
    monkeypatch.chdir(tmp_path)
    if source == "":
        source = str(tmp_path / "gone")
    with pytest.raises(SourceUnreadable):
        _OPEN.locate(source)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "https://pacs.test:8443/", "pacs/"]))
def test_nothing_but_our_errors(text: str, start: str) -> None:
    """Whatever is typed, it is a source or an error of ours."""
    for source in (start + text, start + text + _TAIL):
        try:
            assert isinstance(_CLOSED.locate(source), SlideRef)
        except SlidewireError:
            continue


def test_an_endpoint_by_name() -> None:
    """A name and two UIDs are a series of that endpoint."""
    ref = _OPEN.locate(f"pacs/{_STUDY}/{_SERIES}", ("1.2.3",))
    assert ref == SlideRef("dicomweb", _PACS.url, "pacs", _STUDY, _SERIES, ("1.2.3",))
    assert _OPEN.of_ref(ref) == _PACS
    with pytest.raises(RequestError):
        _OPEN.locate(f"pacs/{'1.' * 32}1/{_SERIES}")


def test_a_url_of_an_endpoint_has_its_credentials() -> None:
    """A raw URL under a named endpoint uses that endpoint; below it, the store that the URL names."""
    ref = _OPEN.locate(f"{_PACS.url}{_TAIL}/")
    assert (ref.endpoint, ref.location) == ("pacs", _PACS.url)
    below = _OPEN.locate(f"{_PACS.url}/stores/7{_TAIL}")
    endpoint = _OPEN.of_ref(below)
    assert (endpoint.url, endpoint.name, endpoint.frames_per_request) == (f"{_PACS.url}/stores/7", "pacs", 7)


def test_a_raw_url_has_an_endpoint_of_its_own() -> None:
    """Elsewhere, a raw URL is used with no credentials, and called by its host and port."""
    ref = _OPEN.locate("https://other.test:99/wado" + _TAIL)
    endpoint = _OPEN.of_ref(ref)
    assert (endpoint.url, endpoint.credentials.kind) == ("https://other.test:99/wado", "none")
    assert endpoint.label == "server other.test:99"


def test_a_job_whose_endpoint_has_moved() -> None:
    """A job finds its endpoint by name, at its new address."""
    ref = _OPEN.locate(f"pacs/{_STUDY}/{_SERIES}")
    moved = Endpoints([Endpoint("https://new.test/wado", "pacs")])
    assert moved.of_ref(ref).url == "https://new.test/wado"


def test_files_folders_and_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a DICOM file are DICOM, another file is an image, and gs:// is a bucket; paths become absolute."""
    (tmp_path / "slide.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "slide.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert _OPEN.locate(".") == SlideRef("dicom-files", str(tmp_path))
    assert _OPEN.locate("slide.dcm") == SlideRef("dicom-files", str(tmp_path / "slide.dcm"))
    assert _OPEN.locate("slide.png") == SlideRef("image", str(tmp_path / "slide.png"))
    assert _OPEN.locate("empty").kind == "image"
    assert _OPEN.locate("gs://bucket/a/b.png") == SlideRef("gcs", "gs://bucket/a/b.png")


def test_a_file_goes_before_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is called like an endpoint's series is the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pacs" / "1.2" / "1.3").mkdir(parents=True)
    assert _OPEN.locate("pacs/1.2/1.3").kind == "dicom-files"


@given(st.lists(st.text("ab.%2e/", max_size=4), max_size=4), st.lists(st.sampled_from(["a", "b", "x y"]), max_size=3))
def test_what_lies_under_a_base_stays_under_it(inside: list[str], base: list[str]) -> None:
    """No path that leads upwards lies under anything, and a longer path never lies under its own child."""
    root = "https://h.test/" + "/".join(base)
    url = root + "/" + "/".join(inside)
    assert lies_under(url, root) == (".." not in url.replace("%2e", ".").split("/"))
    assert lies_under(root + "/child/x", root + "/child")
    assert not lies_under(root, root + "/child")
