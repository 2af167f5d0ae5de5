"""Secrets, found where a reference in the settings points: a variable of the environment, or a file."""

import os
from pathlib import Path

from models.domain.errors import SettingsInvalid


def resolve_secret(reference: str) -> str:
    """Return the secret that ``env:NAME`` or ``file:PATH`` refers to.

    Raises
    ------
    SettingsInvalid
        The reference is of another form, or leads nowhere; the message never holds a secret.
    """
    kind, _, place = reference.partition(":")
    if kind == "env" and place:
        value = os.environ.get(place, "")
        if not value:
            raise SettingsInvalid(f"The environment variable {place} that a credential refers to is not set.")
        return value
    if kind == "file" and place:
        try:
            secret = Path(place).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, RuntimeError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no text, or in no known home folder"
            raise SettingsInvalid(f"The file {place} that a credential refers to cannot be read: {reason}.") from None
        if not secret:
            raise SettingsInvalid(f"The file {place} that a credential refers to is empty.")
        return secret
    raise SettingsInvalid("A credential is a reference: env:NAME or file:PATH, never the secret itself.")
