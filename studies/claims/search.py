"""The search: a small grid for each arm on validation, judged by one criterion that was fixed beforehand.

CRITERION: the highest fact F1 on validation among the points whose hallucination rate is not above the base's and whose
closed accuracy is at most TOLERATED below it; where there is no such point, the highest F1 of all. Points that diverged
are out. First learning rate x beta, then the arm's own weight at the best of these. The pool that is searched on gives
no results, and nobody of test or shifted is asked. Every point stays in the log.
"""

from collections.abc import Callable

from studies.claims.lineup import ARMS, BASE, Arm
from studies.claims.pool import FULL, SEARCHED
from studies.claims.store import Bench, read, search_facts

TOLERATED = 0.02
WATCHED = ("fact_f1", "hallucination_rate", "closed_accuracy", "fact_precision", "fact_recall")
CRITERION = (
    "the highest fact F1 on validation among the points whose hallucination rate is not above the base's and whose "
    f"closed accuracy is at most {TOLERATED:g} below it"
)


def chosen(bench: Bench, arm: Arm) -> dict | None:
    """The settings that the arm's search chose (or those of the arm that it is like); None while that is unfinished.

    Where nothing is searched, as in the small run, the settings are those of the committed search, else the second of
    the grid.
    """
    if arm.name == BASE:
        return {}
    if arm.like:
        return chosen(bench, ARMS[arm.like])
    if bench.sizes.search:
        return best_point(lambda point: look(bench, arm, point), base_line(bench), arm)
    full = Bench(bench.model, FULL, bench.seed, bench.out, bench.keep)
    return best_point(lambda point: look(full, arm, point), base_line(full), arm) or arm.points()[1]


def best_point(find: Callable[[dict], dict | None], base: dict | None, arm: Arm) -> dict | None:
    """The best of grid and own weight, where `find` gives the figures of a point; None while one is missing."""
    first = arm.points()
    seen = [find(point) for point in first]
    if base is None or None in seen:
        return None
    best = first[rank(seen, base)]
    more = [best, *arm.further(best)]
    seen = [find(point) for point in more]
    return None if None in seen else more[rank(seen, base)]


def rank(seen: list[dict], base: dict) -> int:
    """Which of these figures is best by the criterion; the first of equals. Raises ValueError where all diverged."""
    alive = [n for n, figures in enumerate(seen) if figures.get("fact_f1") is not None]
    if not alive:
        raise ValueError("every point of the search diverged: give the arm lower learning rates in lineup.py")
    fit = [n for n in alive if allowed(seen[n], base)] or alive
    return max(fit, key=lambda n: (seen[n]["fact_f1"], -n))


def allowed(figures: dict, base: dict) -> bool:
    """Whether the criterion lets the figures compete."""
    return (figures["hallucination_rate"] <= base["hallucination_rate"]
            and figures["closed_accuracy"] >= base["closed_accuracy"] - TOLERATED)


def look(bench: Bench, arm: Arm, point: dict) -> dict | None:
    """The validation figures of one point, WATCHED; None while it was not tried."""
    found = read(bench, "search", search_facts(bench, arm, point, SEARCHED))
    return found and found["val"]


def base_line(bench: Bench) -> dict | None:
    """The base's validation figures."""
    return look(bench, ARMS[BASE], {})


def missing_points(bench: Bench, arm: Arm) -> list[dict]:
    """Points of the arm's search to try next; empty when it is finished, or has none of its own."""
    if arm.name == BASE:
        return [] if base_line(bench) else [{}]
    if arm.like:
        return []
    left = [point for point in arm.points() if look(bench, arm, point) is None]
    if left or base_line(bench) is None:
        return left
    best = arm.points()[rank([look(bench, arm, point) for point in arm.points()], base_line(bench))]
    return [point for point in arm.further(best) if look(bench, arm, point) is None]


def tried(bench: Bench, arm: Arm) -> list[tuple[dict, dict]]:
    """(point, figures) of all that was tried for the arm."""
    points = [{}] if arm.name == BASE else [] if arm.like else arm.points()
    found = [(point, look(bench, arm, point)) for point in points]
    if arm.own and not arm.like and all(figures for _, figures in found) and base_line(bench):
        best = points[rank([figures for _, figures in found], base_line(bench))]
        found += [(point, look(bench, arm, point)) for point in arm.further(best)]
    return [(point, figures) for point, figures in found if figures]
