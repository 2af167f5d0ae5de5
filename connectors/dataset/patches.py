"""The dataset: the patches of many slides as one table that is read when it is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
from numpy.typing import NDArray

from connectors.dataset.index import Entry, Index, read_index, refuse_unreadable
from connectors.dataset.labels import DEFAULT_ON, Labels, read_labels
from models.domain.errors import RequestError, ResultCorrupt, ResultNotFound


@dataclass(frozen=True, slots=True)
class Arrays:
    """What a probe is trained on; the patches that have a label and an embedding, in the order of slides and rows.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
    labels : array, shape (N,)
    groups : array, shape (N,)
        What must not be divided between training and test: the slide, or a column of the labels (the patient).
    """

    matrix: NDArray[np.float32]
    labels: NDArray[Any]
    groups: NDArray[Any]


class PatchDataset:
    """The patches of many slides, embedded alike.

    Parameters
    ----------
    folder : str
    entries : sequence of Entry
        One a slide, all of one recipe.
    labels : Labels or None

    Attributes
    ----------
    dataset : pyarrow.dataset.Dataset
        The tables' columns, ``slide``, and the labels of slides, if there are any: filters on these open no file in
        vain. Nothing has been read.
    """

    def __init__(self, folder: str, entries: Sequence[Entry], labels: Labels | None) -> None:
        self.entries = tuple(entries)
        self.labels = labels
        self.dataset = _lazy(folder, self.entries, labels)

    @property
    def schema(self) -> pa.Schema:
        """The columns, those of labels of patches last."""
        more = self.labels.fields if self.labels is not None and self.labels.of_patches else ()
        return pa.schema([*self.dataset.schema, *more])

    def batches(
        self, columns: Sequence[str] | None = None, where: pads.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read, part by part.

        Parameters
        ----------
        columns : sequence of str or None
            None: all.
        where : pyarrow.dataset.Expression or None
            Only these rows; any column but the labels of patches.

        Yields
        ------
        pyarrow.RecordBatch
            Rows of one slide.

        Raises
        ------
        ResultCorrupt
            A table has changed, or is gone.
        """
        wanted = self._known(columns)
        held = [name for name in wanted if name in self.dataset.schema.names]
        keys = [name for name in ("slide", "x", "y") if name not in held]
        try:
            for batch in self.dataset.to_batches(columns=[*held, *keys], filter=where, use_threads=False):
                if batch.num_rows:
                    yield self._labelled(batch).select(wanted)
        except (pa.ArrowException, OSError) as exc:
            raise ResultCorrupt("A table of the dataset has changed or is gone: open the dataset again.") from exc

    def _labelled(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self.labels is None or not self.labels.of_patches:
            return batch
        corner = batch["x"].to_numpy(), batch["y"].to_numpy()
        more = self.labels.of_corners(batch["slide"][0].as_py(), *corner).combine_chunks()
        for name in more.column_names:
            column = more[name]
            batch = batch.append_column(name, column.chunk(0) if column.num_chunks else pa.array([], column.type))
        return batch

    def table(self, columns: Sequence[str] | None = None, where: pads.Expression | None = None) -> pa.Table:
        """Read all of it into memory; parameters and errors as for `batches`."""
        wanted = self._known(columns)
        return pa.Table.from_batches(self.batches(wanted, where), pa.schema([self.schema.field(n) for n in wanted]))

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        wanted = list(self.schema.names if columns is None else columns)
        unknown = [name for name in wanted if name not in self.schema.names]
        if unknown:
            raise RequestError(f"The dataset has no column {unknown[0]!r}; it has: {', '.join(self.schema.names)}.")
        return wanted

    def arrays(self, label: str, group: str = "slide") -> Arrays:
        """Read embeddings and labels as NumPy arrays, without holes and what has no label.

        Parameters
        ----------
        label : str
            A column of the labels.
        group : str
            ``slide``, or a column of the labels.

        Raises
        ------
        RequestError
            There is no such column.
        ResultNotFound
            No patch has that label.
        ResultCorrupt
            A table has changed, or is gone.
        """
        known = {} if self.labels is None else {field.name for field in self.labels.fields}
        if label not in known:
            raise RequestError(f"The labels have no column {label!r}; they have: {', '.join(sorted(known)) or 'none'}.")
        parts: list[tuple[NDArray[np.float32], NDArray[Any], NDArray[Any]]] = []
        of_slides = self.labels is not None and not self.labels.of_patches
        where = pads.field(label).is_valid() if of_slides else None
        for batch in self.batches(list(dict.fromkeys(["embedding", label, group])), where):
            kept = batch.filter(pc.and_(batch["embedding"].is_valid(), batch[label].is_valid()))
            vectors = kept["embedding"].flatten().to_numpy().reshape(kept.num_rows, self.entries[0].dimension)
            parts.append((vectors, *(kept[name].to_numpy(zero_copy_only=False) for name in (label, group))))
        if not sum(len(vectors) for vectors, _, _ in parts):
            raise ResultNotFound(
                f"No patch has a value of {label!r}: do the labels name the slides as the tables do? "
                "slidewire dataset shows their names."
            )
        return Arrays(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def open_dataset(
    folder: str, labels: str | None = None, *, on: str = DEFAULT_ON, encoder: str = "", recipe: str = ""
) -> PatchDataset:
    """Open the results in a folder as one dataset; no embedding is read yet.

    Parameters
    ----------
    folder : str
        The ``--out`` of the jobs: a path, or a URI that fsspec knows.
    labels : str or None
        CSV with a header: a row a slide, or a row a patch (columns ``x``, ``y`` in level-0 pixels).
    on : str
        Its column with the slides' names.
    encoder, recipe : str
        Which results, if slides were embedded in several ways; of the recipe its first characters do.

    Raises
    ------
    RequestError
        There are results of several recipes to choose from, or the labels are no such CSV.
    ResultNotFound
        There is no result.
    ResultCorrupt
        A table cannot be read.
    """
    index = read_index(folder)
    refuse_unreadable(index)
    chosen = choose_entries(index, encoder, recipe)
    return PatchDataset(folder, chosen, None if labels is None else read_labels(labels, on))


def choose_entries(index: Index, encoder: str = "", recipe: str = "") -> tuple[Entry, ...]:
    """Return one table a slide, all of one recipe; of two, the one with fewer holes.

    Raises
    ------
    RequestError
        Results of several recipes, or two of one slide, are left to choose from.
    ResultNotFound
        None is left.
    """
    left = [one for one in index.entries if encoder in {"", one.encoder} and one.recipe.startswith(recipe)]
    if not left:
        raise ResultNotFound("The folder holds no such table of embeddings: embed slides into it with --out.")
    recipes = {(one.encoder, one.recipe[:8]) for one in left}
    if len(recipes) > 1:
        ways = ", ".join(f"{name} {key}" for name, key in sorted(recipes))
        raise RequestError(
            f"The folder holds results of {len(recipes)} recipes: choose with --encoder or --recipe ({ways})."
        )
    best: dict[str, Entry] = {}
    for one in left:
        other = best.setdefault(one.slide, one)
        if other is not one and other.holes == one.holes:
            raise RequestError("Two tables are of slides with the same name: embed them into folders of their own.")
        best[one.slide] = min(one, other, key=lambda entry: entry.holes)
    return tuple(best[slide] for slide in sorted(best))


def _lazy(folder: str, entries: Sequence[Entry], labels: Labels | None) -> pads.Dataset:
    """Join the tables without opening any but the first."""
    plain, path = fsspec.core.url_to_fs(folder)
    system = pafs.LocalFileSystem() if "://" not in folder else pafs.PyFileSystem(pafs.FSSpecHandler(plain))
    files = [f"{path.rstrip('/')}/{entry.file}" for entry in entries]
    form = pads.ParquetFileFormat()
    try:
        schema = form.inspect(files[0], system).remove_metadata()
    except (pa.ArrowException, OSError) as exc:
        raise ResultCorrupt("A table of the folder is gone, or no longer readable.") from exc
    of_slides = labels if labels is not None and not labels.of_patches else None
    more = [pa.field("slide", pa.string()), *(of_slides.fields if of_slides is not None else ())]
    fragments = []
    for entry, file in zip(entries, files, strict=True):
        said = pads.field("slide") == entry.slide
        for name, value in (of_slides.of_slide(entry.slide) if of_slides is not None else {}).items():
            said &= (pads.field(name) == value) if value.is_valid else pads.field(name).is_null()
        fragments.append(form.make_fragment(file, system, partition_expression=said))
    return pads.FileSystemDataset(fragments, pa.schema([*schema, *more]), form, system)
