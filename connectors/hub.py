"""A repository of the Hugging Face hub: what it holds at a revision, and its files, gone on with where they broke off.

The hub's own client says what there is. The bytes are read here: that client (2.4) throws away what an interrupted
process has got, and weights are gigabytes.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from connectors.body import arriving
from connectors.endpoints import lies_under
from connectors.http import error_of, retrying, translated
from connectors.hub_access import HubAccess
from models.domain.errors import (
    AccessDenied,
    EndpointFailed,
    EndpointUnreachable,
    ExtraMissing,
    OutputUnavailable,
    OutputUnwritable,
    RequestError,
    ResponseInvalid,
    SlidewireError,
)

_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_MOST_REDIRECTS = 5
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_FOR_GOOD = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)

Watch = Callable[[int], None]
"""Told how many bytes of a file are here."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file as the hub declares it.

    Parameters
    ----------
    path : str
        In the repository.
    size : int
        Bytes.
    sha256 : str
        "" for a small file, which git itself holds.
    git_sha1 : str
        Of such a file, as git computes it.
    """

    path: str
    size: int
    sha256: str
    git_sha1: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at a commit."""

    commit: str
    files: tuple[HubFile, ...]


class HubRepository:
    """One repository of the hub; a context manager that closes the connections.

    Parameters
    ----------
    access : HubAccess
    name : str
        ``owner/name``.

    Raises
    ------
    SettingsInvalid
        The hub's address or the token cannot be used.
    """

    def __init__(self, access: HubAccess, name: str) -> None:
        self._access = access = access.checked()
        self.name = name
        self._label = access.label
        self._origin = urlunsplit((*urlsplit(access.url)[:2], "", "", ""))
        self._session = requests.Session()
        self._session.auth = self._authorise  # also keeps requests from looking into ~/.netrc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._session.close()

    @property
    def page(self) -> str:
        """Where people read about it, and agree to its terms."""
        return f"{self._access.url}/{self.name}"

    def listing(self, revision: str) -> Listing:
        """Return what it holds at a revision: a branch, a tag or a commit.

        Raises
        ------
        ExtraMissing
            The hub's client is not installed.
        AccessDenied, RequestError, EndpointError
            The hub does not say; the message says why.
        """
        client = _client()
        api = client.HfApi(endpoint=self._access.url, token=self._access.token or False, library_name="slidewire")
        limit_s = self._access.timeouts.read_s
        with self._client_translated(client.errors, revision):
            info = retrying(lambda: self._ask(client, api, revision, limit_s))
            if not _COMMIT.fullmatch(info.sha):
                raise ValueError
            return Listing(info.sha, tuple(_declared(one) for one in info.siblings))

    def _ask(self, client: Any, api: Any, revision: str, limit_s: float) -> Any:
        with self._client_translated(client.errors, revision):
            return api.model_info(self.name, revision=revision, files_metadata=True, timeout=limit_s)

    @contextmanager
    def _client_translated(self, errors: Any, revision: str) -> Iterator[None]:
        """Turn what the hub's client raises into our errors; the originals' texts hold URLs and are not kept."""
        try:
            yield
        except SlidewireError:
            raise
        except errors.OfflineModeIsEnabled:
            raise RequestError("HF_HUB_OFFLINE forbids to ask the hub: unset it to fetch weights.") from None
        except errors.HfHubHTTPError as exc:
            raise self._refusal(exc.response.status_code, exc.response.headers, f"revision {revision!r}") from None
        except errors.HTTPError:  # of the HTTP library that it uses: no connection, or no answer in time
            raise EndpointUnreachable(f"The {self._label} cannot be reached, or did not answer in time.") from None
        except (TypeError, ValueError, KeyError, AttributeError):
            raise ResponseInvalid(f"The {self._label} does not answer as the hub does: check HF_ENDPOINT.") from None

    def save(self, listing: Listing, file: HubFile, part: Path, watch: Watch) -> None:
        """Bring what is here of a file to its whole length.

        Parameters
        ----------
        listing : Listing
        file : HubFile
        part : Path
            May hold the file's beginning; what is there after an error is a beginning, too.
        watch : Watch

        Raises
        ------
        AccessDenied, RequestError, EndpointError
            The hub does not give it, or several tries in a row brought nothing more.
        OutputUnwritable, OutputUnavailable
            The disk does not take it.
        """
        url = _client().hf_hub_url(self.name, file.path, revision=listing.commit, endpoint=self._access.url)
        if _size(part) > file.size:
            part.unlink()
        if file.size == 0:
            with saving(part):
                part.touch()
        while (reached := _size(part)) < file.size:
            retrying(lambda before=reached: self._go_on(url, file, part, (before, watch)))  # type: ignore[misc]

    def _go_on(self, url: str, file: HubFile, part: Path, progress: tuple[int, Watch]) -> None:
        before, watch = progress
        try:
            self._append(url, file, part, watch)
        except EndpointUnreachable:
            if _size(part) <= before:  # a line that breaks again and again still gets there
                raise

    def _append(self, url: str, file: HubFile, part: Path, watch: Watch) -> None:
        start = _size(part)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._opened(url, headers) as response:
            if response.status_code == 416:
                part.unlink(missing_ok=True)
                raise EndpointUnreachable(f"The {self._label} does not go on with {file.path}: it begins anew.")
            if response.status_code not in {200, 206}:
                raise self._refusal_of(response, file.path)
            start = self._start(response, start)
            with saving(part), part.open("r+b" if start else "wb") as stream:
                stream.seek(start)
                self._write(response, stream, file, watch)

    def _write(self, response: requests.Response, stream: BinaryIO, file: HubFile, watch: Watch) -> None:
        done = stream.tell()
        for chunk in arriving(response, self._access.timeouts, self._label):
            done += len(chunk)
            if done > file.size:
                stream.truncate(0)
                raise ResponseInvalid(f"The {self._label} sends more of {file.path} than the {file.size} bytes it has.")
            stream.write(chunk)
            watch(done)
        if done < file.size:
            raise EndpointUnreachable(f"The connection to the {self._label} broke off at {done} of {file.size} bytes.")

    def _start(self, response: requests.Response, asked: int) -> int:
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ResponseInvalid(f"The {self._label} packs a file on its way that was not to be packed.")
        if response.status_code == 200:
            return 0
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not found or int(found.group(1)) != asked:
            raise ResponseInvalid(f"The {self._label} answered with other bytes than it was asked for.")
        return asked

    @contextmanager
    def _opened(self, url: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """GET a file for the length of a block, wherever the hub keeps it: large ones lie elsewhere."""
        limits = self._access.timeouts
        timeout = (limits.connect_s, limits.read_s)
        with translated(self._label):
            for _ in range(_MOST_REDIRECTS):
                with self._session.get(
                    url, headers=dict(headers), stream=True, allow_redirects=False, timeout=timeout
                ) as response:
                    if not response.is_redirect:
                        yield response
                        return
                    target = urljoin(url, response.headers["Location"])
                if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                    break
                url = target
        raise ResponseInvalid(f"The {self._label} redirects in circles, or to an address without TLS.")

    def _authorise(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._access.token and lies_under(prepared.url or "", self._origin):
            prepared.headers["Authorization"] = f"Bearer {self._access.token}"
        return prepared

    def _refusal_of(self, response: requests.Response, path: str) -> SlidewireError:
        if not lies_under(response.url, self._origin) and response.status_code < 500:
            # Where the hub keeps large files: links to there are signed, and get old.
            return EndpointFailed(f"The {self._label} keeps {path} where it cannot be read ({response.status_code}).")
        return self._refusal(response.status_code, response.headers, path)

    def _refusal(self, status: int, headers: Mapping[str, str], what: str) -> SlidewireError:
        reason = headers.get("X-Error-Code", "")
        if status in {401, 403}:
            return AccessDenied(self._denial(status, reason))
        if status == 404 and reason == "RepoNotFound":
            return RequestError(f"The {self._label} has no repository {self.name}, or it is private.")
        if status in {400, 404, 410}:
            return RequestError(f"The {self._label} has no {what} in {self.name}.")
        return error_of(status, self._label, headers.get("Retry-After"))

    def _denial(self, status: int, reason: str) -> str:
        if not self._access.token:
            return (
                f"The {self._label} does not give {self.name} to everybody ({status}): agree to the licence at "
                f"{self.page} and set HF_TOKEN to a token of the account that did."
            )
        if status == 401 and reason != "GatedRepo":
            return f"The {self._label} does not know the token in HF_TOKEN, or no {self.name}: make a new token."
        return (
            f"The {self._label} does not give {self.name} to the account whose token is in HF_TOKEN ({status}): agree "
            f"to the licence at {self.page}; some publishers answer after days. The token needs to read gated models."
        )


def _client() -> Any:
    # Before it is imported: it reads this once, and would ask the hub for more than it is told to.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import huggingface_hub
        import huggingface_hub.errors
        from huggingface_hub.utils import logging
    except ImportError as exc:
        raise ExtraMissing("Fetching weights needs the extra 'hub': pip install 'slidewire[hub]'.") from exc
    logging.set_verbosity_error()
    return huggingface_hub


def _declared(sibling: Any) -> HubFile:
    stored = sibling.lfs
    size = stored.size if stored is not None else sibling.size
    return HubFile(str(sibling.rfilename), int(size), stored.sha256 if stored else "", str(sibling.blob_id or ""))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn what the disk says into our errors."""
    try:
        yield
    except requests.RequestException:
        raise  # an OSError, and no disk's
    except OSError as exc:
        kind = OutputUnwritable if isinstance(exc, _FOR_GOOD) else OutputUnavailable
        raise kind(f"{path.name} cannot be written into the folder of weights: {exc.strerror}.") from exc
