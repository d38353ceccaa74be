"""Which operating-system account the embedded PostgreSQL runs under, and how a program is started as that account.

PostgreSQL refuses to run as root. Started as root, Minga therefore gives its server another account; any other user
runs it under the account they have.
"""

import os
import pwd
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

ACCOUNT_NAMES = ("minga", "nobody")
CAPABILITIES = (("dac_read_search", 2), ("dac_override", 1))  # name and bit number, the weaker one first


class SpawnOptions(TypedDict, total=False):
    """Keyword arguments of `subprocess.Popen` that change the account."""

    user: int
    group: int
    extra_groups: list[int]


class NoAccountError(Exception):
    """No account was found under which the server could run; the text tells what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account of the server when we are root."""

    name: str
    user_id: int
    group_id: int


def server_account() -> Account | None:
    """The account to give the server, or None when it runs under our own. Errors: NoAccountError."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNT_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NoAccountError(f"PostgreSQL does not run as root; create one of the accounts {', '.join(ACCOUNT_NAMES)}")


def own_account_name() -> str:
    """The name of the account we run under, as PostgreSQL's `peer` check will see it. Errors: NoAccountError."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise NoAccountError(
            f"user number {os.geteuid()} has no account name here, which PostgreSQL needs;"
            " add one to /etc/passwd or set MINGA_DATABASE_URL"
        ) from error


def launcher(account: Account | None, folders: Iterable[Path]) -> tuple[list[str], SpawnOptions]:
    """The words to put before a command and the options for `Popen`, so that it runs as `account`.

    Where the account cannot walk to one of `folders` (a clone below /root, a 0700 temporary folder), the server keeps
    one capability of root, to search folders, and nothing else; we do not open other people's folders to everyone.
    Errors: NoAccountError.
    """
    if account is None:
        return [], {}
    if all(_may_enter(folder, account) for folder in folders):
        return [], {"user": account.user_id, "group": account.group_id, "extra_groups": []}
    program, capability = shutil.which("setpriv"), _available_capability()
    if program is None or capability is None:
        raise NoAccountError(
            f"the account {account.name!r}, under which PostgreSQL runs because we are root, cannot reach"
            f" {' and '.join(str(folder) for folder in folders if not _may_enter(folder, account))};"
            " use a data folder and a checkout that it can enter, or do not start as root"
        )
    return [
        program,
        f"--reuid={account.user_id}",
        f"--regid={account.group_id}",
        "--clear-groups",
        f"--bounding-set=-all,+{capability}",
        f"--inh-caps=-all,+{capability}",
        f"--ambient-caps=-all,+{capability}",
        "--",
    ], {}


def _may_enter(folder: Path, account: Account) -> bool:
    """Whether the account has search permission on the folder and everything above it."""
    for step in (folder, *folder.parents):
        status = step.stat()
        if status.st_uid == account.user_id:
            needed = stat.S_IXUSR
        elif status.st_gid == account.group_id:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def _available_capability() -> str | None:
    """The weakest capability that lets a program search every folder and that we could pass on; None on macOS."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    bounding = next((int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:")), 0)
    return next((name for name, bit in CAPABILITIES if bounding >> bit & 1), None)
