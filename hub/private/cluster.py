"""A private PostGIS cluster for one machine without servers, which the hub makes, runs, stops and reaches by a socket.

Writes its own data folder. Nothing of it listens on the network, and the folder of its socket is closed to everybody
else, so it needs no password.
"""

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg

from hub.private import process
from hub.private.folder import Account, CannotStart, owned, place, require_space

DATABASE = "curbstop"
USER = "curbstop"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_LIMIT = 107  # bytes of a path in sockaddr_un, less the closing NUL
RUN_PLACE, SHORT_PLACE = "/run/curbstop", "/tmp"  # noqa: S108 - who owns the folder there is checked before its use
NEW_CLUSTER_BYTES = 512 * 2**20
RUNNING_BYTES = 128 * 2**20
BINARY_PLACES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/usr/pgsql")

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "timezone": "UTC",
    "jit": "off",
    # One log file per weekday, overwritten after a week: enough to look back, never a full disk.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "server-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
}
_UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "logging_collector": "off"}


class PrivateCluster:
    """`start()` makes the cluster where there is none, runs it and recovers it; `url` is its database.

    `sync=False` gives durability up for speed and is for tests alone. The caller holds the folder's lock: whatever
    PostgreSQL process is found in the folder at `start()` belongs to a hub that no longer lives.
    """

    def __init__(self, data_dir: Path | str, *, sync: bool = True) -> None:
        self.data_dir = Path(data_dir)
        self.sync = sync
        self._child: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None

    @property
    def url(self) -> str:
        """Address of the database; raises CannotStart when the cluster does not run."""
        if self._socket_dir is None:
            raise CannotStart("The private database does not run: start it with `curbstop up`.")
        return address(self._socket_dir)

    @property
    def pid(self) -> int | None:
        """Process id of the server, None when it does not run."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self, *, patience: float = 600.0) -> Self:
        """Run the server until it takes connections; recovery after a crash may take up to `patience` seconds.

        Raises CannotStart, with the remedy, when a program is missing, storage is full or the server gives up.
        """
        account = Account.for_server("postgres")
        base = place(self.data_dir, "postgres", account)
        folder = base / "data"
        self._leave_behind_nobody(folder)
        fresh = not (folder / "PG_VERSION").exists()
        require_space(base, NEW_CLUSTER_BYTES if fresh else RUNNING_BYTES)
        programs = binaries(None if fresh else (folder / "PG_VERSION").read_text().strip())
        if fresh:
            self._create(programs, folder, account)
        socket_dir = socket_folder(base, account)
        # Nobody lives here now. PostgreSQL would take a stranger with the noted process id (after a reboot), or an
        # ended server that nobody waited for (in a container), for a running one.
        for left in (folder / "postmaster.pid", socket_dir / f"{SOCKET_NAME}.lock"):
            left.unlink(missing_ok=True)
        settings = _SETTINGS if self.sync else _SETTINGS | _UNSAFE
        words = [str(programs / "postgres"), "-D", str(folder), "-k", str(socket_dir)]
        words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (base / "start.log").open("wb") as log:
            self._child = process.spawn(words, account=account, dies_with=signal.SIGINT, log=log)
        try:
            self._await_ready(base, folder, patience)
            self._socket_dir = socket_dir
            self._make_database()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server: connections are cut, everything committed is kept."""
        if self._child is not None:
            process.stop(self._child, signal.SIGINT, signal.SIGQUIT)
        self._child = None
        self._socket_dir = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _create(self, programs: Path, folder: Path, account: Account | None) -> None:
        """initdb beside the final place and rename: a cluster that was half made when the power went is never used."""
        _require_passwd_entry()
        unfinished = folder.with_name("data.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        words = [str(programs / "initdb"), "-D", str(unfinished), "-U", USER, "-E", "UTF8", "--locale=C.UTF-8"]
        words += ["--auth=trust", "--no-instructions", *([] if self.sync else ["--no-sync"])]
        done = subprocess.run(
            [*(account.prefix() if account else ["setpriv"]), "--", *words],
            cwd="/",
            env=process.plain_environment(),
            capture_output=True,
            check=False,
            text=True,
        )
        if done.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise CannotStart(
                _explained(done.stderr + done.stdout, f"The private database could not be made in {folder}")
            )
        unfinished.rename(folder)

    def _leave_behind_nobody(self, folder: Path) -> None:
        """Wait for what a crashed hub left stopping in `folder`; tell it to stop if nobody has."""
        pids = process.living_in(folder, "postgres")
        postmaster = _pid_file(folder)[:1]
        if postmaster and postmaster[0].isdigit() and int(postmaster[0]) in pids:
            os.kill(int(postmaster[0]), signal.SIGINT)
        # Backends of a killed server notice its death by themselves, at the end of their statement at the latest.
        if not process.wait_until_gone(pids, patience=60):
            raise CannotStart(
                f"PostgreSQL processes of an earlier run still use {folder} (process {', '.join(map(str, pids))}): "
                "wait for them or end them with `kill`, never with `kill -9`, then start the hub again."
            )

    def _await_ready(self, base: Path, folder: Path, patience: float) -> None:
        assert self._child is not None
        deadline = time.monotonic() + patience
        while True:
            # Line 1 is the server's process id, line 8 its state: only both together say that *our* server is ready.
            lines = _pid_file(folder)
            if len(lines) >= 8 and lines[0] == str(self._child.pid) and lines[7] == "ready":
                return
            if self._child.poll() is not None:
                raise CannotStart(_explained(_last_words(base), f"The private database in {folder} did not start"))
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"The private database in {folder} is still recovering after {patience:.0f} s: look into "
                    f"{folder / 'log'}, and start the hub again when the cause is mended."
                )
            time.sleep(0.02)

    def _make_database(self) -> None:
        assert self._socket_dir is not None
        with psycopg.connect(address(self._socket_dir, "postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
        with psycopg.connect(self.url, autocommit=True) as connection:
            try:
                connection.execute("CREATE EXTENSION IF NOT EXISTS postgis")
            except psycopg.Error as error:
                raise CannotStart(
                    "PostGIS is not installed for this PostgreSQL: run `make setup`, or install the package "
                    f"postgresql-{connection.info.server_version // 10000}-postgis-3."
                ) from error


def running(data_dir: Path) -> str | None:
    """The address of the cluster that a hub runs for `data_dir`, or None while it takes no connections."""
    for part in _places(data_dir):
        lines = _pid_file(part / "data")
        if len(lines) < 8 or lines[7] != "ready" or not lines[0].isdigit():
            continue
        if int(lines[0]) in process.living_in(part / "data", "postgres") and _made(Path(lines[4])):
            return address(Path(lines[4]))
    return None


def _made(socket_dir: Path) -> bool:
    """Whether the database already exists: on the very first start the server is ready a moment before it does."""
    try:
        with psycopg.connect(address(socket_dir), connect_timeout=5) as connection:
            return connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'postgis'").fetchone() is not None
    except psycopg.Error:
        return False


def _places(data_dir: Path) -> list[Path]:
    with contextlib.suppress(CannotStart):
        return [place(data_dir, "postgres", Account.for_server("postgres"))]
    return []


def address(socket_dir: Path, database: str = DATABASE) -> str:
    """The URL of `database` behind the socket in `socket_dir`."""
    return f"postgresql://{USER}@/{database}?host={quote(str(socket_dir), safe='')}"


def socket_folder(base: Path, account: Account | None) -> Path:
    """Where the socket goes: beside the data, or, when that path is too long for a socket, in a short closed folder.

    Raises CannotStart when somebody else made that short folder first: a socket of theirs must not be trusted.
    """
    beside = base / "run"
    if len(os.fsencode(beside / SOCKET_NAME)) <= SOCKET_LIMIT:
        owned(beside, account)
        return beside
    digest = hashlib.sha256(os.fsencode(base)).hexdigest()[:16]
    short = Path(RUN_PLACE if os.geteuid() == 0 else SHORT_PLACE) / f"curbstop-{digest}"
    if not short.exists():
        owned(short, account)
    facts = short.lstat()
    if (
        facts.st_uid != (account.uid if account else os.geteuid())
        or facts.st_mode & 0o777 != 0o700
        or short.is_symlink()
    ):
        raise CannotStart(
            f"{short}, where the database's socket belongs, is not this user's alone: remove it, or choose a shorter "
            "path for the data folder with CURBSTOP_DATA_DIR."
        )
    return short


def binaries(version: str | None) -> Path:
    """The folder with `postgres` and `initdb`: of major `version`, or the newest here that has PostGIS.

    Raises CannotStart naming the packages when there is none.
    """
    found: dict[int, Path] = {}
    for pattern in BINARY_PLACES:
        for program in sorted(Path("/").glob(f"{pattern.lstrip('/')}*/**/bin/postgres")):
            found.setdefault(_major(program), program.parent)
    on_path = shutil.which("postgres")
    if on_path:
        found.setdefault(_major(Path(on_path)), Path(on_path).resolve().parent)
    found = {major: folder for major, folder in found.items() if (folder / "initdb").exists()}
    if version is not None:
        if int(version) not in found:
            raise CannotStart(
                f"The data folder was made by PostgreSQL {version}, which is not installed here: "
                f"install postgresql-{version} and postgresql-{version}-postgis-3 (apt-get install), then start again."
            )
        return found[int(version)]
    if not found:
        raise CannotStart(
            "PostgreSQL is not installed: run `make setup`, or install the packages postgresql and "
            "postgresql-15-postgis-3, or name a server of your own in CURBSTOP_DATABASE_URL."
        )
    return found[max(found, key=lambda major: (_has_postgis(found[major]), major))]


def _major(program: Path) -> int:
    answer = subprocess.run([str(program), "--version"], capture_output=True, check=False, text=True).stdout
    number = re.search(r"(\d+)", answer)
    return int(number.group(1)) if number else 0


def _has_postgis(folder: Path) -> bool:
    answer = subprocess.run(
        [str(folder / "pg_config"), "--sharedir"], capture_output=True, check=False, text=True
    ).stdout
    shares = [Path(answer.strip())] if answer.strip() else []
    shares.append(Path("/usr/share/postgresql") / folder.parent.name)
    return any((share / "extension" / "postgis.control").exists() for share in shares)


def _pid_file(folder: Path) -> list[str]:
    try:
        return [line.strip() for line in (folder / "postmaster.pid").read_text().splitlines()]
    except OSError:
        return []


def _last_words(base: Path) -> str:
    """What the server said before it gave up: at the start, and in its newest log."""
    texts = []
    logs = sorted((base / "data" / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
    for path in (*logs[-1:], base / "start.log"):
        with contextlib.suppress(OSError):
            texts.append(path.read_text(errors="replace")[-4000:])
    return "\n".join(texts)


def _explained(said: str, what: str) -> str:
    """One sentence for the person at the keyboard, out of what PostgreSQL said."""
    if "No space left on device" in said or "could not resize shared memory" in said:
        return f"Storage full: {what[0].lower()}{what[1:]}; free some space on that file system and start again."
    complaints = [line for line in said.splitlines() if re.search(r"FATAL|PANIC|error:", line)]
    reason = re.sub(
        r"^.*?(FATAL|PANIC|error):\s*", "", (complaints or said.strip().splitlines() or ["no reason given"])[-1]
    )
    return f"{what}: PostgreSQL says {reason.strip()!r}; mend that and start again."


def _require_passwd_entry() -> None:
    """initdb refuses a user id that has no name, which is common in containers."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise CannotStart(
            f"User id {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL needs to make a database: add one "
            f"(useradd --uid {os.geteuid()} curbstop), or name a server of your own in CURBSTOP_DATABASE_URL."
        ) from None
