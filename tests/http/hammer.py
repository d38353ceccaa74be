"""A client without manners, in a process of its own: `python -m tests.http.hammer PORT TOKEN CONNECTIONS SECONDS`.

Sends the next request as soon as the last one is answered, on every connection, and prints how many answers had which
status.
"""

import asyncio
import collections
import sys
import time


async def hammer(port: int, token: str, ends_at: float, statuses: "collections.Counter[str]") -> None:
    request = f"GET /v1/issues HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    while time.monotonic() < ends_at:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while time.monotonic() < ends_at:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length[15:]))
                statuses[head[9:12].decode()] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            statuses["broken"] += 1
        finally:
            writer.close()


async def main(port: int, token: str, connections: int, seconds: float) -> None:
    statuses: collections.Counter[str] = collections.Counter()
    ends_at = time.monotonic() + seconds
    await asyncio.gather(*(hammer(port, token, ends_at, statuses) for _ in range(connections)))
    print(" ".join(f"{status}:{count}" for status, count in sorted(statuses.items())))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
