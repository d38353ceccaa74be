"""Words of the identity room: kinds, listings and statuses of organisations.

Apart from the tables, because the service runs without SQLAlchemy and starts a second faster for it.
"""

KINDS = (
    "civil-society-organisation",
    "network",
    "academia",
    "think-tank",
    "international-ngo",
    "donor",
    "intergovernmental",
    "node",
)
LISTINGS = ("public", "members", "unlisted")
STATUSES = ("not-claimed", "invited", "active", "suspended", "left")
