"""Who calls which service: the stored credential, the environment, the options. Source: safety T2."""

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any

from app.client import Minga


class UsageError(Exception):
    """The command line cannot be carried out as it stands."""


def config_path() -> Path:
    """Where the credential lies: `minga/credential.json` below the user's configuration folder (XDG)."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "minga" / "credential.json"


def store_credential(url: str, client_id: str, client_secret: str, *, insecure: bool = False) -> Path:
    """The file in which the credential now lies, readable by its owner alone."""
    path = config_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(".credential.new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        json.dump({"url": url, "client_id": client_id, "client_secret": client_secret, "insecure": insecure}, out)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(path)
    return path


def connect(given: argparse.Namespace) -> Minga:
    """A client for the service and credential of: the options, MINGA_URL and friends, the stored credential.

    Errors: UsageError when no service is named, or the stored file lies open to others.
    """
    stored: dict[str, Any] = {}
    path = config_path()
    if path.exists():
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise UsageError(f"{path} can be read by others; run: chmod 600 {path}")
        with contextlib.suppress(ValueError):
            stored = json.loads(path.read_text())
    url = given.url or os.environ.get("MINGA_URL") or stored.get("url")
    if not url:
        raise UsageError("no service is named: run `minga login`, or set MINGA_URL")
    if url.rstrip("/") != str(stored.get("url", "")).rstrip("/"):
        stored = {}  # the stored secret and its leave for plain http belong to the stored service, not to another one
    client_id, secret = os.environ.get("MINGA_CLIENT_ID"), os.environ.get("MINGA_CLIENT_SECRET")
    if not (client_id and secret):
        client_id, secret = stored.get("client_id"), stored.get("client_secret")
    try:
        return Minga(url, client_id=client_id, client_secret=secret, insecure=bool(stored.get("insecure")))
    except ValueError as error:
        raise UsageError(str(error)) from None
