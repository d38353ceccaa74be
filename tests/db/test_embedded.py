"""The embedded PostgreSQL: shared, left behind, killed, with long paths, of another version."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.db.account import Account, launcher, server_account
from app.db.cluster import (
    EmbeddedPostgresError,
    binaries,
    check_version,
    end_orphans,
    orphans,
    process_id,
    socket_folder,
)
from app.db.embedded import EmbeddedPostgres
from app.db.migrate import ROOT

QUICK = {"fsync": "off"}
HOLD = """
import sys, time
from pathlib import Path
from app.db.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
print(server.start(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder for one server, which does not outlive the test."""
    yield tmp_path / "data"
    server = process_id(tmp_path / "data" / "pgdata")
    if server is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGQUIT)


def one(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()
        return row[0] if row else None


def answers(url: str) -> bool:
    try:
        return one(url, "SELECT 1") == 1
    except psycopg.OperationalError:
        return False


def wait_until(condition: object, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)


def put_to_sleep(processes: list[int]) -> list[int]:
    """Those that were there to be stopped: a backend whose client has just left may be gone."""
    stopped = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            stopped.append(process)
    return stopped


def children_of(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    """Whether a process of this number is there, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_application_role_owns_its_database_and_is_not_superuser(home: Path) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server:
        url = server.url
        assert one(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert one(url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()") == "minga"
        assert one(url, "SHOW data_checksums") == "on"
        assert one(url, "SHOW listen_addresses") == ""
        assert (server.home / "socket").stat().st_mode & 0o777 == 0o700
        assert (server.data.stat().st_mode & 0o777) == 0o700
    assert not answers(url)


def test_two_users_of_one_folder_share_the_server_and_the_last_one_stops_it(home: Path) -> None:
    first, second = EmbeddedPostgres(home, settings=QUICK), EmbeddedPostgres(home, settings=QUICK)
    url = first.start()
    assert second.start() == url
    assert first.stop() is False
    assert answers(url)
    assert second.stop() is True
    assert not answers(url)
    assert second.stop() is False


def test_server_left_behind_by_a_killed_process_is_adopted_and_stopped(home: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with holder:
        assert holder.stdout is not None
        url = holder.stdout.readline().strip()
        assert url.startswith("postgresql://")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        left = process_id(home / "pgdata")
        holder.kill()
        holder.wait()
    assert answers(url)
    adopter = EmbeddedPostgres(home, settings=QUICK)
    assert adopter.start() == url
    assert process_id(home / "pgdata") == left
    assert one(url, "SELECT count(*) FROM kept") == 0
    assert adopter.stop() is True
    assert not answers(url)


def test_killed_server_starts_again_at_the_next_start(home: Path) -> None:
    first = EmbeddedPostgres(home, settings=QUICK)
    url = first.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (id int)")
    killed = process_id(home / "pgdata")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    second = EmbeddedPostgres(home, settings=QUICK)
    assert one(second.start(), "SELECT count(*) FROM kept") == 0
    assert process_id(home / "pgdata") != killed
    second.stop()
    first.stop()
    assert not answers(url)


def test_killed_server_is_back_by_itself_while_watched(home: Path) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server:
        server.watch()
        for _ in range(2):
            killed = process_id(server.data)
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: process_id(server.data) != killed and answers(server.url), 120)  # noqa: B023


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("watched", [True, False], ids=["watched", "next start"])
def test_children_that_outlive_a_killed_server_do_not_keep_it_from_coming_back(home: Path, watched: bool) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server, subprocess.Popen(["sleep", "600"], cwd=home) as stranger:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        killed = process_id(server.data)
        assert killed is not None
        assert orphans(server.data) == []  # while the server lives, nobody is an orphan
        children = put_to_sleep(children_of(killed))  # asleep, they do not notice that the server is gone
        try:
            os.kill(killed, signal.SIGKILL)
            if watched:
                server.watch()
                wait_until(lambda: process_id(server.data) != killed and answers(server.url), 120)
            else:
                with EmbeddedPostgres(home, settings=QUICK) as second:
                    assert answers(second.url)
            assert one(server.url, "SELECT count(*) FROM kept") == 0
            assert not any(alive(child) for child in children)
            assert stranger.poll() is None
        finally:
            stranger.kill()
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGCONT)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")
def test_only_programs_of_the_server_in_its_own_folder_are_orphans(home: Path, tmp_path: Path) -> None:
    """Neither an operator's shell in the data folder nor the processes of another server are ever signalled."""
    with (
        EmbeddedPostgres(home, settings=QUICK) as server,
        EmbeddedPostgres(tmp_path / "other", settings=QUICK) as other,
    ):
        killed = process_id(server.data)
        assert killed is not None
        child = next(one for one in children_of(killed) if put_to_sleep([one]))
        with subprocess.Popen(["sleep", "600"], cwd=server.data) as shell:
            try:
                os.kill(killed, signal.SIGKILL)
                wait_until(lambda: orphans(server.data) == [child], 60)
                end_orphans(server.data, signal.SIGKILL)
                wait_until(lambda: orphans(server.data) == [], 60)
                assert shell.poll() is None
                assert answers(other.url)
            finally:
                shell.kill()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGCONT)


def test_stop_does_not_signal_a_stranger_whose_number_is_in_a_stale_pid_file(home: Path) -> None:
    server = EmbeddedPostgres(home, settings=QUICK)
    server.start()
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    wait_until(lambda: not answers(server.url))
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        server.stop()
        assert stranger.poll() is None
        stranger.kill()
    pid_file.unlink()


@pytest.mark.parametrize("name", ["a" * 120, 'it\'s a folder, with $signs and "quotes"'], ids=["long", "odd"])
def test_any_folder_name_works(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    with EmbeddedPostgres(home, settings=QUICK, disposable=True) as server:
        assert answers(server.url)
        sockets = Path(str(one(server.superuser_url, "SHOW unix_socket_directories")))
        assert sockets.parent == Path("/tmp")
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()
    assert not home.exists()


def test_socket_folder_that_is_a_link_is_refused(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / "socket").symlink_to(elsewhere)
    with pytest.raises(EmbeddedPostgresError, match="is a link or belongs to someone else"):
        socket_folder(home, None)


def test_data_folder_of_another_major_version_names_backup_and_restore(home: Path) -> None:
    data = home / "pgdata"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL 16.*backup.*restore.*Nothing was changed"):
        check_version(data)
    with pytest.raises(EmbeddedPostgresError, match="PostgreSQL 16"):
        EmbeddedPostgres(home).start()
    assert [file.name for file in data.iterdir()] == ["PG_VERSION"]


def test_foreign_files_in_the_data_folder_are_left_alone(home: Path) -> None:
    (home / "pgdata").mkdir(parents=True)
    (home / "pgdata" / "thesis.txt").write_text("not ours")
    with pytest.raises(EmbeddedPostgresError, match="not empty"):
        EmbeddedPostgres(home).start()
    assert (home / "pgdata" / "thesis.txt").read_text() == "not ours"


def test_folder_left_half_made_is_made_again(home: Path) -> None:
    half = home / "pgdata.part-killed"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(home, settings=QUICK) as server:
        assert answers(server.url)
    assert not half.exists()


def test_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot start: .*File exists"):
        EmbeddedPostgres(tmp_path / "data").start()


def test_server_that_cannot_start_says_why_and_leaves_nothing_running(home: Path) -> None:
    server = EmbeddedPostgres(home, settings={**QUICK, "shared_buffers": "1PB"})
    with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
        server.start()
    assert process_id(home / "pgdata") is None
    with EmbeddedPostgres(home, settings=QUICK) as again:
        assert answers(again.url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server another account")
def test_root_gives_the_server_another_account_even_in_a_closed_folder(home: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    account = server_account()
    assert isinstance(account, Account)
    assert launcher(account, [Path("/usr/bin")])[0] == []
    with EmbeddedPostgres(home, settings=QUICK) as server:
        assert os.stat(f"/proc/{process_id(server.data)}").st_uid == account.user_id


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second account to try with")
def test_another_account_of_the_machine_cannot_get_in(home: Path) -> None:
    with EmbeddedPostgres(home, settings=QUICK) as server:
        for name, refusal in (("daemon", "Permission denied"), ("nobody", "Peer authentication failed")):
            account = pwd.getpwnam(name)
            words, options = launcher(Account(name, account.pw_uid, account.pw_gid), [server.home, binaries()])
            psql = [*words, str(binaries() / "psql"), server.url, "-c", "SELECT 1"]
            assert refusal in subprocess.run(psql, **options, capture_output=True, text=True).stderr
