"""What the town's billing system knows on the first morning, and what will happen to it in the coming weeks.

Pure and deterministic. The plan holds every event that billing will tell the hub, each with its business time; what
visitors and crews do comes on top of it.
"""

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from hub.demo import calendar, names
from hub.demo.calendar import hours_since_start, utc_text
from hub.demo.consumption import Meters
from hub.demo.files import bill_number
from hub.demo.hydraulics import SEED, Water
from hub.demo.town import Customer, Town

CURRENCY = "EUR"
_DEBTORS = 260
_PER_LIST = 18
_HOLDS = {3: "medical", 11: "payment_plan", 29: "dispute"}  # every 40th debtor, by remainder
_LATE_BILLS = 40
_AT_OPENING = 6
_THROUGH_THE_DAY = (8.2, 8.9, 9.6, 10.3, 11.1, 11.9, 12.8, 13.6, 14.4)


def make_book(town: Town, water: Water) -> dict[str, Any]:
    """`{currency, accounts, debts, plan, late_bills}`, ready to be written as JSON."""
    random = np.random.default_rng(SEED + 20)
    meters = Meters(town, water)
    homes = [c for c in town.customers if not c.empty and c.demand_class == "Residential"]
    chosen = [homes[int(i)] for i in random.choice(len(homes), size=min(_DEBTORS, len(homes) // 3), replace=False)]
    debts = _debts(chosen, random)
    owing = set(debts)
    others = [c for c in homes if c.account not in owing]
    late = others[:: max(1, len(others) // _LATE_BILLS)][:_LATE_BILLS]
    plan = [
        *_cut_lists(debts),
        *_payments(debts, random),
        *_moves(town, others, random),
        *_doubted_readings(others, meters, random),
        *_late_bills(late, meters),
    ]
    return {
        "currency": CURRENCY,
        "accounts": [_account(c) for c in town.customers if not c.empty],
        "debts": debts,
        "plan": sorted(plan, key=lambda event: (event["at"], event["data"].get("account", ""))),
        "late_bills": [c.account for c in late],
    }


def _account(c: Customer) -> dict[str, Any]:
    return {
        "account": c.account,
        "service_point": c.service_point,
        "meter": c.serial,
        "name": c.name,
        "phone": c.phone,
        "email": c.email,
        "address": c.address,
    }


def _debts(chosen: list[Customer], random: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Who owes what, since when, and how they were told. The first lists are made of long-standing debts."""
    debts: dict[str, dict[str, Any]] = {}
    for position, c in enumerate(chosen):
        days = 75 + position % 45
        since = calendar.STORY.date() - timedelta(days=days)
        told = [
            {"channel": "mail", "sent_at": utc_text(calendar.STORY - timedelta(days=28, hours=position % 5))},
            {"channel": "sms", "sent_at": utc_text(calendar.STORY - timedelta(days=12, hours=position % 7))},
            {"channel": "phone", "sent_at": utc_text(calendar.STORY - timedelta(days=5, hours=position % 6))},
        ]
        hold = _HOLDS.get(position % 40)
        debts[c.account] = {
            "service_point": c.service_point,
            "past_due": f"{float(random.uniform(60, 420)):.2f}",
            "due_since": since.isoformat(),
            "notices": told,
            "holds": [hold] if hold else [],
        }
    return debts


def working_days() -> list[datetime]:
    """Midnights of the days on which the town's offices are open, from the story's first."""
    first = calendar.STORY.replace(hour=0, minute=0)
    days = [first + timedelta(days=number) for number in range((calendar.END - first).days)]
    return [day for day in days if day.weekday() < 5]


def _moments(count: int) -> list[datetime]:
    """When `count` events of a kind fall due: some at opening on the first day, the rest spread over working hours."""
    days = working_days()
    found = [days[0] + timedelta(hours=7, minutes=31 + 2 * number) for number in range(_AT_OPENING)]
    for day in days:
        found += [day + timedelta(hours=hour) for hour in _THROUGH_THE_DAY]
    return found[:count]


def _event(at: datetime, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"at": utc_text(at), "type": kind, "data": data}


def _cut_lists(debts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One list of its own each working morning, until the debtors run out."""
    events, waiting = [], list(debts)
    for day in working_days():
        listed, waiting = waiting[:_PER_LIST], waiting[_PER_LIST:]
        at = day + timedelta(hours=7, minutes=32)
        for account in listed:
            debt = debts[account]
            data = {
                "account": account,
                "service_point": debt["service_point"],
                "amount_due": debt["past_due"],
                "currency": CURRENCY,
                "due_since": debt["due_since"],
                "stage": "cut",
                "cut_list": f"cut-{day:%Y-%m-%d}",
                "notices": debt["notices"],
            }
            events.append(_event(at, "account.delinquent", data))
    return events


def _payments(debts: dict[str, dict[str, Any]], random: np.random.Generator) -> list[dict[str, Any]]:
    """Some pay before the truck comes, some when they see it, some once the water is off; the rest wait."""
    events = []
    days = working_days()
    for position, account in enumerate(debts):
        day = days[min(position // _PER_LIST, len(days) - 1)]
        kind = position % 6
        if kind == 1:
            at = day + timedelta(hours=float(random.uniform(8.3, 10.5)))
        elif kind == 3:
            at = day + timedelta(hours=float(random.uniform(10.5, 14.0)))
        elif kind == 4:
            at = day + timedelta(hours=float(random.uniform(13.5, 17.5)))
        else:
            continue
        events.append(_event(at, "payment", {"account": account}))
    return events


def _moves(town: Town, others: list[Customer], random: np.random.Generator) -> list[dict[str, Any]]:
    """People move into the empty homes and out of others: a few at opening time, then through the week."""
    events = []
    empty = [c for c in town.customers if c.empty]
    leaving = [others[int(i)] for i in random.choice(len(others), size=min(70, len(others)), replace=False)]
    for number, (c, at) in enumerate(zip(empty, _moments(3 * len(empty))[::3], strict=True)):
        name = names.person(random)
        index = len(town.customers) + number
        data = {
            "account": f"{790000 + number * 7}",
            "service_point": c.service_point,
            "effective_date": at.date().isoformat(),
            "customer": {
                "name": name,
                "phone": names.phone(index),
                "email": names.email(name, index),
                "language": "en",
            },
            "read_required": True,
        }
        events.append(_event(at, "account.opened", data))
    for c, at in zip(leaving, _moments(2 * len(leaving))[1::2], strict=True):
        data = {
            "account": c.account,
            "service_point": c.service_point,
            "effective_date": at.date().isoformat(),
            "read_required": True,
        }
        events.append(_event(at, "account.closed", data))
    return events


def _doubted_readings(others: list[Customer], meters: Meters, random: np.random.Generator) -> list[dict[str, Any]]:
    """Readings that billing cannot believe, and some that customers dispute."""
    events = []
    chosen = [others[int(i)] for i in random.choice(len(others), size=min(180, len(others)), replace=False)]
    for number, (c, at) in enumerate(zip(chosen, _moments(len(chosen)), strict=True)):
        at += timedelta(minutes=3)
        seen = at.replace(hour=9, minute=0) - timedelta(days=1)
        shown = meters.register_of(c, hours_since_start(seen))
        data = {
            "account": c.account,
            "service_point": c.service_point,
            "meter": c.serial,
            "reading": {
                "value": f"{shown + (90 if number % 3 else 0):.3f}",
                "unit": "m3",
                "read_at": utc_text(seen),
            },
            "reason": "four times the usual use" if number % 3 else "the customer doubts it",
        }
        events.append(_event(at, "reading.rejected" if number % 3 else "reading.disputed", data))
    return events


def _late_bills(late: list[Customer], meters: Meters) -> list[dict[str, Any]]:
    """The last route of February, billed on Monday: its volumes reach the balance as messages."""
    start, end = calendar.MONTHS[1], calendar.MONTHS[2]
    volumes = meters.registered(hours_since_start(start), hours_since_start(end))
    return [
        _event(
            calendar.STORY + timedelta(minutes=6 + number),
            "consumption.billed",
            {
                "account": c.account,
                "service_point": c.service_point,
                "meter": c.serial,
                "from": start.date().isoformat(),
                "to": end.date().isoformat(),
                "volume": f"{volumes[c.index]:.3f}",
                "unit": "m3",
                "estimated": False,
                "bill": bill_number(c, 1),
            },
        )
        for number, c in enumerate(late)
    ]
