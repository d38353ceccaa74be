"""Changes: what a caller asks of a record, and the state that follows. Pure: no database."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from app import reference
from app.http.body import validated
from app.http.problem import Fault, Problem
from app.records.kind import Body, Envelope, Kind, Status
from app.records.marking import Marking, requested_marking
from app.records.render import COMPUTED
from app.records.state import State

MAX_EXTERNAL_ID = 200
ENVELOPE_FIELDS = ("tlp", "audience", "status", "external_id")
FIXED_FIELDS = ("id", "kind", "organisation")


class Action(StrEnum):
    """What a revision says was done."""

    CREATE = "create"
    REPLACE = "replace"
    PATCH = "patch"
    AMEND = "amend"
    PUBLISH = "publish"
    WITHDRAW = "withdraw"
    RESTORE = "restore"
    ERASE = "erase"
    QUARANTINE = "quarantine"
    RELEASE = "release"


STEWARD_ACTIONS = frozenset({Action.QUARANTINE, Action.RELEASE})


@dataclass(frozen=True, slots=True)
class Change:
    """One change asked for. `record_id` is None for a create, and for a replace addressed by `external_id`.

    `expected_version` is what If-Match named. `amendment` and `stage` are set by a kind's own verbs, never by a body.
    """

    kind: Kind
    action: Action
    record_id: UUID | None = None
    body: Mapping[str, Any] | None = None
    external_id: str | None = None
    expected_version: int | None = None
    stage: str | None = None
    amendment: Mapping[str, Any] | None = None


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON Merge Patch. Source: RFC 7396 §2."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def next_state(change: Change, before: State | None, *, new_id: UUID, owner: UUID, now: datetime) -> State:
    """The state after `change`. The caller's right to it has been settled before.

    Errors: 409 `illegal-transition`, `quarantined`; 412 `stale-version`; 422 as the body deserves.
    """
    if before is None:
        return _created(change, new_id, owner, now)
    if change.expected_version is not None and change.expected_version != before.version:
        raise Problem("stale-version", extra={"current_version": before.version})
    if before.erased_at is not None:
        raise Problem("illegal-transition", "The record has been erased.")
    if before.stage in change.kind.immutable_stages and change.action is not Action.AMEND:
        raise Problem("illegal-transition", f"A {change.kind.name} in stage {before.stage} does not change any more.")
    after = _ACTIONS[change.action](change, before, now)
    if change.action is not Action.AMEND:
        _keep_settled(change.kind, before, after)
    if after.same_as(before):
        return before
    moved = replace(after, version=before.version + 1, updated_at=max(now, before.updated_at))
    _check(change.kind, moved)
    return moved


def _keep_settled(kind: Kind, before: State, after: State) -> None:
    """What others agreed to, or vote on, does not change under them. Errors: 409 `illegal-transition`."""
    fields = kind.settled.get(before.stage or "", frozenset()) if after.erased_at is None else frozenset()
    changed = sorted(name for name in fields if before.body.get(name) != after.body.get(name))
    if changed:
        raise Problem(
            "illegal-transition",
            f"In stage {before.stage}, {' and '.join(changed)} do not change any more.",
            errors=[Fault(f"/{name}", "settled") for name in changed],
        )


def _created(change: Change, new_id: UUID, owner: UUID, now: datetime) -> State:
    given = dict(change.body or {})
    _match_address(change, given)
    if change.external_id is None:
        _refuse_computed(given)
    else:
        given["external_id"] = change.external_id
        for name in (*FIXED_FIELDS, *COMPUTED):
            if name != "status":
                given.pop(name, None)
    status = given.pop("status", Status.DRAFT)
    if status not in (Status.DRAFT, Status.PUBLISHED):
        raise Problem("invalid-body", errors=[Fault("/status", "unknown-status")])
    marking = requested_marking(given, Marking(change.kind.default_tlp))
    external_id = _external_id(given, None)
    state = State(
        id=new_id,
        kind=change.kind.name,
        organisation_id=owner,
        external_id=external_id,
        status=Status(status),
        stage=change.kind.first_stage,
        marking=marking,
        version=1,
        created_at=now,
        updated_at=now,
        published_at=now if status == Status.PUBLISHED else None,
        **_checked(change.kind, _without_envelope(given)),
    )
    _check(change.kind, state)
    return state


def _replaced(change: Change, before: State, _now: datetime) -> State:
    given = dict(change.body or {})
    _present(before)
    _match_address(change, given)
    _match_fixed(given, before)
    if given.pop("version", before.version) != before.version:
        raise Problem("stale-version", extra={"current_version": before.version})
    if given.pop("status", before.status) != before.status:
        raise Problem("use-verb", errors=[Fault("/status", "use-verb")])
    for name in COMPUTED:
        given.pop(name, None)
    return _with_body(change, before, given, _without_envelope(given))


def _patched(change: Change, before: State, _now: datetime) -> State:
    given = dict(change.body or {})
    _present(before)
    if "status" in given:
        raise Problem("use-verb", errors=[Fault("/status", "use-verb")])
    _refuse_computed(given)
    return _with_body(change, before, given, merge_patch(before.body, _without_envelope(given)))


def _with_body(change: Change, before: State, given: Mapping[str, Any], body: Mapping[str, Any]) -> State:
    return replace(
        before,
        marking=requested_marking(dict(given), before.marking),
        external_id=_external_id(given, before.external_id),
        **_checked(change.kind, body),
    )


def _amended(change: Change, before: State, _now: datetime) -> State:
    body = {**before.body, **(change.amendment or {})}
    return replace(before, stage=change.stage or before.stage, **_checked(change.kind, body))


def _published(_change: Change, before: State, now: datetime) -> State:
    if before.quarantined_at is not None:
        raise Problem("quarantined")
    if before.status is not Status.DRAFT:
        raise Problem("illegal-transition", "Only a draft can be published.")
    return replace(before, status=Status.PUBLISHED, published_at=before.published_at or now)


def _withdrawn(_change: Change, before: State, _now: datetime) -> State:
    if before.status is Status.WITHDRAWN:
        raise Problem("withdrawn")
    return replace(before, status=Status.WITHDRAWN)


def _restored(_change: Change, before: State, _now: datetime) -> State:
    """Back to what it was: published if it ever was and no steward stands against it, else a draft."""
    if before.status is not Status.WITHDRAWN:
        raise Problem("illegal-transition", "Only a withdrawn record can be restored.")
    published = before.published_at is not None and before.quarantined_at is None
    return replace(before, status=Status.PUBLISHED if published else Status.DRAFT)


def _erased(change: Change, before: State, now: datetime) -> State:
    body = dict.fromkeys(change.kind.body.model_fields)
    lists: dict[str, list[str]] = {"countries": [], "regions": [], "topics": []}
    return replace(
        before,
        status=Status.WITHDRAWN,
        external_id=None,
        body={**body, **lists, "title": "", "language": "und"},
        erased_at=now,
    )


def _quarantined(_change: Change, before: State, now: datetime) -> State:
    if before.status is not Status.PUBLISHED:
        raise Problem("illegal-transition", "Only a published record can be taken out of publication.")
    return replace(before, status=Status.DRAFT, quarantined_at=now)


def _released(_change: Change, before: State, _now: datetime) -> State:
    if before.quarantined_at is None:
        raise Problem("illegal-transition", "The record is not quarantined.")
    return replace(before, quarantined_at=None)


_ACTIONS = {
    Action.REPLACE: _replaced,
    Action.PATCH: _patched,
    Action.AMEND: _amended,
    Action.PUBLISH: _published,
    Action.WITHDRAW: _withdrawn,
    Action.RESTORE: _restored,
    Action.ERASE: _erased,
    Action.QUARANTINE: _quarantined,
    Action.RELEASE: _released,
}


def checked_body(kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON form of a valid body, with the regions of its countries added.

    Errors: 422 `invalid-body`.
    """
    body: dict[str, Any] = _checked(kind, given)["body"]
    return body


def _checked(kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """The members `body` and `checked` of a state made of this body."""
    try:
        checked = validated(kind.body, given)
    except Problem as problem:
        if problem.detail is not None:
            problem.detail = f"Known fields: {', '.join(sorted((*kind.body.model_fields, *ENVELOPE_FIELDS)))}."
        raise
    body: dict[str, Any] = checked.model_dump(mode="json")
    for name in ("countries", "topics"):
        body[name] = list(dict.fromkeys(body[name]))
    wanted = {*body["regions"], *reference.regions_of(body["countries"])}
    body["regions"] = [code for code in reference.REGIONS if code in wanted]
    return {"body": body, "checked": checked}


def require_publishable(kind: Kind, state: State) -> None:
    """Passes when the record has what a published one of its kind needs. Errors: 422 `not-publishable`."""
    faults = [
        Fault("/" + names.split("|")[0], "required-to-publish")
        for names in ("summary", *kind.required)
        if not any(state.body.get(name) for name in names.split("|"))
    ]
    if faults:
        raise Problem("not-publishable", errors=faults)
    _apply_rules(kind, state)


def _check(kind: Kind, state: State) -> None:
    if state.status is Status.PUBLISHED:
        require_publishable(kind, state)
    elif state.status is Status.DRAFT:
        _apply_rules(kind, state)


def _apply_rules(kind: Kind, state: State) -> None:
    if not kind.rules:
        return
    body: Body = state.checked or kind.body.model_validate(state.body)
    around = Envelope(state.status, state.stage, state.marking.tlp, state.marking.audience, state.organisation_id)
    faults = [fault for rule in kind.rules for fault in rule(body, around) or ()]
    if faults:
        raise Problem("invalid-body", errors=faults)


def _present(before: State) -> None:
    if before.status is Status.WITHDRAWN:
        raise Problem("withdrawn", "Restore the record before you change it.")


def _match_address(change: Change, given: Mapping[str, Any]) -> None:
    """A body put under an external id names that one or none. Errors: 422 `read-only-field`."""
    if change.external_id is not None and given.get("external_id", change.external_id) != change.external_id:
        raise Problem("read-only-field", errors=[Fault("/external_id", "read-only-field")])


def _match_fixed(given: dict[str, Any], before: State) -> None:
    """PUT of what GET gave works: identity must agree, the rest of what is computed is ignored."""
    owner = given.get("organisation", {"id": str(before.organisation_id)})
    owner_id = owner.get("id") if isinstance(owner, Mapping) else owner
    wrong = [
        Fault(f"/{name}", "read-only-field")
        for name, equal in (
            ("id", given.get("id", str(before.id)) == str(before.id)),
            ("kind", given.get("kind", before.kind) == before.kind),
            ("organisation", owner_id == str(before.organisation_id)),
        )
        if not equal
    ]
    if wrong:
        raise Problem("read-only-field", errors=wrong)


def _refuse_computed(given: Mapping[str, Any]) -> None:
    wrong = [Fault(f"/{name}", "read-only-field") for name in COMPUTED if name in given and name != "status"]
    if wrong:
        raise Problem("read-only-field", errors=wrong)


def _without_envelope(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ENVELOPE_FIELDS and name not in FIXED_FIELDS}


def _external_id(given: Mapping[str, Any], current: str | None) -> str | None:
    value = given.get("external_id", current)
    if value is None or (isinstance(value, str) and 0 < len(value) <= MAX_EXTERNAL_ID and value.isprintable()):
        return value
    raise Problem("invalid-body", errors=[Fault("/external_id", "invalid-external-id")])


def targets(kind: Kind, body: Mapping[str, Any], *, organisations: bool = False) -> Iterable[tuple[str, str, UUID]]:
    """(relation, pointer, id) of each reference in a body."""
    for path in kind.organisation_refs if organisations else kind.refs:
        for pointer, found in path.find(body):
            yield path.relation, pointer, UUID(found)
