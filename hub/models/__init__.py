"""Every table of the hub, a file per subject. Importing this package fills `hub.db.Base.metadata`."""

from hub.models.customers import Account, AccountFact, Occupancy
from hub.models.messages import (
    BillingEvent,
    BillingSource,
    BusinessClock,
    Change,
    DeliveryAttempt,
    HubEpoch,
    JobRun,
    OutboundMessage,
)
from hub.models.metering import (
    BalanceRevision,
    BilledConsumption,
    Device,
    Meter,
    MeterInstallation,
    Quarantine,
    RawMessage,
    Reading,
    TankLevel,
)
from hub.models.network import Main, PlaceFact, ServicePoint, Zone
from hub.models.people import ApiToken, Crew, SignInAttempt, User, WebSession
from hub.models.work import Charge, IdempotencyKey, MutationReceipt, OrderException, OrderTrigger, WorkOrder

__all__ = [
    "Account",
    "AccountFact",
    "ApiToken",
    "BalanceRevision",
    "BilledConsumption",
    "BillingEvent",
    "BillingSource",
    "BusinessClock",
    "Change",
    "Charge",
    "Crew",
    "DeliveryAttempt",
    "Device",
    "HubEpoch",
    "IdempotencyKey",
    "JobRun",
    "Main",
    "Meter",
    "MeterInstallation",
    "MutationReceipt",
    "Occupancy",
    "OrderException",
    "OrderTrigger",
    "OutboundMessage",
    "PlaceFact",
    "Quarantine",
    "RawMessage",
    "Reading",
    "ServicePoint",
    "SignInAttempt",
    "TankLevel",
    "User",
    "WebSession",
    "WorkOrder",
    "Zone",
]
