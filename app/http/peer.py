"""The address a request comes from, also when it comes through the operator's own reverse proxy."""

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import Request

Network = IPv4Network | IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """The comma-separated addresses and networks. Errors: ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _within(host: str, trusted: tuple[Network, ...]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in trusted)


def address_of(request: Request) -> str:
    """The caller's address as a key: an IPv6 host counts as its /64, the smallest block a subscriber gets.

    `X-Forwarded-For` counts as far as it was written by proxies in `app.state.trusted_proxies`: from the right, the
    first address that is none of theirs.
    """
    host = request.client.host if request.client else "local"
    trusted: tuple[Network, ...] = getattr(request.app.state, "trusted_proxies", ())
    if _within(host, trusted):
        for given in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
            try:
                host = str(ip_address(given.strip()))
            except ValueError:
                break
            if not _within(host, trusted):
                break
    if ":" not in host:
        return host
    address = IPv6Address(host.split("%")[0])
    return str(address.ipv4_mapped or IPv6Network((address, 64), strict=False))
