"""Billing systems: added by an administrator, each with its adapter, signing secrets, and addresses of its own.

Writes `billing_source` and the change log in the caller's transaction. A secret is given back once, when it was made
here; it never appears in a list, a log or the change log.
"""

import re
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from adapters.billing.signatures import BadSecret, key_of, new_secret
from hub import changes
from hub.billing.understanding import ADAPTERS
from hub.errors import BadInput, Conflict, NotFound
from hub.guarded import Guard
from hub.models import BillingSource

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


def add(
    session: Session,
    *,
    name: str,
    adapter: str = "standard",
    secret: str | None = None,
    endpoint: str | None = None,
    balance_url: str | None = None,
    by: str,
    allow_private: Iterable[str] = (),
) -> tuple[BillingSource, str | None]:
    """A new billing system, and its signing secret if one was made for it.

    Raises BadInput for a name that cannot be part of an address, an unknown adapter, a secret that is too weak or a
    web address that the hub would never call; Conflict when the name is taken.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{ascii(name)[:80]} cannot be part of a web address.",
            field="name",
            remedy="Use small letters, digits, '-' and '_', e.g. city-billing.",
        )
    if adapter not in ADAPTERS:
        raise BadInput(
            f"There is no billing adapter {ascii(adapter)[:80]}.",
            field="adapter",
            remedy=f"Use one of {', '.join(sorted(ADAPTERS))}.",
        )
    made = new_secret() if secret is None else None
    try:
        key_of(secret or made or "")
    except BadSecret as error:
        raise BadInput(str(error), field="secret", remedy="Leave it out, and one is made.") from None
    guard = Guard(allow_private)
    for url in (endpoint, balance_url):
        if url is not None:
            guard.check(url)
    if session.scalar(select(BillingSource.id).where(BillingSource.name == name)) is not None:
        raise Conflict(f"There is already a billing system called {name}.", field="name", value=name)
    source = BillingSource(
        name=name, adapter=adapter, secrets=[secret or made], endpoint=endpoint, balance_url=balance_url
    )
    session.add(source)
    session.flush()
    detail = {"adapter": adapter, "endpoint": endpoint, "balance_url": balance_url}
    changes.record(session, actor=by, subject_type="billing_source", subject_id=name, verb="added", detail=detail)
    return source, made


def by_name(session: Session, name: str) -> BillingSource:
    """The billing system of that name. Raises NotFound."""
    source = session.scalar(select(BillingSource).where(BillingSource.name == name))
    if source is None:
        raise NotFound(f"There is no billing system {ascii(name)[:80]}.", field="source", value=name[:80])
    return source


def heard(session: Session, name: str, *, as_of: datetime | None = None) -> None:
    """Keep that the source gave a sign of life now, and, from a heartbeat, up to when it has told everything.

    Written at most once a minute, so that events of different accounts do not queue for this one row.
    """
    mine = BillingSource.name == name
    now = func.business_now()
    stale = or_(BillingSource.heard_at.is_(None), BillingSource.heard_at < now - func.make_interval(0, 0, 0, 0, 0, 1))
    session.execute(update(BillingSource).where(mine, stale).values(heard_at=now))
    if as_of is not None:
        later = or_(BillingSource.as_of.is_(None), BillingSource.as_of < as_of)
        session.execute(update(BillingSource).where(mine, later).values(as_of=as_of))
