"""publish: one whole result goes to every place that was asked for."""

from collections.abc import Sequence

from connectors.protocols import Result, Sink
from models.domain.embedding import Output


def publish_result(result: Result, sinks: Sequence[Sink]) -> tuple[Output, ...]:
    """Write a result to all sinks, in order; the first that fails ends it, and writing again is harmless.

    Raises
    ------
    ResultError, EndpointError
    """
    return tuple(output for sink in sinks for output in sink.write(result))
