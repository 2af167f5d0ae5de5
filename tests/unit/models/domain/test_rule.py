"""Rules: patterns mean what they say and nothing more, the first rule that holds wins, and every check says why."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.request import EmbedRequest, OutputSpec
from models.domain.rule import Criteria, PassedOver, Rule, Traits, fits, judge, prejudge

_REQUEST = EmbedRequest("", "pixel-grid", OutputSpec("/srv/out"))
_SLIDE = Traits("pacs", "SM", "SCANNER-7", "HE, colon", ("433466003", "Microscope slide"), 0.25, "SCAN7")
_TEXT = st.text("aAbB*?[]!^-.\\ \n", max_size=6)


def _expected(pattern: str, text: str) -> bool:
    """Match by the definition, one character after the other."""
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        return any(_expected(rest, text[start:]) for start in range(len(text) + 1))
    return bool(text) and (head == "?" or head.lower() == text[0].lower()) and _expected(rest, text[1:])


@given(_TEXT, _TEXT)
def test_patterns(pattern: str, text: str) -> None:
    """Stars and question marks stand for characters, all else for itself, brackets and backslashes, too."""
    assert fits(pattern, text) == _expected(pattern, text)


def test_a_pattern_cannot_hold_up_the_watch() -> None:
    """Many stars and a long text take no time: both may come from outside."""
    assert not fits("*a" * 32, "a" * 30 + "b" * 100_000)


@pytest.mark.parametrize(
    ("criteria", "fields", "holds"),
    [
        ({}, {}, True),
        ({"endpoints": ("pacs",)}, {}, True),
        ({"endpoints": ("archive",)}, {}, False),
        ({"modality": ("CT", "sm")}, {}, True),
        ({"modality": ("SM",)}, {"modality": ""}, False),
        ({"modality": ("*",)}, {"modality": ""}, False),
        ({"station": ("scanner-?",)}, {}, True),
        ({"station": ("scanner",)}, {}, False),
        ({"container_type": ("433466003",)}, {}, True),
        ({"container_type": ("microscope*",)}, {}, True),
        ({"container_type": ("*",)}, {"container_types": ()}, False),
        ({"study_description": ("*colon*", "*rectum*")}, {}, True),
        ({"study_description": ("*[colon]*",)}, {}, False),
        ({"calling_aet": ("SCAN*",)}, {}, True),
        ({"calling_aet": ("SCAN*",)}, {"calling_aet": ""}, False),
        ({"spacing_um": (0.25, 0.5)}, {}, True),
        ({"spacing_um": (0.1, 0.25)}, {}, True),
        ({"spacing_um": (0.26, 0.5)}, {}, False),
        ({"spacing_um": (0.1, 0.24)}, {}, False),
        ({"spacing_um": (0.1, 0.5)}, {"spacing_um": None}, False),
    ],
)
def test_a_criterion(criteria: dict[str, Any], fields: dict[str, Any], *, holds: bool) -> None:
    """A rule with one criterion holds if that does; a trait that the archive does not give meets none."""
    checks = Criteria(**criteria).checks(replace(_SLIDE, **fields))
    assert [check.trait for check in checks] == list(criteria)
    assert all(check.holds for check in checks) == holds


def test_checks_say_what_was_wanted_and_found() -> None:
    """Both in words; what is not given is named so."""
    criteria = Criteria(station=("A*", "B"), container_type=("slide",), calling_aet=("X",), spacing_um=(0.2, 0.3))
    said = {check.trait: (check.wanted, check.found) for check in criteria.checks(replace(_SLIDE, calling_aet=""))}
    assert said == {
        "station": ("A*, B", "SCANNER-7"),
        "container_type": ("slide", "433466003, Microscope slide"),
        "calling_aet": ("X", "the archive does not say"),
        "spacing_um": ("0.2 to 0.3 um/px", "0.25 um/px"),
    }


def test_the_first_rule_that_holds() -> None:
    """All criteria must hold; the first rule wins, and the checks of all are told in their order."""
    rules = [
        Rule("both", Criteria(station=("SCANNER*",), modality=("CT",)), _REQUEST),
        Rule("first", Criteria(modality=("SM",)), _REQUEST),
        Rule("second", Criteria(), _REQUEST),
    ]
    verdict = judge(rules, _SLIDE)
    assert (verdict.rule, verdict.passed_over) == (rules[1], None)
    assert [name for name, _ in verdict.checked] == ["both", "first", "second"]
    assert [[check.holds for check in checks] for _, checks in verdict.checked] == [[False, True], [True], []]


def test_what_is_passed_over() -> None:
    """Our own results before anything else, what no rule is for, and what a rule says to skip."""
    anything, skip = Rule("anything", Criteria(), _REQUEST), Rule("skip", Criteria(station=("*7",)))
    ours = judge([anything], replace(_SLIDE, ours=True))
    assert (ours.rule, ours.passed_over) == (None, PassedOver.OWN_RESULT)
    none = judge([Rule("ct", Criteria(modality=("CT",)), _REQUEST)], _SLIDE)
    assert (none.rule, none.passed_over) == (None, PassedOver.NO_RULE)
    skipped = judge([skip, anything], _SLIDE)
    assert (skipped.rule, skipped.passed_over) == (skip, PassedOver.RULE_SKIPS)
    assert judge([anything, skip], _SLIDE).passed_over is None
    assert judge([], _SLIDE).passed_over is PassedOver.NO_RULE


_NAMES = st.sampled_from(["", "pacs", "SM", "CT"])
_PATTERNS = st.lists(st.sampled_from(["pacs", "SM", "C?", "*"]), max_size=2).map(tuple)
_CRITERIA = st.builds(Criteria, endpoints=_PATTERNS, modality=_PATTERNS, station=_PATTERNS)
_RULES = st.lists(st.builds(Rule, st.just("rule"), _CRITERIA, st.sampled_from([None, _REQUEST])), max_size=3)
_TRAITS = st.builds(Traits, st.just("pacs"), modality=_NAMES, station=_NAMES, ours=st.booleans())


@settings(max_examples=60)
@given(_RULES, _TRAITS)
def test_a_first_judgement_is_never_taken_back(rules: list[Rule], traits: Traits) -> None:
    """What is passed over by archive, modality and maker alone is passed over for the same reason by all traits."""
    early = prejudge(rules, Traits(traits.endpoint, traits.modality, ours=traits.ours))
    if early is not None:
        assert early.passed_over is not None
        assert early.passed_over == judge(rules, traits).passed_over
    elif judge(rules, traits).passed_over is PassedOver.OWN_RESULT:
        raise AssertionError("our own result would have been fetched")


def test_a_series_of_another_modality_is_judged_at_once() -> None:
    """Its metadata are not needed to know that no rule is for it; those of a possible slide are."""
    rules = [Rule("slides", Criteria(modality=("SM",), station=("A",)), _REQUEST)]
    assert prejudge(rules, Traits("pacs", "CT")) is not None
    assert prejudge(rules, Traits("pacs", "SM")) is None
