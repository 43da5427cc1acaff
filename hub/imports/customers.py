"""Imports of accounts and of the nightly ageing. Writes accounts, occupancies and account facts, and through
`hub.work.shutoffs` the orders that follow from them.

A file is one more word of billing: it never undoes a newer word of the same fact (see `hub.accounts`), and a list of
accounts places holds but lifts none, since a file may be older than the last telephone call.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.imports import staging
from hub.imports.columns import Column, day, instant, key, money, words
from hub.imports.columns import text as free_text
from hub.imports.importer import Importer, Load, Stored
from hub.imports.rows import Fault, Row
from hub.work import shutoffs

CONTACT = ("name", "phone", "email", "language")
# Only a newer word of the same fact supersedes one, and of two equally old debts the lower stands: the rules of
# `hub.accounts.record_fact` and `record_debt`, for many accounts at once.
KEEP_NEWER = """
    ON CONFLICT (account, fact) DO UPDATE
    SET value = excluded.value, seq = NULL, at = excluded.at, event_id = NULL, recorded_at = clock_timestamp()
    WHERE excluded.at > f.at OR (f.fact = 'debt' AND excluded.at = f.at AND f.seq IS NULL
        AND (excluded.value->>'past_due')::numeric < (f.value->>'past_due')::numeric)
"""


def _lock_accounts(session: Session) -> None:
    """Take the locks of all staged accounts, in the order in which everybody takes them."""
    session.execute(
        text(
            "SELECT number FROM account WHERE number IN (SELECT account FROM import_stage) ORDER BY number"
            " FOR NO KEY UPDATE"
        )
    )


def _review_work(session: Session, actor: str) -> list[str]:
    """Bring shutoffs and reconnects in line with the new facts, for the accounts that can have any."""
    numbers = session.scalars(
        text(
            "SELECT DISTINCT s.account FROM import_stage s WHERE EXISTS (SELECT FROM account_fact f"
            " WHERE f.account = s.account AND f.fact = 'delinquency') OR EXISTS (SELECT FROM work_order o"
            " WHERE o.account = s.account AND o.type IN ('shutoff', 'reconnect')) ORDER BY s.account"
        )
    ).all()
    touched = sum(len(shutoffs.review(session, number, by=actor)) for number in numbers)
    return [f"{touched} work orders follow from it"] if touched else []


# ---------------------------------------------------------------------------------------------------------- accounts


def _check_accounts(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    names = ACCOUNTS.names
    faults = []
    keys = []
    for row, values in zip(rows, parsed, strict=True):
        cell = dict(zip(names, values, strict=True))
        keys.append((cell["account"], cell["service_point"], cell["since"]))
        if cell["until"] is not None and cell["until"] < cell["since"]:
            faults.append(Fault(row.number, "until", str(cell["until"]), "is before since", "Correct one of the two."))
    return faults + staging.doubled(rows, keys, "account / service_point / since")


def _check_stored_accounts(session: Session) -> list[Fault]:
    return staging.unknown(session, "service_point", "service_point", "id", "Import service-points first.")


def _store_accounts(session: Session, load: Load) -> Stored:
    kept = [name for name in CONTACT if name in load.present]
    columns = "".join(f", {name}" for name in kept)
    change = (
        f"DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in kept)} WHERE ({', '.join(f'a.{n}' for n in kept)})"
        f" IS DISTINCT FROM ({', '.join(f'excluded.{n}' for n in kept)})"
        if kept
        else "DO NOTHING"
    )
    session.execute(
        text(
            f"INSERT INTO account AS a (number{columns}) SELECT DISTINCT ON (account) account{columns}"  # noqa: S608
            f" FROM import_stage ORDER BY account, row_number DESC ON CONFLICT (number) {change}"
        )
    )
    _lock_accounts(session)
    zone = ", billing_zone = excluded.billing_zone" if "billing_zone" in load.present else ""
    inserted, updated = staging.merge(
        session,
        f"""
        INSERT INTO occupancy AS o (id, account, service_point, since, until, billing_zone)
        SELECT gen_random_uuid(), account, service_point, since, until, billing_zone FROM import_stage
        ORDER BY account, service_point, since
        ON CONFLICT (account, service_point, since) DO UPDATE SET until = coalesce(excluded.until, o.until) {zone}
        WHERE (o.until, o.billing_zone)
            IS DISTINCT FROM (coalesce(excluded.until, o.until), coalesce(excluded.billing_zone, o.billing_zone))
        RETURNING (o.xmax = 0) AS inserted
        """,  # noqa: S608  (our own text)
    )
    session.execute(
        text(
            "UPDATE account a SET status = n.status FROM (SELECT account, CASE WHEN bool_and(until IS NOT NULL)"
            " THEN 'closed' ELSE 'active' END AS status FROM occupancy"
            " WHERE account IN (SELECT account FROM import_stage) GROUP BY account) n"
            " WHERE n.account = a.number AND a.status <> n.status"
        )
    )
    session.execute(
        text(
            "INSERT INTO account_fact AS f (account, fact, value, at)"  # noqa: S608  (our own text)
            " SELECT DISTINCT s.account, 'hold:' || h, jsonb_build_object('placed', true, 'until', NULL),"
            " business_now()"
            " FROM import_stage s, unnest(s.holds) h WHERE NOT EXISTS (SELECT FROM account_fact p"
            " WHERE p.account = s.account AND p.fact = 'hold:' || h AND (p.value->>'placed')::boolean)"
            f" ORDER BY 1, 2 {KEEP_NEWER}"
        )
    )
    return Stored(inserted, updated, _review_work(session, load.actor))


ACCOUNTS = Importer(
    kind="accounts",
    columns=(
        Column("account", "text", key, required=True),
        Column("service_point", "text", key, required=True),
        Column("since", "date", day, required=True),
        Column("until", "date", day),
        Column("name", "text", free_text),
        Column("phone", "text", free_text),
        Column("email", "text", free_text),
        Column("language", "text", key),
        Column("holds", "text[]", words),
        Column("billing_zone", "text", key),
    ),
    check=_check_accounts,
    check_stored=_check_stored_accounts,
    store=_store_accounts,
)


# ---------------------------------------------------------------------------------------------------------- balances


def _check_balances(rows: Sequence[Row], parsed: Sequence[Sequence[Any]]) -> list[Fault]:
    account = BALANCES.at("account")
    return staging.doubled(rows, (values[account] for values in parsed), "account")


def _check_stored_balances(session: Session) -> list[Fault]:
    """A balance of the future would outlive every payment until then."""
    faults = staging.unknown(session, "account", "account", "number", "Import accounts first.")
    ahead = session.execute(
        text("SELECT row_number, as_of FROM import_stage WHERE as_of > business_now() + interval '1 day' ORDER BY 1")
    )
    remedy = "Correct the date: it says when the balance was true."
    return faults + [Fault(number, "as_of", at.isoformat(), "lies in the future", remedy) for number, at in ahead]


def _store_balances(session: Session, load: Load) -> Stored:
    _lock_accounts(session)
    facts = [
        "SELECT account, 'debt', jsonb_build_object('past_due', past_due::text, 'currency', NULL), as_of"
        " FROM import_stage",
        "SELECT account, 'due', jsonb_build_object('due_since', due_since::text), as_of FROM import_stage"
        " WHERE due_since IS NOT NULL",
        "SELECT account, fact, jsonb_build_object('why', 'nothing past due'), as_of FROM import_stage,"
        " unnest(ARRAY['settled', 'restored']) fact WHERE past_due <= 0",
    ]
    if "holds" in load.present:
        facts += [
            "SELECT account, 'hold:' || h, jsonb_build_object('placed', true, 'until', NULL), as_of"
            " FROM import_stage, unnest(holds) h",
            "SELECT s.account, p.fact, jsonb_build_object('placed', false, 'until', NULL), s.as_of FROM import_stage s"
            " JOIN account_fact p ON p.account = s.account AND p.fact LIKE 'hold:%' AND (p.value->>'placed')::boolean"
            " WHERE p.fact <> ALL (SELECT 'hold:' || h FROM unnest(coalesce(s.holds, '{}')) h)",
        ]
    written = [
        staging.merge(
            session,
            f"INSERT INTO account_fact AS f (account, fact, value, at) {source} ORDER BY 1, 2 {KEEP_NEWER}"
            " RETURNING (f.xmax = 0) AS inserted",
        )
        for source in facts
    ]
    stored = Stored(*written[0])
    older = len(load.rows) - stored.inserted - stored.updated
    if older:
        stored.notes.append(f"{older} accounts already had a balance as new or newer")
    stored.notes += _review_work(session, load.actor)
    return stored


BALANCES = Importer(
    kind="balances",
    columns=(
        Column("account", "text", key, required=True),
        Column("past_due", "numeric", money, required=True),
        Column("as_of", "timestamptz", instant, required=True),
        Column("due_since", "date", day),
        Column("holds", "text[]", words),
    ),
    check=_check_balances,
    check_stored=_check_stored_balances,
    store=_store_balances,
)
