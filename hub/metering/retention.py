"""Old months leave the database: written to a Parquet file, read back and compared, and only then dropped.

Off unless the settings say for how long to keep. A month is first detached and renamed, so that nothing more is written
to it; what arrives late for it goes into a new partition. Whatever fails leaves the detached table behind, and the next
run goes on from there. Each step is a transaction of its own; rows of `archived_month` say what was done. Parquet is
read by DuckDB, pandas, Spark and the like; `restore` brings a file back.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import psycopg
import structlog
from psycopg import sql

from hub import clock
from hub.db import Database
from hub.errors import BadInput, Unavailable
from hub.metering import partitions
from hub.metering.partitions import Partitioned
from hub.settings import Settings

log = structlog.get_logger()
LEAVING = "_leaving"
Connection = psycopg.Connection[tuple[Any, ...]]
# Told how many rows are read, and how many there are.
Progress = Callable[[int, int], None]


class Restored(NamedTuple):
    """What a file brought: its table, its rows, how many of them were not there, and the months they are of."""

    table: str
    rows: int
    new: int
    months: list[date]


class _Layout(NamedTuple):
    """How a table goes into a file: (column, what PostgreSQL writes, DuckDB's type)."""

    columns: tuple[tuple[str, str, str], ...]
    source: str
    proof: str


# Numbers to compute with, and beside them the same ones digit by digit, to be restored as they were.
_EXACT = {"value": "value_text", "value_m3": "value_m3_text"}
_ONLY_IN_FILES = frozenset({"serial", "register", *_EXACT.values()})
_INSTANTS = frozenset({"measured_at", "claimed_at", "received_at"})
_DECIMAL = "DECIMAL(38,20)"
_LAYOUTS: dict[str, _Layout] = {
    "reading": _Layout(
        (
            ("meter_id", "r.meter_id", "INTEGER"),
            ("serial", "m.serial", "VARCHAR"),
            ("register", "m.register", "VARCHAR"),
            ("measured_at", "r.measured_at", "TIMESTAMPTZ"),
            ("value", "r.value::numeric(38,20)", _DECIMAL),
            ("value_text", "r.value::text", "VARCHAR"),
            ("unit", "r.unit", "VARCHAR"),
            ("value_m3", "r.value_m3::numeric(38,20)", _DECIMAL),
            ("value_m3_text", "r.value_m3::text", "VARCHAR"),
            ("quality", "r.quality", "VARCHAR"),
            ("flags", "array_to_string(r.flags, E'\\x1f')", "VARCHAR"),
            ("time_source", "r.time_source", "VARCHAR"),
            ("claimed_at", "r.claimed_at", "TIMESTAMPTZ"),
            ("source", "r.source", "VARCHAR"),
            ("seq", "r.seq", "BIGINT"),
            ("raw_id", "r.raw_id", "BIGINT"),
            ("received_at", "r.received_at", "TIMESTAMPTZ"),
            ("repeats", "r.repeats", "INTEGER"),
        ),
        "{table} r LEFT JOIN meter m ON m.id = r.meter_id",
        "SELECT count(*), sum(value), sum(value_m3), sum(meter_id), sum(repeats), sum(epoch_us(measured_at))"
        " FROM read_parquet(?)",
    ),
    "raw_message": _Layout(
        (
            ("id", "r.id", "BIGINT"),
            ("received_at", "r.received_at", "TIMESTAMPTZ"),
            ("source", "r.source", "VARCHAR"),
            ("topic", "r.topic", "VARCHAR"),
            ("payload", "encode(r.payload, 'hex')", "BLOB"),
            ("adapter", "r.adapter", "VARCHAR"),
            ("device", "r.device", "VARCHAR"),
            ("retained", "r.retained", "BOOLEAN"),
            ("disposition", "r.disposition", "VARCHAR"),
            ("reason", "r.reason", "VARCHAR"),
        ),
        "{table} r",
        "SELECT count(*), sum(id), sum(octet_length(payload)), count(device), sum(epoch_us(received_at))"
        " FROM read_parquet(?)",
    ),
}
_PROOF_IN_POSTGRES = {
    "reading": "count(*), sum(value::numeric(38,20)), sum(value_m3::numeric(38,20)), sum(meter_id), sum(repeats),"
    " sum((extract(epoch FROM measured_at) * 1000000)::numeric)",
    "raw_message": "count(*), sum(id), sum(octet_length(payload)), count(device),"
    " sum((extract(epoch FROM received_at) * 1000000)::numeric)",
}


def run(database: Database, settings: Settings) -> int:
    """Archive and drop every month that is older than the settings want; the number of months that left."""
    keep = {"reading": settings.retention_reading_months, "raw_message": settings.retention_raw_message_months}
    folder = settings.archive_dir or settings.data_dir / "archive"
    left = 0
    for table, months in keep.items():
        if months is not None:
            _detach(database, table, months)  # type: ignore[arg-type]
        for name in _leaving(database, table):
            _archive(database, table, name, folder)
            left += 1
    if settings.retention_hourly_months is not None:
        with database.raw() as connection:
            connection.execute(
                "DELETE FROM consumption_hours WHERE day < (date_trunc('month', business_now() AT TIME ZONE 'UTC')"
                " - make_interval(months => %s))::date",
                [settings.retention_hourly_months],
            )
    return left


def _detach(database: Database, table: Partitioned, months: int) -> None:
    """Take partitions that ended `months` months ago out of the table, under a name of their own."""
    with database.transaction() as session:
        first = partitions.month_of(clock.now(session))
    for _ in range(months):
        first = partitions.month_before(first)
    for name, month in partitions.existing(database, table):
        if month >= first:
            continue
        with database.raw() as connection:
            connection.execute("SET LOCAL lock_timeout = '5s'")
            leaving = sql.Identifier(_free(connection, f"{name}{LEAVING}"))
            parent, child = sql.Identifier(table), sql.Identifier(name)
            connection.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(parent, child))
            connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(child, leaving))
            connection.execute(
                "INSERT INTO archived_month (table_name, month, leaving) VALUES (%s, %s, %s)",
                [table, month, leaving.as_string(connection).strip('"')],
            )


def _free(connection: Connection, wanted: str) -> str:
    """`wanted`, or with a number when a month leaves for the second time."""
    name, number = wanted, 1
    while connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() == (True,):
        number += 1
        name = f"{wanted}_{number}"
    return name


def _leaving(database: Database, table: str) -> list[str]:
    with database.raw() as connection:
        rows = connection.execute(
            "SELECT leaving FROM archived_month WHERE table_name = %s AND dropped_at IS NULL ORDER BY month, leaving",
            [table],
        ).fetchall()
    return [row[0] for row in rows]


def _archive(database: Database, table: str, leaving: str, folder: Path) -> None:
    """Write, prove and drop one detached month. Raises Unavailable when the file is not what the table was."""
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f"{leaving.replace(LEAVING, '')}.parquet", 1
    while path.exists():
        number += 1
        path = folder / f"{leaving.replace(LEAVING, '')}.{number}.parquet"
    partial = path.with_suffix(".partial")
    with database.raw() as connection:
        connection.execute("SET LOCAL statement_timeout = 0")
        _write(connection, table, leaving, partial)
        proof = connection.execute(
            sql.SQL("SELECT {} FROM {}").format(sql.SQL(_PROOF_IN_POSTGRES[table]), sql.Identifier(leaving))
        ).fetchone()
    found = proof_of(partial, table)
    if proof is None or tuple(proof) != found:
        raise Unavailable(
            f"The archive of {leaving} does not hold what the table held; the table stays.",
            remedy=f"Look at {partial}; the next run writes it anew.",
        )
    partial.rename(path)
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    with database.raw() as connection:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(leaving)))
        connection.execute(
            "UPDATE archived_month SET path = %s, row_count = %s, sha256 = %s, dropped_at = clock_timestamp()"
            " WHERE table_name = %s AND leaving = %s",
            [str(path), found[0], digest, table, leaving],
        )
    log.info("month archived", table=table, path=str(path), rows=found[0])


def _write(connection: Connection, table: str, leaving: str, path: Path) -> None:
    """The table as a Parquet file, sorted as its key is, by way of a CSV file beside it."""
    layout = _LAYOUTS[table]
    text = path.with_suffix(".csv")
    columns = ", ".join(f"{expression} AS {name}" for name, expression, _ in layout.columns)
    # readings are looked up by meter and time, raw messages by id
    order = "r.meter_id, r.measured_at" if table == "reading" else "r.id"
    query = f"SELECT {columns} FROM {layout.source.format(table=leaving)} ORDER BY {order}"  # noqa: S608
    try:
        with (
            text.open("wb") as out,
            connection.cursor() as cursor,
            cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)") as copy,
        ):
            for block in copy:
                out.write(block)
        types = {name: "VARCHAR" if kind == "BLOB" else kind for name, _, kind in layout.columns}
        shown = ", ".join(f"unhex({name}) AS {name}" if kind == "BLOB" else name for name, _, kind in layout.columns)
        options = "header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', nullstr = ''"
        parsed = f"read_csv(?, {options}, allow_quoted_nulls = false, columns = {types!r})"
        with _duckdb() as duck:
            copying = f"COPY (SELECT {shown} FROM {parsed}) TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd)"  # noqa: S608
            duck.execute(copying, [str(text)])
    finally:
        text.unlink(missing_ok=True)


def proof_of(path: Path, table: str) -> tuple[Any, ...]:
    """Count and sums of an archive as it is read back."""
    with _duckdb() as duck:
        found = duck.execute(_LAYOUTS[table].proof, [str(path)]).fetchone()
    return () if found is None else tuple(found)


@contextmanager
def _duckdb() -> Iterator["duckdb.DuckDBPyConnection"]:
    with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def restore(database: Database, path: Path, progress: Progress | None = None) -> Restored:
    """Bring the readings or raw messages of an archive back. Raises BadInput.

    Readings find their meter by serial and register, so a file also fits a database that was built anew. What they
    contribute to consumption is rolled up again.
    """
    if not path.is_file():
        raise BadInput(f"There is no file {path}.", field="file", remedy="Archives lie in the folder `archive`.")
    try:
        with _duckdb() as duck:
            described = duck.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
    except duckdb.Error as error:
        raise BadInput(f"{path} is no archive: {str(error).splitlines()[0]}", field="file") from error
    names = [row[0] for row in described]
    table = next((one for one, layout in _LAYOUTS.items() if [c[0] for c in layout.columns] == names), None)
    if table is None:
        raise BadInput(f"{path} is no archive of the hub: it has the columns {', '.join(names)[:200]}.", field="file")
    at = "measured_at" if table == "reading" else "received_at"
    with _duckdb() as duck:
        months = duck.execute(f"SELECT DISTINCT date_trunc('month', {at})::DATE FROM read_parquet(?)", [str(path)])  # noqa: S608
        wanted: list[date] = [row[0] for row in months.fetchall()]
        total = duck.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    with database.raw() as connection:
        connection.execute("SET LOCAL statement_timeout = 0")
        partitions.ensure(connection, table, wanted)  # type: ignore[arg-type]
        connection.execute(
            "DELETE FROM archived_month WHERE table_name = %s AND month = ANY(%s) AND dropped_at IS NOT NULL",
            [table, wanted],
        )
        rows = total[0] if total else 0
        return Restored(table, rows, _read_back(connection, table, path, rows, progress), sorted(wanted))


def _read_back(connection: Connection, table: str, path: Path, total: int, progress: Progress | None) -> int:
    names = [name for name, _, _ in _LAYOUTS[table].columns if name not in _ONLY_IN_FILES]
    connection.execute(f"CREATE TEMP TABLE restored ON COMMIT DROP AS SELECT * FROM {table} WITH NO DATA")  # noqa: S608
    if table == "reading":
        connection.execute("ALTER TABLE restored ALTER COLUMN flags TYPE text")
        connection.execute("ALTER TABLE restored ADD serial text, ADD register text")
    named = [*names, "serial", "register"] if table == "reading" else names
    with _duckdb() as duck, connection.cursor() as cursor:
        # instants as text: DuckDB hands them over by way of a library that the hub has no other use for
        shown = ", ".join(f"{name}::VARCHAR" if name in _INSTANTS else _EXACT.get(name, name) for name in named)
        duck.execute(f"SELECT {shown} FROM read_parquet(?)", [str(path)])  # noqa: S608
        with cursor.copy(f"COPY restored ({', '.join(named)}) FROM STDIN") as copy:
            done = 0
            while rows := duck.fetchmany(10_000):
                for row in rows:
                    copy.write_row(row)
                done += len(rows)
                if progress:
                    progress(done, total)
        if table == "reading":
            _find_meters(connection)
        shown = ", ".join("string_to_array(flags, E'\\x1f')" if name == "flags" else name for name in names)
        return cursor.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {shown} FROM restored ON CONFLICT DO NOTHING"  # noqa: S608
        ).rowcount


def _find_meters(connection: Connection) -> None:
    """Give restored readings the ids that their meters have here. Raises BadInput for meters there are none of."""
    missing = connection.execute(
        "SELECT DISTINCT serial, register FROM restored r WHERE NOT EXISTS (SELECT FROM meter m"
        " WHERE m.serial = r.serial AND m.register = r.register) ORDER BY 1, 2"
    ).fetchall()
    if missing:
        shown = ", ".join(f"{serial} ({register})" for serial, register in missing[:5])
        raise BadInput(
            f"The file has readings of {len(missing)} registers that are not known: {shown}.",
            field="file",
            remedy="Import their meters first.",
        )
    connection.execute(
        "UPDATE restored r SET meter_id = m.id FROM meter m WHERE m.serial = r.serial AND m.register = r.register"
        " AND m.id <> r.meter_id"
    )
