"""No webhook reaches an address inside: hostile addresses, hostile names, hostile receivers."""

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.exchange import outgoing
from app.exchange.guard import AddressRefused, checked_addresses, parse
from app.exchange.outgoing import post

HOSTILE = [
    "http://example.org/hook",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org:70/",
    "//example.org/",
    "https:/example.org/",
    "https:///hook",
    "https://example.org:8443/",
    "https://example.org:22/",
    "https://example.org:0/",
    "https://example.org:99999/",
    "https://user@example.org/",
    "https://user:word@example.org/",
    "https://example.org@127.0.0.1/",
    "https://127.0.0.1\\@example.org/",
    "https://example.org/\r\nX-Injected: 1",
    "https://example.org/a b",
    "https://example.org/\x00",
    "https://example.org/#fragment",
    "https://" + "a" * 60 + ".org/" + "p" * 2000,
    "https://localhost/",
    "https://LOCALHOST./",
    "https://service.localhost/",
    "https://printer.local/",
    "https://db.internal/",
    "https://router/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.1./",
    "https://127。0。0。1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://0.0.0.0/",
    "https://10.1.2.3/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:93.184.215.14]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fec0::1]/",
    "https://[fc00::1]/",
    "https://[fd12:3456::1]/",
    "https://[ff02::1]/",
    "https://[2002:7f00:1::]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2001:db8::1]/",
    "https://[100::1]/",
    "https://[1::2::3]/",
    "https://%31%32%37.0.0.1/",
    "https://exa\u200bmple_.org/",
    "https://xn--\u0000.org/",
]

INSIDE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.127.0.1",
    "0.0.0.0", "192.0.0.192", "192.0.0.8", "192.88.99.1", "198.19.0.1", "224.0.0.1", "240.0.0.1", "::1", "::",
    "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:93.184.215.14", "fe80::1", "fe80::1%1", "fec0::1", "fd00::1", "ff02::1",
    "ff0e::1", "2002:7f00:1::", "2002:5db8:d70e::", "64:ff9b::a00:1", "64:ff9b::5db8:d70e", "64:ff9b:1::a00:1",
    "2001::1", "2001:db8::1", "2001:10::1", "100::1", "3fff::1", "5f00::1", "4000::1",
]  # fmt: skip


def resolver(*answers: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """Gives one answer after the other, the last one for ever; notes how often it was asked."""
    asked = {"times": 0}

    async def resolve(host: str, port: int) -> list[str]:
        asked["times"] += 1
        return answers[min(asked["times"], len(answers)) - 1]

    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        parse(url)


def test_hostile_list_is_long_enough() -> None:
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("url", HOSTILE)
def test_development_opens_loopback_only(url: str) -> None:
    try:
        target = parse(url, development=True)
    except AddressRefused:
        return
    assert target.host in {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://example.org", "https://example.org/"),
        ("https://example.org:443/hook?a=b&c=d", "https://example.org/hook?a=b&c=d"),
        ("https://EXAMPLE.org./x", "https://example.org/x"),
        ("https://example.org?a=1", "https://example.org/?a=1"),
        ("https://bücher.example.org/", "https://xn--bcher-kva.example.org/"),
        ("https://93.184.215.14/h", "https://93.184.215.14/h"),
        ("https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/", "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/"),
    ],
)
def test_ordinary_address_is_kept_in_canonical_form(url: str, stored: str) -> None:
    assert parse(url).url == stored
    assert parse(stored).url == stored


def test_other_ports_by_allow_list_only() -> None:
    assert parse("https://example.org:8443/", ports=(443, 8443)).authority == "example.org:8443"


@pytest.mark.anyio
@pytest.mark.parametrize("inside", INSIDE)
async def test_one_inside_address_refuses_the_name(inside: str) -> None:
    target = parse("https://hooks.example.org/")
    for answer in ([inside], ["93.184.215.14", inside], [inside, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]):
        with pytest.raises(AddressRefused):
            await checked_addresses(target, resolver(answer))
        if answer != ["127.0.0.1"] and answer != ["::1"] and answer != ["127.255.255.254"]:
            with pytest.raises(AddressRefused):
                await checked_addresses(target, resolver(answer), development=True)


@pytest.mark.anyio
async def test_no_answer_refuses_the_name() -> None:
    for answer in ([], ["nonsense"]):
        with pytest.raises(AddressRefused):
            await checked_addresses(parse("https://hooks.example.org/"), resolver(answer))


@asynccontextmanager
async def receiver(
    answer: bytes, *, tls: ssl.SSLContext | None = None, hold_seconds: float = 0, stays: bool = False
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A raw receiver on loopback; yields its port and the requests it got."""
    got: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            got.append(head + await reader.readexactly(length))
            await asyncio.sleep(hold_seconds)
            writer.write(answer)
            await writer.drain()
            if stays:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.anyio
async def test_rebinding_name_is_asked_once_and_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver(OK) as (port, got):
        flipping = resolver(["93.184.215.14"], ["127.0.0.1"])
        # The first answer is public and unreachable here: the connection may fail, but must not go to the second.
        monkeypatch.setattr(outgoing, "CONNECT_SECONDS", 0.2)
        with pytest.raises((ConnectionError, TimeoutError)):
            await post(f"https://rebind.example.org:{port}/", b"{}", {}, ports=(port,), resolver=flipping)
        assert flipping.asked["times"] == 1  # type: ignore[attr-defined]
        other = resolver(["127.0.0.1"])
        with pytest.raises(AddressRefused):
            await post(f"https://rebind.example.org:{port}/", b"{}", {}, ports=(port,), resolver=other)
        assert got == []


@pytest.mark.anyio
async def test_proxy_settings_of_the_machine_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver(OK) as (port, got), receiver(OK) as (proxy, proxied):
        for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        answer = await post(f"http://127.0.0.1:{port}/hook?a=b", b'{"a":1}', {"X-Test": "1"}, development=True)
        assert answer.status == 200
        assert proxied == []
        assert got[0].startswith(b"POST /hook?a=b HTTP/1.1\r\n")
        assert b"x-test: 1" in got[0].lower()
        assert got[0].endswith(b'{"a":1}')


@pytest.mark.anyio
async def test_redirect_is_an_answer_and_not_followed() -> None:
    async with receiver(OK) as (inner, reached):
        moved = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with receiver(moved) as (port, _):
            assert (await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True)).status == 307
        assert reached == []


@pytest.mark.anyio
async def test_endless_answer_is_read_to_one_kilobyte() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\nContent-Encoding: gzip\r\n\r\n" + b"x" * 1_000_000
    async with receiver(endless) as (port, _):
        answer = await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True, echo=b"xxy")
        assert (answer.status, answer.echoed) == (200, False)


@pytest.mark.anyio
async def test_echo_counts_in_the_first_kilobyte_only() -> None:
    for before, echoed in ((b"", True), (b"-" * 1019, True), (b"-" * 1020, False)):
        body = before + b"found"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        async with receiver(head + body) as (port, _):
            answer = await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True, echo=b"found")
            assert answer.echoed is echoed, len(before)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: yes\r\n" * 200_000,
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 2_000_000,
    ],
    ids=["interim answers", "headers", "one header"],
)
async def test_flood_before_the_answer_is_not_read(flood: bytes) -> None:
    async with receiver(flood + b"\r\n\r\n") as (port, _):
        with pytest.raises(ConnectionError):
            await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True)


@pytest.mark.anyio
async def test_status_counts_though_the_body_never_ends() -> None:
    async with receiver(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", stays=True) as (port, _):
        answer = await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True)
        assert answer.status == 200
        answer = await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True, echo=b"{")
        assert answer.echoed


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"120", 120), (b"\xb2", None), (b"Fri, 31 Dec 2027 23:59:59 GMT", None), (b"9" * 40, 999_999_999)],
)
async def test_retry_after_is_seconds_or_nothing(value: bytes, seconds: int | None) -> None:
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: " + value + b"\r\nContent-Length: 0\r\n\r\n"
    async with receiver(answer) as (port, _):
        found = await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True)
        assert (found.status, found.retry_after_seconds) == (503, seconds)


@pytest.mark.anyio
async def test_names_whose_servers_are_silent_hold_up_no_other_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver of the system is the one thing replaced: a real silent name server cannot be had on a loopback."""
    silence, ordinary = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: str, *words: object, **more: object) -> object:
        if host.endswith(".silent.example.org"):
            silence.wait(60)
            raise OSError("no answer")
        return ordinary("127.0.0.1", *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(outgoing, "TOTAL_SECONDS", 0.3)
    silent = [asyncio.create_task(post(f"https://{number}.silent.example.org/", b"{}", {})) for number in range(64)]
    try:
        await asyncio.wait(silent)
        assert {type(task.exception()) for task in silent} == {TimeoutError}
        assert await asyncio.wait_for(outgoing.system_resolver("hooks.example.org", 443), 20) == ["127.0.0.1"]
    finally:
        silence.set()


@pytest.mark.anyio
async def test_slow_receiver_is_left_after_the_total_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "TOTAL_SECONDS", 0.3)
    async with receiver(OK, hold_seconds=2) as (port, _):
        with pytest.raises(TimeoutError):
            await post(f"http://127.0.0.1:{port}/", b"{}", {}, development=True)


def certificates(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS context for `name`, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "pair.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


@pytest.mark.anyio
async def test_tls_names_and_verifies_the_host_though_the_connection_goes_to_the_address(tmp_path: Path) -> None:
    server, client = certificates(tmp_path, "hooks.example.org")
    named: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: named.append(name)
    async with receiver(OK, tls=server) as (port, got):
        local = resolver(["127.0.0.1"])
        options = {"development": True, "ports": (port,), "resolver": local, "tls": client}
        answer = await post(f"https://hooks.example.org:{port}/h", b"{}", {}, **options)  # type: ignore[arg-type]
        assert answer.status == 200
        assert named == ["hooks.example.org"]
        assert f"host: hooks.example.org:{port}".encode() in got[0].lower()
        with pytest.raises(ConnectionError):
            await post(f"https://other.example.org:{port}/h", b"{}", {}, **options)  # type: ignore[arg-type]
        with pytest.raises(ConnectionError):
            await post(f"https://hooks.example.org:{port}/", b"", {}, **{**options, "tls": None})  # type: ignore[arg-type]
