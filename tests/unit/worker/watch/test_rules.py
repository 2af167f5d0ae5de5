"""A watch starts with rules that can make jobs, or does not, and says which setting is wrong and what is right."""

from pathlib import Path
from typing import Any

import pytest

from models.domain.errors import SettingsInvalid
from models.domain.job import Lane
from models.domain.rule import Traits, judge
from worker.settings import Settings
from worker.watch.rules import rules_of

_PACS = {"pacs": {"url": "http://localhost:8042/dicom-web", "orthanc_url": "http://localhost:8042"}}
_RULE = {"name": "slides", "encoder": "pixel-grid", "out": "/srv/embeddings"}


def _settings(tmp_path: Path, *rules: dict[str, Any], **more: Any) -> Settings:
    given: dict[str, Any] = {
        "state_folder": tmp_path,
        "endpoints": _PACS,
        "rules": list(rules),
        "accepted_licences": [],
    }
    return Settings(**(given | more))


def test_a_rule_is_what_submit_would_ask(tmp_path: Path) -> None:
    """What is left open is the encoder's, what is set is as set, and the request is settled but for its source."""
    patches = {"spacing_um": 0.7, "stride_px": 100, "all_patches": True, "color_profile": "srgb"}
    rule = {"name": "b", "encoder": "efficientnet-lite0", "write_back": True, "maps": True, "lane": "backfill"}
    chosen = {"encoder_options": {"deterministic": "yes"}, "patches": patches, "out": "out", "table": ["numpy"]}
    first, second = rules_of(_settings(tmp_path, _RULE, rule | chosen), "pacs")
    assert first.request is not None
    assert (first.name, first.lane, first.request.source) == ("slides", Lane.STANDARD, "")
    assert (first.request.patches.spacing_um, first.request.patches.tissue_fraction) == (0.5, 0.1)
    assert first.request.output.folder == "/srv/embeddings"
    assert first.request.notes == ()
    assert second.request is not None
    assert second.lane is Lane.BACKFILL
    asked = second.request.patches
    assert (asked.spacing_um, asked.stride_px, asked.tissue_fraction, asked.color_profile) == (0.7, 100, None, "srgb")
    assert asked.patch_px == 224
    assert ("deterministic", "yes") in second.request.options
    output = second.request.output
    assert (output.write_back, output.maps, output.tables) == (True, True, ("numpy",))
    assert output.folder == str(Path("out").absolute())


def test_each_criterion_is_its_setting(tmp_path: Path) -> None:
    """A slide that meets all of them is taken; one that fails a single one is not."""
    wanted = {
        "endpoints": ["PACS"], "modality": ["SM"], "station": ["S*"], "container_type": ["slide"],
        "study_description": ["*colon*"], "calling_aet": ["SCAN?"], "spacing_um": [0.2, 0.3],
    }  # fmt: skip
    rules = rules_of(_settings(tmp_path, _RULE | wanted), "pacs")
    fields: dict[str, Any] = {
        "endpoint": "pacs", "modality": "SM", "station": "S1", "container_types": ("slide",),
        "study_description": "a colon b", "calling_aet": "SCAN1", "spacing_um": 0.25,
    }  # fmt: skip
    assert judge(rules, Traits(**fields)).rule is rules[0]
    for name, held in fields.items():
        other = 0.5 if name == "spacing_um" else ("other",) if isinstance(held, tuple) else "other"
        assert judge(rules, Traits(**(fields | {name: other}))).rule is None, name


def test_slides_only_unless_it_says_otherwise(tmp_path: Path) -> None:
    """A rule without criteria is for slides: nobody wants each CT of the hospital to be opened."""
    rules = rules_of(_settings(tmp_path, _RULE), "pacs")
    assert judge(rules, Traits("pacs", "SM")).rule is rules[0]
    assert judge(rules, Traits("pacs", "CT")).rule is None


def test_rules_of_other_archives(tmp_path: Path) -> None:
    """They match nothing here, and what they need need not be here."""
    endpoints = _PACS | {"other": {"url": "http://localhost:8043/dicom-web"}}
    there = _RULE | {"name": "there", "endpoints": ["oth*"], "encoder": "not-here", "calling_aet": ["X"]}
    rules = rules_of(_settings(tmp_path, there, _RULE, endpoints=endpoints), "pacs")
    assert [rule.request is None for rule in rules] == [True, False]
    assert judge(rules, Traits("pacs", "SM", calling_aet="X")).rule is rules[1]


def test_a_rule_that_skips(tmp_path: Path) -> None:
    """It needs no encoder."""
    [skip, _] = rules_of(_settings(tmp_path, {"name": "no", "skip": True, "station": ["OLD*"]}, _RULE), "pacs")
    assert skip.request is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": "no-such"}, "rules.slides.encoder cannot.*no-such.*encoder = "),
        ({"encoder": "uni"}, "rules.slides.encoder cannot.*accepted_licences = .*encoder = "),
        ({"encoder_options": {"no-such": "1"}}, "rules.slides.encoder_options cannot.*encoder_options = "),
        ({"encoder": "exaonepath"}, "rules.slides.encoder_options cannot.*encoder_options = "),
        ({"encoder": "efficientnet-lite0", "weights": "/no/such/file"}, "rules.slides.weights cannot.*weights = "),
        ({"table": ["no-such"]}, "rules.slides.table cannot.*no-such.*table = "),
        ({"out": "", "write_back": True, "dicom": True}, "rules.slides.out cannot.*out = "),
        ({"out": "no-such-scheme://bucket/x"}, "rules.slides.out cannot.*out = "),
        ({"out": __file__}, "rules.slides.out cannot.*out = "),
        ({"out": f"{__file__}/below"}, "rules.slides.out cannot.*out = "),
        ({"patches": {"spacing_um": 5000}}, "rules.slides.patches cannot.*patches = "),
        ({"patches": {"require_profile": True}}, "rules.slides.patches cannot.*patches = "),
        ({"endpoints": ["pacs", "archive"]}, "rules.slides.endpoints cannot.*'archive'.*endpoints = "),
    ],
)
def test_refusals_name_the_setting(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """What would fail for every slide refuses the start, with the setting's name and an example."""
    with pytest.raises(SettingsInvalid, match=words):
        rules_of(_settings(tmp_path, _RULE | changes), "pacs")


def test_no_rules(tmp_path: Path) -> None:
    """A watch without rules would pass everything over: it says how to write one; so does one with others' alone."""
    with pytest.raises(SettingsInvalid, match=r"rules is empty.*\[\[rules\]\]"):
        rules_of(_settings(tmp_path), "pacs")
    endpoints = _PACS | {"other": {"url": "http://localhost:8043/dicom-web"}}
    with pytest.raises(SettingsInvalid, match=r"none for the endpoint 'pacs'.*\[\[rules\]\]"):
        rules_of(_settings(tmp_path, _RULE | {"endpoints": ["other"]}, endpoints=endpoints), "pacs")


def test_an_endpoint_that_is_not_configured(tmp_path: Path) -> None:
    """It is named, with what there is, and how to add it."""
    with pytest.raises(SettingsInvalid, match=r"no endpoint 'archive'.*pacs.*\[endpoints.archive\].*url = "):
        rules_of(_settings(tmp_path, _RULE), "archive")


def test_calling_aet_needs_an_event_log(tmp_path: Path) -> None:
    """Where nobody says who sent a slide, a rule that asks for it would never hold."""
    plain = {"pacs": {"url": "http://localhost:8042/dicom-web"}}
    asking = _RULE | {"calling_aet": ["SCAN1"]}
    with pytest.raises(SettingsInvalid, match=r"rules.slides.calling_aet cannot.*orthanc_url = "):
        rules_of(_settings(tmp_path, asking, endpoints=plain), "pacs")
    assert rules_of(_settings(tmp_path, asking), "pacs")
