"""Which optical path and focal plane of each level is read: the only one, the one that was asked for, or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connectors.dicom.tiling import View
from models.domain.errors import SlideAmbiguous
from models.domain.slide import Reading

_SHOWN = 16  # the length of an identifier (SH), and more of them than fit into a message


@dataclass(frozen=True, slots=True)
class Choices:
    """What a level leaves to choose.

    Parameters
    ----------
    views : tuple of View
        In the order of the instances.
    names : mapping of str to set of str
        What else an optical path is called, by its identifier.
    """

    views: tuple[View, ...]
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """Optical paths."""
        return list(dict.fromkeys(path for path, _ in self.views))

    def planes(self, path: str) -> list[float]:
        """Return the heights of an optical path's focal planes, from the slide's surface upwards."""
        return sorted(height for known, height in self.views if known == path)

    def path(self, wanted: str) -> str | None:
        """Return the optical path of that identifier, or else of that name; None if the level has none."""
        if not wanted and len(self.paths) > 1:
            listed = shown(self.paths)
            raise SlideAmbiguous(f"The slide has {len(self.paths)} optical paths: choose {listed} with --optical-path.")
        called = [path for path in self.paths if wanted in self.names.get(path, ())]
        if not wanted or wanted in self.paths:
            return wanted or next(iter(self.paths), None)
        if len(called) > 1:
            raise SlideAmbiguous(
                f"{len(called)} optical paths are called {shown([wanted])}: choose {shown(called)} with --optical-path."
            )
        return called[0] if called else None

    def view(self, path: str, wanted: str) -> View | None:
        """Return the focal plane of that number; a level of one plane shows what there is."""
        planes = self.planes(path)
        count = len(planes)
        if count > 1 and not wanted:
            raise SlideAmbiguous(
                f"The slide has {count} focal planes: choose with --focal-plane 1 to {count}, or middle."
            )
        number = str((count + 1) // 2) if wanted == "middle" or count == 1 else wanted
        return (path, planes[int(number) - 1]) if number in _numbers(count) else None


def choose(levels: Sequence[Choices], reading: Reading, notes: list[str]) -> tuple[View | None, ...]:
    """Choose what is read of each level; None where a level does not hold it.

    Parameters
    ----------
    levels : sequence of Choices
        Of levels that can be read.
    reading : Reading
    notes : list of str
        Gets what was chosen.

    Raises
    ------
    SlideAmbiguous
        A level leaves a choice that the reading does not make, or no level holds what it chose.
    """
    if not levels:
        return ()
    paths = [level.path(reading.optical_path) for level in levels]
    held = [(level, path) for level, path in zip(levels, paths, strict=True) if path is not None]
    if not held:
        there = shown(list(dict.fromkeys(path for level in levels for path in level.paths)))
        raise SlideAmbiguous(f"There is no optical path {shown([reading.optical_path])}: the slide has {there}.")
    most = max(len(level.planes(path)) for level, path in held)
    if reading.focal_plane not in {"", "middle"} | _numbers(most):
        raise SlideAmbiguous(f"There is no focal plane {shown([reading.focal_plane])}: the slide has 1 to {most}.")
    views = [
        None if path is None else level.view(path, reading.focal_plane)
        for level, path in zip(levels, paths, strict=True)
    ]
    for level, view in zip(levels, views, strict=True):
        notes += _notes(level, view) if view else ()
    return tuple(views)


def _numbers(count: int) -> set[str]:
    return {str(number) for number in range(1, count + 1)}


def _notes(level: Choices, view: View) -> list[str]:
    paths, planes = level.paths, level.planes(view[0])
    said = [f"optical path {shown([view[0]])} was read, of {shown(paths)}"] if len(paths) > 1 else []
    return said + ([f"focal plane {planes.index(view[1]) + 1} of {len(planes)} was read"] if len(planes) > 1 else [])


def shown(names: Sequence[str]) -> str:
    """Return names as a message shows them: short and printable, for they come from outside."""
    cut = ["".join(char for char in name if char.isprintable())[:_SHOWN] for name in names[:_SHOWN]]
    return ", ".join(cut) + (", ..." if len(names) > _SHOWN else "")
