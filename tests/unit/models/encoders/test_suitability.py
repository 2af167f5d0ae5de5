"""An encoder, its weights and the patches must belong together, unless somebody says otherwise, which is noted."""

from dataclasses import replace

import numpy as np
import pytest

from models.domain.errors import LicenceNotAccepted, PatchesUnsuited, WeightsInvalid
from models.domain.patch import PatchGrid
from models.encoders.pixel_grid import MODEL
from models.encoders.protocol import EncoderSpec, Licence
from models.encoders.suitability import check_digest, check_licence, check_patches

_ASKING = replace(MODEL.spec, licence=Licence("Research-1.0", "https://example.org/licence", ask=True))
_DIGEST = "ab" * 32


def _grid(patch_px: int, *spacing_um: float) -> PatchGrid:
    boxes, rows = np.zeros((1, 4), np.int32), np.zeros(1, np.int64)
    return PatchGrid(0, patch_px, (spacing_um[0], spacing_um[-1]) if spacing_um else None, boxes, rows)


def _spec(*, strict: bool = True) -> EncoderSpec:
    return replace(MODEL.spec, patches_px=(256, 224), spacings_um=(0.5, 1.0), strict_spacing=strict)


@pytest.mark.parametrize("accepted", [set(), {"Research-2.0"}, {"pixel-grid"}])
def test_a_licence_that_asks_wants_consent(accepted: set[str]) -> None:
    """The very licence must have been accepted; the refusal says where it is and what to write."""
    with pytest.raises(
        LicenceNotAccepted, match=r"https://example\.org/licence.*accepted_licences = \['Research-1\.0'\]"
    ):
        check_licence(_ASKING, accepted)


def test_a_licence_that_was_accepted_or_does_not_ask() -> None:
    """Consent is enough, and most licences need none."""
    check_licence(_ASKING, {"Research-1.0"})
    check_licence(MODEL.spec, set())


def test_other_weights_than_the_published_ones() -> None:
    """They are refused unless asked for, which is noted; a model without a public digest takes any."""
    spec = replace(MODEL.spec, weights_sha256=_DIGEST)
    with pytest.raises(WeightsInvalid, match=r"cdcdcdcdcdcd, not abababababab.*weights=unpublished"):
        check_digest(spec, "cd" * 32, ())
    assert check_digest(spec, _DIGEST, ()) == ()
    [note] = check_digest(spec, "cd" * 32, (("weights", "unpublished"),))
    assert "not the published ones" in note
    assert check_digest(MODEL.spec, "cd" * 32, ()) == ()


@pytest.mark.parametrize(
    ("grid", "what"),
    [
        (_grid(512, 0.5), "256 or 224 px, not 512"),
        (_grid(256, 2.0), "0.5 or 1 um/px, not 2"),
        (_grid(256, 0.5, 0.7), "not 0.7"),
        (_grid(256, 0.75), "not 0.75"),
        (_grid(256), "spacing is unknown"),
    ],
)
def test_patches_it_is_not_meant_for(grid: PatchGrid, what: str) -> None:
    """Another size, another spacing along one axis, and none at all are refused; asked for, they are noted."""
    with pytest.raises(PatchesUnsuited, match=what):
        check_patches(_spec(), grid, ())
    [note] = check_patches(_spec(), grid, (("unsuited", "allow"),))
    assert what in note


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Size and spacing in one sentence."""
    with pytest.raises(PatchesUnsuited, match=r"not 100; .*not 3\."):
        check_patches(_spec(), _grid(100, 3.0), ())


@pytest.mark.parametrize("grid", [_grid(224, 0.5), _grid(256, 0.499), _grid(256, 1.1, 0.95), _grid(256, 0.46)])
def test_patches_it_is_meant_for(grid: PatchGrid) -> None:
    """What scanners call 0.5 is 0.5."""
    assert check_patches(_spec(), grid, ()) == ()


def test_an_encoder_may_take_other_spacings() -> None:
    """One that is not strict notes them; its sizes hold all the same."""
    [note] = check_patches(_spec(strict=False), _grid(256, 2.0), ())
    assert "not 2" in note
    assert len(check_patches(_spec(strict=False), _grid(256), ())) == 1
    with pytest.raises(PatchesUnsuited, match="not 100"):
        check_patches(_spec(strict=False), _grid(100, 0.5), ())


def test_an_encoder_without_opinion_takes_all() -> None:
    """Neither size nor spacing matter to it."""
    assert check_patches(MODEL.spec, _grid(77), ()) == ()
