"""Endpoints: the servers that are configured by name, and which raw URLs may be used at all."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from connectors.profile import Profile, ProfileFolder
from connectors.protocols import Gate, OpenGate
from models.domain.errors import EndpointNotAllowed, RequestError, SourceUnreadable
from models.domain.slide import SlideRef, SourceKind

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_SERIES = re.compile(r"(?P<base>.+)/studies/(?P<study>[^/]+)/series/(?P<series>[^/]+)/?")
_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one request may take, in seconds: to connect, between bytes, in all, and waiting for a connection.

    A body that comes at less than `least_bytes_s` bytes a second for a whole `window_s` is given up: a server that
    trickles would hold a worker for `total_s` otherwise. The slowest line that is still a line is far faster.
    """

    connect_s: float = 5.0
    read_s: float = 60.0
    total_s: float = 600.0
    pool_s: float = 60.0
    least_bytes_s: float = 1000.0
    window_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """References to secrets, never the secrets: ``env:NAME`` or ``file:PATH``.

    Parameters
    ----------
    kind : str
        ``none``, ``basic``, ``bearer``, ``oidc`` (client credentials, RFC 6749 4.4) or ``google`` (application default
        credentials through EZ-WSI).
    username : str
        For ``basic``.
    secret : str
        Reference to the password, token or client secret.
    token_url, client_id, scope, audience : str
        For ``oidc``; `scope` and `audience` are sent if they are set.
    """

    kind: str = "none"
    username: str = ""
    secret: str = ""
    token_url: str = ""
    client_id: str = ""
    scope: str = ""
    audience: str = ""


_GOOGLE = Credentials("google")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A DICOMweb server.

    Parameters
    ----------
    url : str
        Base of the service, the part before ``/studies``.
    name : str
        As configured; "" for a raw URL.
    credentials : Credentials
    ca_bundle : Path or None
        Certificates to trust instead of the system's; verification itself cannot be switched off.
    client_certificate, client_key : Path or None
        PEM files by which the server knows us (mutual TLS); the key may be in the certificate's file.
    connections : int
        Kept open and used at the same time.
    frames_per_request : int
        At most; a request's URL also stays under `url_characters`.
    url_characters : int
    timeouts : Timeouts
    profile : Profile or None
        What `slidewire doctor` found out about it.
    gate : Gate
        What requests to it pass.
    orthanc_url : str
        Base of Orthanc's own REST API, whose event log is followed; "" if it is none.
    """

    url: str
    name: str = ""
    credentials: Credentials = field(default_factory=Credentials)
    ca_bundle: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    connections: int = 2
    frames_per_request: int = 900
    url_characters: int = 6000
    timeouts: Timeouts = field(default_factory=Timeouts)
    profile: Profile | None = None
    gate: Gate = field(default_factory=OpenGate, compare=False, repr=False)
    orthanc_url: str = ""

    @property
    def key(self) -> str:
        """What the fleet knows it by: its name, or scheme, host and port."""
        return self.name or "{0.scheme}://{0.netloc}".format(urlsplit(self.url))

    @property
    def label(self) -> str:
        """How messages call it: its name, or host and port."""
        return f"endpoint {self.name!r}" if self.name else f"server {urlsplit(self.url).netloc.rpartition('@')[2]}"


def name_of(key: str) -> str:
    """Return what logs and metrics may call an endpoint by its key: its name, or "other" for a raw URL."""
    return "other" if "://" in key else key


def require_uid(uid: str, what: str) -> str:
    """Return a UID if it is one (PS3.5 9.1), or refuse the request."""
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise RequestError(f"The {what} is no DICOM UID (digits and dots, at most 64 characters).")
    return uid


def _split(url: str) -> SplitResult:
    try:
        split = urlsplit(url)
        _ = split.port  # raises if it is none
    except ValueError:
        raise RequestError("The URL cannot be read: check its host and port.") from None
    return split


def _parts(url: str) -> tuple[str, str, int, tuple[str, ...]]:
    split = _split(url)
    port = split.port or _DEFAULT_PORT.get(split.scheme, 0)
    # Decoded, as the server will: "%2e%2e" leads upwards too.
    segments = tuple(part for part in unquote(split.path).split("/") if part)
    return split.scheme, (split.hostname or "").lower(), port, segments


def lies_under(url: str, base: str) -> bool:
    """Whether `url` is at or below `base`, compared by parsed scheme, host, port and path segments.

    A prefix of characters is not enough: ``https://host.trusted.evil`` starts with ``https://host.trusted``.
    """
    *place, path = _parts(url)
    *base_place, base_path = _parts(base)
    return place == base_place and ".." not in path and path[: len(base_path)] == base_path


class Endpoints:
    """All endpoints of an installation, and the rule for raw URLs.

    Parameters
    ----------
    named : sequence of Endpoint
    allowed_urls : sequence of str or None
        Bases under which raw URLs may lie; None: any (what a person types at the command line).
    cloud : Credentials
        For Cloud Storage: ``google`` or ``none``.
    profiles : ProfileFolder or None
        What is known of servers; None: nothing is looked up.
    gates : callable or None
        Gives the gate of the endpoint of a slide; None: nothing stands in the way.
    """

    def __init__(
        self,
        named: Sequence[Endpoint] = (),
        allowed_urls: Sequence[str] | None = None,
        cloud: Credentials = _GOOGLE,
        profiles: ProfileFolder | None = None,
        gates: Callable[[Endpoint], Gate] | None = None,
    ) -> None:
        self.cloud = cloud
        self._profiles, self._gates = profiles, gates
        self._named: Mapping[str, Endpoint] = {endpoint.name: endpoint for endpoint in named}
        self._allowed = None if allowed_urls is None else tuple(allowed_urls)

    def named(self, name: str) -> Endpoint:
        """Return the endpoint of that name."""
        try:
            return self._named[name]
        except KeyError:
            known = ", ".join(sorted(self._named)) or "none; add [endpoints.NAME] to slidewire.toml"
            raise RequestError(f"There is no endpoint {name!r} and no such file; configured: {known}.") from None

    def of_url(self, url: str) -> Endpoint:
        """Return the endpoint that a raw DICOMweb base URL belongs to, or a bare one if raw URLs are allowed."""
        split = _split(url)
        if split.username or split.password or split.query or split.fragment or not split.hostname:
            raise RequestError("Give the plain URL of a series: no user, password, query or fragment.")
        for endpoint in self._named.values():
            if lies_under(url, endpoint.url):
                return endpoint
        if self._allowed is not None and not any(lies_under(url, base) for base in self._allowed):
            raise EndpointNotAllowed(
                f"{split.scheme}://{split.netloc} is on no allow-list: add it to allowed_urls or to the endpoints."
            )
        return Endpoint(url=url)

    def of_ref(self, ref: SlideRef) -> Endpoint:
        """Return the endpoint of a slide on a server, with its gate, and its profile if there is one."""
        if not ref.endpoint:
            return self._equipped(self.of_url(ref.location))
        endpoint = self.named(ref.endpoint)
        # A URL below the endpoint's own names a store of that server: that store is what is read.
        store = replace(endpoint, url=ref.location) if lies_under(ref.location, endpoint.url) else endpoint
        return self._equipped(store)

    def key_of(self, ref: SlideRef) -> str:
        """Return the key of the server that a slide is read from; "" for a disk or a bucket."""
        if ref.kind == "dicomweb":
            return self.of_ref(ref).key
        if ref.kind == "tiff" and ref.location.startswith(("http://", "https://")):
            return self.of_url(ref.location).key
        return ""

    def _equipped(self, endpoint: Endpoint) -> Endpoint:
        if self._gates is not None:
            endpoint = replace(endpoint, gate=self._gates(endpoint))
        if self._profiles is None or endpoint.profile is not None:
            return endpoint
        return replace(endpoint, profile=self._profiles.find(endpoint.url))

    def locate(self, source: str, instance_uids: tuple[str, ...] = ()) -> SlideRef:
        """Turn what the user wrote into a reference.

        Parameters
        ----------
        source : str
            Series URL, ``ENDPOINT/STUDY_UID/SERIES_UID``, folder, file, ``gs://BUCKET/OBJECT``, ``s3://BUCKET/OBJECT``,
            or the URL of a TIFF file.
        instance_uids : tuple of str
            Restricts a DICOM slide to the level these make up.
        """
        for uid in instance_uids:
            require_uid(uid, "SOP Instance UID")
        if source.startswith(("http://", "https://")):
            if _has_tiff_name(_split(source).path) and not _SERIES.fullmatch(source):
                return SlideRef("tiff", source, self.of_url(source).name)
            return self._series_url(source, instance_uids)
        if source.startswith("gs://"):
            return SlideRef("tiff" if _has_tiff_name(source) else "gcs", source)
        if source.startswith("s3://"):
            return SlideRef("tiff", source)
        path = Path(source)
        try:
            path = path.expanduser()
            if path.exists():
                return SlideRef(_kind_of(path), str(path.resolve()), instance_uids=instance_uids)
        except (OSError, RuntimeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "there is no such home folder"
            raise SourceUnreadable(f"{path.name[:100]!r} cannot be read: {reason}.") from exc
        name, _, uids = source.partition("/")
        study, _, series = uids.partition("/")
        if _UID.fullmatch(study) and _UID.fullmatch(series):
            require_uid(study, "Study Instance UID")
            require_uid(series, "Series Instance UID")
            endpoint = self.named(name)
            return SlideRef("dicomweb", endpoint.url, name, study, series, instance_uids)
        raise SourceUnreadable(
            f"{path.name!r} does not exist. A source is a DICOMweb series URL, ENDPOINT/STUDY_UID/SERIES_UID, a folder "
            "of DICOM files, an image or TIFF file, gs://BUCKET/OBJECT, s3://BUCKET/OBJECT or a TIFF file's URL."
        )

    def _series_url(self, url: str, instance_uids: tuple[str, ...]) -> SlideRef:
        found = _SERIES.fullmatch(url)
        if not found:
            raise RequestError(
                "The URL names no series: it must end in /studies/STUDY_UID/series/SERIES_UID, "
                "or in the name of a TIFF file (.svs, .tif, .tiff, .btf)."
            )
        study = require_uid(found["study"], "Study Instance UID")
        series = require_uid(found["series"], "Series Instance UID")
        endpoint = self.of_url(found["base"])
        return SlideRef("dicomweb", found["base"], endpoint.name, study, series, instance_uids)


def _has_tiff_name(name: str) -> bool:
    return name.lower().endswith((".svs", ".tif", ".tiff", ".btf"))


def _kind_of(path: Path) -> SourceKind:
    if path.is_dir() or _is_dicom(path):
        return "dicom-files"
    return "tiff" if _has_tiff_name(path.name) else "image"


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
