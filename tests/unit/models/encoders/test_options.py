"""Options of encoders: known, checked, sorted, or refused by name."""

from dataclasses import replace

import pytest

from models.domain.errors import RequestError
from models.encoders.options import Computing, one_of, settle_options
from models.encoders.pixel_grid import MODEL

_SPEC = replace(MODEL.spec, precisions=("bf16", "fp32"))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"colour": "red"}, "has no option colour; it has: .*precision"),
        ({"precision": "fp16"}, "precision: 'fp16' is none of bf16, fp32"),
        ({"deterministic": "True"}, "deterministic: 'True' is none of yes, no"),
        ({"unsuited": "yes"}, "unsuited"),
        ({"weights": "mine"}, "weights"),
    ],
)
def test_what_it_does_not_know_is_refused(options: dict[str, str], what: str) -> None:
    """The option and what it may be are named."""
    with pytest.raises(RequestError, match=what):
        settle_options(_SPEC, options, Computing.checks(_SPEC))


def test_options_come_out_sorted_and_settled() -> None:
    """Settled options stay as they are; a check may bring a value into its form."""
    checks = {"b": lambda value: value.lower(), "a": one_of("x")}
    settled = settle_options(_SPEC, {"b": "Y", "a": "x", "unsuited": "allow"}, checks)
    assert list(settled.items()) == [("a", "x"), ("b", "y"), ("unsuited", "allow")]
    assert settle_options(_SPEC, settled, checks) == settled


def test_how_a_network_computes() -> None:
    """The first precision of the spec is the default; the rest is asked for."""
    assert Computing.of(_SPEC, {}) == Computing("bf16", deterministic=False, compiled=False)
    asked = {"precision": "fp32", "deterministic": "yes", "compile": "yes"}
    assert Computing.of(_SPEC, asked) == Computing("fp32", deterministic=True, compiled=True)
    assert Computing.of(_SPEC, {"deterministic": "no", "compile": "no"}) == Computing.of(_SPEC, {})
