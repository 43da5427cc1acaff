"""The shapes of the crew API, for the published description and for checking what devices send."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_COMMANDS = 100
CommandType = Literal[
    "acknowledge",
    "start_travel",
    "arrive",
    "pause",
    "resume",
    "complete",
    "unable",
    "note",
    "reading",
    "report",
    "position",
    "cancel_acknowledge",
]


class ChangeItem(BaseModel):
    """One thing the device must store or remove."""

    type: Literal["work_order"]
    id: UUID
    rev: int | None
    op: Literal["upsert", "remove"]
    reason: Literal["deleted", "unassigned", "out_of_scope"] | None
    data: dict[str, Any] | None


class ChangePage(BaseModel):
    """A page of changes; ask again with `cursor` at once while `has_more`."""

    epoch: str
    cursor: str
    has_more: bool
    changes: list[ChangeItem]


def _pair(value: Any) -> Any:
    """A position may also be written as GeoJSON does: `[lon, lat]`."""
    if isinstance(value, list) and len(value) == 2:
        return {"lon": value[0], "lat": value[1]}
    return value


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [] if value is None else [value]


def _order_id(value: Any) -> Any:
    """A target is the order's id, bare or as `{"type": "work_order", "id": …}`."""
    if isinstance(value, dict):
        return value.get("id", value.get("work_order"))
    return value


class Position(BaseModel):
    """Where the device was: degrees, and metres of accuracy."""

    model_config = ConfigDict(allow_inf_nan=False)

    lon: float = Field(ge=-180, le=180)
    lat: float = Field(ge=-90, le=90)
    accuracy_m: float | None = Field(None, ge=0, le=1e6)


class Change(BaseModel):
    """One field as the device saw it and as it shall be."""

    model_config = ConfigDict(populate_by_name=True)

    seen: Any = Field(None, alias="from")
    to: Any = None


class Command(BaseModel):
    """One thing a crew did or says. `observed_at` is when, by the device's clock; `base_rev` the revision it saw."""

    id: UUID
    device_seq: int | None = Field(None, ge=0, lt=1 << 63)
    depends_on: Annotated[list[UUID], BeforeValidator(_list)] = Field(default_factory=list, max_length=MOST_COMMANDS)
    type: CommandType
    target: Annotated[UUID | None, BeforeValidator(_order_id)] = None
    base_rev: int | None = Field(None, ge=0, lt=1 << 31)
    fields: dict[str, Change] = Field(default_factory=dict)
    answers: dict[str, Any] = Field(default_factory=dict)
    observed_at: AwareDatetime | None = None
    position: Annotated[Position | None, BeforeValidator(_pair)] = None
    app: dict[str, Any] | str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The answers, whichever way they were sent."""
        return {**{name: change.to for name, change in self.fields.items()}, **self.answers}


class Commands(BaseModel):
    """Up to 100 commands, in the order they happened; a bare list, or the name `mutations`, is understood too."""

    commands: list[Any] = Field(max_length=MOST_COMMANDS)

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        if isinstance(value, dict) and "mutations" in value:
            return {"commands": value["mutations"]}
        return {"commands": value} if isinstance(value, list) else value


class Result(BaseModel):
    """What became of one command. `first` is the answer a duplicate got when it came first."""

    id: Any
    status: Literal["applied", "duplicate", "merged", "conflict", "rejected", "deferred"]
    rev: int | None
    problem: dict[str, Any] | None
    first: str | None = None
    work_order: UUID | None = None


class Results(BaseModel):
    """One result per command, in the same order."""

    results: list[Result]
