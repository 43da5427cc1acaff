"""Column types that every table spells the same way."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import TIMESTAMP, Numeric, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column

from hub.db import new_id

Id = Annotated[UUID, mapped_column(primary_key=True, default=new_id)]
Instant = Annotated[datetime, mapped_column(TIMESTAMP(timezone=True))]
# Real time of the row, from the database's clock.
Written = Annotated[datetime, mapped_column(TIMESTAMP(timezone=True), server_default=func.clock_timestamp())]
Str = Annotated[str, mapped_column(Text)]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
JsonList = Annotated[list[Any], mapped_column(JSONB, server_default="[]")]
Money = Annotated[Decimal, mapped_column(Numeric(14, 2))]
# Register values and volumes: never a float in storage.
Volume = Annotated[Decimal, mapped_column(Numeric)]
