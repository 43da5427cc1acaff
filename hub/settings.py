"""Configuration: `CURBSTOP_*` variables, each also as `CURBSTOP_*_FILE` naming a file that holds the value.

Writes nothing. Values are read once, when a shell (command, web, worker, ingest) starts; nothing below the shells
reads the environment.
"""

import ipaddress
import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from hub.errors import ConfigurationError

PREFIX = "CURBSTOP_"


class _FromFiles(PydanticBaseSettingsSource):
    """`CURBSTOP_X_FILE=/run/secrets/x` gives `x` the file's text without its last line end."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except OSError as error:
            raise ConfigurationError(
                f"{PREFIX}{field_name.upper()}_FILE names {path}, which cannot be read: {error.strerror}."
            ) from error

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def _split(value: Any) -> Any:
    return (
        [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


class Settings(BaseSettings):
    """What a utility sets. Every field has a working default but those a server needs to be told."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    database_url: SecretStr | None = Field(None, description="PostgreSQL with PostGIS; unset: a private cluster")
    mqtt_url: SecretStr | None = Field(
        None, description="mqtt:// or mqtts:// address of the broker (?ca=, &cert=, &key= files); unset: a private one"
    )
    data_dir: Path = Field(Path(".curbstop"), description="where the private servers, caches and keys live")
    base_url: str | None = Field(None, description="the address people type, e.g. https://water.example.org")
    secret_key: SecretStr | None = Field(None, description="signs what the hub hands out; made on first start if unset")
    time_zone: str = Field("UTC", description="IANA name; days, hours and legal times are counted in it")
    units: Literal["m3", "gal", "kgal", "ccf", "mg"] = Field("m3", description="unit in which pages show volumes")
    currency: str = Field("USD", pattern="^[A-Z]{3}$", description="ISO 4217 code of tariff lines")
    balance_defaults: Literal["none", "fwas_v5", "fwas_v6"] = Field(
        "none", description="shares assumed in water balances for what nobody measured"
    )
    meter_under_registration: Decimal = Field(
        Decimal(0), ge=0, le=Decimal("0.5"), description="fraction customer meters miss where none was tested"
    )
    unmetered_l_per_conn_day: Decimal = Field(
        Decimal(0), ge=0, description="assessed use of a lived-in place without meter or bill; 0: not assessed"
    )
    private_pipe_m: Decimal = Field(
        Decimal(0), ge=0, description="mean pipe from kerb to meter, where a zone says none"
    )
    retail_price_m3: Decimal | None = Field(None, ge=0, description="price of a cubic metre to customers")
    production_cost_m3: Decimal | None = Field(None, ge=0, description="variable cost of producing a cubic metre")
    survey_cost_km: Decimal | None = Field(None, ge=0, description="cost of listening through a kilometre of mains")
    loss_threshold_pct: Decimal = Field(
        Decimal(20), gt=0, le=100, description="a zone that certainly loses more of its input is surveyed"
    )
    holidays: str | None = Field(
        None, description="country, or country and part (US, US-TX), whose holidays change how water is used"
    )
    utility_name: str = Field("Curbstop", description="shown on pages and tickets")
    policy_pack: str = Field("default", description="name of the shutoff policy pack in force")
    packs_dir: Path | None = Field(None, description="folder with the utility's own policy packs")
    types_dir: Path | None = Field(None, description="folder with the utility's own work types")
    rules_dir: Path | None = Field(None, description="folder with the utility's own rules for readings and work")
    mqtt_topics: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["curbstop/v1/+/readings=plain", "application/+/device/+/event/+=chirpstack_v4"],
        description="list of filter=adapter",
    )
    webhook_rate: int = Field(50, ge=1, description="billing events a source may send per second")
    allow_private_endpoints: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="CIDRs that outbound calls may reach besides the public internet"
    )
    fact_max_age_hours: Decimal = Field(Decimal(24), description="after so long a silent source makes its facts stale")
    retention_reading_months: int | None = Field(
        None, ge=2, description="months of readings kept besides the present one, older ones archived; unset: all"
    )
    retention_raw_message_months: int | None = Field(
        None, ge=1, description="months of raw messages kept besides the present one, older ones archived; unset: all"
    )
    retention_hourly_months: int | None = Field(
        None, ge=1, description="months of hourly consumption kept ready besides the present one; unset: all"
    )
    archive_dir: Path | None = Field(
        None, description="where Parquet files of old months go; unset: in the data folder"
    )
    tls_cert: Path | None = Field(None, description="certificate file for --host beyond loopback")
    tls_key: Path | None = Field(None, description="key file for --host beyond loopback")

    @field_validator("mqtt_topics", "allow_private_endpoints", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return _split(value)

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
            raise ValueError("the address begins with postgresql://, e.g. postgresql://hub@db.example.org/curbstop")
        return value

    @field_validator("mqtt_url")
    @classmethod
    def _mqtt(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("mqtt://", "mqtts://")):
            raise ValueError("the address begins with mqtt:// or mqtts://, e.g. mqtts://hub@broker.example.org")
        return value

    @field_validator("mqtt_topics")
    @classmethod
    def _topics(cls, value: list[str]) -> list[str]:
        for entry in value:
            if "=" not in entry:
                raise ValueError(f"{entry!r} is not filter=adapter, e.g. curbstop/v1/+/readings=plain")
        return value

    @field_validator("allow_private_endpoints")
    @classmethod
    def _cidrs(cls, value: list[str]) -> list[str]:
        for entry in value:
            ipaddress.ip_network(entry, strict=False)
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone, e.g. America/Chicago")
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The utility's time zone."""
        return ZoneInfo(self.time_zone)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _FromFiles(settings_cls)


def load(**overrides: Any) -> Settings:
    """The settings of this process; `overrides` win over the environment.

    Raises ConfigurationError, one sentence per variable that cannot work.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError("; ".join(lines)) from error
