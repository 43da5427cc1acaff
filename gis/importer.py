"""Reads features from GeoJSON, GeoPackage and zipped Shapefile, in any coordinate system, as longitude and latitude.

Reads the named file only; writes nothing. What the columns mean is the business of whoever imports them.
"""

import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from hub.errors import BadInput

WGS84 = "EPSG:4326"
# An archive that unpacks to more than this is refused before it is unpacked.
MAX_UNPACKED_BYTES = 2 << 30
SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
NEEDED_PARTS = (".shx", ".dbf")


@dataclass(slots=True)
class Features:
    """The features of one layer, in file order.

    `geometries[i]` is None when feature i has none or `problems` says what is wrong with it. `short_names` is true
    when the format cuts column names to ten characters. `notes` tells what was assumed.
    """

    columns: list[str]
    values: list[dict[str, Any]]
    geometries: list[BaseGeometry | None]
    problems: dict[int, str] = field(default_factory=dict)
    short_names: bool = False
    notes: list[str] = field(default_factory=list)


def read_features(path: Path, *, layer: str | None = None) -> Features:
    """All features of the file at `path`, whose format is known by its first bytes.

    `layer` is preferred when a GeoPackage or archive holds several. Raises BadInput when the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"SQLite format 3\x00"):
        return _read_ogr(str(path), _pick([str(name) for name, _ in _layers(str(path))], layer), "GeoPackage")
    if head.startswith(b"PK"):
        return _read_shapefile(path, layer)
    return _read_geojson(path)


def geometry_problem(geometry: BaseGeometry | None) -> str | None:
    """Why `geometry`, in degrees, cannot be stored; None when it can."""
    if geometry is None or geometry.is_empty:
        return "has no geometry"
    west, south, east, north = geometry.bounds
    if not all(np.isfinite((west, south, east, north))):
        return "has coordinates that are not finite numbers"
    if west < -180 or east > 180 or south < -90 or north > 90:
        swapped = west >= -90 and east <= 90 and south >= -180 and north <= 180
        hint = "; longitude and latitude look swapped" if swapped else "; is the coordinate system stated?"
        extent = f"x {west:.6g} to {east:.6g}, y {south:.6g} to {north:.6g}"
        return f"lies outside longitude ±180, latitude ±90 ({extent}){hint}"
    if not geometry.is_valid:
        return f"is not a valid geometry: {shapely.is_valid_reason(geometry)}"
    return None


def _read_geojson(path: Path) -> Features:
    raw = path.read_bytes()
    try:
        document = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise BadInput(
            f"The file is not GeoJSON: {error}.", remedy="Export it again as GeoJSON (RFC 7946), encoded in UTF-8."
        ) from error
    members = _geojson_features(document)
    geometries: list[BaseGeometry | None] = []
    problems: dict[int, str] = {}
    values: list[dict[str, Any]] = []
    for index, member in enumerate(members):
        properties = member.get("properties") if isinstance(member, dict) else None
        if not isinstance(member, dict) or not isinstance(properties, dict | None):
            raise BadInput(f"Feature {index + 1} is not a GeoJSON feature.", remedy="Export the file again as GeoJSON.")
        row = dict(properties or {})
        if "id" in member:
            row.setdefault("id", member["id"])
        values.append(row)
        geometry, problem = _geojson_geometry(member.get("geometry"))
        geometries.append(geometry)
        if problem:
            problems[index] = problem
    columns = list(dict.fromkeys(name for row in values for name in row))
    features = Features(columns, values, geometries, problems)
    _to_degrees(features, _geojson_crs(document))
    return features


def _geojson_features(document: Any) -> list[Any]:
    if isinstance(document, dict):
        if document.get("type") == "FeatureCollection" and isinstance(document.get("features"), list):
            return list(document["features"])
        if document.get("type") == "Feature":
            return [document]
    raise BadInput(
        "The file is JSON, but no GeoJSON FeatureCollection.",
        remedy='It must begin with {"type": "FeatureCollection", "features": […]}.',
    )


def _geojson_geometry(member: Any) -> tuple[BaseGeometry | None, str | None]:
    if member is None:
        return None, None
    try:
        with np.errstate(over="ignore"):
            return shapely.from_geojson(orjson.dumps(member)), None
    except (GEOSException, orjson.JSONEncodeError) as error:
        return None, f"cannot be read: {str(error).split(chr(10))[0]}"


def _geojson_crs(document: dict[str, Any]) -> CRS:
    member = document.get("crs")
    if member is None:
        return CRS(WGS84)
    properties = member.get("properties") if isinstance(member, dict) else None
    return _crs(properties.get("name") if isinstance(properties, dict) else member, "its crs member")


def _crs(name: Any, where: str) -> CRS:
    try:
        return CRS.from_user_input(name)
    except (CRSError, TypeError) as error:
        raise BadInput(
            f"The coordinate system in {where} is not known: {str(name)[:80]!r}.",
            remedy="Export the file in EPSG:4326 (longitude, latitude).",
        ) from error


def _layers(source: str) -> list[Any]:
    import pyogrio  # takes seconds to load, and few processes ever read such a file

    try:
        return list(pyogrio.list_layers(source))
    except (pyogrio.errors.DataSourceError, RuntimeError) as error:
        raise _unreadable("GeoPackage", error) from error


def _pick(names: list[str], wanted: str | None) -> str:
    """The one layer to read: the only one, or the one that bears the name of what is being imported."""
    if len(names) == 1:
        return names[0]
    same = [name for name in names if wanted and _plain(name) == _plain(wanted)]
    if len(same) == 1:
        return same[0]
    listed = ", ".join(names) or "none"
    raise BadInput(
        f"The file holds {len(names)} layers ({listed}).", remedy=f"Keep one layer, or name it {wanted or 'clearly'}."
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_").rstrip("s")


def _read_shapefile(path: Path, wanted: str | None) -> Features:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise BadInput(f"The archive is broken: {error}.", remedy="Zip the Shapefile's parts again.") from error
    if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise BadInput("The archive unpacks to more than 2 GiB.", remedy="Split the layer into several files.")
    shapes = [m.filename for m in members if m.filename.lower().endswith(".shp") and "__MACOSX" not in m.filename]
    if not shapes:
        raise BadInput(
            "The archive holds no Shapefile.", remedy=f"Zip all its parts together: {', '.join(SHAPEFILE_PARTS)}."
        )
    by_name = {Path(name).stem: name for name in shapes}
    shape = by_name[_pick(list(by_name), wanted)]
    present = {member.filename.lower() for member in members}
    missing = [part for part in NEEDED_PARTS if shape.lower().removesuffix(".shp") + part not in present]
    if missing:
        raise BadInput(
            f"The archive lacks {' and '.join(Path(shape).stem + part for part in missing)}.",
            remedy=f"Zip all its parts together: {', '.join(SHAPEFILE_PARTS)}.",
        )
    # in braces, GDAL takes an archive of any name for one
    features = _read_ogr(f"/vsizip/{{{path}}}/{shape}", None, "Shapefile")
    features.short_names = True
    return features


def _read_ogr(source: str, layer: str | None, format_name: str) -> Features:
    import pyogrio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta, _, wkb, columns = pyogrio.raw.read(source, layer=layer, force_2d=True, datetime_as_string=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, RuntimeError, ValueError) as error:
        raise _unreadable(format_name, error) from error
    names = [str(name) for name in meta["fields"]]
    plain = [_python_values(column) for column in columns]
    count = len(plain[0]) if plain else (0 if wkb is None else len(wkb))
    values = [dict(zip(names, row, strict=True)) for row in zip(*plain, strict=True)] if plain else [{}] * count
    geometries: list[BaseGeometry | None] = [None] * count
    problems: dict[int, str] = {}
    if wkb is not None:
        for index, item in enumerate(wkb):
            try:
                geometries[index] = shapely.from_wkb(item)
            except GEOSException as error:
                problems[index] = f"cannot be read: {str(error).split(chr(10))[0]}"
    features = Features(names, values, geometries, problems)
    if meta["crs"]:
        _to_degrees(features, _crs(meta["crs"], f"the {format_name}"))
    else:
        features.notes.append("no coordinate system stated: taken as longitude and latitude (EPSG:4326)")
    return features


def _unreadable(format_name: str, error: Exception) -> BadInput:
    # GDAL's sentence may carry the server's own path
    reason = str(error).split(":")[-1].strip().split("\n")[0]
    told = "" if "path" in reason or "/" in reason else f": {reason[:200]}"
    return BadInput(f"The {format_name} cannot be read{told}.", remedy="Check it in a map program and export it again.")


def _python_values(column: Any) -> list[Any]:
    if column.dtype.kind == "M":
        return [None if np.isnat(item) else str(item) for item in column]
    if column.dtype.kind == "f":
        return [None if np.isnan(item) else float(item) for item in column]
    return list(column.tolist())


def _to_degrees(features: Features, crs: CRS) -> None:
    """Flatten to two dimensions and turn every geometry into longitude and latitude, in place."""
    shapes = shapely.force_2d(np.array(features.geometries, dtype=object))
    axes = {axis.direction for axis in crs.axis_info}
    if not (crs.is_geographic and axes and crs.equals(CRS(WGS84), ignore_axis_order=True)) and not _is_crs84(crs):
        try:
            transformer = Transformer.from_crs(crs, WGS84, always_xy=True)

            def project(points: Any) -> Any:
                x, y = transformer.transform(points[:, 0], points[:, 1])
                return np.column_stack((x, y))

            shapes = shapely.transform(shapes, project)
        except (ProjError, CRSError) as error:
            raise BadInput(
                f"The coordinates of {crs.name[:80]!r} cannot be turned into longitude and latitude.",
                remedy="Export the file in EPSG:4326.",
            ) from error
    features.geometries = list(shapes)


def _is_crs84(crs: CRS) -> bool:
    return "CRS84" in crs.to_string() or crs.name == "WGS 84 (CRS84)"
