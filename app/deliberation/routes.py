"""The endpoints of this room, for the one list of routers in `app.main`."""

from fastapi import APIRouter

from app.deliberation import (
    actions,
    analysis,
    ballots,
    charters,
    endorsements,
    gaps,
    results,
    rounds,
    stages,
    trail,
)

ROUTERS: tuple[APIRouter, ...] = (
    endorsements.router,
    trail.router,
    stages.router,
    rounds.router,
    ballots.router,
    results.router,
    charters.router,
    actions.router,
    analysis.router,
    gaps.router,
)
