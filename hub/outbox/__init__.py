"""What the hub owes billing systems: messages put in the transaction that made them true, delivered at least once."""

from hub.outbox.delivery import signed
from hub.outbox.messages import CHANNEL, owing, put, replay, undelivered
from hub.outbox.sender import Sender

__all__ = ["CHANNEL", "Sender", "owing", "put", "replay", "signed", "undelivered"]
