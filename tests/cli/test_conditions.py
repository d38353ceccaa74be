"""What must hold before the service starts: the start matrix of secrets and addresses."""

import stat
from pathlib import Path
from typing import Any

import pytest

from app.cli.conditions import checked, data_folder, is_loopback, master_secret, public_url
from app.cli.outcome import CommandFailed
from app.cli.place import read_settings
from app.settings import Settings

SOUND = "Zq8vYt3LrWn5KxJdBhPmGf2Tc7Us4Eo9"
OWN_DATABASE: dict[str, Any] = {"database_url": "postgresql://minga@localhost/minga"}
PUBLIC: dict[str, Any] = {"public_url": "https://minga.example.org"}


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({}, "a master secret is needed"),
        ({"secret": "short"}, "too weak"),
        ({"secret": "a" * 64}, "sample or a repetition"),
        ({"secret": "0123456789abcdef" * 4}, "sample or a repetition"),
        ({"secret": "please-change-me-0123456789-abcdefghij"}, "sample or a repetition"),
        ({"secret": "abcdefg" * 4 + "abcdefff"}, "too weak"),
        ({"secret": SOUND, "secret_file": Path("/nowhere")}, "not both"),
        ({"secret_file": Path("/nowhere/secret")}, "cannot be read"),
    ],
)
def test_missing_weak_or_sample_secret_is_refused_with_a_database_of_ones_own(
    given: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(CommandFailed, match=refusal) as refused:
        checked(Settings(**OWN_DATABASE, **PUBLIC, **given))
    assert str(given.get("secret", "never")) not in str(refused.value)


def test_sound_secret_from_environment_or_file_is_taken(tmp_path: Path) -> None:
    assert master_secret(checked(Settings(**OWN_DATABASE, **PUBLIC, secret=SOUND))) == SOUND.encode()
    file = tmp_path / "secret"
    file.write_text(SOUND + "\n")
    assert master_secret(checked(Settings(**OWN_DATABASE, **PUBLIC, secret_file=file))) == SOUND.encode()


def test_embedded_secret_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    first = master_secret(settings)
    assert len(first) >= 32
    file = tmp_path / "data" / "secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    assert master_secret(settings) == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [found.name for found in (tmp_path / "data").iterdir()] == ["secret"]


def test_lost_secret_of_a_present_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pgdata").mkdir()
    (tmp_path / "pgdata" / "PG_VERSION").write_text("18\n")
    with pytest.raises(CommandFailed, match="Put it back from your backup"):
        master_secret(Settings(data_dir=tmp_path))
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize(
    "given",
    [OWN_DATABASE, {"host": "0.0.0.0"}, {"host": "192.0.2.1"}, {"host": "::"}],
    ids=["own database", "all addresses", "an address", "all addresses, IPv6"],
)
def test_public_address_is_required_where_others_can_come(given: dict[str, Any]) -> None:
    with pytest.raises(CommandFailed, match="MINGA_PUBLIC_URL is needed"):
        checked(Settings(secret=SOUND, **given))
    checked(Settings(secret=SOUND, **given, **PUBLIC))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_printed_address_serves_on_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert public_url(Settings(host=host), "http://127.0.0.1:8000") == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "url", ["minga.example.org", "ftp://minga.example.org", "https://", "https://a@b.example", "https://a.example/?q"]
)
def test_public_address_is_a_plain_one(url: str) -> None:
    with pytest.raises(CommandFailed, match="must look like"):
        public_url(Settings(public_url=url), "")


def test_public_address_has_no_trailing_slash() -> None:
    assert public_url(Settings(public_url="https://minga.example.org/"), "") == "https://minga.example.org"


def test_database_address_must_be_postgresql() -> None:
    with pytest.raises(CommandFailed, match="must start with postgresql://"):
        checked(Settings(database_url="mysql://there", secret=SOUND, **PUBLIC))


def test_data_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandFailed, match="cannot be used"):
        data_folder(Settings(data_dir=tmp_path / "file" / "data"))


def test_wrong_settings_are_named_without_their_values() -> None:
    with pytest.raises(CommandFailed, match="MINGA_WORKERS") as refused:
        read_settings(workers=1000)
    assert "1000" not in str(refused.value)
