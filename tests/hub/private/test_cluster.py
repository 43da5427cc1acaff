"""The private PostGIS cluster, and every trap that running one brings: really run, really killed."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from hub.private import cluster, folder, process
from hub.private.cluster import PrivateCluster
from hub.private.folder import CannotStart
from tests.private_servers import scratch

ROOT = Path(__file__).resolve().parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user or mount a small disk")


@pytest.fixture(scope="module")
def made_before() -> Iterator[Path]:
    """A data folder whose cluster exists already: copying it is faster than making one."""
    path = scratch()
    PrivateCluster(path, sync=False).start().stop()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def data_dir(made_before: Path) -> Iterator[Path]:
    path = scratch()
    subprocess.run(["cp", "-a", "--reflink=auto", str(made_before / "postgres"), str(path)], check=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def empty_dir() -> Iterator[Path]:
    path = scratch()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def started(data_dir: Path) -> Iterator[PrivateCluster]:
    with PrivateCluster(data_dir, sync=False) as running:
        yield running


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited a minute for: {what}"
        time.sleep(0.02)


def remember(url: str, *values: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        for value in values:
            connection.execute("INSERT INTO kept VALUES (%s)", [value])


def remembered(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM kept ORDER BY value")]


def hub_process(data_dir: Path, *, uid: int | None = None, prelude: str = "") -> "subprocess.Popen[str]":
    """Another process that runs the cluster, prints `<pid> <url>` and lives until it is killed or told to end."""
    script = textwrap.dedent(
        f"""
        import sys
        from hub.private.cluster import PrivateCluster
        from hub.errors import CurbstopError
        {prelude}
        try:
            running = PrivateCluster({str(data_dir)!r}, sync=False).start()
        except CurbstopError as error:
            sys.exit(error.detail)
        print(running.pid, running.url, flush=True)
        sys.stdin.readline()
        running.stop()
        """
    )
    words = [sys.executable, "-c", script]
    if uid is not None:
        words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *words]
    return subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def told(child: "subprocess.Popen[str]") -> tuple[int, str]:
    assert child.stdout is not None
    line = child.stdout.readline().split()
    assert line, child.communicate()[1]
    return int(line[0]), line[1]


def test_postgis_answers_and_data_outlives_a_restart(empty_dir: Path) -> None:
    with PrivateCluster(empty_dir) as first:
        with psycopg.connect(first.url) as connection:
            row = connection.execute("SELECT ST_AsText(ST_Point(1, 2)), current_setting('fsync')").fetchone()
        assert row == ("POINT(1 2)", "on")
        remember(first.url, 1)
    with PrivateCluster(empty_dir) as second:
        assert remembered(second.url) == [1]


def test_it_is_reached_by_its_socket_alone_in_a_closed_folder(started: PrivateCluster) -> None:
    with psycopg.connect(started.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        sockets = connection.execute("SHOW unix_socket_directories").fetchone()
    assert sockets is not None
    socket_dir = Path(sockets[0])
    assert socket_dir.stat().st_mode & 0o777 == 0o700
    assert (socket_dir / cluster.SOCKET_NAME).stat().st_mode & 0o777 == 0o700


def test_the_server_knows_nothing_of_the_hubs_environment(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURBSTOP_SECRET_KEY", "a secret")
    monkeypatch.setenv("PGDATA", "/nowhere")
    with PrivateCluster(data_dir, sync=False) as running:
        environment = Path(f"/proc/{running.pid}/environ").read_bytes()
    assert b"CURBSTOP" not in environment
    assert b"PGDATA=/nowhere" not in environment


def test_killed_server_recovers_what_was_committed(data_dir: Path) -> None:
    first = PrivateCluster(data_dir).start()
    remember(first.url, 1, 2, 3)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    with PrivateCluster(data_dir) as second:
        assert remembered(second.url) == [1, 2, 3]
    first.stop()


def test_server_dies_with_a_killed_hub_and_the_next_hub_starts(data_dir: Path) -> None:
    hub = hub_process(data_dir)
    server, url = told(hub)
    remember(url, 7)
    hub.kill()
    hub.communicate()
    until(lambda: not folder.lives(server), "the server of a killed hub to end")
    with PrivateCluster(data_dir, sync=False) as again:
        assert remembered(again.url) == [7]


def test_start_waits_for_a_server_that_is_still_stopping(data_dir: Path) -> None:
    hub = hub_process(data_dir)
    server, url = told(hub)
    remember(url, 1)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'").fetchone()
    assert row is not None
    os.kill(row[0], signal.SIGSTOP)  # the last checkpoint cannot end, so the server stays in its shutdown
    hub.kill()
    hub.communicate()
    time.sleep(0.3)
    assert folder.lives(server)
    threading.Timer(1.0, os.kill, (row[0], signal.SIGCONT)).start()
    with PrivateCluster(data_dir, sync=False) as again:
        assert not folder.lives(server)
        assert remembered(again.url) == [1]


def test_start_waits_for_backends_that_outlive_a_killed_server(data_dir: Path) -> None:
    first = PrivateCluster(data_dir).start()
    remember(first.url, 1)
    connection = psycopg.connect(first.url)
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    threading.Timer(1.0, os.kill, (backend, signal.SIGCONT)).start()
    with PrivateCluster(data_dir) as again:
        assert not folder.lives(backend)
        assert remembered(again.url) == [1]
    connection.close()
    first.stop()


def test_a_server_left_running_without_its_hub_is_stopped_first(data_dir: Path) -> None:
    left = PrivateCluster(data_dir, sync=False).start()
    before = left.pid
    with PrivateCluster(data_dir, sync=False) as again:
        assert again.pid != before
        assert cluster.running(data_dir) == again.url
    left.stop()
    assert cluster.running(data_dir) is None


def test_a_recycled_process_id_in_the_pid_file_does_not_keep_it_from_starting(data_dir: Path) -> None:
    with PrivateCluster(data_dir, sync=False) as first:
        pid_file = next(data_dir.glob("**/postmaster.pid"))
        lines = pid_file.read_text().splitlines()
    account = folder.Account.for_server("postgres")
    stranger = subprocess.Popen([*(account.prefix() if account else ["setpriv"]), "--", "sleep", "600"])
    lines[0] = str(stranger.pid)
    pid_file.write_text("\n".join([*lines[:7], "ready", ""]))
    try:
        assert cluster.running(data_dir) is None
        with PrivateCluster(data_dir, sync=False) as again:
            assert pid_file.read_text().splitlines()[0] == str(again.pid)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    first.stop()


def test_only_the_main_thread_may_start_it(data_dir: Path) -> None:
    caught: list[BaseException] = []

    def start() -> None:
        try:
            PrivateCluster(data_dir, sync=False).start()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
    assert process.living_in(next(data_dir.glob("**/data")), "postgres") == []


def test_a_path_too_long_for_a_socket_gets_a_short_one(data_dir: Path) -> None:
    deep = data_dir / ("long" * 30)
    with PrivateCluster(deep, sync=False) as running:
        remember(running.url, 1)
        assert cluster.running(deep) == running.url
    socket_dir = cluster.socket_folder(deep / "postgres", folder.Account.for_server("postgres"))
    assert len(str(socket_dir)) < 60
    assert socket_dir.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(socket_dir)


def test_a_short_socket_folder_made_by_somebody_else_is_refused(data_dir: Path) -> None:
    deep = data_dir / ("long" * 30) / "postgres"
    socket_dir = cluster.socket_folder(deep, folder.Account.for_server("postgres"))
    socket_dir.chmod(0o777)
    try:
        with pytest.raises(CannotStart, match="not this user's alone"):
            cluster.socket_folder(deep, folder.Account.for_server("postgres"))
    finally:
        shutil.rmtree(socket_dir)


def test_missing_programs_are_named_with_their_packages(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "BINARY_PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotStart, match=r"make setup.*postgresql-15-postgis-3"):
        cluster.binaries(None)


def test_a_cluster_of_another_version_names_the_package_it_needs(data_dir: Path) -> None:
    with pytest.raises(CannotStart, match=r"made by PostgreSQL 9.*postgresql-9-postgis-3"):
        cluster.binaries("9")


def test_a_server_that_gives_up_is_quoted(data_dir: Path) -> None:
    with PrivateCluster(data_dir, sync=False):
        pass
    settings = next(data_dir.glob("**/postgresql.conf"))
    settings.write_text("no_such_setting = 1\n")
    with pytest.raises(CannotStart, match="did not start"):
        PrivateCluster(data_dir, sync=False).start()


@as_root
def test_as_root_a_closed_folder_moves_the_cluster_to_where_postgres_may_go(tmp_path: Path) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    with PrivateCluster(closed / ".curbstop", sync=False) as running:
        found = cluster.running(closed / ".curbstop")
        assert found == running.url
        with psycopg.connect(running.url) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    where = Path(row[0])
    assert where.is_relative_to(folder.ROOT_PLACE)
    assert where.owner() == "postgres"
    shutil.rmtree(where.parents[1])


@as_root
def test_as_root_the_server_runs_as_postgres(started: PrivateCluster) -> None:
    status = Path(f"/proc/{started.pid}/status").read_text()
    uid = pwd.getpwnam("postgres").pw_uid
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status


def _require_python_for(uid: int) -> None:
    words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", sys.executable, "-c", "import hub"]
    if subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode != 0:
        pytest.skip("other users cannot enter this checkout")


@as_root
def test_an_ordinary_user_runs_it_in_his_own_folder() -> None:
    nobody = pwd.getpwnam("nobody")
    home = Path(f"/tmp/curbstop-user-{os.getpid()}")
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    try:
        _require_python_for(nobody.pw_uid)
        hub = hub_process(home / "data", uid=nobody.pw_uid)
        server, _url = told(hub)
        assert Path(f"/proc/{server}").stat().st_uid == nobody.pw_uid
        hub.communicate("end\n")
        assert hub.returncode == 0
        assert not folder.lives(server)
    finally:
        shutil.rmtree(home)


@as_root
def test_a_user_id_without_a_name_is_told_so() -> None:
    home = Path(f"/tmp/curbstop-nameless-{os.getpid()}")
    home.mkdir(mode=0o700)
    os.chown(home, 54321, 54321)
    try:
        _require_python_for(54321)
        hub = hub_process(home / "data", uid=54321)
        assert "useradd --uid 54321" in hub.communicate()[1]
        assert hub.returncode == 1
    finally:
        shutil.rmtree(home)


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    mount = scratch()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("this machine does not let us mount a small disk")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)
    shutil.rmtree(mount, ignore_errors=True)


@as_root
def test_a_full_disk_is_seen_before_anything_is_written(small_disk: Path) -> None:
    with pytest.raises(CannotStart, match=r"Storage full.*CURBSTOP_DATA_DIR"):
        PrivateCluster(small_disk).start()


@as_root
def test_a_disk_that_fills_while_the_cluster_is_made_leaves_nothing_half_made(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "NEW_CLUSTER_BYTES", 0)
    with pytest.raises(CannotStart, match="Storage full"):
        PrivateCluster(small_disk).start()
    assert [path.name for path in (small_disk / "postgres").iterdir()] == []
