"""Problem codes of this room."""

CODES: dict[str, tuple[int, str]] = {
    "round-open": (409, "The round is still open."),
    "round-closed": (409, "The round is closed; its ballots are sealed."),
    "no-quorum": (409, "Too few regions took part for the result to be adopted."),
    "list-changed": (409, "The list names other issues than the round that ranked them."),
    "issue-without-finding": (422, "An issue of the list cites no published finding."),
    "issue-not-adopted": (422, "An issue of the action stands in no adopted list you may read."),
    "partners-not-agreed": (409, "A partner named in the action has not accepted yet."),
    "display-withheld": (403, "The display this round was opened with does not give you this."),
    "not-acceptable": (406, "This address has no answer of a type you accept."),
}
