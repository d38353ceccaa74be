"""What must hold before the service starts: a data folder, a sound master secret, an address members can name.

Source: docs/guides/operator.md, "Secrets" and "Settings".
"""

import ipaddress
import os
import secrets
import stat
from pathlib import Path
from urllib.parse import urlsplit

from app.cli.outcome import CommandFailed, say
from app.db.pool import driver_url
from app.sealing import MasterSecret
from app.settings import Settings

SECRET_FILE = "secret"  # noqa: S105 (the name of the file)
NOT_SECRETS = ("change", "example", "default", "placeholder")
"""Words that mark a value as copied from somewhere; a random one does not contain them."""


def data_folder(settings: Settings) -> Path:
    """The data folder, made if it was missing, closed to everybody else. Errors: CommandFailed."""
    folder = Path(os.path.abspath(settings.data_dir.expanduser()))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == folder.stat().st_uid:
            # Root's database server runs under another account, which must be able to walk through.
            folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise CommandFailed(f"The data folder {folder} cannot be used: {error.strerror}.") from error
    return folder


def master_secret(settings: Settings) -> bytes:
    """The master secret: as set, or for an embedded database the one in the data folder, made at the first start.

    Errors: CommandFailed when it is missing, weak, or was lost.
    """
    if settings.secret is not None and settings.secret_file is not None:
        raise CommandFailed("Set MINGA_SECRET or MINGA_SECRET_FILE, not both.")
    if settings.secret is not None:
        return sound(settings.secret.encode(), "MINGA_SECRET")
    if settings.secret_file is not None:
        try:
            return sound(settings.secret_file.read_bytes().strip(), "The secret in MINGA_SECRET_FILE")
        except OSError as error:
            raise CommandFailed(f"MINGA_SECRET_FILE cannot be read: {error.strerror}.") from error
    if settings.database_url is not None:
        raise CommandFailed(
            "With MINGA_DATABASE_URL, a master secret is needed: set MINGA_SECRET or MINGA_SECRET_FILE to at least"
            " 32 random bytes (openssl rand -base64 48), the same one at every start."
        )
    return _own_secret(data_folder(settings))


def sound(value: bytes, name: str) -> bytes:
    """The value given, if it can be a master secret.

    Errors: CommandFailed when it is short, repeated or a copied sample.
    """
    words = value.decode("utf-8", "replace").lower()
    repeated = value in (value + value)[1:-1]
    if repeated or any(word in words for word in NOT_SECRETS):
        raise CommandFailed(f"{name} is a sample or a repetition; use random bytes (openssl rand -base64 48).")
    try:
        MasterSecret(value)
    except ValueError as error:
        raise CommandFailed(f"{name} is too weak: {error}. Use openssl rand -base64 48.") from error
    return value


def _own_secret(folder: Path) -> bytes:
    file = folder / SECRET_FILE
    if not file.exists():
        if (folder / "pgdata" / "PG_VERSION").exists():
            raise CommandFailed(
                f"{file} is missing, and the database in {folder} cannot be opened without it."
                " Put it back from your backup, or set MINGA_SECRET to the secret this database was used with."
            )
        part = folder / f"{SECRET_FILE}.{os.getpid()}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as text:
            text.write(secrets.token_urlsafe(48))
            text.flush()
            os.fsync(descriptor)
        try:
            os.link(part, file)  # fails where another process was faster: then its secret counts
        except FileExistsError:
            pass
        finally:
            part.unlink()
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        say(f"{file} was readable by others; its mode is 0600 now.")
        file.chmod(0o600)
    return sound(file.read_bytes().strip(), f"The secret in {file}")


def public_url(settings: Settings, printed: str) -> str:
    """The address members use, without a trailing slash: the one set, else the one that is printed.

    Errors: CommandFailed when it must be set and is not, or is no plain http(s) address.
    """
    if settings.public_url is None:
        if settings.database_url is not None or not is_loopback(settings.host):
            raise CommandFailed(
                "MINGA_PUBLIC_URL is needed with MINGA_DATABASE_URL or a host other than this machine:"
                " it is the issuer in every token and the base of every link."
            )
        return printed
    url = settings.public_url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise CommandFailed("MINGA_PUBLIC_URL must look like https://minga.example.org.")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        say("MINGA_PUBLIC_URL is plain http: tokens and records would travel readable. Put TLS in front.")
    return url


def checked(settings: Settings) -> Settings:
    """The settings, if the service may start with them; nothing is made or changed. Errors: CommandFailed."""
    public_url(settings, "")
    if settings.database_url is not None:
        try:
            driver_url(settings.database_url)
        except ValueError as error:
            raise CommandFailed(f"MINGA_DATABASE_URL: {error}.") from error
        master_secret(settings)
    return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
