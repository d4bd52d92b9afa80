"""Settings: read once, refused by name."""

import msgspec
import pytest

from infra import settings
from infra.settings import InvalidSetting, Rate, Settings

PRODUCTION = {
    "PULSE_FILES_DIR": "/srv/files",
    "PULSE_PUBLIC_URL": "https://files.example.com",
    "PULSE_ENV": "production",
    "PULSE_DATABASE_URL": "postgresql://pulse@db/pulse",
    "PULSE_REDIS_URL": "rediss://redis",
    "PULSE_SECRET": "s" * 32,
    "PULSE_OPENAI_API_KEY": "sk-x",
}


def test_nothing_set_is_the_default() -> None:
    assert settings.load({}) == Settings()


def test_a_value_is_read_in_its_type_and_an_empty_one_counts_as_not_set() -> None:
    read = settings.load({"PULSE_PORT": "9000", "PULSE_LEASE_S": "2.5", "PULSE_HOST": "", "HOME": "/x"})
    assert (read.port, read.lease_s, read.host) == (9000, 2.5, "127.0.0.1")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("PULSE_PORT", "http", "int"),
        ("PULSE_PORT", "70000", "65535"),
        ("PULSE_ENV", "prod", "prod"),
        ("PULSE_LEASE_S", "1", ">= 2"),
        ("PULSE_FETCH_ALLOW", "10.1.0.0/8", "host bits"),
        ("PULSE_FETCH_ALLOW", "10.0.0.0/8,inside", "inside"),
        ("PULSE_FETCH_ALLOW", "10.0.0.0/8, 0.0.0.0/0", "every address"),
        ("PULSE_FETCH_ALLOW", "::/0", "every address"),
        ("PULSE_RATE_SUBMIT", "6000", "6000/60"),
        ("PULSE_RATE_SUBMIT", "0/60", "0/60"),
        ("PULSE_RATE_READ", "1/0", "1/0"),
        ("PULSE_RATE_IP", "1000000/1", "1000000/1"),
        ("PULSE_RATE_AUTH", "none", "or off"),
        ("PULSE_PROT", "8000", "did you mean PULSE_PORT"),
        ("PULSE_POEM", "x", "no such setting"),
    ],
)
def test_a_bad_value_names_its_key(key: str, value: str, reason: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        settings.load({key: value})
    assert refused.value.facts["key"] == key
    assert reason in str(refused.value)
    assert key in refused.value.text("ar")


def test_a_rate_is_so_many_requests_in_so_many_seconds_or_off() -> None:
    read = settings.load({"PULSE_RATE_SUBMIT": "6000/60", "PULSE_RATE_READ": "off"})
    assert Rate.parse(read.rate_submit) == Rate(6000, 60)
    assert Rate.parse(read.rate_read) is None


def test_every_field_can_be_set_by_its_variable() -> None:
    for field in msgspec.structs.fields(Settings):
        default = field.default
        others = {
            "env": "test",
            "log_level": "debug",
            "resumable": "never",
            "clamav": "tcp://clamd:3310",
            "fetch_allow": "10.1.0.0/16",
            "moderation": "openai",
        }
        other = others.get(field.name, "1/1" if field.name.startswith("rate_") else "other")
        if isinstance(default, int | float):
            other = default - 1 if default > 1 else default + 1
        whole = {"PULSE_S3_ASSETS": "assets", "PULSE_S3_QUARANTINE": "quarantine"} if "s3" in field.name else {}
        whole |= {"PULSE_OPENAI_API_KEY": "other"} if field.name == "moderation" else {}
        read = settings.load(whole | {settings.variable(field.name): str(other)})
        assert getattr(read, field.name) == other


@pytest.mark.parametrize("key", [key for key in PRODUCTION if key != "PULSE_ENV"])
def test_production_refuses_every_stand_in_and_default_secret_by_name(key: str) -> None:
    assert settings.load(PRODUCTION).env == "production"
    with pytest.raises(InvalidSetting) as refused:
        settings.load({name: value for name, value in PRODUCTION.items() if name != key})
    assert refused.value.facts["key"] == key


@pytest.mark.parametrize(
    ("assets", "quarantine", "named"),
    [("a", "", "QUARANTINE"), ("", "q", "ASSETS"), ("same", "same", "QUARANTINE")],
)
def test_s3_needs_two_buckets(assets: str, quarantine: str, named: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        settings.load({"PULSE_S3_ASSETS": assets, "PULSE_S3_QUARANTINE": quarantine})
    assert refused.value.facts["key"] == f"PULSE_S3_{named}"


@pytest.mark.parametrize(
    "address", ["tcp://clamd:3310", "tcp://127.0.0.1:1", "tcp://[::1]:65535", "unix:///run/clamav/clamd.ctl", ""]
)
def test_a_virus_scanner_is_set_by_its_address(address: str) -> None:
    assert settings.load({"PULSE_CLAMAV": address}).clamav == address


@pytest.mark.parametrize(
    "address",
    [
        "clamd",
        "clamd:3310",
        "tcp://clamd",
        "tcp://:3310",
        "tcp://clamd:0",
        "tcp://clamd:65536",
        "tcp://clamd:3310/x",
        "tcp://::1:3310",
        "unix://run/clamd.ctl",
        "unix://",
        "http://clamd:3310",
        "tcp://a b:3310",
    ],
)
def test_what_is_no_address_of_a_virus_scanner_is_refused_before_a_file_waits_for_it(address: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        settings.load({"PULSE_CLAMAV": address})
    assert refused.value.facts["key"] == "PULSE_CLAMAV"
    assert address in str(refused.value)


def test_buckets_take_the_place_of_a_folder_and_its_address_in_production() -> None:
    local = ("PULSE_FILES_DIR", "PULSE_PUBLIC_URL")
    without = {name: value for name, value in PRODUCTION.items() if name not in local}
    assert settings.load(without | {"PULSE_S3_ASSETS": "a", "PULSE_S3_QUARANTINE": "q"}).s3_assets == "a"


def test_production_refuses_a_short_secret_without_showing_it() -> None:
    with pytest.raises(InvalidSetting) as refused:
        settings.load(PRODUCTION | {"PULSE_SECRET": "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_a_compatible_server_is_enough_for_production() -> None:
    without_key = {name: value for name, value in PRODUCTION.items() if name != "PULSE_OPENAI_API_KEY"}
    assert settings.load(without_key | {"PULSE_COMPATIBLE_URL": "http://models/v1"}).cloud


def test_openais_own_variable_is_read_where_ours_is_not_set() -> None:
    assert settings.load({"OPENAI_API_KEY": "a"}).openai_api_key == "a"
    assert settings.load({"OPENAI_API_KEY": "a", "PULSE_OPENAI_API_KEY": "b"}).openai_api_key == "b"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]
