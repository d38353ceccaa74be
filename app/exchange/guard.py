"""The guard of outgoing requests: a member names the address, so none may lead inside.

An address is checked twice. `parse` refuses what no receiver needs (when a webhook is registered and again when it is
used); `checked_addresses` resolves the name once, at sending, and demands that every answer is a public address. The
connection then goes to one of those and to nothing else, so a name that changes its mind between check and connection
(DNS rebinding) gains nothing.

Source: safety.md T6, H1; RFC 6890 and the IANA special-purpose registries. What is sent: `app.exchange.outgoing`.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

import idna

MAXIMUM_URL_BYTES = 2048

URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]\\%]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:/[!-\"$-;=?-\[\]-~]*)?(?:\?[!-\"$-;=?-\[\]-~]*)?)"
)
LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "test", "invalid")
LOCAL_SUFFIXES = tuple(f".{name}" for name in (*LOCAL_NAMES, "home.arpa"))

DENIED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""Everything that is not an ordinary public IPv4 address; Python's `is_global` lets some of these pass."""

PUBLIC_V6 = IPv6Network("2000::/3")
DENIED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo (hides an IPv4 address), ORCHID, benchmarking and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4 hides an IPv4 address
        "2620:4f:8000::/48",
        "3fff::/20",
        "5f00::/16",
    )
)
"""Parts of 2000::/3 that lead elsewhere. Outside (mapped, ::a.b.c.d, NAT64, ULA, fe80, fec0, ff00) all is denied."""

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a name, as text; asked once for each request."""

Refusal = Literal[
    "too-long",
    "not-a-web-address",
    "https-required",
    "port-not-allowed",
    "host-not-allowed",
    "address-not-public",
    "name-not-found",
]


class AddressRefused(ValueError):
    """The address is not one that a webhook may go to; `code` says why, never what was found behind the name."""

    def __init__(self, code: Refusal) -> None:
        super().__init__(code)
        self.code: Refusal = code


@dataclass(frozen=True, slots=True)
class Target:
    """A checked web address, in the parts a request needs. `host` is ASCII (IDNA), without brackets."""

    scheme: str
    host: str
    port: int
    path: str
    literal: Address | None

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if isinstance(self.literal, IPv6Address) else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address in its canonical form, as it is stored."""
        return f"{self.scheme}://{self.authority}{self.path}"


def is_public(address: Address) -> bool:
    """True for an ordinary public address. Addresses that wrap an IPv4 address in IPv6 are never public."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in DENIED_V4)
    if address.scope_id is not None or address not in PUBLIC_V6:
        return False
    return address.is_global and not any(address in network for network in DENIED_V6)


def _ascii_host(raw: str) -> tuple[str, Address | None]:
    if raw.startswith("["):
        try:
            literal: Address = IPv6Address(raw[1:-1])
        except ValueError:
            raise AddressRefused("not-a-web-address") from None
        return str(literal), literal
    try:
        # The mapping of UTS 46 comes first: ①②⑦.0.0.1 and 127。0。0。1 are 127.0.0.1 to a browser.
        host = idna.encode(raw, uts46=True).decode("ascii").lower().removesuffix(".")
    except (idna.IDNAError, UnicodeError):
        raise AddressRefused("not-a-web-address") from None
    last = host.rpartition(".")[2]
    if last.isdigit() or last.startswith("0x"):
        # Only four plain decimal numbers are an IPv4 address here: 127.1, 0x7f.1 and 2130706433 are traps.
        try:
            return host, IPv4Address(host)
        except ValueError:
            raise AddressRefused("host-not-allowed") from None
    return host, None


def parse(url: str, *, development: bool = False, ports: Collection[int] = (443,)) -> Target:
    """The parts of `url` if a webhook may be registered for it.

    With `development`, http and any port are accepted for names and addresses of this machine, and for those only.

    Errors: AddressRefused.
    """
    if len(url.encode("utf-8", "surrogatepass")) > MAXIMUM_URL_BYTES:
        raise AddressRefused("too-long")
    found = URL.fullmatch(url)
    if found is None or not url.isprintable():
        raise AddressRefused("not-a-web-address")
    scheme = found["scheme"]
    host, literal = _ascii_host(found["host"])
    port = int(found["port"] or (443 if scheme == "https" else 80))
    path = found["target"] or "/"
    target = Target(scheme, host, port, path if path.startswith("/") else f"/{path}", literal)
    if not 0 < port < 65536:
        raise AddressRefused("not-a-web-address")
    if development and (host == "localhost" or (literal is not None and literal.is_loopback)):
        return target
    if scheme != "https":
        raise AddressRefused("https-required")
    if port not in ports:
        raise AddressRefused("port-not-allowed")
    if literal is None and ("." not in host or host.endswith(LOCAL_SUFFIXES)):
        raise AddressRefused("host-not-allowed")
    if literal is not None and not is_public(literal):
        raise AddressRefused("address-not-public")
    return target


async def checked_addresses(target: Target, resolver: Resolver, *, development: bool = False) -> list[Address]:
    """The addresses of `target`, all of them public (or all of this machine, in development).

    One inside address among public ones refuses the whole name: it is either an attack or a mistake.

    Errors: AddressRefused.
    """
    if target.literal is not None:
        addresses: list[Address] = [target.literal]
    else:
        try:
            addresses = [ip_address(text) for text in dict.fromkeys(await resolver(target.host, target.port))]
        except (OSError, ValueError, UnicodeError):
            raise AddressRefused("name-not-found") from None
    if not addresses:
        raise AddressRefused("name-not-found")
    inside = development and all(address.is_loopback for address in addresses)
    if not inside and (target.scheme != "https" or not all(is_public(address) for address in addresses)):
        raise AddressRefused("address-not-public")
    return addresses
