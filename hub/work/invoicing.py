"""Charges of an order as rows: stored, reversed, and owed to billing in the same transaction.

Writes charges and outbound messages in the caller's transaction. Rows never change; `hub.work.charges`
says what they are.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, aliased

from hub.db import new_id
from hub.models import Charge, WorkOrder
from hub.work import charges, steps
from hub.work.charges import Line


def store(
    session: Session, order: WorkOrder, lines: Sequence[Line], *, at: datetime, about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Keep invoice lines and owe each to billing; `about` says whose: account, and what differs from the order."""
    rows = [
        {
            "id": new_id(),
            "order_id": order.id,
            "account": about["account"],
            "code": line.code,
            "quantity": line.quantity,
            "amount": line.amount,
            "currency": line.currency,
            "bill_to": line.bill_to,
            "reverses": None,
            "at": at,
        }
        for line in lines
    ]
    return _keep(session, order, rows, "charge.created", about)


def reverse_all(session: Session, order: WorkOrder, *, at: datetime) -> list[dict[str, Any]]:
    """Take back every charge of the order that stands, with lines of the opposite amount."""
    mirror = aliased(Charge)
    standing = session.scalars(
        select(Charge)
        .outerjoin(mirror, mirror.reverses == Charge.id)
        .where(Charge.order_id == order.id, Charge.reverses.is_(None), mirror.id.is_(None))
        .order_by(Charge.id)
    ).all()
    rows = []
    for charge in standing:
        quantity, amount = charges.reversal(charge.quantity, charge.amount)
        rows.append(
            {
                "id": new_id(),
                "order_id": order.id,
                "account": charge.account,
                "code": charge.code,
                "quantity": quantity,
                "amount": amount,
                "currency": charge.currency,
                "bill_to": charge.bill_to,
                "reverses": charge.id,
                "at": at,
            }
        )
    return _keep(session, order, rows, "charge.reversed", {})


def _keep(
    session: Session, order: WorkOrder, rows: list[dict[str, Any]], type: str, about: dict[str, Any]
) -> list[dict[str, Any]]:
    if rows:
        session.execute(insert(Charge), rows)
    for row in rows:
        told = {
            name: row[name]
            for name in ("account", "code", "quantity", "amount", "currency", "bill_to", "reverses", "at")
        }
        steps.owe(session, order, type, **{**told, **about, "charge": row["id"]})
    return rows
