"""The Hugging Face hub as it is reached from here: its address, a token, and how long it may take."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from connectors.endpoints import Timeouts
from models.domain.errors import SettingsInvalid

_URL = re.compile(r"https?://[^\s?#@]+")
_TOKEN = re.compile(r"[!-~]*")


@dataclass(frozen=True)
class HubAccess:
    """Where published weights come from.

    Parameters
    ----------
    url : str
        Of the hub or a mirror of it.
    token : str
        Of the account that agreed to the terms of gated models; "" for none. Sent to the hub's own address only.
    timeouts : Timeouts
    """

    url: str = "https://huggingface.co"
    token: str = field(default="", repr=False)
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(connect_s=10.0, total_s=3600.0))

    def checked(self) -> "HubAccess":
        """Return the same with a plain URL.

        Raises
        ------
        SettingsInvalid
            URL or token cannot be used; neither is shown.
        """
        if not _URL.fullmatch(self.url):
            raise SettingsInvalid("HF_ENDPOINT is no plain http(s) URL of a hub: unset it, or correct it.")
        if not _TOKEN.fullmatch(self.token):
            raise SettingsInvalid("HF_TOKEN holds characters that no token has (a space, a line end): set it again.")
        return HubAccess(self.url.rstrip("/"), self.token, self.timeouts)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"hub {urlsplit(self.url).netloc}"
