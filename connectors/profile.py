"""What a server can do and what it costs, as `slidewire doctor` found it: a value, and the folder that keeps it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from models.domain.errors import SettingsInvalid

VERSION = 1
Answered = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One server, probed once.

    Parameters
    ----------
    url : str
        Base of its DICOMweb service.
    probed_at : str
        Time, ISO 8601, UTC.
    frame_accept : str
        Accept header that frames come in; "" if they came in none.
    frame_pixels : str
        ``stored`` or ``server``: who decodes.
    frame_single : bool
        That form gives one frame a request.
    single_part : str
        Whether a single part is answered for one frame.
    most_frames : int or None
        Largest number of frames that one request brought, if a larger one was refused; None: nothing was refused.
    frames_refused : int or None
        Smallest number of frames that was refused.
    url_characters : int
        Longest URL that was answered.
    instance_accept : str
        Accept header that a whole instance comes in, ``{}`` for the transfer syntax; "" if in none.
    metadata_syntax : bool
        Whether ``/metadata`` names the transfer syntax (0002,0010) or (0008,3002).
    declared_syntax, found_syntax : str
        Transfer syntax of a frame as its part says, and by its bytes.
    search_fields : tuple of str
        Tags that QIDO answered of those Slidewire would like (it never relies on them).
    stores_annotations : str
        Whether STOW took an annotations object; ``unknown`` if it was not tried.
    request_s, frame_s : float or None
        Seconds that a request costs, and each frame on top; None if that was not measured.
    """

    url: str
    probed_at: str
    frame_accept: str = ""
    frame_pixels: Literal["stored", "server"] = "stored"
    frame_single: bool = False
    single_part: Answered = "unknown"
    most_frames: int | None = None
    frames_refused: int | None = None
    url_characters: int = 0
    instance_accept: str = ""
    metadata_syntax: bool = False
    declared_syntax: str = ""
    found_syntax: str = ""
    search_fields: tuple[str, ...] = ()
    stores_annotations: Answered = "unknown"
    request_s: float | None = None
    frame_s: float | None = None

    def pays_per(self) -> str:
        """Return what the time of a request goes by: ``request``, ``frame``, or "" if that is not known.

        A request that costs as much as 16 frames is what batches are for.
        """
        if self.request_s is None or self.frame_s is None:
            return ""
        return "request" if self.request_s > 16 * self.frame_s else "frame"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"version": VERSION, **asdict(self), "search_fields": list(self.search_fields)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Profile | None":
        """Return the profile in a JSON object; None if it is of another version.

        Raises
        ------
        ValueError, TypeError
            It is no profile.
        """
        if found["version"] != VERSION:
            return None
        given = {field.name: found[field.name] for field in fields(cls)}
        profile = cls(**{**given, "search_fields": tuple(given["search_fields"])})
        texts = (profile.url, profile.frame_accept, profile.instance_accept)
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise ValueError("an address or a header is no text")
        limits = [limit for limit in (profile.most_frames, profile.frames_refused) if limit is not None]
        if not all(isinstance(limit, int) and limit >= 1 for limit in limits):
            raise ValueError("a limit is no positive number")
        return profile


class ProfileFolder:
    """The profiles that an installation keeps, one file a server.

    Parameters
    ----------
    folder : Path
        Made when the first profile is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, url: str) -> Path:
        """Return the file of a server."""
        return self.folder / f"{hashlib.sha256(url.rstrip('/').encode()).hexdigest()}.json"

    def find(self, url: str) -> Profile | None:
        """Return the profile of a server; None if there is none, or one of another version of Slidewire.

        Raises
        ------
        SettingsInvalid
            The file is damaged.
        """
        path = self.path(url)
        try:
            return Profile.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise SettingsInvalid(
                f"The stored profile {path.name} cannot be read ({type(exc).__name__}): delete it, or let "
                "slidewire doctor make it again."
            ) from exc

    def save(self, profile: Profile) -> Path:
        """Keep a profile; return its file.

        Raises
        ------
        SettingsInvalid
            The folder does not take it.
        """
        path = self.path(profile.url)
        part = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(profile.to_json(), indent=2) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as exc:
            raise SettingsInvalid(f"The profile cannot be kept in the state folder: {exc.strerror}.") from exc
        return path
