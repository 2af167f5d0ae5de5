"""``slidewire health``: what a worker or watch says of itself, as an exit status for whoever restarts it."""

import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Annotated

import typer

from models.domain.errors import SettingsInvalid
from worker.cli.reply import EXIT_FAILED, reported

_LIMIT_S = 5.0
_MOST_BYTES = 10_000
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to ask at, not to listen on


def health(
    url: Annotated[
        str, typer.Option("--url", help="What to ask.  [default: /livez at the settings' metrics_port]")
    ] = "",
    ready: Annotated[bool, typer.Option("--ready", help="Ask whether it could work now, rather than lives.")] = False,
) -> None:
    """Ask a worker or watch on this machine whether it lives; exit status 0 if it does, else 1.

    Example: slidewire health
    """
    with reported():
        asked = url or _own_url("readyz" if ready else "livez")
        if not asked.startswith(("http://", "https://")):
            raise SettingsInvalid("--url begins with http:// or https://, for example http://127.0.0.1:9102/livez.")
    status, said = _ask(asked)
    typer.echo(said, err=status != 200)
    if status != 200:
        raise typer.Exit(EXIT_FAILED)


def _own_url(path: str) -> str:
    from worker.settings import load_settings

    settings = load_settings()
    if not settings.metrics_port:
        raise SettingsInvalid(
            "The setting metrics_port is not set, so nobody can be asked: give one, for example 9102, or --url."
        )
    host = _EVERYWHERE.get(settings.metrics_host, settings.metrics_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.metrics_port}/{path}"


def _ask(url: str) -> tuple[int, str]:
    """Return the status and what was said; status 0 if nothing was."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_LIMIT_S) as reply:
            return reply.status, reply.read(_MOST_BYTES).decode(errors="replace").strip()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read(_MOST_BYTES).decode(errors="replace").strip()
    except (OSError, HTTPException, ValueError) as exc:
        return 0, f"no answer within {_LIMIT_S:g} s ({type(exc).__name__})"
