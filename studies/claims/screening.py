"""What the screening says: which setting each candidate takes to the confirmation, and what each factor is worth.

CRITERION, for every choice: the highest fact F1 on validation among the settings whose hallucination rate is not above
the base's and whose closed accuracy is at most TOLERATED below it; where there is none, the highest F1 of all. Among
settings of the factors, what a pool adds to every one tried on it is taken off first. Nobody of test and shifted is
asked anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from studies.claims import lineup
from studies.claims.lineup import BASE, CONTROLS, FACTORS, METHODS, MIRRORS, NUMBERS, POOLS, Setting

TOLERATED = 0.02
WATCHED = ("fact_f1", "hallucination_rate", "closed_accuracy", "fact_precision", "fact_recall", "grounding_probability")
CRITERION = (
    "the highest fact F1 on validation among the settings whose hallucination rate is not above the base's and whose "
    f"closed accuracy is at most {TOLERATED:g} below it"
)
DRAWS = 1000


@dataclass(frozen=True)
class Trial:
    """One setting that was tried: by a method's `name` and its spot, or by factor `levels`; figures of WATCHED, which
    are None where training diverged."""

    setting: Setting
    pool: int
    name: str = ""
    spot: tuple[float, ...] = ()
    levels: tuple[tuple[str, str], ...] = ()
    figures: Mapping[str, float | None] | None = None


def wanted_trials(look) -> list[Trial]:
    """Every trial that is asked for as far as is known now; `look(setting, pool)` gives the figures of one, or None. A
    method whose best setting is the outermost of those tried in some number is given MORE beyond that end."""
    found, base = [], look(None, 0)

    def at(name: str, spots: Sequence[tuple[float, ...]]) -> list[Trial]:
        some = [(lineup.method_setting(name, spot), POOLS[n % len(POOLS)], spot) for n, spot in enumerate(spots)]
        return [Trial(setting, pool, name, spot, figures=look(setting, pool)) for setting, pool, spot in some]

    for name in METHODS:
        spots = lineup.method_spots(name)
        own = at(name, spots[: lineup.TRIED])
        if base and all(trial.figures for trial in own) and (edges := _edges(own, base)):
            own += at(name, [lineup.moved_out(spot, edges) for spot in spots[lineup.TRIED :]])
        found += own
    return found + [Trial(setting, pool, levels=tuple(levels.items()), figures=look(setting, pool))
                    for levels, setting, pool in lineup.screened()]


def _edges(own: Sequence[Trial], base: Mapping) -> dict[int, int]:
    """In which numbers the best of these lies outermost: {dimension: -1 low, 1 high}."""
    best = own[rank([trial.figures for trial in own], base)]
    ends = [(min(column), max(column)) for column in zip(*(trial.spot for trial in own), strict=True)]
    return {n: -1 if at == ends[n][0] else 1 for n, at in enumerate(best.spot) if at in ends[n]}


def rank(seen: Sequence[Mapping], base: Mapping) -> int:
    """Which of these figures is best by the criterion; the first of equals. Raises ValueError where all diverged."""
    alive = [n for n, figures in enumerate(seen) if figures["fact_f1"] is not None]
    if not alive:
        raise ValueError("every setting diverged: give the method lower learning rates in lineup.py")
    fit = [n for n in alive if allowed(seen[n], base)] or alive
    return max(fit, key=lambda n: (seen[n]["fact_f1"], -n))


def allowed(figures: Mapping, base: Mapping) -> bool:
    """Whether the criterion lets the figures compete."""
    return (figures["hallucination_rate"] <= base["hallucination_rate"]
            and figures["closed_accuracy"] >= base["closed_accuracy"] - TOLERATED)


def level_out(trials: Sequence[Trial]) -> list[Trial]:
    """The trials with figures, each less what its pool adds to the mean over the factors' settings."""
    done = [trial for trial in trials if trial.figures]
    screened = [trial for trial in done if trial.levels and trial.figures["fact_f1"] is not None]
    means = {pool: {key: np.mean([t.figures[key] for t in screened if t.pool == pool] or [np.nan]) for key in WATCHED}
             for pool in POOLS}
    middle = {key: np.mean([means[pool][key] for pool in POOLS]) for key in WATCHED}
    off = {pool: {key: float(np.nan_to_num(means[pool][key] - middle[key])) for key in WATCHED} for pool in POOLS}
    return [replace(trial, figures={key: value if value is None else value - off[trial.pool][key]
                                    for key, value in trial.figures.items()}) for trial in done]


def at_level(trials: Sequence[Trial], factor: str, level: str) -> list[Trial]:
    """The factors' trials at this level, as many as every level of the factor has, the first in their order."""
    by_level = {name: [t for t in trials if dict(t.levels).get(factor) == name] for name in FACTORS[factor]}
    return by_level[level][: min(map(len, by_level.values()))]


def candidates(trials: Sequence[Trial], base: Mapping | None) -> dict[str, Setting]:
    """{arm: setting} for the confirmation: each method whose own trials are complete, the paper's controls, and, when
    those of the factors are, the best at each level of each factor and the best of all."""
    if base is None:
        return {}
    found = {}
    for name in METHODS:
        own = [t for t in trials if t.name == name]
        if own and all(t.figures for t in own):
            found[name] = _best(own, base)
    found |= controls_of(found)
    if any(t.levels and t.figures is None for t in trials):
        return found
    level = level_out(trials)
    for factor, levels in FACTORS.items():
        found |= {f"{factor}={name}": _best(at_level(level, factor, name), base) for name in levels}
    return found | {"best": _best([t for t in level if t.levels], base)}


def controls_of(chosen: Mapping[str, Setting]) -> dict[str, Setting]:
    """The controls of the paper's method and of mirror pairs, where these have chosen their settings."""
    found, full, mirrored = {}, chosen.get("fire-mpo"), chosen.get("mirror")
    if full:
        found |= {name: replace(full, overrides=(*full.overrides, *changes.items()), evidence=evidence)
                  for name, (_, changes, evidence) in CONTROLS.items()}
    return found | ({name: replace(mirrored, pairs=name) for name in MIRRORS} if mirrored else {})


def middle() -> dict[str, Setting]:
    """Each method in the middle of its ranges, and the paper's controls there: for a small run before a screening."""
    found = {name: lineup.method_setting(name, (0.5,) * len(method.ranges)) for name, method in METHODS.items()}
    return found | controls_of(found)


def _best(trials: Sequence[Trial], base: Mapping) -> Setting:
    return trials[rank([trial.figures for trial in trials], base)].setting


def says(arm: str) -> str:
    """What an arm is, in a phrase."""
    if arm in METHODS:
        return METHODS[arm].says
    factor, _, level = arm.partition("=")
    named = {BASE: "the model itself", "best": "the best of all settings of the factors"} | MIRRORS
    named |= {name: told for name, (told, *_) in CONTROLS.items()}
    return named.get(arm, f"the best setting with {factor} = {level}")


def expected_best(values: Sequence[float], count: int) -> float:
    """The mean, over all draws of `count` of these values without replacement, of the largest one."""
    ordered, total = np.sort(values), len(values)
    left, chance = 1.0, 0.0
    for n, value in enumerate(ordered[::-1]):  # the largest drawn is this one
        share = min(1.0, count / (total - n))
        chance += left * share * value
        left *= 1 - share
    return float(chance)


def worth(trials: Sequence[Trial], factor: str, *, count: int, metric: str = "fact_f1") -> dict:
    """{level: {"value", "low", "high"}}: the best of `count` settings to expect at each level, settings drawn anew."""
    rng, found = np.random.default_rng(0), {}
    for level in FACTORS[factor]:
        values = np.array([t.figures[metric] for t in trials
                           if dict(t.levels).get(factor) == level and t.figures[metric] is not None])
        if len(values) < count:
            continue
        drawn = [expected_best(rng.choice(values, len(values)), count) for _ in range(DRAWS)]
        low, high = np.quantile(drawn, (0.025, 0.975))
        found[level] = {"value": expected_best(values, count), "low": float(low), "high": float(high)}
    return found


def shares(trials: Sequence[Trial], metric: str) -> dict[str, dict]:
    """{factor or number: {"value", "low", "high"}}: the share of the variance between settings that it explains alone.

    A functional analysis of variance by least squares: a step for each level, a parabola in each number's logarithm,
    and the products of learning rate and beta; intervals by drawing settings anew. Raises ValueError with fewer than
    three settings a column."""
    kept = [t for t in trials if t.levels and t.figures[metric] is not None]
    groups, values = _design(kept), np.array([t.figures[metric] for t in kept])
    if len(kept) < 3 * sum(columns.shape[1] for columns in groups.values()):
        raise ValueError(f"{len(kept)} settings are too few for an analysis of variance")
    rng, every = np.random.default_rng(0), np.arange(len(kept))
    found = _explained(groups, values, every)
    drawn = [_explained(groups, values, rng.choice(every, len(every))) for _ in range(DRAWS // 2)]
    ends = {name: np.quantile([one[name] for one in drawn], (0.025, 0.975)).tolist() for name in groups}
    return {name: {"value": found[name], "low": ends[name][0], "high": ends[name][1]} for name in groups}


def _design(trials: Sequence[Trial]) -> dict[str, np.ndarray]:
    found = {}
    for factor, levels in FACTORS.items():
        rows = [[dict(t.levels).get(factor, levels[0]) == level for level in levels[1:]] for t in trials]
        found[factor] = np.array(rows, float)
    for name, (low, high) in NUMBERS.items():
        numbers = [t.setting.numbers for t in trials]
        at = np.array([np.log(one.get(name, low) / low) / np.log(high / low) - 0.5 for one in numbers])
        found[name] = np.where([name in one for one in numbers], [at, at**2 - 1 / 12], 0.0).T
    rate, beta = found["learning_rate"][:, 0], found["beta"][:, 0]
    return found | {"learning_rate × beta": (rate * beta)[:, None]}


def _explained(groups: Mapping[str, np.ndarray], values: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    columns = np.hstack([np.ones((len(drawn), 1)), *(one[drawn] for one in groups.values())])
    weights, *_ = np.linalg.lstsq(columns, values[drawn], rcond=None)
    total, start, found = values[drawn].var() or 1.0, 1, {}
    for name, one in groups.items():
        found[name] = float((one[drawn] @ weights[start : start + one.shape[1]]).var() / total)
        start += one.shape[1]
    return found
