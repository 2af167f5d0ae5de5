"""Writes docs/costs.md: hours and dollars for an archive, computed from costs.toml.

``make costs`` writes the page; ``python -m tests.bench.cost_page --rates my.toml`` prints it with your own figures.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.bench import cost_model
from tests.bench.cost_figures import CostFigureError, Figures, read

HEADLINE = ("uni", "l4")
_ORTHANC = "an Orthanc as the one measured (2 cores)"

_BEFORE = """# Hours and dollars

Written by `make costs` from [costs.toml](../tests/bench/costs.toml); do not edit it. With your own figures:
`python -m tests.bench.cost_page --rates my.toml`, where `my.toml` holds only what differs:

```toml
slides.patches = 20000            # plain numbers will do
gpu.l4.spot_h = 0.31
shared.archive_bytes_s = 1.25e8   # a PACS behind 1 Gbit/s
rate.l4.uni = 420                 # patches a second that you measured take the place of the arithmetic
```

"""

_UNMEASURED = "**None of the GPUs' speeds is a measurement**: there was no GPU where this was written. A speed is"

# Of one figure, what it is instead.
_Change = Callable[[Figures], Figures]


def page(figures: Figures) -> str:
    """Return the page: Markdown, the same for the same figures."""
    parts = (_answer, _by_encoder, _bill, _by_workers, _by_archive, _sensitivity, _elsewhere, _sources)
    return "\n".join(part(figures) for part in parts)


def _answer(figures: Figures) -> str:
    return _BEFORE + _section(
        f'"{_n(figures.slides.count)} slides by Monday"',
        f"Friday 18:00 to Monday 8:00 is {figures.time.hours:g} hours, of which {_p(figures.time.reserve)} are kept in"
        " reserve.",
        _headline(figures),
        f"{'Speeds marked so were measured. Any other is' if figures.rates else _UNMEASURED} the card's published"
        f" peak, times {_p(figures.worker.utilisation)}, over the network's operations. Measure one with `make"
        " bench-encode`, give it as `rate`, and the page is yours. Prices are list prices of one region, some from"
        " memory: the last table says which. What an archive can serve has only been measured on an Orthanc.",
    )


def _headline(figures: Figures) -> str:
    encoder, gpu = HEADLINE
    workers = cost_model.workers_for(figures, gpu, encoder)
    certain = cost_model.workers_for(figures, gpu, encoder, spot=False)
    if workers is None or certain is None:
        return (
            f"**They are not done in time with any number of GPUs: the {cost_model.scarcest(figures)} is the limit.**"
        )
    run = cost_model.run(figures, gpu, encoder, workers)
    spot = sum(cost_model.dollars(figures, gpu, encoder, workers).values())
    on_demand = sum(cost_model.dollars(figures, gpu, encoder, certain, spot=False).values())
    month = sum(cost_model.stored(figures, encoder).values())
    network = figures.encoders[encoder]
    slower = _gpus(figures, 0.5)
    if_slower = cost_model.workers_for(slower, gpu, encoder) or workers
    then = sum(cost_model.dollars(slower, gpu, encoder, if_slower).values())
    return (
        f"**With `{encoder}` ({network.network}, {network.precision}): {_n(workers)} {figures.gpus[gpu].title} on spot"
        f" machines, ${_n(spot)}, done in {run.hours:.0f} hours; on machines that nobody takes away {_n(certain)},"
        f" ${_n(on_demand)}. What is kept costs ${_n(month)} a month. The limit is the {run.limit}.** If its GPUs are"
        f" half as fast: {_n(if_slower)}, ${_n(then)}."
    )


def _by_encoder(figures: Figures) -> str:
    rows = []
    for encoder, network in figures.encoders.items():
        for gpu, machine in figures.gpus.items():
            pace = cost_model.pace(figures, gpu, encoder)
            cells = [f"`{encoder}`, {network.network}, {network.precision}", machine.title]
            cells += [f"{_n(pace.encoder)}{', measured' if pace.measured else ''}"]
            cells += [pace.limit, _n(3600 / pace.slide_s)]
            for spot in (True, False):
                cells += _run(figures, gpu, encoder, spot=spot)
            rows.append(cells)
    return _section(
        "How many of which",
        "Slides an hour of one GPU, how many are needed, and what all of it costs, but for what is kept. `feed`"
        f" is the limit where a GPU is faster than {_n(figures.worker.feed_patches_s)} patches a second, what a"
        " worker was measured to be fed from an Orthanc that shared its two cores: there the dearer card waits."
        " Nobody measured what the machines' 8 to 26 cores would feed.",
        "`16 bit` is `--encoder-option precision=bf16`, on a T4 `fp16`; what comes unless asked for is fp32 (below).",
        _table(("encoder", "GPU", "patches/s", "limit", "slides/h", "spot", "hours", "$", "on demand", "$"), rows),
    )


def _run(figures: Figures, gpu: str, encoder: str, *, spot: bool) -> list[str]:
    workers = cost_model.workers_for(figures, gpu, encoder, spot=spot)
    if workers is None:
        return ["-"] * (3 if spot else 2)
    total = sum(cost_model.dollars(figures, gpu, encoder, workers, spot=spot).values())
    hours = cost_model.run(figures, gpu, encoder, workers, spot=spot).hours
    return [_n(workers), f"{hours:.0f}", _n(total)] if spot else [_n(workers), _n(total)]


def _bill(figures: Figures) -> str:
    encoder, gpu = HEADLINE
    workers = cost_model.workers_for(figures, gpu, encoder) or 1
    annotations, tables = cost_model.stored_gib(figures, encoder)
    return _section(
        f"The bill: `{encoder}` on {workers} {figures.gpus[gpu].title}, spot",
        _sum("once", cost_model.dollars(figures, gpu, encoder, workers)),
        f"Reading within one region is free. A slide asks the store {cost_model.requests(figures):.0f} times. Not"
        " counted: the slides' own storage, egress to elsewhere (below), quota that has to be asked for, and"
        " people.",
        _sum("every month", cost_model.stored(figures, encoder)),
        f"The annotations of all slides are {_n(annotations)} GiB, the tables {_n(tables)} GiB:"
        f" {_n(figures.encoders[encoder].numbers)} numbers of 4 bytes a patch, twice. Who needs only one of the two"
        " leaves the other out.",
    )


def _by_workers(figures: Figures) -> str:
    encoder, gpu = HEADLINE
    rows = []
    for workers in (1, 4, 8, 16, 32, 64, 128, 256):
        run = cost_model.run(figures, gpu, encoder, workers)
        total = sum(cost_model.dollars(figures, gpu, encoder, workers).values())
        busy = [_p(run.busy[name]) for name in ("gpu", "archive", "feeder", "ledger")]
        rows.append([_n(workers), _hours(run.hours), _n(total), *busy, run.limit])
    return _section(
        "More GPUs",
        f"`{encoder}` on {figures.gpus[gpu].title}, spot: hours, dollars, and how busy each part is. A GPU waits"
        " while a slide is opened and published. The closed form behind this page agrees within 5 % with the"
        " simulation of a fleet ([benchmarks](benchmarks.md#a-fleet-simulated)).",
        _table(("GPUs", "in all", "$", "GPUs busy", "archive", "feeder", "ledger", "limit"), rows),
        "More GPUs cost about the same until something else is the limit: then they wait, and are paid for. The"
        " feeder is the one process that submits slides, one after the other.",
    )


def _by_archive(figures: Figures) -> str:
    encoder, gpu = HEADLINE
    orthanc = figures.worker.feed_patches_s * figures.slides.patch_bytes
    rows = []
    for name, bytes_s in ((_ORTHANC, orthanc), ("1 Gbit/s", 1.25e8), ("10 Gbit/s", 1.25e9)):
        behind = cost_model.with_archive(figures, bytes_s)
        rate = cost_model.shared_limits(behind)["archive"]
        workers = cost_model.workers_for(behind, gpu, encoder)
        feeds = rate * cost_model.pace(behind, gpu, encoder).slide_s
        said = "no" if workers is None else f"yes, {_n(workers)} GPUs"
        rows.append([name, f"{bytes_s / 1e6:,.0f}", _hours(figures.slides.count / rate / 3600), _n(feeds), said])
    asked = figures.slides.count * cost_model.requests(figures) / figures.time.hours / 60
    title, hours = figures.gpus[gpu].title, f"{figures.time.hours:g}"
    return _section(
        "The archive",
        f"{_n(cost_model.read_gib(figures))} GiB have to be read. Whatever serves them sets the shortest time, and"
        " how many GPUs it can keep busy:",
        _table(("archive", "MB/s", "at best", f"feeds so many {title}", f"in {hours} hours"), rows),
        f"It is asked {_n(asked)} times a minute for all that time: hold that against a PACS's other load, and"
        " against a project's quota of the Healthcare API. `endpoints.NAME.workers` bounds it"
        " ([settings](settings.md)).",
    )


def _gpus(figures: Figures, times: float) -> Figures:
    """Return the figures with GPUs so many times as fast, those that were measured among them."""
    worker = replace(figures.worker, utilisation=figures.worker.utilisation * times)
    return replace(figures, worker=worker, rates={each: rate * times for each, rate in figures.rates.items()})


def _changes(figures: Figures) -> dict[str, _Change]:
    slides, worker, time, shared = figures.slides, figures.worker, figures.time, figures.shared
    prices = {name: replace(gpu, spot_h=gpu.spot_h * 1.5) for name, gpu in figures.gpus.items()}
    bare = {name: replace(encoder, precision="fp32") for name, encoder in figures.encoders.items()}
    return {
        "as above": lambda f: f,
        "twice the patches a slide": lambda f: replace(f, slides=replace(slides, patches=slides.patches * 2)),
        "GPUs half as fast": lambda f: _gpus(f, 0.5),
        "GPUs 1.5 times as fast": lambda f: _gpus(f, 1.5),
        "in fp32, which is what comes unless asked": lambda f: replace(f, encoders=bare, rates={}),
        "the feed half as fast": lambda f: replace(f, worker=replace(worker, feed_patches_s=worker.feed_patches_s / 2)),
        "an archive behind 1 Gbit/s": lambda f: cost_model.with_archive(f, 1.25e8),
        "slides ten times as slow to open and publish": lambda f: replace(
            f, worker=replace(worker, open_s=worker.open_s * 10, publish_s=worker.publish_s * 10)
        ),
        "spot machines 1.5 times as dear": lambda f: replace(f, gpus=prices),
        "a quarter of spot time lost": lambda f: replace(f, time=replace(time, spot_loss=0.25)),
        "a week instead of a weekend": lambda f: replace(f, time=replace(time, hours=168)),
        "submitted ten times as fast": lambda f: replace(f, shared=replace(shared, submit_s=shared.submit_s / 10)),
    }


def _sensitivity(figures: Figures) -> str:
    encoder, gpu = HEADLINE
    rows = []
    for name, change in _changes(figures).items():
        other = change(figures)
        workers = cost_model.workers_for(other, gpu, encoder)
        if workers is None:
            rows.append([name, "not possible", "-", "-", cost_model.scarcest(other)])
            continue
        run = cost_model.run(other, gpu, encoder, workers)
        total = sum(cost_model.dollars(other, gpu, encoder, workers).values())
        rows.append([name, _n(workers), _hours(run.hours), _n(total), run.limit])
    said = f"`{encoder}` on {figures.gpus[gpu].title}, spot, within the time:"
    return _section("What if", said, _table(("what", "GPUs", "in all", "$", "limit"), rows))


def _elsewhere(figures: Figures) -> str:
    read_gib, price = cost_model.read_gib(figures), figures.price
    rows = [
        ["the same region as the GPUs", "0"],
        ["another region of the continent", _n(read_gib * price.region_gib)],
        ["the cloud, and the GPUs elsewhere", _n(read_gib * price.internet_gib)],
        ["the hospital, and the GPUs in the cloud", "0: coming in is free; the line is not"],
    ]
    return _section("Where the slides are", _table(("slides are in", "$ for reading them"), rows))


def _sources(figures: Figures) -> str:
    rows = [
        [f"`{name}`", f"{figure.value:,.10g}", figure.kind, figure.source or "-", figure.date or "-"]
        for name, figure in figures.sources.items()
    ]
    return _section(
        "Where the figures are from",
        "`measured` here ([benchmarks](benchmarks.md)), `published` by others, list `price`, `arithmetic` on others,"
        " Slidewire's default `setting`, or `assumed`.",
        _table(("figure", "value", "kind", "source", "date"), rows),
    )


def _section(title: str, *parts: str) -> str:
    """Return a chapter of paragraphs, which are broken into lines, and of tables, which are not."""
    texts = [part if part.startswith("|") else _lines(part) for part in parts]
    return "\n\n".join([f"## {title}", *texts]) + "\n"


def _lines(text: str) -> str:
    return textwrap.fill(text, 128, break_long_words=False, break_on_hyphens=False)


def _sum(title: str, parts: Mapping[str, float]) -> str:
    rows = [[name, f"{value:,.2f}"] for name, value in parts.items()]
    return _table((title, "$"), [*rows, ["**together**", f"**{sum(parts.values()):,.2f}**"]])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _n(value: float) -> str:
    return f"{value:,.0f}"


def _p(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _hours(hours: float) -> str:
    return f"{hours / 24:.1f} d" if hours > 72 else f"{hours:.0f} h"


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=Path, help="a TOML file with what differs from costs.toml")
    parser.add_argument("--write", type=Path, help="write the page to a file, and print nothing")
    options = parser.parse_args()
    try:
        written = page(read(options.rates))
    except CostFigureError as exc:
        parser.error(str(exc))
    if options.write is None:
        sys.stdout.write(written)
    else:
        options.write.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
