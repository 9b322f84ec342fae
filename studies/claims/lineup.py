"""The settings that are tried: every published method over ranges of its own, and the factors that methods are made of.

A screening draws settings quasi-randomly (Sobol): `METHODS` each over its own ranges, and `FACTORS` over all choices
and numbers at once. All learn from the same number of pairs in the same number of steps. What is chosen from them
(`screening.py`) is asked about fresh people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from scipy.stats import qmc

from medalign_lite.losses.recipes import GAMMA
from medalign_lite.train.settings import TrainSettings

PAIRS = 320  # that each run learns from
EPOCHS, BATCH = 2, 16  # 40 steps
RANK, ALPHA = 16, 32.0
BASE = "base"
TRIED, MORE = 8, 4  # settings of a method; and further ones where the best lies on the edge of its range
SCREENED = 128  # settings of the factors: a whole power of two of the sequence, and what two cores do in a day
SCRAMBLE = 15  # seed of the sequences
POOLS = (1, 2)  # two pools that settings are tried on, and no result comes from

Range = tuple[float, float]  # of a number, drawn evenly in its logarithm
RATES, BETAS = (3e-5, 1e-3), (0.1, 4.0)
BOTH = {"learning_rate": RATES, "beta": BETAS}


@dataclass(frozen=True)
class Setting:
    """What one run learns by. `overrides` of the recipe as (name, value) pairs.

    pairs: `edits`, the model's own wrong answer against its correction; `reference`, against the reference text;
    `counterfactual`, its right answer against a false edit; `mirror` and its controls, see mirror.py. evidence, what a
    corrupted image shows: `lesion`, noise on the lesion; `removed`, the lesion (and as much of another place) filled
    from its surroundings; `same`, the clean image; `whole`, noise everywhere."""

    recipe: str
    overrides: tuple[tuple[str, object], ...] = ()
    learning_rate: float = 1e-4
    pairs: str = "edits"
    evidence: str = "lesion"

    def training(self, seed: int) -> TrainSettings:
        """The training run."""
        return TrainSettings(
            recipe=self.recipe, overrides=dict(self.overrides), learning_rate=self.learning_rate, epochs=EPOCHS,
            batch_size=BATCH, rank=RANK, alpha=ALPHA, seed=seed,
        )  # fmt: skip

    @property
    def numbers(self) -> dict:
        """Its overrides, and the learning rate."""
        return {"learning_rate": self.learning_rate} | dict(self.overrides)

    @property
    def says(self) -> str:
        """Its numbers in a line."""
        told = {name.removeprefix("learning_"): value for name, value in self.numbers.items()}
        return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                         for name, value in told.items() if not isinstance(value, tuple))


@dataclass(frozen=True)
class Method:
    """A published method, or the kit's own: its recipe, and the ranges that its settings are drawn from."""

    says: str
    recipe: str
    ranges: Mapping[str, Range] = field(default_factory=lambda: BOTH)
    pairs: str = "edits"
    evidence: str = "lesion"


METHODS: dict[str, Method] = {
    "dpo": Method("DPO on the model's own answers, minimally edited", "dpo"),
    "mask-dpo": Method("the same over the edited spans only", "mask-dpo"),
    "fire-mpo": Method("the paper's method: spans, flip and both KL", "fire-mpo", BOTH | {"alpha": (0.01, 3.0)}),
    "rrpo": Method("span margin with the forward KL over the whole answer", "rrpo", BOTH | {"alpha": (0.01, 3.0)}),
    "mdpo": Method("DPO, conditional on the image, anchored", "mdpo", BOTH | {"gamma": (0.1, 3.0)}),
    "tdpo2": Method("token-level DPO", "tdpo2", BOTH | {"sequence_kl": (0.1, 4.0)}),
    "ddpo": Method("dense DPO (RLHF-V)", "ddpo", BOTH | {"w_kind": (1.5, 8.0)}),
    "mmedpo": Method("joint image and text preference (MMedPO)", "mmedpo"),
    "simpo": Method("reference-free, length-normalised", "simpo",
                    {"learning_rate": RATES, "beta": (0.5, 8.0), "target_margin": (0.2, 2.0)}),
    "sft-edits": Method("plain likelihood of the corrected answer", "sft-edits", {"learning_rate": RATES}),
    "sft-gold": Method("plain likelihood of the reference text", "sft-gold", {"learning_rate": RATES}),
    "fire-mpo-paper": Method("the paper's method with the paper's own numbers; the rate alone is chosen", "fire-mpo",
                             {"learning_rate": RATES}),
    "grounded": Method("the kit's default; the rate alone is chosen", "grounded", {"learning_rate": RATES},
                       evidence="removed"),
    "dpo-reference": Method("DPO with the reference text as chosen", "dpo", pairs="reference"),
    "dpo-counterfactual": Method("DPO on right answers against false edits of them", "dpo", pairs="counterfactual"),
    "mirror": Method("the kit's own: one statement, with its lesion and with it taken out, spans only", "mask-dpo",
                     pairs="mirror"),
}
OWN = ("grounded", "mirror")  # not published
CORE = ("dpo", "fire-mpo", "dpo-reference")  # confirmed first, with the controls
MIRRORS = {  # of mirror pairs: all of their chosen setting but this
    "unmirrored": "mirror pairs whose denial is about another person, who lacks the finding",
    "half-mirror": "as many mirror pairs as repairs of the model's own answers",
}
CONTROLS = {  # of the paper's method: all of its chosen setting but this
    "cdpo": ("fire-mpo without images: label smoothing in place of the flip",
             {"gamma": 0.0, "smoothing": GAMMA / (1 + GAMMA)}, "lesion"),
    "same-image": ("fire-mpo with the clean image as the corrupted one", {}, "same"),
    "whole-noise": ("fire-mpo with noise over the whole image", {}, "whole"),
}  # fmt: skip
FACTORS: dict[str, tuple[str, ...]] = {
    "weights": ("all", "span"),
    "kl": ("none", "edited", "outside", "whole"),
    "direction": ("forward", "both", "reverse"),
    "picture": ("none", "flip", "conditional"),
    "control": ("no", "yes"),
    "likelihood": ("no", "yes"),
}
NUMBERS: dict[str, Range] = BOTH | {"alpha": (0.01, 3.0), "gamma": (0.1, 3.0), "nll": (0.03, 1.0)}
ONLY_WITH = {"direction": "kl", "control": "picture"}  # a factor that says nothing where the other is "none"


def method_setting(name: str, spot: tuple[float, ...]) -> Setting:
    """A method's setting at a spot of the unit cube; below 0 and above 1 its ranges go on."""
    method = METHODS[name]
    numbers = {key: _between(at, ends) for at, (key, ends) in zip(spot, method.ranges.items(), strict=True)}
    return Setting(method.recipe, tuple((k, v) for k, v in numbers.items() if k != "learning_rate"),
                   numbers["learning_rate"], method.pairs, method.evidence)


def method_spots(name: str) -> list[tuple[float, ...]]:
    """Where in the unit cube the settings of a method lie: TRIED and MORE of them."""
    return _sobol(len(METHODS[name].ranges), TRIED + MORE, salt=list(METHODS).index(name))


def moved_out(spot: tuple[float, ...], edges: Mapping[int, int]) -> tuple[float, ...]:
    """The spot with these dimensions beyond the low (-1) or the high (1) end, by at most half a range."""
    return tuple({-1: -at / 2, 0: at, 1: 1 + at / 2}[edges.get(n, 0)] for n, at in enumerate(spot))


@lru_cache(maxsize=1)
def screened() -> tuple[tuple[dict[str, str], Setting, int], ...]:
    """The settings of the factors in their order: the levels, the setting, the pool that it is tried on."""
    return tuple(_screened(spot) for spot in _sobol(len(FACTORS) + len(NUMBERS) + 1, SCREENED, salt=99))


def _screened(spot: tuple[float, ...]) -> tuple[dict[str, str], Setting, int]:
    levels = {name: names[int(at * len(names))] for (name, names), at in zip(FACTORS.items(), spot)}
    number = {name: _between(at, ends) for (name, ends), at in zip(NUMBERS.items(), spot[len(FACTORS) :])}
    overrides: dict[str, object] = {"beta": number["beta"]}
    if levels["weights"] == "span":
        overrides |= {"w_bg": 0.0, "w_kind": 1.0}
    if levels["kl"] != "none":
        where = {"edited": "phrase", "outside": "outside", "whole": "all"}[levels["kl"]]
        overrides |= {"alpha": number["alpha"], "kl_tokens": where, "kl_answers": ("chosen", "rejected"),
                      "lam": {"forward": 1.0, "both": 0.5, "reverse": 0.0}[levels["direction"]]}
    if levels["picture"] != "none":
        overrides |= {"gamma": number["gamma"], "ground": levels["picture"]}
        overrides |= {"kappa": float(f"{number['gamma'] / 3:.3g}")} if levels["control"] == "yes" else {}
    if levels["likelihood"] == "yes":
        overrides["nll"] = number["nll"]
    setting = Setting("dpo", tuple(overrides.items()), number["learning_rate"],
                      evidence="removed" if levels["picture"] == "conditional" else "lesion")
    told = {name: level for name, level in levels.items() if levels.get(ONLY_WITH.get(name, "")) != "none"}
    return told, setting, POOLS[int(spot[-1] * len(POOLS))]


def _between(at: float, ends: Range) -> float:
    low, high = ends
    return float(f"{low * (high / low) ** at:.3g}")


def _sobol(dimensions: int, count: int, *, salt: int) -> list[tuple[float, ...]]:
    drawn = qmc.Sobol(dimensions, rng=SCRAMBLE * 1000 + salt).random_base2((count - 1).bit_length())
    return [tuple(map(float, row)) for row in drawn[:count]]
