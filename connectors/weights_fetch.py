"""Published weights come from the hub into the folder of weights: whole, checked, and used only then."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from connectors.hub import HubFile, HubRepository, Listing, saving
from connectors.hub_access import HubAccess
from models.domain.errors import ExtraMissing, OutputUnavailable, RequestError, WeightsInvalid
from models.encoders.protocol import EncoderSpec, Hub
from models.encoders.weights.digest import weights_digest
from models.encoders.weights.store import StoredFile, WeightsLock, WeightsShelf, is_inside, is_one_file

_SPARE_BYTES = 64 << 20  # a disk that is full to the last byte helps nobody


@dataclass(frozen=True, slots=True)
class Watched:
    """Who is told how a fetch gets on.

    Parameters
    ----------
    say : callable
        Gets sentences for people.
    count : callable
        Gets the bytes that are here, and those that will be.
    """

    say: Callable[[str], None]
    count: Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Weights that are here now.

    Parameters
    ----------
    path : Path
        File or folder, as ``--weights`` would take it.
    lock : WeightsLock
    already : bool
        They were here before.
    """

    path: Path
    lock: WeightsLock
    already: bool


def fetch_weights(spec: EncoderSpec, store: Path, access: HubAccess, revision: str, watched: Watched) -> Fetched:
    """Fetch the published weights of an encoder, unless they are here and sound.

    Parameters
    ----------
    spec : EncoderSpec
    store : Path
        Folder of all fetched weights.
    access : HubAccess
    revision : str
        Branch, tag or commit; "" for the encoder's own.
    watched : Watched

    Raises
    ------
    RequestError
        It has no weights on the hub, or not at that revision.
    WeightsInvalid
        What came is not what the hub, or the encoder, declares; nothing is kept that would be used.
    AccessDenied, EndpointError, OutputUnwritable
        They did not come; what did is kept, and the next fetch goes on from there.
    """
    hub = spec.hub
    if hub is None:
        raise RequestError(f"{spec.name} has no weights on the hub: slidewire encoders {spec.name} says what it needs.")
    shelf = WeightsShelf(spec, store)
    with _alone(shelf.folder, watched):
        here = _sound(shelf)
        if here is not None and not revision and not here.asked:
            return Fetched(shelf.path(here.revision), here, already=True)
        asked = revision or spec.revision
        with HubRepository(access, hub.repository) as repository:
            listing = repository.listing(asked)
            if here is not None and here.revision == listing.commit and here.asked == revision:
                return Fetched(shelf.path(here.revision), here, already=True)
            if asked != listing.commit:
                watched.say(f"{hub.repository}: {asked} is commit {listing.commit}")
            wanted = _wanted(spec, hub, listing)
            lock = _Fetch(spec, shelf, repository, listing, watched).run(wanted, revision)
        return Fetched(shelf.path(lock.revision), lock, already=False)


@contextmanager
def _alone(folder: Path, watched: Watched) -> Iterator[None]:
    """Keep a second fetch of the same weights waiting; the lock ends with the process."""
    try:
        from filelock import FileLock, Timeout
    except ImportError as exc:
        raise ExtraMissing("Fetching weights needs the extra 'hub': pip install 'slidewire[hub]'.") from exc
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            watched.say("another process is fetching these weights: waiting for it")
            lock.acquire(timeout=-1)
    try:
        yield
    finally:
        lock.release()


def _sound(shelf: WeightsShelf) -> WeightsLock | None:
    """Return what is here, if it is whole to the last byte."""
    try:
        lock = shelf.read()
        if lock is not None and weights_digest(shelf.path(lock.revision)) == lock.sha256:
            return lock
    except WeightsInvalid:
        pass
    return None


def _wanted(spec: EncoderSpec, hub: Hub, listing: Listing) -> tuple[HubFile, ...]:
    offered = [one for one in listing.files if is_inside(one.path)]
    for pattern in hub.files:
        if not any(fnmatchcase(one.path, pattern) for one in offered):
            where = f"{hub.repository} at {listing.commit[:12]}"
            raise RequestError(f"There is no {pattern} in {where}: give another --revision.")
    files = tuple(one for one in offered if any(fnmatchcase(one.path, pattern) for pattern in hub.files))
    if is_one_file(hub) and spec.weights_sha256 and files[0].sha256 not in {"", spec.weights_sha256}:
        raise _not_published(spec, files[0].sha256)
    return files


def _not_published(spec: EncoderSpec, found: str) -> WeightsInvalid:
    return WeightsInvalid(
        f"The hub has other weights of {spec.name} than this version knows: their SHA-256 begins with "
        f"{found[:12]}, not {spec.weights_sha256[:12]}. Nothing was kept; the known ones are of revision "
        f"{spec.revision!r}."
    )


class _Fetch:
    """One fetch of one revision."""

    def __init__(
        self, spec: EncoderSpec, shelf: WeightsShelf, repository: HubRepository, listing: Listing, watched: Watched
    ) -> None:
        self._spec, self._shelf, self._repository = spec, shelf, repository
        self._listing, self._watched = listing, watched
        self._folder = shelf.folder / listing.commit

    def run(self, wanted: tuple[HubFile, ...], asked: str) -> WeightsLock:
        with saving(self._folder):
            self._folder.mkdir(exist_ok=True)
        missing = [file for file in wanted if not self._is_here(file)]
        total = sum(file.size for file in wanted)
        done = total - sum(file.size for file in missing)
        self._check_space(missing)
        for file in missing:
            self._bring(file, lambda here, before=done: self._watched.count(before + here, total))  # type: ignore[misc]
            done += file.size
        return self._publish(wanted, asked)

    def _is_here(self, file: HubFile) -> bool:
        path = self._folder / file.path
        if not path.is_file():
            return False
        if _is_as_declared(path, file):
            return True
        path.unlink()
        return False

    def _check_space(self, missing: list[HubFile]) -> None:
        parts = [_part(self._folder / file.path) for file in missing]
        needed = sum(file.size for file in missing) - sum(part.stat().st_size for part in parts if part.exists())
        free = shutil.disk_usage(self._folder).free
        if needed > 0 and needed + _SPARE_BYTES > free:
            raise OutputUnavailable(
                f"The weights of {self._spec.name} need {needed / 1e9:.2f} GB more, and {free / 1e9:.2f} GB are free: "
                "make room, or set weights to another folder."
            )

    def _bring(self, file: HubFile, watch: Callable[[int], None]) -> None:
        path = self._folder / file.path
        part = _part(path)
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._repository.save(self._listing, file, part, watch)
        with saving(path):
            if not _is_as_declared(part, file):
                part.unlink()
                raise WeightsInvalid(
                    f"What came of {file.path} is not what the hub declares (its digest differs), and was removed: "
                    f"fetch {self._spec.name} again; if it stays so, something between here and the hub changes files."
                )
            part.replace(path)

    def _publish(self, wanted: tuple[HubFile, ...], asked: str) -> WeightsLock:
        digest = weights_digest(self._shelf.path(self._listing.commit))
        if self._spec.weights_sha256 not in {"", digest}:
            shutil.rmtree(self._folder)
            raise _not_published(self._spec, digest)
        files = {file.path: StoredFile(weights_digest(self._folder / file.path), file.size) for file in wanted}
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        lock = WeightsLock(self._repository.name, self._listing.commit, asked, files, digest, moment)
        with saving(self._folder):
            self._shelf.write(lock)
        return lock


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")  # hidden: no part of a folder's digest


def _is_as_declared(path: Path, file: HubFile) -> bool:
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return blob.hexdigest() == file.git_sha1
