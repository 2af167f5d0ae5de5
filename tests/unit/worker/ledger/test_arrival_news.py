"""News: what a search says of series that are known, and what follows from it."""

from dataclasses import replace
from itertools import product

from connectors.intake.protocol import Place, Sighting
from models.domain.codes import ErrorCode
from worker.ledger import Ledger
from worker.ledger.arrival_records import Arrival, ArrivalState, Decision, Patience
from worker.ledger.backfills import Cursor

_ONE = Sighting("1.2", "1.2.1", instances=5, changed=False)
_AT_ONCE, _LATER = Patience(0.0, 3600.0), Patience(60.0, 3600.0)


def search(ledger: Ledger, *found: Sighting) -> Arrival:
    """Let a search find series; return the first one's arrival."""
    record = ledger.arrivals.open("pacs", Place())
    following = replace(record.search, seen=record.search.seen + 1)
    assert ledger.arrivals.searched("pacs", record.search, following, found, _AT_ONCE)
    return look_up(ledger, found[0])


def look_up(ledger: Ledger, one: Sighting = _ONE) -> Arrival:
    """Return an arrival."""
    arrival = ledger.arrivals.of_series("pacs", one.study_uid, one.series_uid)
    assert arrival is not None
    return arrival


def settle(ledger: Ledger, decision: Decision, one: Sighting = _ONE) -> Arrival:
    """Decide on the arrival as it is."""
    assert ledger.arrivals.decide(look_up(ledger, one), decision)
    return look_up(ledger, one)


def grown_old(ledger: Ledger, seconds: float) -> None:
    """Let the last event of all arrivals be long ago."""
    with ledger._db.write() as connection:
        connection.exec_driver_sql(f"UPDATE arrival SET changed_at = changed_at - {seconds}")


_OPEN = {ArrivalState.SETTLING, ArrivalState.INCOMPLETE}
_COUNTED = [(5, 5, False), (5, 6, True), (5, 4, True), (0, 5, True)]


def test_number_of_instances_decides(ledger: Ledger) -> None:
    """More or fewer than before, or a number for the first time of one that was settled without: looked at, once."""
    for number, (state, (decided_on, found, news)) in enumerate(product(ArrivalState, _COUNTED)):
        one = replace(_ONE, series_uid=f"1.2.{number}", instances=decided_on)
        search(ledger, one)
        settle(ledger, Decision(state), one)
        expected = news and (decided_on > 0 or state not in _OPEN)  # an open one will be looked at anyway
        after = search(ledger, replace(one, instances=found))
        assert (after.version, after.state) == (1 + expected, ArrivalState.SETTLING if expected else state)
        settle(ledger, Decision(state, instances=found), one)
        assert search(ledger, replace(one, instances=found)).version == after.version


def test_number_that_a_search_gave_is_what_the_next_is_compared_with(ledger: Ledger) -> None:
    """A server whose lists and metadata disagree has a series looked at once more, not with every search."""
    search(ledger, _ONE)
    settle(ledger, Decision(ArrivalState.SUBMITTED, instances=4))
    assert search(ledger, _ONE).version == 1
    assert look_up(ledger).instances == 5


def test_number_that_was_seen_counts_until_one_is_said(ledger: Ledger) -> None:
    """What came by an event has the number that it had when it was looked at."""
    search(ledger, replace(_ONE, instances=0))
    assert settle(ledger, Decision(ArrivalState.SUBMITTED, instances=5)).instances == 5
    assert search(ledger, _ONE).version == 1
    assert search(ledger, replace(_ONE, instances=6)).version == 2


def test_series_that_was_gone_and_is_there_is_news(ledger: Ledger) -> None:
    """It is asked for again as long as the archive names it, with a number or without."""
    for instances in (0, 5):
        one = replace(_ONE, series_uid=f"1.2.{instances}", instances=instances)
        search(ledger, one)
        settle(ledger, Decision(ArrivalState.PASSED_OVER, str(ErrorCode.SERIES_NOT_FOUND)), one)
        assert search(ledger, one).state is ArrivalState.SETTLING


_UNSAID = [
    *((0.0, state, state not in _OPEN) for state in ArrivalState),
    (86000.0, ArrivalState.SUBMITTED, True),
    (90000.0, ArrivalState.SUBMITTED, False),
    (90000.0, ArrivalState.PASSED_OVER, False),
]


def test_archive_that_gives_no_numbers(ledger: Ledger) -> None:
    """A settled series is looked at again once a search for a day after its last event, and no longer."""
    for number, (age_s, state, again) in enumerate(_UNSAID):
        one = replace(_ONE, series_uid=f"1.2.{number}", instances=0)
        search(ledger, one)
        grown_old(ledger, age_s)
        for _ in range(2):
            before = settle(ledger, Decision(state, instances=3), one)
            after = search(ledger, one)
            assert after.version == before.version + again, (age_s, state)
            assert (after.changed_at, after.deadline_at) == (before.changed_at, before.deadline_at)
            if again:
                assert (after.state, after.due_at <= after.now) == (ArrivalState.SETTLING, True)


def test_late_one_that_is_looked_at_again_is_told_once(ledger: Ledger) -> None:
    """Its notice stays as it is; an event makes it a new one."""
    unsaid, late = replace(_ONE, instances=0), Decision(ArrivalState.OVERDUE, "SLIDE_INCOMPLETE")
    search(ledger, unsaid)
    settle(ledger, late)
    _notice(ledger, "sent")
    search(ledger, unsaid)
    settle(ledger, late)
    assert _notice(ledger) == "sent"
    search(ledger, replace(_ONE, instances=4))
    settle(ledger, late)
    assert _notice(ledger) == "due"


def _notice(ledger: Ledger, value: str = "") -> str:
    with ledger._db.write() as connection:
        if value:
            connection.exec_driver_sql(f"UPDATE arrival SET notice = '{value}'")
        return str(connection.exec_driver_sql("SELECT notice FROM arrival").scalar_one())


def test_page_of_many_is_told_apart(ledger: Ledger) -> None:
    """Several hundred series of one page, some known, some grown, some twice."""
    many = [
        Sighting(f"1.{number // 3}", f"1.{number // 3}.{number}", instances=2, changed=False) for number in range(350)
    ]
    search(ledger, *many[:200], *many[:10])
    assert sum(ledger.arrivals.tally("pacs").values()) == 200
    search(ledger, *(replace(one, instances=2 + (number < 7)) for number, one in enumerate(many)))
    versions = [one.version for one in ledger.arrivals.items("pacs", ArrivalState.SETTLING)]
    assert (versions.count(1), versions.count(2)) == (343, 7)


def test_search_by_hand_moves_no_cursor_and_counts(ledger: Ledger) -> None:
    """It needs no watch, and what it finds is news by the same rule."""
    assert ledger.arrivals.found("pacs", [_ONE, replace(_ONE, series_uid="1.2.2")], _LATER) == 2
    assert ledger.arrivals.found("pacs", [_ONE], _LATER) == 0
    assert ledger.arrivals.found("pacs", [replace(_ONE, instances=6)], _LATER) == 1
    assert ledger.arrivals.find("pacs") is None


def test_looked_at_again_by_hand(ledger: Ledger) -> None:
    """Those in the states that are named, with all the patience of new ones; nothing else changes."""
    given_up = (ArrivalState.FAILED, ArrivalState.OVERDUE, ArrivalState.PASSED_OVER)
    them = {state: replace(_ONE, series_uid=f"1.2.{number}") for number, state in enumerate(given_up)}
    ledger.arrivals.found("pacs", them.values(), _AT_ONCE)
    for state, one in them.items():
        settle(ledger, Decision(state, "CODE"), one)
    for number, (state, one) in enumerate(them.items(), 1):
        assert ledger.arrivals.codes("pacs")[state] == {"CODE": 1}
        assert ledger.arrivals.retry("pacs", Patience(60.0, 7200.0), {state}) == 1
        again = look_up(ledger, one)
        assert (again.state, again.code, again.version) == (ArrivalState.SETTLING, "", 2)
        assert again.deadline_at > again.now + 7100
        assert len(ledger.arrivals.due("pacs", 5)) == number
        assert ledger.arrivals.tally("pacs")[ArrivalState.SETTLING] == number


def test_page_whose_cursor_was_moved_by_another_is_not_written(ledger: Ledger) -> None:
    """Neither news, nor doubtful ones."""
    search(ledger, replace(_ONE, instances=0))
    settle(ledger, Decision(ArrivalState.SUBMITTED))
    record = ledger.arrivals.open("pacs", Place())
    elsewhere = Cursor("2020-01-01", "2020-01-01", 7, "digest")
    found = [replace(_ONE, instances=0), replace(_ONE, series_uid="1.2.2")]
    assert not ledger.arrivals.searched("pacs", elsewhere, record.search, found, _AT_ONCE)
    assert sum(ledger.arrivals.tally("pacs").values()) == 1
    assert look_up(ledger).state is ArrivalState.SUBMITTED
