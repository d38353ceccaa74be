"""Settings: every value an operator can set, read once from the environment or `.env`.

Each name below is `MINGA_` + the upper-case field name, and is listed in docs/guides/operator.md (a test compares).
"""

from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an operator can set. Source: design notes B13, B14, B16."""

    model_config = SettingsConfigDict(env_prefix="MINGA_", env_file=".env", extra="ignore", frozen=True)

    database_url: str | None = Field(
        None, description="PostgreSQL ≥ 15. Absent: an embedded one below the data folder."
    )
    secret: str | None = Field(None, description="Master secret, at least 32 bytes; everything sealed depends on it.")
    secret_file: Path | None = Field(None, description="File holding the master secret, instead of MINGA_SECRET.")
    data_dir: Path = Field(Path("data"), description="Folder of the embedded database and the demo credential.")
    public_url: str | None = Field(None, description="The address members use; issuer of tokens, base of every URL.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8000, ge=0, le=65535, description="Port to listen on; the next free one if this default is taken."
    )
    workers: int = Field(1, ge=1, le=64, description="Number of server processes.")
    founding_data: bool = Field(True, description="`off` keeps the founding data set out of a new database.")
    rate_limit: str = Field("on", pattern="^(on|off)$", description="`off` for tests and benches.")
    rate_limit_store: str | None = Field(None, description="Address of a Valkey or Redis that all workers share.")
    cors_origins: str = Field("", description="Comma-separated origins allowed to call from a browser; empty: none.")
    allowed_hosts: str = Field("", description="Comma-separated Host values accepted; empty: public URL and loopback.")
    trusted_proxies: str = Field(
        "", description="Comma-separated addresses or networks whose X-Forwarded-For is believed; empty: nobody's."
    )
    pool_size: int = Field(10, ge=2, le=200, description="Connections of each process; half as many again for reads.")
    metrics: str = Field("loopback", pattern="^(loopback|all|off)$", description="Who may read /metrics.")
    security_contact: str | None = Field(None, description="Where to report a weakness: a mailto: or https: address.")
    disk_reserve_mb: int = Field(
        128, ge=0, description="Megabytes kept free on the disk of an embedded database; 0: none."
    )
    log_level: str = Field(
        "info", pattern="(?i)^(debug|info|warning|error)$", description="Level of the JSON log on standard error."
    )
    embedded_worker: bool = Field(True, description="`off` when `minga worker` runs background jobs elsewhere.")
    webhook_loopback: bool = Field(
        False, description="`on` lets webhooks go to this machine, by http too: development."
    )
    webhook_ports: str = Field("443", pattern="^[0-9]{1,5}(,[0-9]{1,5})*$", description="Ports webhooks may go to.")

    @property
    def webhook_port_numbers(self) -> frozenset[int]:
        """The ports webhooks may go to."""
        return frozenset(int(port) for port in self.webhook_ports.split(","))

    @field_validator("trusted_proxies")
    @classmethod
    def names_networks(cls, given: str) -> str:
        """The value as it is. Errors: ValueError for what is no address or network."""
        for part in given.split(","):
            if part.strip():
                ip_network(part.strip())
        return given
