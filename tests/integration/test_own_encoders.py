"""Encoders of one's own: a function in a program, a package with one line, a file or a server in the settings."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from connectors.tables.parquet import matrix_of
from models.domain.errors import EmbeddingInvalid, WorkFailed
from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from models.encoders import registry
from models.encoders.function import FunctionModel
from tests.services.command import Said, Slidewire
from tests.services.http import Reply, StrictServer
from tests.services.pacs import SlideInPacs, assert_valid, fetch_instance
from tests.services.path_foundation_server import PathFoundation, embedding_of
from worker.embedding import embed
from worker.settings import Settings

_TOY = Path(__file__).parents[1] / "packages" / "toy_encoder"
_TOKEN, _CANARY = "canary-token-4712", "PATIENT^NAME"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Write an image of 2 x 2 patches of noise."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (448, 448, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Keep state to the test, and registered encoders too."""
    monkeypatch.setattr(registry, "_registered", {})
    return Settings(state_folder=tmp_path / "state")


def _patches(photo: Path) -> NDArray[np.uint8]:
    with Image.open(photo) as image:
        pixels = np.asarray(image)
    return np.stack([pixels[y : y + 224, x : x + 224] for y in (0, 224) for x in (0, 224)])


def _request(photo: Path, encoder: str) -> EmbedRequest:
    patches = PatchSpec(spacing_um=None, tissue_fraction=None)
    return EmbedRequest(str(photo), encoder, OutputSpec(str(photo.parent / "out")), patches)


def _provenance(uri: str) -> dict[str, Any]:
    return dict(json.loads(pq.read_schema(uri).metadata[b"slidewire"]))


class TestFunction:
    """A function of the running program."""

    def test_a_function_embeds(self, photo: Path, settings: Settings) -> None:
        """Registered, it is run like any other encoder, and its numbers are what it gives."""
        registry.register(FunctionModel.of("mean-colour", lambda images: images.mean(axis=(1, 2)), 3, licence="MIT"))
        result = embed(_request(photo, "mean-colour"), settings)
        expected = (_patches(photo).astype(np.float32) / 255).mean(axis=(1, 2))
        assert result.matrix() == pytest.approx(expected, abs=1e-6)
        provenance = _provenance(result.output("parquet").uri)
        assert (provenance["encoder"], provenance["encoder_licence"]) == ("mean-colour", "MIT")
        assert provenance["weights_sha256"] == ""

    def test_a_function_that_fails_ends_the_job_and_nothing_else(self, photo: Path, settings: Settings) -> None:
        """The job says what failed and where, not in the exception's words; the next job is done."""
        calls = []

        def sometimes(images: NDArray[np.float32]) -> NDArray[np.float32]:
            calls.append(len(images))
            if len(calls) == 2:  # after the trial
                raise OSError(_CANARY)
            return np.asarray(images.mean(axis=(1, 2)))

        registry.register(FunctionModel.of("sometimes", sometimes, 3))
        with pytest.raises(WorkFailed, match=r"sometimes failed \(OSError at test_own_encoders\.py:\d+\)") as caught:
            embed(_request(photo, "sometimes"), settings)
        assert caught.value.code == EmbeddingInvalid.code
        assert _CANARY not in str(caught.value)
        assert not (photo.parent / "out").exists()
        assert embed(_request(photo, "sometimes"), settings).patches == 4


def _installed(slidewire: Slidewire, target: Path, package: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--disable-pip-version-check", "--target", target, package], check=True)
    known = slidewire.environment.get("PYTHONPATH")
    slidewire.environment["PYTHONPATH"] = f"{target}:{known}" if known else str(target)


@pytest.mark.faults
class TestPackage:
    """A package with one entry-point line."""

    def test_a_package_brings_its_encoder_along(self, slidewire: Slidewire, photo: Path, tmp_path: Path) -> None:
        """Once it is installed, the encoder is listed, shown and run, with no other change anywhere."""
        assert "toy" not in slidewire.program("encoders").stdout
        _installed(slidewire, tmp_path / "site", Path(shutil.copytree(_TOY, tmp_path / "toy")))
        said = slidewire.program("encoders")
        assert [line.split()[0] for line in said.stdout.splitlines() if line.startswith("toy ")] == ["toy"], said
        shown = slidewire.program("encoders", "toy")
        assert "Apache-2.0" in shown.stdout
        done = slidewire.program("embed", photo, "--encoder", "toy", "--native", "--all-patches", *_UNSUITED, "--json")
        assert (done.rc, done.stderr) == (0, "")
        assert (done.json["dimension"], done.json["patches"]) == (6, 4)
        density = -np.log((_patches(photo).astype(np.float64) + 1) / 256)
        expected = np.concatenate([density.mean(axis=(1, 2)), density.std(axis=(1, 2))], axis=1)
        assert _matrix(done) == pytest.approx(expected, abs=1e-4)

    def test_two_packages_with_one_name(self, slidewire: Slidewire, photo: Path, tmp_path: Path) -> None:
        """Which of two a name means is not left to chance: both are named, and nothing is run."""
        _installed(slidewire, tmp_path / "site", Path(shutil.copytree(_TOY, tmp_path / "toy")))
        other = Path(shutil.copytree(_TOY, tmp_path / "other"))
        (other / "toy_encoder.py").rename(other / "other_toy.py")
        project = (other / "pyproject.toml").read_text()
        (other / "pyproject.toml").write_text(
            project.replace("toy_encoder", "other_toy").replace("toy-enc", "other-enc")
        )
        _installed(slidewire, tmp_path / "other-site", other)
        for command in (("encoders",), ("embed", photo, "--encoder", "toy", "--all-patches")):
            said = slidewire.program(*command)
            assert said.rc == 1, said
            assert "toy_encoder:MODEL" in said.stderr
            assert "other_toy:MODEL" in said.stderr
            assert said.stderr.startswith("slidewire: REQUEST_INVALID: ")
            assert said.stderr.count("\n") == 1


_UNSUITED = ("--encoder-option", "unsuited=allow")  # the photo's spacing is unknown


def _matrix(said: Said) -> NDArray[np.float32]:
    return matrix_of(Path(said.output("parquet")["uri"]).read_bytes())


class TestServer:
    """A server of Path Foundation's contract."""

    @pytest.fixture
    def remote(self, slidewire: Slidewire, server: StrictServer) -> PathFoundation:
        """Declare the encoder `hosted`, behind a server that wants a token."""
        service = PathFoundation(token=_TOKEN)
        server.replies = [service]
        name = "SLIDEWIRE_ENCODERS__HOSTED__"
        declared = {
            "RUNTIME": "remote", "DIMENSION": "384", "LICENCE": "HAI-DEF", "SERVER__URL": f"{server.url}/predict",
            "SERVER__AUTH": "bearer", "SERVER__SECRET": "env:HOSTED_TOKEN",
        }  # fmt: skip
        slidewire.environment |= {f"{name}{key}": value for key, value in declared.items()}
        slidewire.environment["HOSTED_TOKEN"] = _TOKEN
        return service

    def test_it_embeds_a_slide_of_a_pacs(
        self,
        slidewire: Slidewire,
        remote: PathFoundation,
        pacs_slide: SlideInPacs,
        server: StrictServer,
        tmp_path: Path,
    ) -> None:
        """The slide comes from Orthanc, the numbers from the server; table and valid DICOM objects hold them."""
        said = slidewire.done("embed", pacs_slide.url, "--encoder", "hosted", "--out", "out", "--write-back")
        matrix = _matrix(said)
        sent = {embedding_of(patch).tobytes() for patch in remote.patches}
        assert matrix.shape == (said.json["patches"], 384)
        assert {row.tobytes() for row in matrix} <= sent
        for kind in ("annotations", "report"):
            path = tmp_path / f"{kind}.dcm"
            path.write_bytes(fetch_instance(pacs_slide.orthanc, said.output(kind)["uri"]))
            assert_valid(path)
            assert _TOKEN.encode() not in path.read_bytes()
        provenance = _provenance(said.output("parquet")["uri"])
        assert provenance["encoder_source"] == f"{server.url}/predict"
        assert provenance["weights_sha256"] == ""
        assert "the model is remote: its weights are not known" in provenance["notes"]
        again = slidewire.beside("again").done("embed", pacs_slide.url, "--encoder", "hosted", "--out", "out")
        assert again.output("parquet")["sha256"] == said.output("parquet")["sha256"]

    def test_the_token_is_nowhere(
        self, slidewire: Slidewire, remote: PathFoundation, photo: Path, server: StrictServer
    ) -> None:
        """Not in what is shown of the encoder, in ledger, logs, messages or results, though the server echoes it."""
        ask = ("embed", photo, "--encoder", "hosted", "--native", "--all-patches", "--out", "out")
        shown = slidewire.done("encoders", "hosted").stdout + slidewire("encoders").stdout
        slidewire.done(*ask)
        server.replies = [Reply(500, f"{_TOKEN} {_CANARY}".encode())]
        failed = slidewire.failed("ENDPOINT_FAILED", *ask, "--stride-px", "112")
        remote.token = "another"
        server.replies = [remote]
        denied = slidewire.failed("ACCESS_DENIED", *ask, "--stride-px", "56")
        kept = [path.read_bytes() for path in slidewire.folder.rglob("*") if path.is_file()]
        for word in (_TOKEN, _CANARY):
            assert word not in shown + failed.stderr + denied.stderr
            assert all(word.encode() not in one for one in kept)

    def test_patches_of_another_size_are_not_sent(
        self, slidewire: Slidewire, remote: PathFoundation, photo: Path, server: StrictServer
    ) -> None:
        """The size the server takes is known: another is refused before anything is asked."""
        slidewire.failed("PATCHES_UNSUITED", "embed", photo, "--encoder", "hosted", "--native", "--patch-px", "100")
        assert (server.asked, remote.counts) == ([], [])


def _means_network(path: Path) -> None:
    """Write an ONNX network from (B, 3, 32, 32) to the means of the channels, (B, 3)."""
    tensor = onnx.helper.make_tensor_value_info
    float_ = onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0)
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])
    graph = onnx.helper.make_graph(
        [node], "means", [tensor("images", float_, ["B", 3, 32, 32])], [tensor("means", float_, ["B", 3])], [axes]
    )
    network = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(network, path)


class TestFile:
    """An ONNX file in the settings."""

    @pytest.fixture
    def declared(self, slidewire: Slidewire) -> Path:
        """Declare the encoder `means` in the settings' file; return that."""
        weights = slidewire.folder / "means.onnx"
        _means_network(weights)
        file = slidewire.folder / "slidewire.toml"
        file.write_text(
            "[encoders.means]\nruntime = 'onnx'\ndimension = 3\nlicence = 'MIT'\ninput_px = 32\n"
            f"weights = '{weights}'\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\ninterpolation = 'area'\n"
        )
        return file

    def test_a_file_is_an_encoder(self, slidewire: Slidewire, declared: Path, photo: Path) -> None:
        """It is listed and run: what comes out is what the network makes of normalised patches."""
        del declared
        assert "means" in slidewire("encoders").stdout
        ask = ("embed", photo, "--encoder", "means", "--native", "--all-patches", "--out", "out")
        expected = (_patches(photo).astype(np.float64) / 255).mean(axis=(1, 2)) * 2 - 1
        assert _matrix(slidewire.done(*ask)) == pytest.approx(expected, abs=1e-5)

    def test_another_digest_is_refused(self, slidewire: Slidewire, declared: Path, photo: Path) -> None:
        """Weights that are not the declared ones are refused, and nothing is written."""
        declared.write_text(declared.read_text() + f"sha256 = '{'0' * 64}'\n")
        slidewire.failed("WEIGHTS_INVALID", "embed", photo, "--encoder", "means", "--native", "--out", "out")
        assert not (slidewire.folder / "out").exists()

    def test_a_wrong_declaration_stops_every_command(self, slidewire: Slidewire, declared: Path, photo: Path) -> None:
        """A name that is taken is a mistake of the settings, whichever encoder is asked for."""
        declared.write_text(declared.read_text().replace("encoders.means", "encoders.pixel-grid"))
        for command in (("embed", photo, "--encoder", "pixel-grid"), ("encoders",), ("encoders", "pixel-grid")):
            slidewire.failed("SETTINGS_INVALID", *command)
