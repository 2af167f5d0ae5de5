"""The folder of fetched weights: ``NAME/REVISION/`` with the files, ``NAME/weights.json`` that says what they are."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self
from urllib.parse import quote

from models.domain.errors import WeightsInvalid
from models.encoders.protocol import EncoderSpec, Hub

LOCK: Final = "weights.json"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of fetched weights: its digest and its length."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class WeightsLock:
    """What was fetched: written last, so that what it names is whole.

    Parameters
    ----------
    repository : str
        ``owner/name`` on the hub.
    revision : str
        The commit.
    asked : str
        Revision that somebody asked for on purpose; "" for the encoder's own.
    files : mapping of str to StoredFile
        By their paths in the repository.
    sha256 : str
        Of the whole, as `models.encoders.weights.digest.weights_digest` gives it.
    fetched_at : str
        ISO 8601, UTC.
    """

    repository: str
    revision: str
    asked: str
    files: Mapping[str, StoredFile]
    sha256: str
    fetched_at: str

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError
            It is something else.
        """
        try:
            files = {str(path): StoredFile(**facts) for path, facts in value["files"].items()}
            lock = cls(**{**value, "files": files})
        except (TypeError, KeyError, AttributeError) as exc:
            raise ValueError("a key is missing or unknown") from exc
        texts = (lock.repository, lock.revision, lock.asked, lock.sha256, lock.fetched_at)
        whole = all(isinstance(one, str) for one in texts) and files and all(map(is_inside, files))
        if not whole or not _COMMIT.fullmatch(lock.revision) or not _DIGEST.fullmatch(lock.sha256):
            raise ValueError("a value is of another kind")
        return lock

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


class WeightsShelf:
    """Where the fetched weights of one encoder lie.

    Parameters
    ----------
    spec : EncoderSpec
        With a `hub`.
    store : Path
        Folder of all fetched weights.
    """

    def __init__(self, spec: EncoderSpec, store: Path) -> None:
        self.folder = store / quote(spec.name, safe="")  # the names of families have colons and slashes
        self._spec = spec

    def read(self) -> WeightsLock | None:
        """Return what was fetched; None if nothing was. The files' digests are not looked at, their lengths are.

        Raises
        ------
        WeightsInvalid
            It is damaged, or another model's, or of another revision than the encoder's is now.
        """
        try:
            lock = WeightsLock.from_json(json.loads((self.folder / LOCK).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise self._unusable(f"{LOCK} beside them cannot be read") from exc
        self._check_origin(lock)
        for path, facts in lock.files.items():
            try:
                size = (self.folder / lock.revision / path).stat().st_size
            except OSError as exc:
                raise self._unusable(f"{path} is not there") from exc
            if size != facts.bytes:
                raise self._unusable(f"{path} has {size} bytes instead of {facts.bytes}")
        return lock

    def _check_origin(self, lock: WeightsLock) -> None:
        hub, pinned = self._spec.hub, self._spec.revision
        if hub is None or lock.repository != hub.repository:
            raise self._unusable("they come from another repository")
        for pattern in hub.files:
            if not any(fnmatchcase(path, pattern) for path in lock.files):
                raise self._unusable(f"they have no {pattern}, which this version needs")
        if not lock.asked and _COMMIT.fullmatch(pinned) and not lock.revision.startswith(pinned):
            raise self._unusable(f"they are of revision {lock.revision[:12]}, and this version uses {pinned[:12]}")

    def _unusable(self, why: str) -> WeightsInvalid:
        name = self._spec.name
        return WeightsInvalid(
            f"The fetched weights of {name} cannot be used: {why}. Run: slidewire encoders fetch {name}"
        )

    def path(self, revision: str) -> Path:
        """Return the weights of a revision as encoders take them: the file if it is one, else the folder."""
        hub, folder = self._spec.hub, self.folder / revision
        return folder / hub.files[0] if hub is not None and is_one_file(hub) else folder

    def write(self, lock: WeightsLock) -> None:
        """Say what was fetched; from here on it is used."""
        part = self.folder / f".{LOCK}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump(lock.to_json(), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / LOCK)


def is_one_file(hub: Hub) -> bool:
    """Whether the weights are one file, not a folder."""
    return len(hub.files) == 1 and not set("*?[") & set(hub.files[0])


def is_inside(path: str) -> bool:
    """Whether a path of a repository stays inside the folder it is put into, and is no hidden file."""
    parts = PurePosixPath(path).parts
    return bool(parts) and "\\" not in path and "/" not in parts and not any(one.startswith(".") for one in parts)
