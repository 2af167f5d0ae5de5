"""SavedModels: another model's and damaged ones are refused with what is wrong, and none of them is run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.domain.errors import WeightsInvalid
from models.encoders.path_foundation import MODEL
from tests.services.saved_model import Published, write_saved_model

tf = pytest.importorskip("tensorflow")
_DATA = "variables/variables.data-00000-of-00001"
_INDEX = "variables/variables.index"
_GRAPH = "saved_model.pb"


def _refused(folder: Path, named: str) -> None:
    with pytest.raises(WeightsInvalid, match=named) as caught:
        MODEL.load(folder, {}, "cpu")
    assert "\n" not in caught.value.message
    assert str(folder.parent) not in caught.value.message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"signature": "embed"}, "no signature serving_default, but: embed"),
        ({"input_name": "images"}, "input is images, not inputs alone"),
        ({"shape": (256, 256, 3)}, "input inputs is N x 256 x 256 x 3, not N x 224 x 224 x 3"),
        ({"shape": (224, 224)}, "input inputs is N x 224 x 224, not"),
        ({"dtype": "uint8"}, "input inputs is uint8, not float"),
        ({"dtype": "float64"}, "input inputs is double, not float"),
        ({"outputs": {"embedding": 384}}, "output is embedding, not output_0 alone"),
        ({"outputs": {"output_0": 384, "output_1": 10}}, "output is output_0, output_1, not output_0 alone"),
        ({"outputs": {"output_0": 512}}, "output output_0 is N x 512, not N x 384"),
        ({"output_dtype": "float16"}, "output output_0 is half, not float"),
    ],
    ids=str,
)
def test_another_model_is_refused(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """Another signature, another tensor, another type, another shape: each is named, with what it should be."""
    folder = write_saved_model(tmp_path / "other", replace(Published(), **change))  # type: ignore[arg-type]
    _refused(folder, f"not those of path-foundation: (the )?{named}")


def _keras_file(folder: Path) -> Path:
    (path := folder.parent / "model.keras").write_bytes(b"PK\x03\x04")
    return path


def _without_graph(folder: Path) -> Path:
    (folder / _GRAPH).unlink()
    return folder


def _graph_of_nothing(folder: Path) -> Path:
    (folder / _GRAPH).write_bytes(b"")
    return folder


def _page(folder: Path) -> Path:
    (folder / _GRAPH).write_bytes(b"<html>log in</html>")
    return folder


def _without_variables(folder: Path) -> Path:
    (folder / _DATA).unlink()
    (folder / _INDEX).unlink()
    return folder


def _pointer(folder: Path) -> Path:
    (folder / _DATA).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    return folder


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_keras_file, r"model\.keras are no folder: a SavedModel is one.*model\.export"),
        (_without_graph, r"is no SavedModel: saved_model\.pb: No such file"),
        (_graph_of_nothing, "holds 0 graphs for serving"),
        (_page, r"saved_model\.pb of path-foundation is damaged"),
        (_without_variables, "cannot be loaded"),
        (_pointer, "cannot be loaded"),
    ],
)
def test_what_is_no_savedmodel_is_refused(saved_model: Path, spoil: Callable[[Path], Path], named: str) -> None:
    """A Keras file, a folder without its graph, a login page, pointers of git-lfs: each is said to be none."""
    _refused(spoil(saved_model), named)


@pytest.mark.parametrize("file", [_GRAPH, _INDEX, _DATA])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_download_that_broke_off_is_refused(saved_model: Path, file: str, share: float) -> None:
    """Any file that ends too early."""
    path = saved_model / file
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * share), len(content) - 1)])
    _refused(saved_model, "path-foundation")


@pytest.mark.parametrize("file", [_INDEX, _DATA])
def test_a_changed_byte_is_found(saved_model: Path, file: str) -> None:
    """TensorFlow keeps a check sum of each variable and of the index; it is heeded."""
    path = saved_model / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    _refused(saved_model, "cannot be loaded")


def test_a_graph_that_reads_files_is_refused(tmp_path: Path) -> None:
    """A SavedModel is a program; one that would read this machine's files is not run."""
    folder = write_saved_model(tmp_path / "spy", Published(reads=True))
    _refused(folder, "refused: it would run ReadFile")


def test_a_graph_that_is_not_for_serving_is_refused(saved_model: Path) -> None:
    """Without the tag that the signature is looked for under, there is no model; two of them are one too many."""
    from tensorflow.core.protobuf import saved_model_pb2

    stored = saved_model_pb2.SavedModel.FromString((saved_model / _GRAPH).read_bytes())
    stored.meta_graphs.append(stored.meta_graphs[0])
    (saved_model / _GRAPH).write_bytes(stored.SerializeToString())
    _refused(saved_model, "holds 2 graphs for serving")
    for graph in stored.meta_graphs:
        graph.meta_info_def.tags[:] = ["train"]
    (saved_model / _GRAPH).write_bytes(stored.SerializeToString())
    _refused(saved_model, "holds 0 graphs for serving")


def test_a_missing_fingerprint_is_no_matter(saved_model: Path) -> None:
    """Older SavedModels have none."""
    (saved_model / "fingerprint.pb").unlink()
    assert MODEL.load(saved_model, {}, "cpu").encode(np.zeros((1, 224, 224, 3), np.uint8)).matrix.shape == (1, 384)


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"xla": "yes"}, marks=pytest.mark.faults), {"deterministic": "yes"}], ids=str
)
def test_a_fixed_number_of_images_is_filled_up(tmp_path: Path, options: dict[str, str]) -> None:
    """A network that takes four images at a time, no more and no less, gives what one that takes any number does."""
    pixels = np.random.default_rng(4).integers(0, 256, (7, 224, 224, 3), np.uint8)
    any_number = MODEL.load(write_saved_model(tmp_path / "any"), {}, "cpu").encode(pixels).matrix
    four = MODEL.load(write_saved_model(tmp_path / "four", Published(images=4)), options, "cpu").encode(pixels).matrix
    assert four.shape == any_number.shape
    assert np.abs(four - any_number).max() <= 1e-5
