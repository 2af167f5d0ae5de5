"""Settings: environment before file before default; a wrong value is named and never shown."""

from datetime import datetime
from pathlib import Path

import pytest

from connectors.endpoints import Credentials
from connectors.profile import Profile
from models.domain.errors import EndpointNotAllowed, SettingsInvalid
from worker.ledger import EndpointRules
from worker.settings import Settings, load_settings

_SECRET = "hunter2"
_TAIL = "/studies/1.2/series/1.3"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start from an empty folder, an empty home and an environment without settings."""
    import os

    for name in [name for name in os.environ if name.startswith("SLIDEWIRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def _file(text: str, name: str = "slidewire.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("batch_size = 0", "batch_size"),
        ("batch_size = 'hunter2'", "batch_size"),
        ("lease_s = -1", "lease_s"),
        ("no_such_setting = 'hunter2'", "no_such_setting"),
        ("cloud_credentials = 'hunter2'", "cloud_credentials"),
        ("[endpoints.pacs]\nurl = 'https://user:hunter2@pacs.test'", "endpoints.pacs.url"),
        ("[endpoints.pacs]\nurl = 'https://pacs.test?token=hunter2'", "endpoints.pacs.url"),
        ("[endpoints.pacs]\nurl = 'ftp://pacs.test/hunter2'", "endpoints.pacs.url"),
        ("[endpoints.pacs]\nsecret = 'hunter2'", "endpoints.pacs.url"),
        ("[endpoints.pacs]\nurl = 'https://pacs.test'\nauth = 'hunter2'", "endpoints.pacs.auth"),
        ("[endpoints.pacs]\nurl = 'https://pacs.test'\npassword = 'hunter2'", "endpoints.pacs.password"),
        ("[endpoints.pacs]\nurl = 'https://pacs.test'\nconnections = 0", "endpoints.pacs.connections"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntimeouts = {read_s = 0}", "endpoints.pacs.timeouts.read_s"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntimeouts = {least_bytes_s = -1}", "timeouts.least_bytes_s"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntimeouts = {window_s = 0}", "timeouts.window_s"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntoken_url = 'https://me:hunter2@h/t'", "endpoints.pacs.token_url"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntoken_url = 'https://h/t?key=hunter2'", "endpoints.pacs.token_url"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\nworkers = 0", "endpoints.pacs.workers"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\nrequests_per_s = 0", "endpoints.pacs.requests_per_s"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\nrequests_per_s = nan", "endpoints.pacs.requests_per_s"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\nquiet_hours = 'hunter2'", "endpoints.pacs.quiet_hours"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\nquiet_hours = '7-18'", "endpoints.pacs.quiet_hours"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\nquiet_hours = '07:00-24:00'", "endpoints.pacs.quiet_hours"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\nquiet_hours = '07:00-07:00'", "quiet_hours.*begin when they end"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntime_zone = 'hunter2'", "endpoints.pacs.time_zone"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntime_zone = '/hunter2'", "endpoints.pacs.time_zone"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntime_zone = 'Europe'", "endpoints.pacs.time_zone"),
        ("[endpoints.pacs]\nurl = 'https://p.test'\ntime_zone = ''", "endpoints.pacs.time_zone"),
        ("endpoints = 'hunter2'", "endpoints"),
        ("allowed_urls = 'hunter2'", "allowed_urls"),
    ],
)
def test_wrong_values_are_named_not_shown(text: str, where: str) -> None:
    """The message says which setting, and holds nothing of what was written there."""
    _file(text)
    with pytest.raises(SettingsInvalid, match=where) as caught:
        load_settings()
    assert _SECRET not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("text", ["batch_size = ", "[endpoints", "\0", "secret = hunter2"])
def test_a_file_that_is_no_toml(text: str) -> None:
    """A broken file is an error of the settings that shows nothing of it."""
    _file(text)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert _SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("BATCH_SIZE", "hunter2"), ("ENDPOINTS", "{hunter2"), ("ALLOWED_URLS", "hunter2"), ("STALL_S", "0")],
)
def test_wrong_variables_are_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The same holds for the environment."""
    monkeypatch.setenv(f"SLIDEWIRE_{name}", value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert _SECRET not in str(caught.value)


def test_a_file_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mistyped SLIDEWIRE_CONFIG does not silently give the defaults."""
    monkeypatch.setenv("SLIDEWIRE_CONFIG", str(tmp_path / "typo.toml"))
    with pytest.raises(SettingsInvalid, match=r"typo\.toml"):
        load_settings()


def test_defaults_work_without_anything(tmp_path: Path) -> None:
    """Nothing set: an SQLite ledger and checkpoints in the user's state folder, no endpoint, any URL."""
    settings = load_settings()
    assert settings.ledger.startswith("sqlite:///")
    assert settings.checkpoint_folder.is_relative_to(tmp_path / "home")
    assert settings.decoders >= 1
    assert settings.open_endpoints().locate("https://any.test" + _TAIL).location == "https://any.test"


def test_environment_before_file_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting comes from the first place that has it."""
    _file("batch_size = 7\nlease_s = 11.0\n")
    monkeypatch.setenv("SLIDEWIRE_BATCH_SIZE", "5")
    settings = load_settings()
    assert (settings.batch_size, settings.lease_s) == (5, 11.0)
    assert settings.stall_s == Settings.model_fields["stall_s"].default


def test_places_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is named goes before the one in the folder, and that before the user's."""
    _file("batch_size = 3", "home/slidewire/slidewire.toml")
    assert load_settings().batch_size == 3
    _file("batch_size = 2")
    assert load_settings().batch_size == 2
    monkeypatch.setenv("SLIDEWIRE_CONFIG", str(_file("batch_size = 1", "other.toml")))
    assert load_settings().batch_size == 1


def test_endpoints_from_file_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint of the file can have one of its fields from the environment."""
    _file("[endpoints.pacs]\nurl = 'https://pacs.test/dicom-web/'\nauth = 'bearer'\nconnections = 5\n")
    monkeypatch.setenv("SLIDEWIRE_ENDPOINTS__PACS__SECRET", "env:PACS_TOKEN")
    monkeypatch.setenv("SLIDEWIRE_ENDPOINTS__PACS__TIMEOUTS__READ_S", "9")
    endpoint = load_settings().open_endpoints().named("pacs")
    assert (endpoint.url, endpoint.connections) == ("https://pacs.test/dicom-web", 5)
    assert (endpoint.credentials.kind, endpoint.credentials.secret) == ("bearer", "env:PACS_TOKEN")
    assert endpoint.timeouts.read_s == 9


def test_the_allow_list_counts() -> None:
    """A list in the file closes everything else."""
    _file("allowed_urls = ['https://one.test']")
    endpoints = load_settings().open_endpoints()
    assert endpoints.locate("https://one.test" + _TAIL).study_uid == "1.2"
    with pytest.raises(EndpointNotAllowed):
        endpoints.locate("https://two.test" + _TAIL)


def test_an_emulator_takes_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's own variable for an emulator switches credentials off."""
    assert load_settings().open_endpoints().cloud.kind == "google"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://localhost:9023")
    assert load_settings().open_endpoints().cloud.kind == "none"


def test_secrets_are_not_shown_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords in URLs of ledger and broker, and what was written as a secret, are in no printout."""
    monkeypatch.setenv("SLIDEWIRE_LEDGER_URL", f"postgresql+psycopg://slidewire:{_SECRET}@db/ledger")
    monkeypatch.setenv("SLIDEWIRE_BROKER_URL", f"redis://:{_SECRET}@redis/0")
    _file(f"[endpoints.pacs]\nurl = 'https://pacs.test'\nsecret = '{_SECRET}'\n")
    settings = load_settings()
    assert _SECRET not in f"{settings} {settings!r} {settings.endpoints!r}"
    assert _SECRET in settings.ledger


def test_an_endpoint_has_what_its_settings_say(tmp_path: Path) -> None:
    """Credentials by token, client certificate and rates reach the endpoint as they were written."""
    _file(
        """
        [endpoints.pacs]
        url = "https://pacs.test/dicom-web/"
        auth = "oidc"
        token_url = "https://login.test/token"
        client_id = "slidewire"
        secret = "env:CLIENT_SECRET"
        scope = "dicom.read dicom.write"
        audience = "pacs"
        client_certificate = "/etc/ssl/worker.pem"
        client_key = "/etc/ssl/worker.key"
        timeouts = {least_bytes_s = 20000, window_s = 5}
        """
    )
    endpoint = load_settings().open_endpoints().named("pacs")
    assert endpoint.credentials == Credentials(
        "oidc", "", "env:CLIENT_SECRET", "https://login.test/token", "slidewire", "dicom.read dicom.write", "pacs"
    )
    assert (endpoint.client_certificate, endpoint.client_key) == (
        Path("/etc/ssl/worker.pem"),
        Path("/etc/ssl/worker.key"),
    )
    assert (endpoint.timeouts.least_bytes_s, endpoint.timeouts.window_s) == (20000, 5)
    assert endpoint.url == "https://pacs.test/dicom-web"


def test_rules_of_an_endpoint() -> None:
    """What the fleet keeps to is known by the endpoint's name; without any, there are none."""
    _file(
        """
        [endpoints.free]
        url = "https://free.test"
        [endpoints.pacs]
        url = "https://pacs.test"
        workers = 3
        requests_per_s = 2.5
        quiet_hours = "22:30-06:00"
        time_zone = "America/New_York"
        """
    )
    rules = load_settings().ledger_rules.endpoints
    assert rules["free"] == EndpointRules()
    pacs = rules["pacs"]
    assert (pacs.workers, pacs.requests_per_s) == (3, 2.5)
    assert pacs.quiet is not None
    for moment, quiet in (("2026-01-10T03:29Z", False), ("2026-01-10T03:30Z", True), ("2026-07-10T02:30Z", True)):
        assert pacs.quiet.contains(datetime.fromisoformat(moment).timestamp()) is quiet, moment


def test_what_is_known_of_a_server_is_found(tmp_path: Path) -> None:
    """A kept profile reaches the endpoint of a slide, by name and by raw URL; asked for none, there is none."""
    _file("[endpoints.pacs]\nurl = 'https://pacs.test'\n")
    settings = load_settings()
    known = Profile("https://pacs.test", "", most_frames=7)
    settings.profiles.save(known)
    endpoints = settings.open_endpoints()
    assert endpoints.of_ref(endpoints.locate("pacs/1.2/1.3")).profile == known
    assert endpoints.of_ref(endpoints.locate(f"https://other.test{_TAIL}")).profile is None
    settings.profiles.save(Profile("https://other.test", "", most_frames=3))
    found = endpoints.of_ref(endpoints.locate(f"https://other.test{_TAIL}")).profile
    assert found is not None
    assert found.most_frames == 3
    bare = settings.open_endpoints(profiled=False)
    assert bare.of_ref(bare.locate("pacs/1.2/1.3")).profile is None
