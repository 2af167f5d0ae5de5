"""HDF5 files in memory, the same bytes for the same content: no times, and a fixed version of the format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from numpy.typing import NDArray

from models.domain.errors import ExtraMissing

Attributes = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Dataset:
    """An array of a file; stored in one piece, since all readers read it whole."""

    values: NDArray[Any]
    attributes: Attributes = field(default_factory=dict)


def encode_hdf5(datasets: Mapping[str, Dataset], attributes: Attributes) -> bytes:
    """Return a file with datasets at its root.

    Raises
    ------
    ExtraMissing
        h5py is not installed.
    """
    try:
        import h5py
    except ImportError as exc:
        raise ExtraMissing("HDF5 tables need the extra 'tables': pip install 'slidewire[tables]'.") from exc
    target = BytesIO()
    # The oldest format that holds the content, and none newer than HDF5 1.10 reads.
    with h5py.File(target, "w", libver=("earliest", "v110"), track_order=False) as file:
        for name, dataset in datasets.items():
            made = file.create_dataset(name, data=dataset.values, track_times=False)
            for key, value in dataset.attributes.items():
                made.attrs[key] = value
        for key, value in attributes.items():
            file.attrs[key] = value
    return target.getvalue()
