"""A TensorFlow SavedModel: a folder, held to the form that its encoder declares before any of it is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from models.domain.errors import WeightsInvalid
from models.encoders.protocol import EncoderSpec

_GRAPH: Final = "saved_model.pb"
# What a network has no need of. The functions that save and restore variables have operations of their own.
_FORBIDDEN: Final = frozenset({"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc"})
_INTERNAL: Final = "__saved_model"


@dataclass(frozen=True, slots=True)
class Form:
    """How a SavedModel is called.

    Parameters
    ----------
    signature, input_name, output_name : str
        The signature, its only input (float32 NHWC, 0..1), and its only output (float32, one row an image).
    """

    signature: str = "serving_default"
    input_name: str = "inputs"
    output_name: str = "output_0"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A SavedModel in memory.

    Parameters
    ----------
    loaded : object
        As TensorFlow gave it; a signature alone does not keep its variables.
    form : Form
    images : int or None
        How many images it takes at a time, no more and no less; None: any number.
    """

    loaded: Any
    form: Form
    images: int | None

    def features(self, images: Any) -> Any:
        """Turn a float32 tensor (N, input_px, input_px, 3) into one of (N, D)."""
        signature = self.loaded.signatures[self.form.signature]
        return signature(**{self.form.input_name: images})[self.form.output_name]


def open_saved_model(tf: ModuleType, folder: Path, spec: EncoderSpec, form: Form) -> SavedModel:
    """Check a SavedModel's declaration, then load its variables onto the current device.

    Raises
    ------
    WeightsInvalid
        It is none, is damaged, holds operations that read or write files or run Python, or is another model's.
    """
    images = _check_signature(_read_graph(folder), spec, form)
    try:
        return SavedModel(tf.saved_model.load(str(folder)), form, images)
    except (tf.errors.ResourceExhaustedError, tf.errors.InternalError):
        raise  # says nothing about the folder, but about the device
    except Exception as exc:  # TensorFlow raises nearly every kind on a damaged folder
        raise WeightsInvalid(
            f"The SavedModel {folder.name} cannot be loaded ({type(exc).__name__}): a file of it is missing or "
            "damaged. Fetch it again."
        ) from exc


def _read_graph(folder: Path) -> Any:
    """Return the part of a SavedModel that serves, as its own protocol buffer; nothing of it is run."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    if not folder.is_dir():
        raise WeightsInvalid(
            f"The weights {folder.name} are no folder: a SavedModel is one, with a {_GRAPH} in it. "
            "A .keras or .h5 file becomes one by Keras' model.export."
        )
    try:
        stored = saved_model_pb2.SavedModel.FromString((folder / _GRAPH).read_bytes())
    except OSError as exc:
        raise WeightsInvalid(f"The folder {folder.name} is no SavedModel: {_GRAPH}: {exc.strerror}.") from exc
    except DecodeError as exc:
        raise WeightsInvalid(f"The {_GRAPH} of {folder.name} is damaged: fetch it again.") from exc
    graphs = [graph for graph in stored.meta_graphs if "serve" in graph.meta_info_def.tags]
    if len(graphs) != 1:
        raise WeightsInvalid(f"The SavedModel {folder.name} holds {len(graphs)} graphs for serving, not one.")
    [graph] = graphs
    nodes = [graph.graph_def.node, *(function.node_def for function in graph.graph_def.library.function)]
    found = sorted({node.op for part in nodes for node in part} & _FORBIDDEN)
    if found:
        raise WeightsInvalid(f"The SavedModel {folder.name} is refused: it would run {', '.join(found)} here.")
    return graph


def _check_signature(graph: Any, spec: EncoderSpec, form: Form) -> int | None:
    """Refuse a graph that is not called as declared; return the number of images that it insists on."""
    name = spec.name
    known = sorted(key for key in graph.signature_def if not key.startswith(_INTERNAL))
    if form.signature not in known:
        raise WeightsInvalid(
            f"The weights are not those of {name}: no signature {form.signature}, but: {', '.join(known) or 'none'}."
        )
    signature = graph.signature_def[form.signature]
    side = spec.input_px
    images = _check_tensor(name, "input", signature.inputs, (form.input_name, (side, side, 3)))
    _check_tensor(name, "output", signature.outputs, (form.output_name, (spec.dimension,)))
    return images


def _check_tensor(
    encoder: str, kind: str, tensors: Mapping[str, Any], meant: tuple[str, tuple[int, ...]]
) -> int | None:
    """Refuse other tensors than one float32 of that name and shape; return the first dimension, if it is fixed."""
    from tensorflow.core.framework import types_pb2

    name, shape = meant
    wrong = f"The weights are not those of {encoder}: the {kind}"
    if set(tensors) != {name}:
        raise WeightsInvalid(f"{wrong} is {', '.join(sorted(tensors)) or 'missing'}, not {name} alone.")
    tensor = tensors[name]
    if tensor.dtype != types_pb2.DT_FLOAT:
        given = types_pb2.DataType.Name(tensor.dtype).removeprefix("DT_").lower()
        raise WeightsInvalid(f"{wrong} {name} is {given}, not float.")
    if tensor.tensor_shape.unknown_rank:
        return None  # what it gives is seen when it is tried
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if len(sizes) != len(shape) + 1 or any(one not in {-1, other} for one, other in zip(sizes[1:], shape, strict=True)):
        said = " x ".join("N" if size < 0 else str(size) for size in sizes)
        raise WeightsInvalid(f"{wrong} {name} is {said or 'a number'}, not N x {' x '.join(map(str, shape))}.")
    return None if sizes[0] < 0 else int(sizes[0])
