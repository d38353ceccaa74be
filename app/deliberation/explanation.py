"""Explanation: why one issue stands above the next, in words that give the numbers and hide no tie and no cycle."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from app.deliberation.aggregation import Ranking


class Ground(StrEnum):
    """What decides between two neighbours."""

    MAJORITY = "majority"
    CHAIN = "chain"
    BEATEN_BY_FEWER = "beaten-by-fewer"
    BORDA = "borda"
    TIED = "tied"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why `above` is shown before `below`.

    `chain` is a strongest chain of majorities from the one to the other (`below` back to `above` in `chain_back`),
    empty where there is none; `forward` and `back` are their strengths.
    """

    above: str
    below: str
    ground: Ground
    for_share: Fraction
    against_share: Fraction
    forward: Fraction
    back: Fraction
    chain: tuple[str, ...]
    chain_back: tuple[str, ...]
    beaten_by: tuple[str, ...] = ()
    borda: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))


def explain(ranking: Ranking) -> list[Explanation]:
    """One explanation for each pair of neighbours in the order of display."""
    return [_explain_pair(ranking, a, b) for a, b in zip(ranking.order, ranking.order[1:], strict=False)]


def _explain_pair(ranking: Ranking, a: int, b: int) -> Explanation:
    forward, back = ranking.paths[a][b], ranking.paths[b][a]
    chain = _strongest_chain(ranking, a, b)
    beaten_by: tuple[str, ...] = ()
    if forward > back:
        ground = Ground.MAJORITY if len(chain) == 2 else Ground.CHAIN
    elif ranking.ranks[a] != ranking.ranks[b]:
        ground = Ground.BEATEN_BY_FEWER
        beaten_by = tuple(name for c, name in enumerate(ranking.issues) if ranking.paths[c][b] > ranking.paths[b][c])
    else:
        ground = Ground.BORDA if ranking.borda[a] != ranking.borda[b] else Ground.TIED
    return Explanation(
        above=ranking.issues[a],
        below=ranking.issues[b],
        ground=ground,
        for_share=ranking.share(ranking.pairwise[a][b]),
        against_share=ranking.share(ranking.pairwise[b][a]),
        forward=ranking.share(forward),
        back=ranking.share(back),
        chain=chain,
        chain_back=_strongest_chain(ranking, b, a),
        beaten_by=beaten_by,
        borda=(ranking.borda[a], ranking.borda[b]),
    )


def _strongest_chain(ranking: Ranking, start: int, end: int) -> tuple[str, ...]:
    """The shortest of the strongest chains, the first in order of ids among equals; empty where there is none."""
    least = ranking.paths[start][end]
    if least == 0:
        return ()
    came_from: dict[int, int] = {start: start}
    waiting = deque([start])
    while end not in came_from:
        here = waiting.popleft()
        for there in range(len(ranking.issues)):
            wins = ranking.pairwise[here][there]
            if there not in came_from and wins >= least and wins > ranking.pairwise[there][here]:
                came_from[there] = here
                waiting.append(there)
    steps = [end]
    while steps[-1] != start:
        steps.append(came_from[steps[-1]])
    return tuple(ranking.issues[step] for step in reversed(steps))


def in_words(explanation: Explanation, names: Mapping[str, str]) -> str:
    """The explanation as English sentences; `names` gives what to call each issue."""
    above, below = names[explanation.above], names[explanation.below]
    direct = (
        f"ballots with {_share(explanation.for_share)} of the weight put {above} before {below},"
        f" {_share(explanation.against_share)} the other way round"
    )
    if explanation.ground is Ground.MAJORITY:
        text = f"{above} stands above {below} because {direct}."
        if explanation.back > 0:
            text += (
                f" There is a chain of majorities back ({_chain(explanation.chain_back, names)}),"
                f" but its weakest link is only {_share(explanation.back)}."
            )
        return text
    if explanation.ground is Ground.CHAIN:
        text = (
            f"{above} stands above {below} because of a chain of majorities: {_chain(explanation.chain, names)};"
            f" its weakest link has {_share(explanation.forward)} of the weight, while "
        )
        if explanation.back > 0:
            text += (
                f"the strongest chain back ({_chain(explanation.chain_back, names)}) has {_share(explanation.back)}."
            )
        else:
            text += "no chain leads back."
        return f"{text} Compared directly, {direct}."
    even = f"Between {above} and {below} neither chain of majorities is the stronger" + (
        f" (both {_share(explanation.forward)})" if explanation.forward > 0 else " (there is none)"
    )
    if explanation.ground is Ground.BEATEN_BY_FEWER:
        listed = ", ".join(names[name] for name in explanation.beaten_by)
        return (
            f"{even}; {above} stands above because fewer issues beat it. {below} is beaten by {listed}."
            f" Compared directly, {direct}."
        )
    first, second = explanation.borda
    if explanation.ground is Ground.BORDA:
        return (
            f"{even}, so they share a rank. {above} is shown first because its balanced Borda score is higher:"
            f" {first} against {second}."
        )
    return f"{even}, and their balanced Borda scores are equal ({first}): {above} and {below} are tied, and shown so."


def _share(value: Fraction) -> str:
    return f"{value} ({float(value) * 100:.1f} %)" if value.denominator > 1 else ("all" if value == 1 else "none")


def _chain(chain: tuple[str, ...], names: Mapping[str, str]) -> str:
    return " → ".join(names[name] for name in chain)
