"""Rules: which slides of a watched archive are embedded, and how; and which of them a series meets, and why."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from models.domain.job import Lane
from models.domain.request import EmbedRequest

_UNSAID = "the archive does not say"


class PassedOver(StrEnum):
    """Why nothing is made of a series, where that is no error; stable names, as those of `ErrorCode`."""

    OWN_RESULT = "OWN_RESULT"
    NO_RULE = "NO_RULE"
    RULE_SKIPS = "RULE_SKIPS"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a series that rules can ask for; "" and empty where the archive does not say.

    Parameters
    ----------
    endpoint : str
        Name of the archive.
    modality, station, study_description : str
    container_types : tuple of str
        Code values and meanings.
    spacing_um : float or None
        Of the finest level, the finer of its two.
    calling_aet : str
        Who sent it by DIMSE.
    ours : bool
        Slidewire wrote it.
    """

    endpoint: str
    modality: str = ""
    station: str = ""
    study_description: str = ""
    container_types: tuple[str, ...] = ()
    spacing_um: float | None = None
    calling_aet: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion of a rule, held against a series; what was found may be about the patient: for a screen, not a log.

    Parameters
    ----------
    trait : str
        As the setting is called.
    wanted, found : str
        In words.
    holds : bool
    """

    trait: str
    wanted: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a rule asks of a series: by trait the patterns of which one must fit, none for anything.

    In a pattern ``*`` stands for any characters and ``?`` for one; capitals do not matter.

    Parameters
    ----------
    endpoints, modality, station, container_type, study_description, calling_aet : tuple of str
    spacing_um : (float, float) or None
        Least and most, both included.
    """

    endpoints: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    station: tuple[str, ...] = ()
    container_type: tuple[str, ...] = ()
    study_description: tuple[str, ...] = ()
    calling_aet: tuple[str, ...] = ()
    spacing_um: tuple[float, float] | None = None

    def checks(self, traits: Traits) -> tuple[Check, ...]:
        """Hold each criterion against a series; a trait that the archive does not give meets none."""
        return (*self.first_checks(traits), *self._later_checks(traits))

    def first_checks(self, traits: Traits) -> tuple[Check, ...]:
        """Return the checks of what is known of a series before its metadata are fetched."""
        asked = (("endpoints", self.endpoints, traits.endpoint), ("modality", self.modality, traits.modality))
        return tuple(_check(trait, patterns, (found,)) for trait, patterns, found in asked if patterns)

    def _later_checks(self, traits: Traits) -> Iterator[Check]:
        for trait, patterns, found in (
            ("station", self.station, (traits.station,)),
            ("container_type", self.container_type, traits.container_types),
            ("study_description", self.study_description, (traits.study_description,)),
            ("calling_aet", self.calling_aet, (traits.calling_aet,)),
        ):
            if patterns:
                yield _check(trait, patterns, found)
        if self.spacing_um is not None:
            least, most = self.spacing_um
            found_um = traits.spacing_um
            said = _UNSAID if found_um is None else f"{found_um:.4g} um/px"
            holds = found_um is not None and least <= found_um <= most
            yield Check("spacing_um", f"{least:g} to {most:g} um/px", said, holds)


@dataclass(frozen=True, slots=True)
class Rule:
    """Which slides are embedded, and how.

    Parameters
    ----------
    name : str
    criteria : Criteria
    request : EmbedRequest or None
        What is asked of such a slide, its source left open; None: they are passed over.
    lane : Lane
    """

    name: str
    criteria: Criteria
    request: EmbedRequest | None = None
    lane: Lane = Lane.STANDARD


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which rule holds for a series.

    Parameters
    ----------
    rule : Rule or None
        The first whose every check holds.
    passed_over : PassedOver or None
        Why nothing is to be made of the series; None if a job is.
    checked : tuple of (str, tuple of Check)
        By the name of the rule, in their order, all of them.
    """

    rule: Rule | None
    passed_over: PassedOver | None
    checked: tuple[tuple[str, tuple[Check, ...]], ...] = field(default=())


def judge(rules: Sequence[Rule], traits: Traits) -> Verdict:
    """Find the first rule that holds for a series; none does for one that Slidewire wrote."""
    checked = [(rule, rule.criteria.checks(traits)) for rule in rules]
    first = next((rule for rule, checks in checked if all(check.holds for check in checks)), None)
    told = tuple((rule.name, checks) for rule, checks in checked)
    if traits.ours:
        return Verdict(None, PassedOver.OWN_RESULT, told)
    if first is None:
        return Verdict(None, PassedOver.NO_RULE, told)
    return Verdict(first, PassedOver.RULE_SKIPS if first.request is None else None, told)


def prejudge(rules: Sequence[Rule], traits: Traits) -> Verdict | None:
    """Judge by archive, modality and maker alone, as far as that goes; None: all traits are needed."""
    possible = any(all(check.holds for check in rule.criteria.first_checks(traits)) for rule in rules)
    return None if possible and not traits.ours else judge(rules, traits)


def fits(pattern: str, text: str) -> bool:
    """Whether a text is as a pattern says, whatever its capitals: ``*`` any characters, ``?`` one, all else itself."""
    literal = fnmatch.translate(pattern.replace("[", "[[]"))
    return re.fullmatch(literal, text, re.IGNORECASE) is not None


def _check(trait: str, patterns: Sequence[str], found: Sequence[str]) -> Check:
    said = [text for text in found if text]
    holds = any(fits(pattern, text) for pattern in patterns for text in said)
    return Check(trait, ", ".join(patterns), ", ".join(said) or _UNSAID, holds)
