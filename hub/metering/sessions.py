"""What stateful senders have said and later messages leave out (`adapter_session`), and whom to ask to begin anew.

Writes `adapter_session` in the pipeline's transaction. A row is one beginning of a sender, so that a kept message is
read again with what held when it arrived; only the sequence number of the newest row moves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from adapters.contracts import Decoded, Envelope, Session
from hub.errors import storable
from hub.metering import decode

# A sender that does not answer is not asked again at once: its births may be under way.
ASK_AGAIN = timedelta(seconds=60)

Connection = psycopg.Connection[tuple[Any, ...]]
# (since, what was known, asked)
_Known = tuple[datetime, Session, datetime | None]


@dataclass(slots=True)
class Sessions:
    """The sessions of one batch: `of` before a message is decoded, `note` after it, `save` at the end.

    `live` is False where kept messages are read again: nothing is learnt from them, nobody is asked.
    """

    live: bool
    known: dict[str, list[_Known]] = field(default_factory=dict)
    begun: set[tuple[str, datetime]] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    asks: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def of(self, envelope: Envelope, at: datetime) -> Session | None:
        """What was known of the envelope's sender at `at`."""
        if envelope.session is None:
            return None
        beginnings = self.known.get(key(envelope), [])
        if self.live:
            return beginnings[-1][1] if beginnings else None
        return next((one for since, one, _ in reversed(beginnings) if since <= at), None)

    def note(self, envelope: Envelope, decoded: Decoded, at: datetime, *, redelivered: bool) -> None:
        """Learn from a message. One that the broker delivered again says nothing new about the sequence."""
        if not self.live or envelope.session is None or (redelivered and decoded.fault):
            return
        name = key(envelope)
        beginnings = self.known.setdefault(name, [])
        since, before, asked = beginnings[-1] if beginnings else (at, None, None)
        if decoded.fault is not None and (asked is None or at - asked >= ASK_AGAIN):
            message = decode.restart(envelope, at)
            if message is not None:
                self.asks[name], asked = message, at
                self.moved.add(name)
        session = decoded.session or before or Session({})
        if before is not None and session.known == before.known:
            beginnings[-1] = (since, session, asked)
        else:
            beginnings.append((at, session, asked))
            self.begun.add((name, at))
        self.moved.add(name)


def key(envelope: Envelope) -> str:
    """The sender's name among those of all networks."""
    return f"{envelope.network}:{envelope.session}"


def load(connection: Connection, envelopes: Iterable[Envelope], *, live: bool) -> Sessions:
    """The sessions that the envelopes need: the present one of each sender; all of it where old messages are read."""
    names = {key(envelope) for envelope in envelopes if envelope.session is not None}
    found = Sessions(live)
    if not names:
        return found
    rows = connection.execute(
        "SELECT session, since, known, seq, asked_at FROM adapter_session s WHERE session = ANY(%s) AND (NOT %s"
        " OR since = (SELECT max(since) FROM adapter_session n WHERE n.session = s.session)) ORDER BY session, since",
        [sorted(names), live],
    )
    for name, since, known, seq, asked in rows:
        found.known.setdefault(name, []).append((since, Session(known, seq), asked))
    return found


def save(connection: Connection, sessions: Sessions) -> None:
    """Write what the batch learnt: a row per new beginning, else the newest row's number and time of asking."""
    for name in sorted(sessions.moved):
        for since, session, asked in sessions.known[name]:
            if (name, since) not in sessions.begun:
                continue
            connection.execute(
                "INSERT INTO adapter_session (session, since, known, seq, asked_at) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (session, since) DO UPDATE SET known = excluded.known, seq = excluded.seq,"
                " asked_at = excluded.asked_at",
                [name, since, Jsonb(storable(dict(session.known))), session.seq, asked],
            )
        since, session, asked = sessions.known[name][-1]
        if (name, since) not in sessions.begun:
            connection.execute(
                "UPDATE adapter_session SET seq = %s, asked_at = %s WHERE session = %s AND since = %s",
                [session.seq, asked, name, since],
            )
