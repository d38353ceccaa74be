"""The member's side of the `minga` command: everything here goes through `app.client` and nothing else of the app."""

from app.cli_client.commands import DONE, MISUSED, REFUSED, carry_out, register
from app.cli_client.credential import store_credential

__all__ = ["DONE", "MISUSED", "REFUSED", "carry_out", "register", "store_credential"]
