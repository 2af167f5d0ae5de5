"""The series of studies: those of many studies by one search where the server can, else study by study."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from connectors.dicom.attributes import Json, integer, text
from connectors.endpoints import require_uid
from connectors.qido import Qido, digest_of
from models.domain.errors import RequestError, ResponseInvalid

PAGE = 100  # studies, or series, asked for at a time

_STUDY, _SERIES, _RELATED_SERIES = "0020000D", "0020000E", "00201206"
_NOT_THERE = frozenset({404, 410})
_NO_LIST = _NOT_THERE | {500, 501}  # nothing to be held against the server: it may not know what to do with a list


class StudySeries:
    """Searches one server for series.

    Many studies are named in one search by a list of UIDs (PS3.4 C.2.2.2.2). Not every server heeds one, so that its
    answer counts only for studies of which it holds as many series as the study is said to have; the others are asked
    for by themselves. A server that answers no such search is not asked for one again.

    Parameters
    ----------
    qido : Qido
    fields : sequence of str
        Tags to ask for besides UIDs and modality.
    """

    def __init__(self, qido: Qido, fields: Sequence[str]) -> None:
        self._qido = qido
        self._fields = "".join(f"includefield={tag}&" for tag in fields)
        self._takes_lists = True

    def of(self, studies: Sequence[Json]) -> Iterator[tuple[Json, list[Json] | None]]:
        """Yield each study with its series, or with None if they cannot be asked for.

        Raises
        ------
        EndpointError
            The server does not answer.
        """
        for bundle in self._bundles(studies):
            found = self._of_bundle(bundle) if len(bundle) > 1 and self._takes_lists else {}
            for study in bundle:
                series = found.get(text(study, _STUDY), [])
                whole = bool(series) and len(series) == integer(study, _RELATED_SERIES)
                yield study, series if whole else self._of_one(study)

    def _bundles(self, studies: Sequence[Json]) -> Iterator[list[Json]]:
        """Put studies together of which all series come in one page, and whose UIDs fit into a URL."""
        bundle, room, characters = list[Json](), PAGE, self._room
        for study in studies:
            number, length = integer(study, _RELATED_SERIES), len(text(study, _STUDY)) + 1
            alone = not 0 < number <= PAGE or not _is_uid(study)
            if bundle and (alone or number > room or length > characters):
                yield bundle
                bundle, room, characters = [], PAGE, self._room
            if alone:
                yield [study]
                continue
            bundle.append(study)
            room, characters = room - number, characters - length
        if bundle:
            yield bundle

    @property
    def _room(self) -> int:
        """Characters that are left for UIDs."""
        return self._qido.query_characters - len(self._bundle_query(()))

    def _bundle_query(self, study_uids: Iterable[str]) -> str:
        return f"series?StudyInstanceUID={','.join(study_uids)}&{self._fields}limit={PAGE}&offset=0"

    def _of_bundle(self, studies: Sequence[Json]) -> Mapping[str, list[Json]]:
        """Return series by the UID of their study, each once; none if the server does not heed the list."""
        wanted: dict[str, dict[str, Json]] = {text(study, _STUDY): {} for study in studies}
        try:
            items = self._qido.search(self._bundle_query(wanted), _NO_LIST)
        except ResponseInvalid:
            items = []
        for item in items:
            wanted.get(text(item, _STUDY), {})[text(item, _SERIES)] = item
        if not any(wanted.values()):
            self._takes_lists = False
        return {study_uid: list(series.values()) for study_uid, series in wanted.items()}

    def _of_one(self, study: Json) -> list[Json] | None:
        try:
            study_uid = require_uid(text(study, _STUDY), "Study Instance UID")
            return list(self._pages(study_uid, integer(study, _RELATED_SERIES)))
        except (RequestError, ResponseInvalid):
            return None

    def _pages(self, study_uid: str, announced: int) -> Iterator[Json]:
        """Yield the series of a study until as many came as it is said to have, or none comes any more."""
        seen, before = 0, ""
        while not announced or seen < announced:
            query = f"studies/{study_uid}/series?{self._fields}limit={PAGE}&offset={seen}"
            items = self._qido.search(query, _NOT_THERE)
            digest = digest_of(items, _SERIES)
            if not items:
                return
            if digest == before:
                if len(items) == PAGE:
                    raise ResponseInvalid(f"The {self._qido.label} gives the same series for every offset.")
                return  # it knows no offset, and had given all at once
            yield from items
            seen, before = seen + len(items), digest


def _is_uid(study: Json) -> bool:
    try:
        require_uid(text(study, _STUDY), "Study Instance UID")
    except RequestError:
        return False
    return True
