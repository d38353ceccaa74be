"""The finer codes: what `errors` says of a place, why something ended, how an attempt went, each in one sentence.

docs/problems.md, `GET /problems/{code}` and the contract are made from these. A code is in one table only and never a
problem code at the same time, but for those in `SHARED`, whose sentence is the problem's. A test holds them and the
source together, both ways.
"""

FAULTS: dict[str, str] = {
    # any body
    "blank": "A text needs at least one visible character.",
    "bool-type": "Needs true or false.",
    "duplicate": "This is named twice, or is the owner itself.",
    "enum": "This is not one of the values the schema lists.",
    "float-type": "Needs a number.",
    "forbidden-character": "A text holds a control character other than line feed and tab.",
    "greater-than-equal": "The number is smaller than the smallest allowed.",
    "int-type": "Needs a whole number.",
    "invalid": "The value is not one this place takes.",
    "invalid-date": "Needs a date that exists: a year, a month or a day, such as 2017, 2017-07 or 2017-07-14.",
    "invalid-id": "Needs an id, which is a UUID.",
    "invalid-instant": "Needs a date and time with a time zone, such as 2026-11-21T20:00:00Z.",
    "less-than-equal": "The number is larger than the largest allowed.",
    "list-type": "Needs a list.",
    "object-required": "Needs an object.",
    "required": "Is needed, and missing.",
    "string-pattern-mismatch": "The text does not have the form that the schema describes.",
    "string-too-long": "The text is longer than allowed.",
    "string-too-short": "The text is shorter than allowed.",
    "string-type": "Needs a text.",
    "too-deep": "The body is nested too deeply.",
    "too-long": "There is more here than allowed.",
    "too-short": "There is less here than needed.",
    "unknown-field": "The object holds a member that is not known here.",
    # words of the vocabularies
    "bidi-control": "A name holds a character that turns the direction of writing.",
    "line-break": "A name has one line.",
    "topic-outside-branch": "The concept is known, but this field takes those of another branch.",
    "unknown-country": "This is not a country of /v1/countries.",
    "unknown-kind": "This is not a kind of record.",
    "unknown-language": "This is not a language tag such as fr, pt-BR or sr-Latn.",
    "unknown-licence": "This is not an SPDX licence identifier.",
    "unknown-region": "This is not a region of /v1/regions.",
    "unknown-topic": "This is not a concept of /v1/vocabularies/topics.",
    # records
    "context-empty": "A context names a region or a country, or gives a note.",
    "invalid-audience": "An audience is a list of ids of organisations, not longer than allowed.",
    "invalid-external-id": "An external_id is a printable text of 1 to 200 characters.",
    "invalid-identifier": "The identifier does not fit its scheme; in an ISBN the check digit must fit.",
    "organisation-or-name": "Name someone by `organisation` or by `name`, and not by both.",
    "outcome-before-start": "The outcome lies before the start of the period.",
    "period-order": "The end lies before the start.",
    "pilot-too-long": "A pilot has an end, at most twelve months from its start.",
    "required-to-publish": "A published record needs this.",
    "series-required": "A number in a series needs the name of the series.",
    "settled": "Others agreed to this or vote on it, so it does not change any more.",
    "summary-too-long": "The summary of a published case has at most 250 words.",
    "unknown-marking": "This is not a marking: clear, green, amber or amber+strict.",
    "unknown-status": "This is not a status a record can begin with.",
    # organisations and credentials
    "claim-code-not-valid": "The code is wrong, was used, or is too old; ask a steward for another.",
    "in-the-past": "The time is over already.",
    "organisation-not-found": "There is no such organisation that you may see.",
    "scope-not-granted": "The credential in use does not have this scope, so it cannot give it.",
    "unknown-scope": "This is not a scope.",
    # deliberation
    "finding-required": "This issue cites no published finding, which an adopted list needs.",
    "in-the-future": "The day has not come yet.",
    "issue-not-in-round": "The round does not vote on this issue.",
    "issue-required": "An action names at least one issue.",
    "share-out-of-range": "A share is a fraction above 0 and at most 1, such as 2/3.",
    "too-precise": "The number has more than four decimals.",
    "working-mechanisms-only": "Settings belong to the working mechanisms and to no other part of the charter.",
    # imports
    "invalid-utf8": "The line is not UTF-8.",
    "line-too-long": "The line has more than 256 kB.",
    "malformed-row": "The quotes of the row do not fit together.",
    "repeated": "The column is named twice.",
    "too-many-cells": "The row has more cells than there are columns.",
    "unknown-column": "No record of this kind has this column.",
    "unknown-translation": "The column is for a text that has no translation, or for what is no language tag.",
    # addresses of web sites and webhooks
    "address-not-public": "The host is, or leads to, an address that is not on the public internet.",
    "host-not-allowed": "A webhook cannot go to a host of this name.",
    "https-required": "A webhook needs an https address.",
    "name-not-found": "The name of the host leads to no address.",
    "not-a-web-address": "Needs an http or https address with a host name and without a user name.",
    "port-not-allowed": "A webhook cannot go to this port; 443 is allowed.",
}
"""Codes in `errors`, and in the `problems` of an import."""

REASONS: dict[str, str] = {
    "credential-ended": "The credential that began the import has ended or lost its scopes; nothing more is stored.",
    "failing": "The receiver has failed for more than a day.",
    "gone": "The receiver answered 410.",
    "lines-refused": "Some line was refused and the import is atomic, so nothing was stored.",
    "secret-lost": "The service can no longer open the webhook's secret; register the webhook again.",
}
"""Codes in `reason` of imports and webhooks that ended."""

OUTCOMES: dict[str, str] = {
    "2xx": "The receiver has the message.",
    "3xx": "The receiver named another address; redirects are not followed.",
    "4xx": "The receiver refused the message.",
    "5xx": "The receiver failed.",
    "challenge-not-echoed": "The first kilobyte of the answer to the challenge does not hold its text.",
    "connection": "The connection could not be made, or broke.",
    "no-longer-readable": "When it was to be sent, the record was nothing you may hear of any more.",
    "sending": "The message is on its way for the first time.",
    "timeout": "The receiver did not answer in time.",
}
"""Codes in `last_outcome` of a delivery, beside those of an address that may not be called any more."""

SHARED: dict[str, frozenset[str]] = {
    "errors": frozenset(
        {
            "audience-not-applicable", "audience-not-found", "issue-not-adopted", "marking-not-supported",
            "read-only-field", "reference-not-readable", "use-verb",
        }
    ),
    "reason": frozenset({"internal"}),
}  # fmt: skip
"""Problem codes that stand in these places too."""

PLACES: dict[str, dict[str, str]] = {"errors": FAULTS, "reason": REASONS, "last_outcome": OUTCOMES}


def explained(code: str) -> tuple[str, str] | None:
    """(the member where the code stands, its sentence); None for a code that is none of these."""
    return next(((place, codes[code]) for place, codes in PLACES.items() if code in codes), None)
