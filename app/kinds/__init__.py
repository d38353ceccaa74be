"""The kinds of records. A new kind is one file in this room and one line in `KINDS`."""

from app.kinds.actions import ACTIONS
from app.kinds.cases import CASES
from app.kinds.charters import CHARTERS
from app.kinds.events import EVENTS
from app.kinds.findings import FINDINGS
from app.kinds.issue_lists import ISSUE_LISTS
from app.kinds.issues import ISSUES
from app.kinds.resources import RESOURCES
from app.records.kind import Kind

KINDS: tuple[Kind, ...] = (ISSUES, ISSUE_LISTS, CASES, RESOURCES, EVENTS, FINDINGS, CHARTERS, ACTIONS)
