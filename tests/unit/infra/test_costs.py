"""Hours and dollars: the arithmetic held to examples done by hand, and to the simulation; the page to its figures."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models.encoders.pathology_vits import H_OPTIMUS_0, LUNIT_DINO_S16, PHIKON, UNI, VIRCHOW2
from models.encoders.vit.shape import VitShape
from tests.bench import cost_figures, cost_model, cost_page
from tests.bench.cost_figures import CostFigureError, Encoder, Figures, Gpu
from tests.bench.fleet import Fleet, Rates

_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def figures() -> Figures:
    """Read the figures of the page."""
    return cost_figures.read()


@pytest.fixture
def round_figures(figures: Figures) -> Figures:
    """Make figures to compute with in one's head: a slide is 1,000 patches of one shard, ten seconds' work."""
    return replace(
        figures,
        slides=cost_figures.Slides(count=1000, patches=1000, spread=0, shard=4096, patch_bytes=10_000, frames=1),
        worker=cost_figures.Worker(500, open_s=1, publish_s=4, utilisation=0.5, requests=10, frames_a_request=100),
        shared=cost_figures.Shared(archive_bytes_s=1e9, submit_s=0.5, transaction_s=0.001, transactions=10),
        time=cost_figures.Time(hours=1, reserve=0, spot_loss=0),
        price=replace(figures.price, disk_h=0, cluster_h=0.5, system_h=0.5, ledger_h=0, shared_folder_h=0),
        gpus={"card": Gpu("Card", "machine", tflops=2, fp32_tflops=1, on_demand_h=3.6, spot_h=1.8)},
        encoders={"net": Encoder("ViT", "16 bit", gflop=5, numbers=256)},
        rates={},
    )


def test_page_is_what_the_script_prints(figures: Figures) -> None:
    """docs/costs.md was written from costs.toml as it is now: otherwise run `make costs`."""
    assert (_ROOT / "docs" / "costs.md").read_text() == cost_page.page(figures)


def test_a_worker(round_figures: Figures) -> None:
    """2 TFLOP/s, half of it used, are 200 patches of 5 GFLOP a second: 1,000 take 5 s, and 1 s before and 4 s after."""
    pace = cost_model.pace(round_figures, "card", "net")
    assert (pace.encoder, pace.own, pace.slide_s, pace.limit) == (200, 200, 10, "GPU")


def test_a_worker_in_fp32(round_figures: Figures) -> None:
    """In fp32 the card's other peak counts: 100 patches a second."""
    bare = replace(round_figures, encoders={"net": Encoder("ViT", "fp32", 5, 256)})
    assert cost_model.pace(bare, "card", "net").encoder == 100


def test_a_worker_that_is_not_fed(round_figures: Figures) -> None:
    """A card that could do 1,000 a second does 500, which is what it is fed: 2 s of work, and 5 s around it."""
    pace = cost_model.pace(replace(round_figures, rates={("card", "net"): 1000}), "card", "net")
    assert (pace.encoder, pace.own, pace.slide_s, pace.limit, pace.measured) == (1000, 500, 7, "feed", True)


def test_many_workers(round_figures: Figures) -> None:
    """1,000 slides of 10 s are 10,000 s: two workers take 5,000, and their cards are busy for half of it."""
    run = cost_model.run(round_figures, "card", "net", 2)
    assert run.hours == pytest.approx(5000 / 3600)
    assert run.busy["gpu"] == pytest.approx(0.5)
    assert run.busy["feeder"] == pytest.approx(0.1)
    assert run.limit == "GPU"


def test_too_many_workers(round_figures: Figures) -> None:
    """Whatever is bought, one process that submits two slides a second needs 500 s for 1,000 of them."""
    run = cost_model.run(round_figures, "card", "net", 1000)
    assert run.hours == pytest.approx(500 / 3600)
    assert run.limit == "feeder"
    assert run.busy["feeder"] == pytest.approx(1)


def test_how_many_it_takes(round_figures: Figures) -> None:
    """10,000 s of work fit into an hour of three workers, not of two; with a tenth in reserve into four's."""
    assert cost_model.workers_for(round_figures, "card", "net") == 3
    careful = replace(round_figures, time=replace(round_figures.time, reserve=0.3))
    assert cost_model.workers_for(careful, "card", "net") == 4
    shaky = replace(round_figures, time=replace(round_figures.time, spot_loss=0.5))
    assert cost_model.workers_for(shaky, "card", "net") == 6
    assert cost_model.workers_for(shaky, "card", "net", spot=False) == 3


@pytest.mark.parametrize("bytes_s", [1.25e8, 1e7, 2.7e6])
def test_an_archive_that_is_too_slow(round_figures: Figures, bytes_s: float) -> None:
    """1,000 slides of 10 MB in an hour are 2.78 MB/s: from 2.7 no number of workers will do."""
    found = cost_model.workers_for(cost_model.with_archive(round_figures, bytes_s), "card", "net")
    assert (found is None) == (bytes_s < 1e10 / 3600)


def test_what_it_costs(round_figures: Figures) -> None:
    """Two machines for 5,000 s at 1.80 an hour are 5.00; 20,000 requests are free, of 40,000 fifteen are not."""
    cost = cost_model.dollars(round_figures, "card", "net", 2)
    assert cost["GPUs"] == pytest.approx(5.0)
    assert cost["cluster, system machines"] == pytest.approx(5000 / 3600)
    assert cost_model.requests(round_figures) == 20
    assert cost["requests to the store"] == 0
    twice = replace(round_figures, slides=replace(round_figures.slides, count=2000))
    assert cost_model.dollars(twice, "card", "net", 2)["requests to the store"] == pytest.approx(0.15 * 0.39)
    assert cost_model.dollars(round_figures, "card", "net", 2, spot=False)["GPUs"] == pytest.approx(10.0)


def test_what_is_kept(round_figures: Figures) -> None:
    """A million patches of 256 numbers are 1.024 GB, as annotations and as tables, with what belongs to each."""
    annotations, tables = cost_model.stored_gib(round_figures, "net")
    assert annotations == pytest.approx(1.024e9 / 2**30 * 1.023)
    assert tables == pytest.approx(1.024e9 / 2**30 * 1.02)
    kept = cost_model.stored(round_figures, "net")
    assert kept["tables in the bucket"] == pytest.approx(tables * 0.02)


def test_what_is_read(round_figures: Figures) -> None:
    """A million patches of 10,000 bytes are 10 GB."""
    assert cost_model.read_gib(round_figures) == pytest.approx(1e10 / 2**30)


def test_shards(round_figures: Figures) -> None:
    """Without spread, 9,000 patches are three shards of 4,096; with it, as many as drawing slides gives on average."""
    fixed = replace(round_figures, slides=replace(round_figures.slides, patches=9000))
    assert cost_model.shards(fixed) == 3
    spread = replace(fixed, slides=replace(fixed.slides, spread=0.5))
    cuts = [4096 * k for k in range(1, 40)]
    middle = math.log(9000) - 0.125
    more = [0.5 * math.erfc((math.log(cut) - middle) / 0.5 / math.sqrt(2)) for cut in cuts]
    assert cost_model.shards(spread) == pytest.approx(1 + sum(more), abs=1e-4)
    assert 2.5 < cost_model.shards(spread) < 3.0


@pytest.mark.parametrize(("encoder", "workers"), [(400.0, 16), (1000.0, 8), (2000.0, 12)])
def test_the_simulation_says_the_same(figures: Figures, encoder: float, workers: int) -> None:
    """A simulated fleet is as fast as the closed form, within 5 %, when nothing crashes."""
    some = replace(figures, slides=replace(figures.slides, count=2000), rates={("l4", "uni"): encoder})
    rates = Rates(
        encoder=encoder,
        cores=figures.worker.feed_patches_s,
        connection=figures.worker.feed_patches_s / 2,
        patch_bytes=figures.slides.patch_bytes,
        patches=figures.slides.patches,
        crashes_per_h=1e-9,
    )
    simulated = Fleet(workers, 2000, rates).run()
    assert cost_model.run(some, "l4", "uni", workers, spot=False).hours * 3600 == pytest.approx(
        simulated.seconds, rel=0.05
    )


def test_more_is_dearer_and_faster_is_cheaper(figures: Figures) -> None:
    """More patches take more machines; faster cards fewer; dearer ones cost more; less time takes more machines."""

    def of(**changed: object) -> tuple[int, float]:
        other = replace(figures, **changed)  # type: ignore[arg-type]
        workers = cost_model.workers_for(other, "l4", "uni")
        assert workers is not None
        return workers, sum(cost_model.dollars(other, "l4", "uni", workers).values())

    workers, dollars = of()
    assert of(slides=replace(figures.slides, patches=2 * figures.slides.patches)) > (workers, dollars)
    fewer, cheaper = of(worker=replace(figures.worker, utilisation=0.8))
    assert fewer < workers
    assert cheaper < dollars
    assert of(time=replace(figures.time, hours=24))[0] > workers
    dear = {name: replace(gpu, spot_h=gpu.spot_h * 2) for name, gpu in figures.gpus.items()}
    same, dearer = of(gpus=dear)
    assert same == workers
    assert dearer > dollars * 1.5


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("path-foundation", LUNIT_DINO_S16.shape),
        ("exaonepath", PHIKON.shape),
        ("uni", UNI.shape),
        ("virchow2", VIRCHOW2.shape),
        ("h-optimus-0", H_OPTIMUS_0.shape),
    ],
)
def test_operations_are_those_of_the_network(figures: Figures, name: str, shape: VitShape) -> None:
    """A patch's operations are counted from the network's shape: matrices of each block, attention, first layer."""
    tokens = shape.grid**2 + 1 + shape.registers
    feed_forward = (3 if shape.mlp == "swiglu" else 2) * shape.width * shape.hidden
    block = 2 * tokens * (4 * shape.width**2 + feed_forward) + 4 * tokens**2 * shape.width
    first = 2 * shape.grid**2 * shape.width * 3 * shape.patch_px**2
    assert figures.encoders[name].gflop == pytest.approx((shape.depth * block + first) / 1e9, rel=0.01)


def test_every_figure_says_where_it_is_from(figures: Figures) -> None:
    """Each has a kind, a source and a date; what is from memory is a price, and says that it is to be checked."""
    assert len(figures.sources) > 50
    for name, figure in figures.sources.items():
        assert figure.kind != "yours", name
        assert len(figure.source) > 8, name
        assert len(figure.date) == 10, name
        assert ("from memory" in figure.source) <= (figure.kind == "price" and "check before use" in figure.source), (
            name
        )


def test_own_figures(tmp_path: Path, figures: Figures) -> None:
    """A file of plain numbers changes what it names and nothing else; what was measured replaces arithmetic."""
    own = tmp_path / "my.toml"
    own.write_text(
        'slides.patches = 20000\nrate.l4.uni = { value = 100, kind = "measured", source = "ours", date = "today" }\n'
    )
    read = cost_figures.read(own)
    assert read.slides == replace(figures.slides, patches=20000)
    assert read.price == figures.price
    assert read.sources["slides.patches"].kind == "yours"
    assert cost_model.pace(read, "l4", "uni").encoder == 100
    written = cost_page.page(read)
    assert "| L4 | 100, measured |" in written
    assert "None of the GPUs' speeds is a measurement" not in written


def test_half_as_fast_is_said_of_measured_speeds_too(figures: Figures) -> None:
    """What the page says of GPUs half as fast holds for a measured speed as for a computed one."""
    measured = replace(figures, rates={("l4", "uni"): cost_model.pace(figures, "l4", "uni").encoder})
    said = re.search(r"half as fast: ([0-9,]+), \$([0-9,]+)", cost_page.page(figures))
    again = re.search(r"half as fast: ([0-9,]+), \$([0-9,]+)", cost_page.page(measured))
    assert said is not None
    assert again is not None
    assert said.groups() == again.groups()


def test_own_gpu(tmp_path: Path) -> None:
    """A card that is not in the list can be added, and is on the page."""
    own = tmp_path / "my.toml"
    own.write_text(
        '[gpu.b200]\ntitle = "B200"\nmachine = "a4"\ntflops = 2250\nfp32_tflops = 75\non_demand_h = 14\nspot_h = 5\n'
    )
    assert "| B200 |" in cost_page.page(cost_figures.read(own))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slides.patch = 3\n", "slides.patch is not known"),
        ("nonsense = 3\n", "nonsense is not known"),
        ('slides.patches = "many"\n', "slides.patches is a number"),
        ("slides.patches = -1\n", "slides.patches is a number"),
        ("slides.patches = nan\n", "slides.patches is a number"),
        ("slides.patches = true\n", "slides.patches is a number"),
        ("slides.patches = 0\n", "slides.patches is more than 0"),
        ("time.reserve = 1\n", "time.reserve is a share below 1"),
        ("rate.l4.uno = 3\n", "rate.l4.uno: there is no such"),
        ("rate.l4.uni = 0\n", "rate.l4.uni is more than 0"),
        ("gpu.l4.title = 3\n", "gpu.l4.title is a name"),
        ('[gpu.b200]\ntitle = "B200"\n', "gpu.b200.machine is missing"),
        ('slides.patches = { value = 3, kind = "guess" }\n', "slides.patches: kind is one of"),
        ("slides = [\n", "no TOML file"),
    ],
)
def test_own_figures_that_make_no_sense(tmp_path: Path, text: str, said: str) -> None:
    """A mistake in one's own figures is one sentence that names the figure, not a page that is wrong."""
    own = tmp_path / "my.toml"
    own.write_text(text)
    with pytest.raises(CostFigureError, match=said.replace(".", r"\.")):
        cost_figures.read(own)


def test_archive_that_never_gets_done_is_said(figures: Figures) -> None:
    """Behind a line of 10 MB/s the page says that no number of GPUs will do, and why."""
    slow = cost_model.with_archive(figures, 1e7)
    written = cost_page.page(slow)
    assert "in time with any number of GPUs: the archive is the limit" in written


def test_command(tmp_path: Path) -> None:
    """The command prints the page with one's own figures, and refuses a mistake with status 2 and its sentence."""
    own = tmp_path / "my.toml"
    own.write_text("slides.count = 123456\n")
    command = [sys.executable, "-m", "tests.bench.cost_page", "--rates", str(own)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '## "123,456 slides by Monday"' in done.stdout
    own.write_text("slides.cuont = 1\n")
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "slides.cuont is not known" in done.stderr
