"""A function as an encoder: what it is given, and what of its answers is taken."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ez_wsi_dicomweb import local_image, patch_embedding
from ez_wsi_dicomweb.patch_embedding_endpoints import LocalEndpoint
from numpy.typing import NDArray

from models.domain.errors import DeviceLost, EmbeddingInvalid, RequestError, UnknownEncoder, WeightsInvalid
from models.encoders import registry
from models.encoders.function import FunctionModel

_CANARY = "PATIENT^NAME"


def means(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean colours, as doubles."""
    return np.asarray(images.mean(axis=(1, 2), dtype=np.float64))


def fails(_: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fail with a text that nobody may see."""
    raise ZeroDivisionError(_CANARY)


def _patches(count: int = 3, side: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


def _model(function: Callable[[Any], Any], **changes: Any) -> FunctionModel:
    model = FunctionModel.of("own", function, 3, patch_px=32)
    return FunctionModel(dataclasses.replace(model.spec, **changes), function)


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without encoders of other tests, and leave none."""
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((2, 3), np.float32),
        np.zeros((3, 4), np.float32),
        np.zeros(9, np.float32),
        np.zeros((3, 3), np.int64),
        np.zeros((3, 3), np.complex64),
        np.full((3, 3), "text"),
        None,
    ],
)
def test_what_is_no_row_a_patch_is_refused(given: Any) -> None:
    """Another count, dimension or type is named, also in the trial before the first patch."""
    encoder = _model(lambda _: given).load(None, {})
    with pytest.raises(EmbeddingInvalid, match=r"own gave .* \(3, 3\)"):
        encoder.encode(_patches())
    with pytest.raises(EmbeddingInvalid, match=r"own gave"):
        registry.load(_model(lambda _: given), None, {})


@pytest.mark.parametrize("given", [np.nan, np.inf, 1e300])
def test_nan_is_found_in_the_trial(given: float) -> None:
    """A function that gives no numbers, or some that float32 cannot hold, is refused before the first patch."""
    with pytest.raises(EmbeddingInvalid, match="own gives NaN or infinity"):
        registry.load(_model(lambda images: np.full((len(images), 3), given)), None, {})


def test_its_failure_is_told_without_its_words() -> None:
    """The class and the place of an exception are told; its text, which may hold anything, is not."""
    with pytest.raises(EmbeddingInvalid, match=r"own failed \(ZeroDivisionError at test_function\.py:\d+\)") as caught:
        _model(fails).load(None, {}).encode(_patches())
    assert _CANARY not in str(caught.value)
    assert not caught.value.retryable


def test_errors_of_ours_pass() -> None:
    """A function that knows that its device is lost may say so."""

    def lost(_: NDArray[np.float32]) -> NDArray[np.float32]:
        raise DeviceLost("The device is lost.")

    with pytest.raises(DeviceLost):
        _model(lost).load(None, {}).encode(_patches())


def test_options_and_weights_it_has_not() -> None:
    """An option that no encoder has, and weights, are refused."""
    model = _model(means)
    with pytest.raises(RequestError, match="tile"):
        model.settle({"tile": "1"})
    with pytest.raises(RequestError, match="tile"):
        model.load(None, {"tile": "1"})
    with pytest.raises(WeightsInvalid, match="leave --weights out"):
        model.weights(Path("any.pt"))
    assert model.weights(None) is None


def test_it_is_given_what_local_endpoint_gives() -> None:
    """A function for EZ-WSI's LocalEndpoint gets the same images, to the bit, and gives the same embeddings."""
    seen: list[NDArray[np.float32]] = []

    def watched(images: NDArray[np.float32]) -> NDArray[np.float64]:
        seen.append(images)
        return means(images)

    pixels = _patches()
    found = _model(watched).load(None, {}).encode(pixels).matrix
    endpoint = LocalEndpoint(watched, patch_width=32, patch_height=32, max_threads=1)
    patches = [local_image.LocalImage(patch).get_patch(0, 0, 32, 32) for patch in pixels]
    expected = [one.embedding for one in patch_embedding.generate_patch_embeddings(endpoint, patches)]
    assert seen[0].dtype == seen[1].dtype == np.float32
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(found, np.asarray(expected, np.float32))


def test_other_sizes_and_ranges_are_brought_to_the_specs() -> None:
    """Patches of another size are resized, and a spec's range, mean and deviation apply."""
    white = np.full((2, 50, 50, 3), 255, np.uint8)

    def shaped(images: NDArray[np.float32]) -> NDArray[np.float64]:
        assert images.shape == (2, 32, 32, 3)
        return means(images)

    changes = {"value_range": (-1.0, 1.0), "mean": (0.5, 0.0, -1.0), "std": (0.5, 2.0, 1.0)}
    found = _model(shaped, **changes).load(None, {}).encode(white).matrix
    assert found == pytest.approx(np.array([[1.0, 0.5, 2.0]] * 2), abs=1e-5)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_any_floating_point_becomes_float32_of_its_own(kind: type) -> None:
    """What comes back is float32, and is not overwritten when the function uses its memory again."""
    memory = np.ones((3, 3), kind)
    encoder = _model(lambda _: memory).load(None, {})
    found = encoder.encode(_patches()).matrix
    memory[:] = 2
    assert found.dtype == np.float32
    assert (found == 1).all()


def test_of_says_what_it_is() -> None:
    """Five words make a spec: the patches it is meant for are those it takes."""
    spec = FunctionModel.of("own", means, 3, patch_px=64, spacing_um=0.25, licence="MIT").spec
    assert (spec.name, spec.dimension, spec.input_px, spec.patches_px) == ("own", 3, 64, (64,))
    assert (spec.spacings_um, spec.licence.name, spec.licence.ask) == ((0.25,), "MIT", False)
    assert FunctionModel.of("own", means, 3).spec.spacings_um == ()


def test_registering() -> None:
    """A registered model is found and listed; its name is its own, and registering it again changes nothing."""
    model = _model(means)
    registry.register(model)
    registry.register(model)
    assert registry.find("own") is model
    assert "own" in registry.names()
    with pytest.raises(RequestError, match="'own' already"):
        registry.register(_model(means))


@pytest.mark.parametrize("name", ["pixel-grid", "rudolfv", "", "a/b", "..", "family:rest", "a b", "x" * 65])
def test_names_that_cannot_be(name: str) -> None:
    """A name that is taken, or could be no file's, is refused, and nothing is registered."""
    with pytest.raises(RequestError, match=r"already|no name"):
        registry.register(_model(means, name=name))
    with pytest.raises(UnknownEncoder):
        registry.find("own")
