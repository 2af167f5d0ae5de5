"""Figures that hours and dollars are computed from, each with its kind, source and date: costs.toml, and your own."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

FILE = Path(__file__).with_name("costs.toml")

# Something is divided by them.
_POSITIVE = {
    *("count", "patches", "shard", "patch_bytes", "frames", "frames_a_request", "feed_patches_s", "utilisation"),
    *("archive_bytes_s", "transactions", "hours", "tflops", "fp32_tflops", "gflop"),
}
_SHARES = {"utilisation", "reserve", "spot_loss"}

Kind = Literal["measured", "published", "price", "arithmetic", "setting", "assumed", "yours"]
Table = Mapping[str, Any]
_T = TypeVar("_T")


class CostFigureError(ValueError):
    """A file of figures that cannot be used; says which figure, and how one is written."""


@dataclass(frozen=True)
class Figure:
    """One figure, and why anybody should believe it."""

    value: float
    kind: Kind
    source: str
    date: str


@dataclass(frozen=True)
class Slides:
    """What is to be embedded: `patches` of a slide on average (log-normal, `spread`), `frames` and bytes of a patch."""

    count: float
    patches: float
    spread: float
    shard: float
    patch_bytes: float
    frames: float


@dataclass(frozen=True)
class Worker:
    """One process with one GPU: how fast it is fed, what a slide costs it besides, and what it asks of the archive."""

    feed_patches_s: float
    open_s: float
    publish_s: float
    utilisation: float
    requests: float
    frames_a_request: float


@dataclass(frozen=True)
class Shared:
    """What all workers use: the archive, the process that submits, the ledger."""

    archive_bytes_s: float
    submit_s: float
    transaction_s: float
    transactions: float


@dataclass(frozen=True)
class Time:
    """How long there is, and what share of it is not to be counted on."""

    hours: float
    reserve: float
    spot_loss: float


@dataclass(frozen=True)
class Results:
    """What a slide leaves behind, beside its numbers."""

    annotation_overhead: float
    table_overhead: float
    metadata_bytes: float
    log_bytes: float


@dataclass(frozen=True)
class Price:
    """Dollars: an hour (`_h`), a GiB, a GiB and month, so many requests."""

    request_100k: float
    blob_gib_month: float
    index_gib_month: float
    bucket_gib_month: float
    write_1000: float
    log_gib: float
    cluster_h: float
    ledger_h: float
    system_h: float
    shared_folder_h: float
    disk_h: float
    region_gib: float
    internet_gib: float


@dataclass(frozen=True)
class Gpu:
    """A machine with one GPU: its dense peak in 16 bit and in fp32, and dollars an hour."""

    title: str
    machine: str
    tflops: float
    fp32_tflops: float
    on_demand_h: float
    spot_h: float


@dataclass(frozen=True)
class Encoder:
    """A network: what it computes in (``16 bit``, ``fp32``), what a patch of 224 px takes, how many numbers come."""

    network: str
    precision: str
    gflop: float
    numbers: float


@dataclass(frozen=True)
class Figures:
    """All of them. `rates`: patches a second that were measured, by GPU and encoder; `sources`: the figures by name."""

    slides: Slides
    worker: Worker
    shared: Shared
    time: Time
    results: Results
    price: Price
    gpus: dict[str, Gpu]
    encoders: dict[str, Encoder]
    rates: dict[tuple[str, str], float]
    sources: dict[str, Figure]


def read(own: Path | None = None) -> Figures:
    """Read costs.toml, and what another file says instead.

    Parameters
    ----------
    own : Path, optional
        Holds only what differs. A plain number will do; a GPU, an encoder or a measured rate may be new.

    Raises
    ------
    CostFigureError
        For a figure that is not known, missing, not a number, or negative.
    """
    table = tomllib.loads(FILE.read_text(encoding="utf-8"))
    if own is not None:
        table = _merge(table, _parse(own), "")
    sources: dict[str, Figure] = {}
    gpus = {name: _fill(Gpu, each, f"gpu.{name}", sources) for name, each in table["gpu"].items()}
    encoders = {name: _fill(Encoder, each, f"encoder.{name}", sources) for name, each in table["encoder"].items()}
    rates: dict[tuple[str, str], float] = {}
    for gpu, each in table["rate"].items():
        for encoder, given in each.items():
            if gpu not in gpus or encoder not in encoders:
                raise CostFigureError(f"rate.{gpu}.{encoder}: there is no such GPU or encoder; [rate.l4] uni = 400")
            rates[gpu, encoder] = _figure(f"rate.{gpu}.{encoder}", given, sources)
    return Figures(
        *(
            _fill(cls, table[name], name, sources)
            for name, cls in (
                ("slides", Slides),
                ("worker", Worker),
                ("shared", Shared),
                ("time", Time),
                ("results", Results),
                ("price", Price),
            )
        ),
        gpus,
        encoders,
        rates,
        sources,
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise CostFigureError(f"{path} is no TOML file that can be read: {exc}") from exc


def _merge(table: Table, own: Table, path: str) -> dict[str, Any]:
    """Return a table with what another one says instead; a name that is nowhere is a mistake."""
    merged = dict(table)
    for name, given in own.items():
        inside = f"{path}{name}"
        open_ended = path in {"gpu.", "encoder."} or path.startswith("rate.") or inside.startswith("rate.")
        if name not in merged and not open_ended:
            raise CostFigureError(f"{inside} is not known; there are {', '.join(sorted(merged))}")
        both = isinstance(merged.get(name), dict) and isinstance(given, dict) and "value" not in merged[name]
        merged[name] = _merge(merged[name], given, f"{inside}.") if both else given
    return merged


def _fill(cls: type[_T], table: Table, path: str, sources: dict[str, Figure]) -> _T:
    values: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]
        name = f"{path}.{field.name}"
        if field.name not in table:
            raise CostFigureError(
                f"{name} is missing, for example {field.name} = {'100' if field.type is float else 'A'}"
            )
        given = table[field.name]
        if field.type is str and not isinstance(given, str):
            raise CostFigureError(f"{name} is a name, for example {field.name} = 'L4'")
        values[field.name] = given if field.type is str else _figure(name, given, sources)
    return cls(**values)


def _figure(name: str, given: object, sources: dict[str, Figure]) -> float:
    table = given if isinstance(given, dict) else {"value": given}
    value = table.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        example = '{ value = 100, kind = "measured", source = "where from", date = "2026-11-23" }'
        raise CostFigureError(f"{name} is a number of at least 0, for example 100 or {example}")
    kind = table.get("kind", "yours")
    if kind not in get_args(Kind):
        raise CostFigureError(f"{name}: kind is one of {', '.join(get_args(Kind))}")
    last = name.rpartition(".")[2]
    if not value and (last in _POSITIVE or name.startswith("rate.")):
        raise CostFigureError(f"{name} is more than 0, for example 100")
    if last in _SHARES and value >= 1:
        raise CostFigureError(f"{name} is a share below 1, for example 0.1")
    sources[name] = Figure(float(value), kind, str(table.get("source", "")), str(table.get("date", "")))
    return float(value)
