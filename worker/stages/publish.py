"""publish: one whole result goes to every place that was asked for."""

from collections.abc import Sequence
from dataclasses import replace

from connectors.protocols import Result, Sink
from models.domain.embedding import Output


def publish_result(result: Result, sinks: Sequence[Sink]) -> tuple[Output, ...]:
    """Write a result to all sinks, in order; the first that fails ends it, and writing again is harmless.

    Each sink is told what those before it have written.

    Raises
    ------
    ResultError, EndpointError
    """
    for sink in sinks:
        result = replace(result, written=(*result.written, *sink.write(result)))
    return result.written
