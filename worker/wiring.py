"""The only place where concrete classes meet: settings in, a working installation out."""

import os
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Self
from uuid import uuid4

from connectors.endpoints import Endpoints
from connectors.protocols import Sink, Traffic
from connectors.registry import open_sinks
from models.domain.errors import WeightsInvalid
from models.domain.request import EmbedRequest, OutputSpec
from models.domain.slide import SlideRef
from models.encoders import registry
from models.encoders.protocol import Encoder
from models.encoders.weights.digest import weights_digest
from worker.activity import Activity
from worker.declared import register_declared
from worker.gate import Gates
from worker.ledger import Ledger
from worker.metrics.work import WorkMetrics
from worker.pipeline import Limits
from worker.settings import Settings


class Installation:
    """Ledger, endpoints and encoders of one process; a context manager that closes them.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    traffic : Traffic
        What this process has read of slides that it has closed.
    activity : Activity
        What it is doing.
    metrics : WorkMetrics
        What it has done.
    """

    def __init__(self, settings: Settings) -> None:
        register_declared(settings.encoders)
        self.settings = settings
        self.traffic = Traffic()
        self.activity = Activity()
        self.metrics = WorkMetrics(self.activity)
        self.ledger = Ledger(settings.ledger, settings.checkpoint_folder, settings.ledger_rules)
        self.gates = Gates(self.ledger.endpoints, settings.ledger_rules.endpoints)
        self.endpoints: Endpoints = settings.open_endpoints(gates=self.gates.of)
        # Unique for ever: a host name, a process, and a number that no other process ever drew.
        self.owner = f"{socket.gethostname()[:40]}/{os.getpid()}/{uuid4().hex[:8]}"
        self._encoder = lru_cache(maxsize=1)(self._load_encoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.gates.flush()
        self.ledger.close()

    def limits_for(self, ref: SlideRef) -> Limits:
        """Return how much of a slide is done at a time: as its endpoint allows, if it has one."""
        if ref.kind != "dicomweb":
            return Limits(connections=1, decoders=self.settings.decoders)
        endpoint = self.endpoints.of_ref(ref)
        return Limits(endpoint.frames_per_request, endpoint.connections, self.settings.decoders)

    def sinks(self, output: OutputSpec, ref: SlideRef) -> AbstractContextManager[tuple[Sink, ...]]:
        """Return the sinks that a request asks for, to be opened for the length of a block."""
        return open_sinks(output, ref, self.endpoints)

    def encoder(self, request: EmbedRequest, weights_sha256: str) -> tuple[Encoder, int]:
        """Return the loaded encoder and its dimension; one is kept in memory.

        Raises
        ------
        WeightsInvalid
            The weights are not those that the job was submitted with.
        """
        return self._encoder(request.encoder, request.weights, request.options, weights_sha256)

    def _load_encoder(
        self, name: str, given: str, options: tuple[tuple[str, str], ...], expected: str
    ) -> tuple[Encoder, int]:
        model = registry.find(name)
        weights = model.weights(Path(given) if given else None, self.settings.weights_folder)
        if weights_digest(weights) != expected:
            raise WeightsInvalid(
                f"This worker's weights of {name} are not those that the job was submitted with: install the same "
                "on all workers, or submit the slide again."
            )
        chosen: Mapping[str, str] = dict(options)
        return registry.load(model, weights, chosen, self.settings.device), model.spec.dimension
