"""Composition and processes: stages, ledger, engine, command line.

The face for Python programs is here and loaded when asked for::

    from worker import EmbedRequest, OutputSpec, PatchSpec, embed
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.dataset.patches import open_dataset
    from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
    from worker.embedding import EmbedResult, embed, submit
    from worker.reading import read_embeddings
    from worker.settings import Settings, load_settings

__all__ = [
    "EmbedRequest",
    "EmbedResult",
    "OutputSpec",
    "PatchSpec",
    "Settings",
    "embed",
    "load_settings",
    "open_dataset",
    "read_embeddings",
    "submit",
]

_HOMES = {
    "EmbedRequest": "models.domain.request",
    "OutputSpec": "models.domain.request",
    "PatchSpec": "models.domain.request",
    "EmbedResult": "worker.embedding",
    "embed": "worker.embedding",
    "submit": "worker.embedding",
    "Settings": "worker.settings",
    "load_settings": "worker.settings",
    "open_dataset": "connectors.dataset.patches",
    "read_embeddings": "worker.reading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(name)
