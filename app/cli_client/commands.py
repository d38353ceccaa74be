"""The commands of a member, one function each.

Exit codes: 0 done · 1 refused by the service, not reached, interrupted, or some lines of an import refused · 2 used
wrongly, or no service named. With `--json` exactly one JSON document is written to standard output, and all else to
standard error.
"""

import argparse
import contextlib
import getpass
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from app.cli_client.credential import UsageError, connect, store_credential
from app.cli_client.terminal import bar, emit, say
from app.client import Minga, MingaError, ProblemError, pull

DONE, REFUSED, MISUSED = 0, 1, 2
FORMATS = ("ndjson", "csv")
SUFFIXES = (".ndjson", ".jsonl", ".json", ".csv")
PAGE_CHANGES = 100
Command = Callable[[argparse.Namespace], int]


def _with_limit(place: str, limit: int | None) -> str:
    """The address of a feed with pages of so many changes; None: of the usual size."""
    url = httpx.URL(place)
    return str(url.copy_remove_param("limit") if limit is None else url.copy_set_param("limit", limit))


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("not a whole number from 1")
    return int(text)


def filters_of(given: argparse.Namespace) -> dict[str, Any]:
    """The `--filter name=value` options as query parameters; a repeated name means any of."""
    found: dict[str, list[str]] = {}
    for pair in given.filter or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError("write a filter as name=value, for example --filter region=AFR")
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def login(given: argparse.Namespace) -> int:
    """Checks a credential and stores it."""
    client_id = given.client_id or os.environ.get("MINGA_CLIENT_ID")
    url = given.url or os.environ.get("MINGA_URL")
    if not url or not client_id:
        raise UsageError("login needs --url and --client-id (or MINGA_URL and MINGA_CLIENT_ID)")
    secret = os.environ.get("MINGA_CLIENT_SECRET")
    if not secret:
        with contextlib.suppress(EOFError):
            secret = getpass.getpass("client secret: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not secret:
        raise UsageError("no secret was given: type it, pipe it in, or set MINGA_CLIENT_SECRET")
    try:
        client = Minga(url, client_id=client_id, client_secret=secret, insecure=given.insecure)
    except ValueError as error:
        raise UsageError(str(error)) from None
    with client as minga:
        me = minga.me()
    path = store_credential(url.rstrip("/"), client_id, secret, insecure=given.insecure)
    emit(given, {"organisation": me["organisation"], "stored": str(path)}, f"{me['organisation']['name']}: {path}")
    return DONE


def me(given: argparse.Namespace) -> int:
    """Shows who is calling."""
    with connect(given) as minga:
        found = minga.me()
    one = found["organisation"]
    emit(given, found, f"{one['name']}  {one['id']}  {' '.join(found.get('scopes', ()))}")
    return DONE


def list_records(given: argparse.Namespace) -> int:
    """Lists records, newest first."""
    found = []
    with connect(given) as minga, bar(given.plural) as progress:
        wanted = {"limit": min(given.count, 200), **filters_of(given)}
        for record in minga.records(given.plural, **wanted):
            found.append(record)
            progress(len(found), None)
            if len(found) >= given.count:
                break
    shown = (f"{one['id']}  {one['tlp']:<12}  {one['status']:<9}  {one['title']}" for one in found)
    emit(given, {"items": found}, "\n".join(shown))
    return DONE


def show(given: argparse.Namespace) -> int:
    """Shows one record."""
    with connect(given) as minga:
        record = minga.get(given.plural, given.id)
    emit(given, record, json.dumps(record, ensure_ascii=False, indent=2))
    return DONE


def push(given: argparse.Namespace) -> int:
    """Stores one record: replaces it when the body names its id, or your external id is known; else makes it."""
    try:
        raw = sys.stdin.buffer.read() if given.file == "-" else Path(given.file).read_bytes()
        body = json.loads(raw)
    except OSError as error:
        raise UsageError(f"{given.file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError("the file holds no JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise UsageError("the file holds no JSON object; several records go by `minga import`")
    with connect(given) as minga:
        if "id" in body:
            version = body.get("version") or minga.get(given.plural, body["id"])["version"]
            record = minga.replace(given.plural, body["id"], body, version=version)
        elif given.external_id:
            record = minga.put_by_external_id(given.plural, given.external_id, body, version=given.version)
        else:
            # The same file pushed again after a lost answer is answered with the record it made the first time.
            key = f"push-{hashlib.sha256(given.plural.encode() + raw).hexdigest()}"
            record = minga.create(given.plural, body, key=key)
    emit(given, record, f"{record['id']}  version {record['version']}  {record['status']}")
    return DONE


def pull_folder(given: argparse.Namespace) -> int:
    """Brings a folder in step: one NDJSON file for each kind. Safe to interrupt and to repeat."""
    filters = filters_of(given)
    if given.kinds:
        filters["kinds"] = given.kinds
    with connect(given) as minga, bar("changes") as progress:
        report = pull(minga, Path(given.folder), progress=progress, **filters)
    document = {
        "written": report.written,
        "removed": report.removed,
        "fresh": report.fresh,
        "records": report.kinds,
    }
    afresh = ", from a fresh start" if report.fresh else ""
    emit(given, document, f"{report.written} written, {report.removed} removed{afresh}")
    return DONE


def watch(given: argparse.Namespace) -> int:
    """Writes a line of JSON for each change as it comes; with --json one document when it ends."""
    filters = filters_of(given) | ({"kinds": given.kinds} if given.kinds else {})
    if given.json and not (given.count or given.seconds):
        raise UsageError("watch --json ends with its one document: say --count or --seconds")
    if given.after and not given.after.startswith(("http://", "https://")):
        raise UsageError("--after takes a whole address: `next` of watch --json, or `feed` of an export")
    seen: list[dict[str, Any]] = []
    place = given.after
    ends_at = time.monotonic() + given.seconds if given.seconds else float("inf")
    with connect(given) as minga, contextlib.suppress(KeyboardInterrupt):
        if place is None and not given.all:
            for page in minga.changes(**filters):
                place = page.next
        while time.monotonic() < ends_at and (not given.count or len(seen) < given.count):
            wait = int(min(30, max(1, ends_at - time.monotonic())))
            limit = min(PAGE_CHANGES, given.count - len(seen)) if given.count else PAGE_CHANGES
            asked = ({}, _with_limit(place, limit)) if place else ({**filters, "limit": limit}, None)
            page = next(iter(minga.changes(asked[1], wait_seconds=wait, **asked[0])))
            place = _with_limit(page.next, None)
            for item in page.items:
                change = {"type": item.type, "kind": item.kind, "id": item.id, "version": item.version, "at": item.at}
                seen.append(change)
                if not given.json:
                    emit(given, change, json.dumps(change))
    if given.json:
        emit(given, {"items": seen, "next": place}, "")
    return DONE


def export(given: argparse.Namespace) -> int:
    """Writes every record of a kind that you may read to a file, or to standard output."""
    with connect(given) as minga, bar(given.plural) as progress:
        filters = filters_of(given)
        if given.out is None:
            if given.json:
                raise UsageError("export --json describes the file: say --out")
            minga.export(given.plural, sys.stdout.buffer, format=given.format, progress=progress, **filters)
            return DONE
        path = Path(given.out)
        if path.exists() and not path.is_file():
            raise UsageError("--out names something that is no file; without it standard output is written")
        beside = path.with_name(f".{path.name}.part")
        try:
            with beside.open("wb") as out:
                if path.exists():
                    beside.chmod(path.stat().st_mode & 0o777)
                report = minga.export(given.plural, out, format=given.format, progress=progress, **filters)
                out.flush()
                os.fsync(out.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)  # what was there before stays until the new file is whole
    document = {"path": str(path), "rows": report.rows, "size_bytes": report.size_bytes, "feed": report.feed}
    emit(given, document, f"{report.rows} rows in {path}")
    return DONE


def import_file(given: argparse.Namespace) -> int:
    """Sends a file of records; says for each refused line what was wrong."""
    path = Path(given.file)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if not given.format and path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path.name} tells no format: say --format ndjson or --format csv")
    with connect(given) as minga:
        with bar("import") as progress:
            report = minga.import_records(
                path,
                kind=given.kind,
                format=given.format,
                dry_run=given.dry_run,
                atomic=given.atomic,
                key=given.key,
                progress=progress,
            )
        try:
            # Problems are told as they come, so that a million of them need no memory.
            for entry in minga.import_entries(report.id) if report.more and report.id else report.problems:
                if "code" in entry:
                    say(" ".join(filter(None, (f"line {entry.get('line')}:", entry.get("pointer"), entry["code"]))))
        except MingaError as error:
            say(f"minga: the import is over, but its report could not be read to the end: {error}")
    if not report.complete:
        say("the report is not complete: there was no room for what follows")
    text = f"{report.created} created, {report.updated} updated, {report.unchanged} unchanged, {report.failed} refused"
    if repeated := report.document.get("repeated"):
        text += f", {repeated} about records of earlier lines"
    if given.dry_run:
        text = f"dry run, nothing is stored: {text}; the difference of each line is in --json and in the report"
    elif report.status != "done":
        text += f"; nothing was stored ({report.document.get('reason') or report.status})"
    emit(given, dict(report.document), text)
    return DONE if report.status == "done" and not report.failed else REFUSED


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the member's commands. Each sets `run`; call it through `carry_out`."""
    kinds = "cases, issues, events …"

    def command(name: str, run: Command, *, filters: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        stored = "" if name == "login" else ", else the stored one"
        added.add_argument("--url", help=f"address of the service (else MINGA_URL{stored})")
        added.add_argument("--json", action="store_true", help="one JSON document on standard output")
        if filters:
            added.add_argument("--filter", action="append", metavar="NAME=VALUE", help="as region=AFR; may be repeated")
        return added

    added = command("login", login)
    added.add_argument("--client-id", help="else MINGA_CLIENT_ID")
    added.add_argument("--insecure", action="store_true", help="allow plain http on a line you trust")
    command("me", me)
    added = command("list", list_records, filters=True)
    added.add_argument("plural", help=kinds)
    added.add_argument("--count", type=_count, default=20, help="at most so many (20)")
    added = command("show", show)
    added.add_argument("plural", help=kinds)
    added.add_argument("id")
    added = command("push", push)
    added.add_argument("plural", help=kinds)
    added.add_argument("file", help="a JSON object; - for standard input")
    added.add_argument("--external-id", help="your own name for the record")
    added.add_argument("--version", type=int, help="the version you read, to replace a record by external id")
    added = command("pull", pull_folder, filters=True)
    added.add_argument("folder", help="made if it is missing; other kinds or filters than last time begin it anew")
    added.add_argument("--kinds", action="append", help="only this kind, as case; may be repeated")
    added = command("watch", watch, filters=True)
    added.add_argument("--kinds", action="append", help="only this kind, as case; may be repeated")
    added.add_argument("--after", help="go on from this address: `next` of --json, or `feed` of an export")
    added.add_argument("--all", action="store_true", help="begin with everything that is there")
    added.add_argument("--count", type=_count, help="end after so many changes")
    added.add_argument("--seconds", type=float, help="end after so many seconds")
    added = command("export", export, filters=True)
    added.add_argument("plural", help=kinds)
    added.add_argument("--format", choices=FORMATS, default="ndjson", help="ndjson unless you say")
    added.add_argument("--out", help="file to write; standard output without it")
    added = command("import", import_file)
    added.add_argument("file", help="NDJSON or CSV")
    added.add_argument("--kind", help="kind of lines that do not name theirs")
    added.add_argument("--format", choices=FORMATS, help="else by the name of the file")
    added.add_argument("--dry-run", action="store_true", help="say what each line would do, store nothing")
    added.add_argument("--atomic", action="store_true", help="all lines or none")
    added.add_argument("--key", help="a name for this file: sent again under it, the file counts once")


def carry_out(given: argparse.Namespace) -> int:
    """The exit code after running a command of `register`; errors become one line, or one JSON document."""
    try:
        code: int = given.run(given)
        sys.stdout.flush()
        return code
    except UsageError as error:
        code = MISUSED
        document: dict[str, Any] = {"code": "usage", "detail": str(error)}
    except ProblemError as error:
        detail = f"{error} Say it by --version." if error.code == "precondition-required" else str(error)
        code, document = REFUSED, {**error.problem, "status": error.status, "code": error.code, "detail": detail}
    except BrokenPipeError:
        # Whoever read standard output has enough; Python must not try to write the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except OSError as error:
        detail = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        code, document = REFUSED, {"code": type(error).__name__, "detail": detail}
    except MingaError as error:
        code, document = REFUSED, {"code": type(error).__name__, "detail": str(error)}
    except KeyboardInterrupt:
        code, document = REFUSED, {"code": "interrupted", "detail": "interrupted"}
    say(f"minga: {document['detail']}")
    if given.json:
        emit(given, {"error": document}, "")
    return code
