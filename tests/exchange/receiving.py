"""A receiver of webhooks on this machine, and waiting for what is to come."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.conftest import Member


@dataclass
class Receiver:
    """What came in, and how it answers; a challenge is echoed unless it is told not to."""

    url: str = ""
    status: int = 200
    echo: bool = True
    delay_seconds: float = 0
    at_once: int = 0
    most_at_once: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Everything but challenges, in order."""
        found = [json.loads(body) for body in self.bodies]
        return [message for message in found if message["type"] != "webhook.challenge"]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.at_once += 1
        receiver.most_at_once = max(receiver.most_at_once, receiver.at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            receiver.headers.append(headers)
            receiver.bodies.append(body)
            await asyncio.sleep(receiver.delay_seconds)
            message = json.loads(body)
            echo = json.dumps(message["data"]) if receiver.echo else "{}"
            writer.write(f"HTTP/1.1 {receiver.status} X\r\nContent-Length: {len(echo)}\r\n\r\n{echo}".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            receiver.at_once -= 1
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Waits until the condition, or what it awaits, is true."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


async def registered(client: httpx.AsyncClient, owner: Member, url: str, **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/webhooks", json={"url": url, "label": "Web site", **more}, headers=owner.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def shown(client: httpx.AsyncClient, owner: Member, webhook: dict[str, Any]) -> dict[str, Any]:
    return dict((await client.get(f"/v1/webhooks/{webhook['id']}", headers=owner.headers)).json())


async def has_status(client: httpx.AsyncClient, owner: Member, webhook: dict[str, Any], status: str) -> bool:
    return bool((await shown(client, owner, webhook))["status"] == status)


async def active(client: httpx.AsyncClient, owner: Member, url: str, **more: Any) -> dict[str, Any]:
    webhook = await registered(client, owner, url, **more)
    await until(lambda: has_status(client, owner, webhook, "active"))
    return webhook


async def log(client: httpx.AsyncClient, owner: Member, webhook: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/webhooks/{webhook['id']}/deliveries", params=query, headers=owner.headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])
