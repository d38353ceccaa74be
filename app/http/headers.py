"""Headers every answer carries. Source: safety O6, rules A12."""

from urllib.parse import urlsplit

Header = tuple[bytes, bytes]

VARY = b"Authorization, Accept-Language, Accept-Encoding"
_VARY_NAMES = frozenset(name.strip().lower() for name in VARY.split(b","))
CSP = b"default-src 'none'; frame-ancestors 'none'"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def always(public_url: str) -> tuple[Header, ...]:
    """The headers that are the same on every answer."""
    found = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
    if public_url.startswith("https:"):
        found.append((b"strict-transport-security", b"max-age=31536000"))
    return tuple(found)


def complete(headers: list[Header], fixed: tuple[Header, ...], request_id: bytes) -> list[Header]:
    """`headers` of an answer with what is missing: caching, policy, Vary, the request's id. No Server header."""
    names = {name for name, _ in headers}
    found = [*headers, *fixed, (b"x-request-id", request_id)]
    if b"cache-control" not in names:
        found.append((b"cache-control", b"private, no-store"))
    if b"content-security-policy" not in names:
        found.append((b"content-security-policy", CSP))
    if b"vary" in names:
        others = [
            item.strip()
            for name, value in headers
            if name == b"vary"
            for item in value.split(b",")
            if item.strip().lower() not in _VARY_NAMES
        ]
        found = [header for header in found if header[0] != b"vary"]
        found.append((b"vary", b", ".join([VARY, *others])))
    else:
        found.append((b"vary", VARY))
    if b"server" in names or b"x-powered-by" in names:
        found = [header for header in found if header[0] not in (b"server", b"x-powered-by")]
    return found


def host_name(host: str) -> str:
    """The name in a Host header, in lower case and without port; empty when it is not one."""
    try:
        parts = urlsplit(f"//{host}")
        return "" if "@" in host or parts.path or parts.query or parts.fragment else (parts.hostname or "")
    except ValueError:
        return ""


def allowed_hosts(public_url: str, configured: str) -> frozenset[str]:
    """Names a Host header may hold: the public one, those configured, and loopback."""
    names = {item.strip().lower().strip("[]") for item in configured.split(",") if item.strip()}
    own = urlsplit(public_url).hostname
    return frozenset({*names, *LOOPBACK, *((own,) if own else ())})
