from pathlib import Path

import pytest
from pydantic import SecretStr

from invoiceflow import config

from dev import services
from tests.running import Start


def test_every_fault_is_named_at_once_and_no_value_is_shown(
    start: Start, unattached: dict[str, str]
) -> None:
    faulty = unattached | {"GRACE_SECONDS": "a-secret", "LOG_LEVEL": "another-secret"}
    required = [
        name.upper() for name, field in config.Settings.model_fields.items() if field.is_required()
    ]
    for name in required:
        faulty.pop(name)

    process = start("console", faulty)

    assert process.exit_code() == 1
    event = process.event("settings.invalid")
    assert event["missing"] == required
    assert event["malformed"].keys() == {"GRACE_SECONDS", "LOG_LEVEL"}
    assert "secret" not in str(event["malformed"])
    assert len(process.events) == 1
    assert not process.other


def test_a_secret_has_no_default() -> None:
    fields = config.Settings.model_fields.values()

    assert all(field.is_required() for field in fields if field.annotation is SecretStr)


def test_an_empty_variable_counts_as_missing_and_no_file_as_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unattached: dict[str, str]
) -> None:
    for name, value in unattached.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GRACE_SECONDS", "")
    monkeypatch.delenv("LOG_LEVEL")
    (tmp_path / ".env").write_text("GRACE_SECONDS=7\nLOG_LEVEL=ERROR\n")
    monkeypatch.chdir(tmp_path)

    assert config.load().log_level == config.Settings.model_fields["log_level"].default
    assert config.load().grace_seconds == config.Settings.model_fields["grace_seconds"].default


def test_the_example_names_every_variable_and_no_other() -> None:
    assert services.example().keys() == {name.upper() for name in config.Settings.model_fields}
