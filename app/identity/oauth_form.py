"""Forms at /oauth: read strictly, the client in them checked, refusals answered as RFC 6749 §5.2 says."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, unquote_plus

from fastapi import Request, Response
from starlette.background import BackgroundTask

from app.db.pool import Database
from app.http.body import media_type
from app.http.rate import charge_token_request
from app.http.responses import json_response
from app.identity import audit, credentials
from app.identity.credentials import Authenticated
from app.identity.state import IdentityState

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 32_768
MAX_FIELDS = 30


class Refusal(Exception):
    """An OAuth error: `code` of RFC 6749 §5.2 or the standard that adds it, and the status that goes with it."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.description = description
        self.status = status


class _ClientRefused(Refusal):
    """The same words for an unknown client, a wrong secret, and a credential that is not welcome any more."""

    def __init__(self, client_id: str) -> None:
        super().__init__("invalid_client", "The client is unknown, its secret is wrong, or it may not call.", 401)
        self.client_id = client_id


async def read_form(request: Request) -> dict[str, str]:
    """The fields of the form in the body; empty ones count as absent. Errors: Refusal `invalid_request`."""
    if request.scope["query_string"]:
        raise Refusal("invalid_request", "Parameters belong in the body, not in the address.")
    essence, charset = media_type(request)
    if essence != FORM or charset not in ("", "utf-8", "utf8"):
        raise Refusal("invalid_request", f"Send the body as {FORM} in UTF-8.")
    body = await request.body()
    if len(body) > MAX_FORM_BYTES:
        raise Refusal("invalid_request", "The body is too large.")
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise Refusal("invalid_request", "The body is not a form.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal("invalid_request", "A parameter is given twice.")
    return {name: value for name, value in fields.items() if value}


def offered(request: Request, form: Mapping[str, str]) -> tuple[str, str] | None:
    """Client id and secret from HTTP Basic or the form, None when there are none. Errors: Refusal."""
    headers = request.headers.getlist("authorization")
    if not headers:
        if "client_secret" not in form and "client_id" not in form:
            return None
        return form.get("client_id", ""), form.get("client_secret", "")
    if len(headers) > 1 or "client_secret" in form:
        raise Refusal("invalid_request", "Authenticate in one way only.")
    scheme, _, encoded = headers[0].partition(" ")
    if scheme.lower() != "basic":
        raise _ClientRefused("")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _ClientRefused("") from None
    client_id, _, client_secret = decoded.partition(":")
    client_id = unquote_plus(client_id)
    if form.get("client_id", client_id) != client_id:
        raise Refusal("invalid_request", "The form names another client than the header.")
    return client_id, unquote_plus(client_secret)


async def authenticated(request: Request, form: Mapping[str, str]) -> Authenticated:
    """The credential that proved itself. Errors: Refusal `invalid_client`; 429; 503."""
    given = offered(request, form)
    if given is None:
        raise _ClientRefused("")
    client_id, client_secret = given
    database: Database = request.app.state.database
    async with database.connection() as connection:
        found = await credentials.authenticate(connection, request.app.state.secret, client_id, client_secret)
    await charge_token_request(request, client_id, right_secret=found is not None)
    if found is None:
        raise _ClientRefused(client_id)
    return found


async def answered(request: Request, work: Callable[[Request, dict[str, str]], Awaitable[Response]]) -> Response:
    """What `work` answers to the form, or its refusal as OAuth JSON. None of it may be stored on the way."""
    try:
        response = await work(request, await read_form(request))
    except Refusal as refusal:
        body = {"error": refusal.code, "error_description": refusal.description}
        response = json_response(body, refusal.status)
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="minga", charset="UTF-8"'
        if isinstance(refusal, _ClientRefused):
            # After the answer, and for every client id alike, so that its time tells nothing.
            response.background = BackgroundTask(_tell_refusal, request, refusal.client_id)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    return response


async def _tell_refusal(request: Request, client_id: str) -> None:
    """One audit event a minute at most for each credential whose secret somebody got wrong."""
    identity: IdentityState = request.app.state.identity
    if not credentials.is_client_id(client_id) or not identity.refusal_is_news(client_id):
        return
    database: Database = request.app.state.database
    async with database.transaction(vital=True) as connection:
        cursor = await connection.execute(
            "SELECT id, organisation_id FROM credential WHERE client_id = %(client_id)s", {"client_id": client_id}
        )
        row = await cursor.fetchone()
        if row is not None:
            details = {"credential": str(row[0]), "client_id": client_id}
            await audit.record(connection, "token.refuse", audit.SYSTEM, organisation_id=row[1], details=details)
