"""What is trained on real images, and what is asked of it; written down before any question of the test was asked.

Each method tries TRIES settings of its own ranges (those of the phantom's laboratory) on validation, one run each; the
best one goes to the test with all seeds. `phantom-best` is the setting of all factors that the phantom's screening
chose, as it is. On a GPU preset every method has the preset's numbers and nothing is tried.
"""

from collections.abc import Mapping
from dataclasses import replace

from medalign_lite.dials import Preset
from medalign_lite.train.arms import settings_of
from medalign_lite.train.settings import TrainSettings
from studies.claims import lineup, screening
from studies.claims.hypotheses import CLOSED, HANGS, LOOKS, OPEN, Claim, Contrast, against
from studies.claims.lineup import BASE, METHODS, Setting

TRIES = 4
SEARCHED = ("dpo", "mdpo", "rrpo", "mask-dpo", "tdpo2", "fire-mpo", "sft-gold")
PHANTOM, SAME = "phantom-best", "same-image"
ARMS = (*SEARCHED, PHANTOM, SAME)
CRITERION = "the highest mean of closed accuracy and recall of open answers (both strict) on validation"
SAYS = {BASE: "the model itself", PHANTOM: "the best of all settings on the phantom, as it is",
        SAME: "fire-mpo with the clean image as the corrupted one"} | {name: METHODS[name].says for name in SEARCHED}


def _against(arm: str, other: str, metric: str = CLOSED) -> Contrast:
    return against(arm, other, metric, ("test",))


CLAIMS = (
    Claim("R1", "The paper's method beats the model before alignment (closed accuracy)",
          (_against("fire-mpo", BASE),)),
    Claim("R1o", "The same in open answers (recall of the right words)", (_against("fire-mpo", BASE, OPEN),)),
    Claim("R2", "The paper's method beats DPO on the same pairs (closed accuracy)", (_against("fire-mpo", "dpo"),)),
    Claim("R2o", "The same in open answers", (_against("fire-mpo", "dpo", OPEN),)),
    Claim("R3", "The paper's method beats every other published one (closed accuracy)",
          tuple(_against("fire-mpo", other) for other in SEARCHED if other != "fire-mpo")),
    Claim("R4", "Weighting the edited spans beats weighting the whole answer (closed accuracy)",
          (_against("mask-dpo", "dpo"),)),
    Claim("R5", "Preferences beat plain fine-tuning on the right answers to the same questions (closed accuracy)",
          (_against("fire-mpo", "sft-gold"),)),
    Claim("R6", "The paper's picture term raises grounding beyond the clean image in its place",
          (_against("fire-mpo", SAME, LOOKS),)),
    Claim("R7", "Answers hang on their marked evidence more than the model's own did",
          (_against("fire-mpo", BASE, HANGS),)),
    Claim("R8", "The setting that is best on the phantom beats the paper's method (closed accuracy)",
          (_against(PHANTOM, "fire-mpo"),)),
)  # fmt: skip


def score(figures: Mapping[str, float]) -> float:
    """What settings are compared by: the mean of what was asked on validation."""
    return sum(figures.values()) / len(figures)


def settings_to_try(name: str, preset: Preset) -> list[Setting]:
    """A method's settings: some of its own ranges, or on a GPU preset its one."""
    if preset.needs_gpu:
        return [Setting(METHODS[name].recipe, (("beta", preset.beta),), preset.learning_rate)]
    return [lineup.method_setting(name, spot) for spot in lineup.method_spots(name)[:TRIES]]


def with_control(chosen: dict[str, Setting]) -> dict[str, Setting]:
    """The chosen settings and the paper's control."""
    return chosen | {SAME: screening.controls_of(chosen)[SAME]}


def training(setting: Setting, preset: Preset, seed: int) -> TrainSettings:
    """The training run: the setting's numbers, in the preset's batches and epochs."""
    return replace(settings_of(preset, setting.recipe, seed=seed), overrides=dict(setting.overrides),
                   learning_rate=setting.learning_rate)
