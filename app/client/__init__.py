"""The Python client of Minga: httpx and the standard library, blocking and asynchronous.

    with Minga("https://minga.example.org", client_id="…", client_secret="…") as minga:
        for case in minga.records("cases", region="AFR"):
            print(case["title"])

What is named here is stable within version 1; everything below is not.
"""

from app.client.asynchronous import AsyncMinga
from app.client.blocking import Minga
from app.client.errors import (
    ConflictError,
    MingaError,
    NotAuthorisedError,
    NotFoundError,
    ProblemError,
    RateLimitedError,
    ResyncRequiredError,
    TransportError,
    WebhookError,
)
from app.client.mirror import MirrorReport, pull
from app.client.shapes import Change, ChangePage, ExportReport, ImportReport, Progress, Record
from app.client.webhooks import verify_webhook

__all__ = [
    "AsyncMinga",
    "Change",
    "ChangePage",
    "ConflictError",
    "ExportReport",
    "ImportReport",
    "Minga",
    "MingaError",
    "MirrorReport",
    "NotAuthorisedError",
    "NotFoundError",
    "ProblemError",
    "Progress",
    "RateLimitedError",
    "Record",
    "ResyncRequiredError",
    "TransportError",
    "WebhookError",
    "pull",
    "verify_webhook",
]
