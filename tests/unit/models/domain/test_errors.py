"""Errors: one stable code each, and nothing is lost when they travel between processes."""

import copy
import pickle
from collections import Counter

import pytest

from models.domain.codes import ErrorCode
from models.domain.errors import EndpointBusy, SlidewireError, WorkFailed


def _tree(kind: type[SlidewireError]) -> list[type[SlidewireError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


_KINDS = sorted(set(_tree(SlidewireError)), key=lambda kind: kind.__name__)
_BY_TYPE = [kind for kind in _KINDS if kind is not WorkFailed]


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__)
def test_survives_pickling(kind: type[SlidewireError]) -> None:
    """Type, message, code, retryable and the wait come out of a pickle and a copy as they went in."""
    error = kind("The level is torn.", 2.5)
    for found in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(found) is kind
        assert str(found) == found.message == "The level is torn."
        assert (found.code, found.retryable, found.retry_after_s) == (error.code, error.retryable, 2.5)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_work_failed_keeps_the_code_of_what_failed(code: ErrorCode) -> None:
    """An error known by its code only has that code after a pickle too, and is final."""
    found = pickle.loads(pickle.dumps(WorkFailed("It failed.", code=code)))
    assert (found.code, found.message, found.retryable) == (code, "It failed.", False)


def test_work_failed_of_another_error() -> None:
    """The final form of an error keeps its code and message and can no longer be retried."""
    final = WorkFailed.of(EndpointBusy("Later.", 30.0))
    assert (final.code, final.message, final.retryable) == (EndpointBusy.code, "Later.", False)
    assert final.retry_after_s is None


def test_work_failed_leaves_its_class_alone() -> None:
    """The code of one such error is not that of the next."""
    WorkFailed("One.", code=ErrorCode.LEASE_LOST)
    assert WorkFailed("Two.").code is ErrorCode.INTERNAL


def test_every_class_has_a_code_of_its_own() -> None:
    """No class inherits its code, and no two share one; each is declared in the enumeration."""
    assert [kind.__name__ for kind in _BY_TYPE if "code" not in vars(kind)] == []
    shared = [code for code, count in Counter(kind.code for kind in _BY_TYPE).items() if count > 1]
    assert shared == []
    assert all(isinstance(kind.code, ErrorCode) for kind in _KINDS)


def test_every_code_is_used() -> None:
    """There is no code that no error has, and each is named as it is written."""
    assert {kind.code for kind in _BY_TYPE} == set(ErrorCode)
    assert all(code.name == code.value for code in ErrorCode)


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__)
def test_retryable_is_decided_by_the_class(kind: type[SlidewireError]) -> None:
    """Whether a retry can help is a plain yes or no of the class, in step with the documented tree."""
    import models.domain.errors as module

    assert isinstance(kind.retryable, bool)
    assert (f"{kind.__name__}*" in (module.__doc__ or "")) == kind.retryable


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__)
def test_the_documented_tree_is_complete(kind: type[SlidewireError]) -> None:
    """The module's picture of the tree names every class."""
    import models.domain.errors as module

    assert kind.__name__ in (module.__doc__ or "")
