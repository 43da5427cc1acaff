"""The leakage report of one month as a PDF: balances, what runs, what was seen, what was saved, where to listen next.

Writes the revisions of the month's balances in the caller's transaction.
"""

from datetime import date, datetime, timedelta
from typing import Any

from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.errors import BadInput
from hub.leakage import balances, ledger, planning, printed
from hub.leakage.printed import figure, table, text
from hub.models import LeakEvent
from hub.settings import Settings

KINDS = {"burst": "burst", "incipient": "growing leak", "over_threshold": "zone over threshold"}


def month_of(value: str) -> tuple[date, date]:
    """(first day, day after the last) of a month written 2026-01. Raises BadInput."""
    try:
        if len(value) != 7:
            raise ValueError(value)
        first = date.fromisoformat(f"{value}-01")
        if not 2000 <= first.year < 2200:
            raise ValueError(value)
    except ValueError:
        raise BadInput("That is no month.", field="month", value=value[:20], remedy="Write it as 2026-01.") from None
    return first, (first + timedelta(days=32)).replace(day=1)


def report(session: Session, month: str, settings: Settings, *, actor: str) -> bytes:
    """The report of a month, e.g. 2026-01, as the bytes of a PDF. Raises BadInput."""
    first, last = month_of(month)
    found = balances.report(
        session, first, last, zone=settings.zone, actor=actor, assumptions=balances.assumed(settings)
    )
    story: list[Flowable] = [text("Water balance", "head"), Spacer(1, 2 * mm), *printed.balance_table(found)]
    story += _part(
        "Where to dig", _dig(planning.dig_list(session, settings)), "Nothing runs that the flows would show."
    )
    begins, ends = (datetime.combine(day, datetime.min.time(), tzinfo=settings.zone) for day in (first, last))
    seen = session.scalars(
        select(LeakEvent)
        .where(LeakEvent.onset_at < ends, (LeakEvent.closed_at.is_(None)) | (LeakEvent.closed_at >= begins))
        .order_by(LeakEvent.onset_at)
    ).all()
    story += _part("Leaks that ran this month", _seen(list(seen), settings), "No leak was seen in any zone's flow.")
    saved = [one for one in ledger.entries(session) if begins <= one["stopped_at"] < ends]
    story += _part("Repairs and what they saved", _saved(saved), "No repair of this month has been proven yet.")
    story += _part("Surveys", _plan(planning.survey_plan(session, settings)), "There is no zone yet.")
    story += _part(
        "Mains by what they lost", _mains(planning.mains_by_loss(session, limit=20)), "No main was repaired."
    )
    return printed.document(f"Leakage report {month}", settings.utility_name, story)


def _part(title: str, rows: list[list[Any]], empty: str) -> list[Flowable]:
    body = table(rows) if len(rows) > 1 else text(empty, "small")
    return [Spacer(1, 4 * mm), text(title, "head"), Spacer(1, 2 * mm), body]


def _number(value: float | None, digits: int = 1) -> Flowable:
    return text(figure(value, digits), "number")


def _dig(found: list[dict[str, Any]]) -> list[list[Any]]:
    rows: list[list[Any]] = [["#", "Where", "What", "Since", "m³/h", "m³ a day", "Worth a day", "Work"]]
    for one in found:
        rows.append(
            [
                one["rank"], f"{one['street'] or 'somewhere'}, {one['zone_name']}", KINDS[one["kind"]],
                f"{one['onset_at']:%Y-%m-%d}", _number(one["size_m3h"]), _number(one["m3_per_day"], 0),
                _number(one["value_per_day"], 2), one["work_order"] or "–",
            ]
        )  # fmt: skip
    return rows


def _seen(found: list[LeakEvent], settings: Settings) -> list[list[Any]]:
    rows: list[list[Any]] = [["Zone", "What", "Began", "Seen", "m³/h", "95 % limits", "State", "Over"]]
    for one in found:
        local = [at.astimezone(settings.zone) for at in (one.onset_at, one.detected_at)]
        rows.append(
            [
                one.zone, KINDS[one.kind], f"{local[0]:%Y-%m-%d}", f"{local[1]:%Y-%m-%d %H:%M}",
                _number(float(one.size_m3h)), text(f"{one.low_m3h:.1f} … {one.high_m3h:.1f}", "number"), one.status,
                f"{one.closed_at.astimezone(settings.zone):%Y-%m-%d}" if one.closed_at else "–",
            ]
        )  # fmt: skip
    return rows


def _saved(found: list[dict[str, Any]]) -> list[list[Any]]:
    rows: list[list[Any]] = [
        [
            "Repair",
            "Zone",
            "Stopped",
            "Predicted m³/h",
            "Measured m³/h",
            "Fell by m³/h",
            "Lost m³",
            "Saved a day",
            "Verdict",
        ]
    ]
    for one in found:
        rows.append(
            [
                one["number"], one["zone"], f"{one['stopped_at']:%Y-%m-%d}", _number(one["predicted_m3h"]),
                _number(one["found_m3h"]), _number(one["drop_m3h"]), _number(one["lost_m3"], 0),
                text(
                    figure(float(one["saved_per_day"]), 2) if one["saved_per_day"] is not None
                    else f"{figure(one['saved_m3_per_day'])} m³",
                    "number",
                ),
                one["verdict"].replace("_", " "),
            ]
        )  # fmt: skip
    return rows


def _plan(plan: dict[str, Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["Zone", "Mains km", "Months between surveys", "Budget a year", "Last survey", "Due"]]
    for one in plan["zones"]:
        rows.append(
            [
                one["name"], _number(one["mains_km"]), _number(one["months_between_surveys"]),
                _number(one["budget_per_year"], 0), f"{one['surveyed_at']:%Y-%m-%d}" if one["surveyed_at"] else "–",
                f"{one['due_at']:%Y-%m-%d}" if one["due_at"] else "–",
            ]
        )  # fmt: skip
    return rows


def _mains(found: list[dict[str, Any]]) -> list[list[Any]]:
    rows: list[list[Any]] = [["Main", "Material", "mm", "Laid", "km", "Repairs", "Lost m³", "a km and year"]]
    for one in found:
        rows.append(
            [
                one["main"], one["material"] or "–", _number(one["diameter_mm"], 0), str(one["installed_on"] or "–"),
                _number(one["km"], 2), one["breaks"], _number(one["lost_m3"], 0), _number(one["breaks_per_km_year"], 2),
            ]
        )  # fmt: skip
    return rows
