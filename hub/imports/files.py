"""From a file to rows: recognises the format by its first bytes, and reads CSV as people export it.

Reads the named file only; writes nothing. Raises `ImportRefused`, naming row, column, value and remedy.
"""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from gis.importer import geometry_problem, read_features
from hub.errors import BadInput
from hub.imports.rows import Fault, ImportRefused, Row, Table, shown

# A polygon as WKT is one long field; Python's own limit of 128 KiB is too small for a district's border.
MAX_FIELD_CHARS = 16 << 20
DELIMITERS = (",", ";", "\t", "|")


def read_table(kind: str, path: Path, *, names: tuple[str, ...], has_geometry: bool) -> Table:
    """The rows of the file at `path`, their columns under the names of `names` (any spelling of case, `-` or space).

    Faults of single rows (fields, geometry) are in the table; raises ImportRefused for a file that is none.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ImportRefused(kind, [_file_fault(f"cannot be opened: {error.strerror}", "Check the path.")]) from error
    if not head.strip(b"\xef\xbb\xbf \t\r\n"):
        raise ImportRefused(kind, [_file_fault("is empty", "Export it again.")])
    if head.startswith((b"SQLite format 3\x00", b"PK")) or head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return _read_spatial(kind, path, names, has_geometry)
    return _read_csv(kind, path, names, has_geometry)


def canonical(name: str) -> str:
    """A column's name as the importers know it."""
    return name.strip().strip("\ufeff").lower().replace("-", "_").replace(" ", "_")


def _file_fault(problem: str, remedy: str, column: str | None = None, value: str | None = None) -> Fault:
    return Fault(None, column, value, problem, remedy)


def _read_spatial(kind: str, path: Path, names: tuple[str, ...], has_geometry: bool) -> Table:
    try:
        features = read_features(path, layer=kind)
    except BadInput as error:
        raise ImportRefused(
            kind, [_file_fault(error.detail.rstrip("."), str(error.extra.get("remedy", "")))]
        ) from error
    renamed = {column: _full_name(column, names, features.short_names) for column in features.columns}
    faults = []
    rows = []
    for index, (values, geometry) in enumerate(zip(features.values, features.geometries, strict=True)):
        if has_geometry:
            problem = features.problems.get(index) or geometry_problem(geometry)
            if problem:
                faults.append(Fault(index + 1, "geometry", None, problem, "Correct it in the map program."))
        rows.append(Row(index + 1, {renamed[name]: value for name, value in values.items()}, geometry))
    columns = list(dict.fromkeys(renamed.values()))
    return Table(rows, columns, has_geometry, notes=features.notes, faults=faults)


def _full_name(column: str, names: tuple[str, ...], short: bool) -> str:
    name = canonical(column)
    if short and name not in names and len(name) == 10:
        longer = [known for known in names if known[:10] == name]
        if len(longer) == 1:
            return longer[0]
    return name


def _decode(kind: str, raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ImportRefused(kind, [_file_fault("is broken UTF-16", "Export it as UTF-8.")]) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        bad = shown(raw[max(0, error.start - 10) : error.start + 10].decode("latin-1"))
        fault = Fault(
            line, None, bad, f"byte 0x{raw[error.start]:02x} is not UTF-8", "Export the file encoded as UTF-8."
        )
        raise ImportRefused(kind, [fault]) from error
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise ImportRefused(kind, [Fault(line, None, None, "holds a NUL byte", "Export the file again as plain text.")])
    return text


def _read_csv(kind: str, path: Path, names: tuple[str, ...], has_geometry: bool) -> Table:
    text = _decode(kind, path.read_bytes())
    first_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    csv.field_size_limit(MAX_FIELD_CHARS)
    # StringIO with newline="" leaves line ends inside quoted fields alone, as the csv module asks.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [canonical(name) for name in next((line for line in reader if any(line)), [])]
        _check_header(kind, header, names, has_geometry)
        rows, faults = _csv_rows(reader, header)
    except csv.Error as error:
        fault = Fault(reader.line_num, None, None, f"is not CSV: {error}", "Check the quotes in and before this row.")
        raise ImportRefused(kind, [fault]) from error
    if has_geometry:
        faults += _csv_geometries(rows, header, delimiter)
    return Table(rows, header, has_geometry, decimal_comma=delimiter == ";", faults=faults)


def _check_header(kind: str, header: list[str], names: tuple[str, ...], has_geometry: bool) -> None:
    known = set(names) | ({"wkt", "lon", "lat"} if has_geometry else set())
    expected = f"The first line names the columns; known here: {', '.join(sorted(known))}."
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled:
        raise ImportRefused(kind, [Fault(None, ", ".join(doubled), None, "names a column twice", "Keep one of them.")])
    if not known & set(header):
        found = shown(", ".join(header))
        raise ImportRefused(kind, [Fault(1, None, found, "the header has none of the known columns", expected)])


def _csv_rows(reader: Any, header: list[str]) -> tuple[list[Row], list[Fault]]:
    rows: list[Row] = []
    faults: list[Fault] = []
    width = len(header)
    before = reader.line_num
    for fields in reader:
        number, before = before + 1, reader.line_num
        if not any(fields):
            continue
        if len(fields) != width:
            problem = f"has {len(fields)} fields where the header has {width}"
            faults.append(Fault(number, None, None, problem, "Quote fields that hold the delimiter."))
            continue
        rows.append(Row(number, dict(zip(header, fields, strict=True))))
    return rows, faults


def _csv_geometries(rows: list[Row], header: list[str], delimiter: str) -> list[Fault]:
    if "wkt" not in header and not {"lon", "lat"} <= set(header):
        remedy = "Give points as lon and lat in degrees, anything else as wkt (EPSG:4326)."
        return [_file_fault("has no geometry columns", remedy)]
    faults = []
    for row in rows:
        geometry, fault = _wkt(row) if str(row.values.get("wkt") or "").strip() else _point(row, delimiter)
        problem = geometry_problem(geometry) if fault is None else None
        if problem:
            column = "wkt" if row.values.get("wkt") else "lon, lat"
            value = shown(row.values.get("wkt") or f"{row.values.get('lon')}, {row.values.get('lat')}")
            fault = Fault(row.number, column, value, problem, "Correct it in the map program.")
        if fault:
            faults.append(fault)
        row.geometry = geometry
    return faults


def _wkt(row: Row) -> tuple[BaseGeometry | None, Fault | None]:
    text = row.values["wkt"].strip()
    try:
        # a coordinate too large for a double becomes infinite, and is refused as such
        with np.errstate(over="ignore"):
            return shapely.force_2d(shapely.from_wkt(text)), None
    except GEOSException as error:
        reason = str(error).split("\n")[0]
        return None, Fault(row.number, "wkt", shown(text), f"is not well-known text: {reason}", "Export it again.")


def _point(row: Row, delimiter: str) -> tuple[BaseGeometry | None, Fault | None]:
    found = []
    for column in ("lon", "lat"):
        text = str(row.values.get(column) or "").strip()
        try:
            found.append(float(text.replace(",", ".") if delimiter == ";" else text))
        except ValueError:
            problem = "is missing" if not text else "is not a number"
            return None, Fault(row.number, column, shown(text), problem, "Write degrees, e.g. 33.0123.")
    if not all(abs(value) < float("inf") for value in found):
        return None, Fault(row.number, "lon, lat", shown(found), "is not finite", "Write degrees, e.g. 33.0123.")
    return shapely.Point(found), None
