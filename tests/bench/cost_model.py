"""Hours and dollars of embedding an archive on machines with a GPU each, in closed form.

`tests.bench.fleet` simulates the same; a test holds the two together. Rates are in patches or slides a second.
"""

import math
from dataclasses import dataclass, replace

from tests.bench.cost_figures import Figures

_GIB = 2**30
_H = 3600.0


@dataclass(frozen=True)
class Pace:
    """One worker with one GPU and one encoder.

    Parameters
    ----------
    encoder : float
        Patches a second of the GPU.
    measured : bool
        Whether somebody measured that, or it is peak x utilisation / GFLOP.
    own : float
        Patches a second while it embeds: the GPU's, or what it is fed if that is less.
    slide_s : float
        Seconds of a slide: opened with each shard, embedded, published.
    """

    encoder: float
    measured: bool
    own: float
    slide_s: float

    @property
    def limit(self) -> str:
        """What holds the worker up."""
        return "GPU" if self.own == self.encoder else "feed"


@dataclass(frozen=True)
class Run:
    """Some workers embed all slides.

    Parameters
    ----------
    workers : int
    hours : float
    busy : dict of str to float
        The share of that time in which each is busy: ``gpu``, ``archive``, ``feeder``, ``ledger``.
    limit : str
        What more of would make it shorter: ``GPU``, ``feed``, ``archive``, ``feeder`` or ``ledger``.
    """

    workers: int
    hours: float
    busy: dict[str, float]
    limit: str


def shards(figures: Figures) -> float:
    """Return how many shards a slide has on average: of a log-normal number of patches, each of so many or less."""
    slides, count, k = figures.slides, 0.0, 0
    middle = math.log(slides.patches) - slides.spread**2 / 2
    while True:
        if k and slides.spread:
            more = math.erfc((math.log(k * slides.shard) - middle) / slides.spread / math.sqrt(2)) / 2
        else:
            more = float(not k or slides.patches > k * slides.shard)
        if more < 1e-6:
            return count
        count, k = count + more, k + 1


def pace(figures: Figures, gpu: str, encoder: str) -> Pace:
    """Return how fast one worker is."""
    measured, network, machine = figures.rates.get((gpu, encoder)), figures.encoders[encoder], figures.gpus[gpu]
    peak = machine.fp32_tflops if network.precision == "fp32" else machine.tflops
    rate = measured if measured is not None else peak * 1000 * figures.worker.utilisation / network.gflop
    own = min(rate, figures.worker.feed_patches_s)
    slide_s = figures.slides.patches / own + shards(figures) * figures.worker.open_s + figures.worker.publish_s
    return Pace(rate, measured is not None, own, slide_s)


def shared_limits(figures: Figures) -> dict[str, float]:
    """Return how many slides a second each of what is shared can do."""
    slides, shared = figures.slides, figures.shared
    return {
        "archive": shared.archive_bytes_s / (slides.patches * slides.patch_bytes),
        "feeder": 1 / shared.submit_s if shared.submit_s else math.inf,
        "ledger": 1 / (shared.transaction_s * shared.transactions) if shared.transaction_s else math.inf,
    }


def scarcest(figures: Figures) -> str:
    """Return which of what is shared is the first to be the limit."""
    limits = shared_limits(figures)
    return min(limits, key=lambda name: limits[name])


def run(figures: Figures, gpu: str, encoder: str, workers: int, *, spot: bool = True) -> Run:
    """Return what becomes of it when so many workers do it."""
    worker, limits = pace(figures, gpu, encoder), shared_limits(figures)
    here = workers * (1 - figures.time.spot_loss * spot) / worker.slide_s
    shared = scarcest(figures)
    rate = min(here, limits[shared])
    busy = {"gpu": rate * figures.slides.patches / worker.encoder / workers}
    busy |= {name: rate / limit for name, limit in limits.items()}
    limit = shared if limits[shared] < here else worker.limit
    return Run(workers, figures.slides.count / rate / _H, busy, limit)


def workers_for(figures: Figures, gpu: str, encoder: str, *, spot: bool = True) -> int | None:
    """Return how many workers are done within the hours, less the reserve; None if what they share cannot."""
    seconds = figures.time.hours * _H * (1 - figures.time.reserve)
    needed = figures.slides.count / seconds
    if needed > min(shared_limits(figures).values()):
        return None
    here = (1 - figures.time.spot_loss * spot) / pace(figures, gpu, encoder).slide_s
    return max(1, math.ceil(needed / here - 1e-9))


def machine_h(figures: Figures, gpu: str, *, spot: bool = True) -> float:
    """Return dollars an hour of a machine, its disk included."""
    machine = figures.gpus[gpu]
    return (machine.spot_h if spot else machine.on_demand_h) + figures.price.disk_h


def dollars(figures: Figures, gpu: str, encoder: str, workers: int, *, spot: bool = True) -> dict[str, float]:
    """Return what a run costs, in parts; what is stored costs by the month besides (`stored`)."""
    hours, price = run(figures, gpu, encoder, workers, spot=spot).hours, figures.price
    asked = figures.slides.count * requests(figures)
    writes = figures.slides.count * (2 + shards(figures))
    return {
        "GPUs": workers * hours * machine_h(figures, gpu, spot=spot),
        "cluster, system machines": hours * (price.cluster_h + price.system_h),
        "ledger": hours * price.ledger_h,
        "shared folder": hours * price.shared_folder_h,
        "requests to the store": max(0.0, asked - 25_000) / 100_000 * price.request_100k,
        "audit logs": asked * figures.results.log_bytes / _GIB * price.log_gib,
        "writes to the bucket": writes / 1000 * price.write_1000,
    }


def requests(figures: Figures) -> float:
    """Return how often a slide asks the archive."""
    frames = figures.slides.patches * figures.slides.frames
    return figures.worker.requests + frames / figures.worker.frames_a_request


def read_gib(figures: Figures) -> float:
    """Return what is read from the archive, in GiB."""
    return figures.slides.count * figures.slides.patches * figures.slides.patch_bytes / _GIB


def stored_gib(figures: Figures, encoder: str) -> tuple[float, float]:
    """Return what annotations and tables of all slides take, in GiB."""
    values = figures.slides.count * figures.slides.patches * figures.encoders[encoder].numbers * 4 / _GIB
    return values * figures.results.annotation_overhead, values * figures.results.table_overhead


def stored(figures: Figures, encoder: str) -> dict[str, float]:
    """Return dollars a month of what is left behind."""
    (annotations, tables), price = stored_gib(figures, encoder), figures.price
    index = figures.slides.count * figures.results.metadata_bytes / _GIB
    return {
        "annotations in the store": annotations * price.blob_gib_month,
        "what the store indexes of them": index * price.index_gib_month,
        "tables in the bucket": tables * price.bucket_gib_month,
    }


def with_archive(figures: Figures, bytes_s: float) -> Figures:
    """Return the same figures behind another archive."""
    return replace(figures, shared=replace(figures.shared, archive_bytes_s=bytes_s))
