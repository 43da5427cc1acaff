"""Water balances as reports: computed from the stored inputs, and kept as revisions.

Writes `balance_revision` in the caller's transaction. A revision is never changed: when the inputs of a zone and period
are other than those of its last revision, the computation becomes the next one.
"""

from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from gis.defaults import defaults
from gis.losses import zone_losses
from gis.zone_loss import Assumptions, ZoneLoss
from hub.errors import BadInput, NotFound
from hub.leakage.documents import document
from hub.metering import units
from hub.models import BalanceRevision, Zone
from hub.settings import Settings

# A balance of more than this many days is a slip of the pen.
MAX_DAYS = 3_700


def report(
    session: Session,
    begins: date,
    ends: date,
    *,
    zone: ZoneInfo,
    actor: str,
    codes: Iterable[str] | None = None,
    assumptions: Assumptions | None = None,
) -> list[dict[str, Any]]:
    """The balance of each zone over local days [begins, ends); default: all, then the whole system (`zone` null).

    Volumes are m³ as JSON numbers, under the names of the water balance; see docs/water-loss.md.
    Raises BadInput for a period that is none, NotFound for an unknown zone.
    """
    check_period(begins, ends)
    wanted = None if codes is None else list(codes)
    for code in wanted or ():
        check_zone(session, code)
    start, end = window(begins, ends, zone)
    losses = zone_losses(
        session, start, end, time_zone=zone, units=units.FACTORS_M3, zones=wanted, assumptions=assumptions
    )
    return [_kept(session, loss, begins, ends, actor) for loss in losses]


def codes(session: Session) -> list[str]:
    """The codes of all zones, in order."""
    return list(session.scalars(select(Zone.code).order_by(Zone.code)))


def check_zone(session: Session, code: str) -> None:
    """Raises NotFound for a zone nobody has imported."""
    if session.scalar(select(Zone.code).where(Zone.code == code)) is None:
        raise NotFound(f"There is no zone {code[:80]!r}.", remedy="GET /api/v1/zones lists them.")


def window(begins: date, ends: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants between which local days [begins, ends) lie."""
    start, end = (datetime.combine(day, time(), tzinfo=zone) for day in (begins, ends))
    return start, end


def check_period(begins: date, ends: date) -> None:
    """Raises BadInput unless [begins, ends) is a period a balance can be made of."""
    if ends <= begins:
        raise BadInput(
            f"The period {begins} to {ends} has no day in it.",
            field="to",
            value=str(ends),
            remedy="`to` is the day after the last one: January is from 2026-01-01 to 2026-02-01.",
        )
    if not date(1900, 1, 1) <= begins or ends > date(2200, 1, 1) or (ends - begins).days > MAX_DAYS:
        raise BadInput("The period is longer than ten years, or not of our time.", field="from", value=str(begins))


def assumed(settings: Settings, defaults_of: str | None = None) -> Assumptions:
    """What a utility's settings say of what no measurement says. Raises BadInput for defaults there are none of."""
    chosen = defaults(defaults_of or settings.balance_defaults)

    def number(value: Decimal | None) -> float | None:
        return None if value is None else float(value)

    return Assumptions(
        defaults=chosen.version,
        meter_under_registration=float(settings.meter_under_registration),
        unmetered_l_per_conn_day=float(settings.unmetered_l_per_conn_day),
        private_pipe_m=float(settings.private_pipe_m),
        retail_price_m3=number(settings.retail_price_m3),
        production_cost_m3=number(settings.production_cost_m3),
    )


def _kept(session: Session, loss: ZoneLoss, begins: date, ends: date, actor: str) -> dict[str, Any]:
    """The document with its revision: the last one when nothing changed, else a new one."""
    inputs, results = _storable(loss.inputs()), _storable(document(loss, begins, ends))
    where = (
        BalanceRevision.zone.is_(None) if loss.zone is None else BalanceRevision.zone == loss.zone,
        BalanceRevision.from_day == begins,
        BalanceRevision.to_day == ends,
    )
    newest = (
        select(BalanceRevision.revision, BalanceRevision.inputs, BalanceRevision.results, BalanceRevision.computed_at)
        .where(*where)
        .order_by(BalanceRevision.revision.desc())
        .limit(1)
    )
    last = session.execute(newest).one_or_none()
    if last is None or not _same(last, inputs, results):
        # two who compute the same period at once: the second sees the first's revision
        session.execute(
            select(func.pg_advisory_xact_lock(func.hashtextextended(f"balance {loss.zone} {begins} {ends}", 0)))
        )
        last = session.execute(newest).one_or_none()
    if last is not None and _same(last, inputs, results):
        return {**results, "revision": last.revision, "computed_at": last.computed_at}
    revision = 1 if last is None else last.revision + 1
    computed_at = session.execute(
        insert(BalanceRevision)
        .values(
            zone=loss.zone,
            from_day=begins,
            to_day=ends,
            revision=revision,
            inputs=inputs,
            results=results,
            computed_by=actor,
        )
        .returning(BalanceRevision.computed_at)
    ).scalar_one()
    return {**results, "revision": revision, "computed_at": computed_at}


def _same(row: Any, inputs: dict[str, Any], results: dict[str, Any]) -> bool:
    return _canonical(row.inputs) == _canonical(inputs) and _canonical(row.results) == _canonical(results)


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _storable(value: Any) -> Any:
    """A JSON value that storage leaves alone: six decimals, no negative zero, whole numbers without a fraction."""
    if isinstance(value, float):
        rounded = round(value, 6)
        return int(rounded) if rounded.is_integer() else rounded
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def revisions(session: Session, code: str | None, begins: date, ends: date) -> list[dict[str, Any]]:
    """Every revision of a zone (None: the whole system) and period, newest first, with its inputs. Raises NotFound."""
    if code is not None:
        check_zone(session, code)
    rows = session.scalars(
        select(BalanceRevision)
        .where(
            BalanceRevision.zone.is_(None) if code is None else BalanceRevision.zone == code,
            BalanceRevision.from_day == begins,
            BalanceRevision.to_day == ends,
        )
        .order_by(BalanceRevision.revision.desc())
    )
    return [
        {
            "revision": row.revision,
            "computed_at": row.computed_at,
            "computed_by": row.computed_by,
            "inputs": row.inputs,
            "results": row.results,
        }
        for row in rows
    ]


def table(found: list[dict[str, Any]], first: date, last: date) -> dict[str, Any]:
    """A report of several zones: `zones` in order of their codes, and `system` when it was asked for."""
    return {
        "from": first.isoformat(),
        "to": last.isoformat(),
        "zones": [one for one in found if one["zone"] is not None],
        "system": next((one for one in found if one["zone"] is None), None),
    }
