"""The bare application: FastAPI and nothing else, giving back bytes it holds in memory. Run as a process of its own.

It stands for the best that this framework can do with these answers; what the service adds to it is what we measure.
"""

import socket
import sys
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response


def application(kept: dict[str, list[str]]) -> FastAPI:
    """`kept` has for each path the answer's body and its ETag."""
    answers = {path: (body.encode(), etag) for path, (body, etag) in kept.items()}
    created = answers["created"][0]
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/cases/{id}")
    async def one(request: Request) -> Response:
        body, etag = answers[request.scope["path"]]
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(body, media_type="application/json", headers={"ETag": etag})

    @app.get("/v1/cases")
    async def listing(request: Request) -> Response:
        body, etag = answers[request.scope["path"]]
        return Response(body, media_type="application/json", headers={"ETag": etag})

    @app.post("/v1/cases")
    async def create(request: Request) -> Response:
        await request.json()
        return Response(created, status_code=201, media_type="application/json")

    return app


def main(file: str) -> None:
    """Serves on a free port, which is printed, with the options the service itself uses."""
    bound = socket.create_server(("127.0.0.1", 0), backlog=2048)
    sys.stdout.write(f"ready http://127.0.0.1:{bound.getsockname()[1]}\n")
    sys.stdout.flush()
    options = {"loop": "uvloop", "http": "httptools", "ws": "none", "log_config": None, "access_log": False}
    config = uvicorn.Config(application(orjson.loads(Path(file).read_bytes())), server_header=False, **options)
    uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    main(sys.argv[1])
