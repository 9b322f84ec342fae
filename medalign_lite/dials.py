"""The numbers of the one dial, PRESET=: what each preset is made of. `run/dial.py` chooses among them."""

from dataclasses import dataclass

DEFAULT_SEED = 7
EMBEDDED = "data_samples/embedded_lvlm"


class PresetError(ValueError):
    """A value of the dial, or of an override, that cannot be used; the message lists what can."""


@dataclass(frozen=True)
class Preset:
    """Every number a run depends on. Sizes are images, lengths tokens, memory GB (10^9 bytes)."""

    name: str
    purpose: str
    model: str  # folder relative to the repository, or hub id
    cases: str = ""  # "" = the phantom world; else a cases.jsonl or a folder in a known layout
    needs_gpu: bool = False
    min_gpu_gb: float = 0.0
    # cases: the alignment pool, validation, test, and the test whose correlations are broken; of a user's cases at most
    # so many images, and questions of each; 0 takes all of them
    n_pool: int = 400
    n_val: int = 60
    n_test: int = 400
    n_shifted: int = 240
    questions_per_case: int = 3
    max_side: int = 512  # a picture is shown to the model with at most max_side² pixels (`families.limit_side`)
    # rollout
    samples_per_case: int = 1  # sampled answers a prompt, beside the greedy one
    temperature: float = 0.8
    max_new_tokens: int = 128
    rollout_batch: int = 64
    corruption: str = "inpaint"  # what pairs show in place of the lesion; the paper's is noise (docs/LOG.md says why)
    # training
    train_pairs: int = 320  # pairs that each recipe learns from, drawn from all there are; 0 = all
    corrected_share: float = 1.0  # of those drawn, how many repair an error of the model
    recipes: tuple[str, ...] = ("dpo", "fire-mpo", "grounded")  # the last one is "aligned" in results.json
    rounds: int = 1  # after each further one the aligned policy has answered anew and learnt from that (rounds.py)
    epochs: int = 2
    train_batch: int = 16  # records an optimiser step
    micro_batch: int = 16  # records a forward pass
    learning_rate: float = 3e-4
    beta: float = 0.5
    lora_rank: int = 16
    lora_alpha: int = 32
    recompute: bool = False  # layers are run again in the backward pass: a third more time, far less memory
    # evaluation
    eval_batch: int = 128
    bootstrap_draws: int = 2000


ON_GPU = {  # what the presets of large models have in common
    "needs_gpu": True, "train_pairs": 0, "train_batch": 8, "micro_batch": 1, "recompute": True, "epochs": 1,
    "beta": 0.1,
}  # fmt: skip
PRESETS = {
    "ci": Preset("ci", "the embedded model on phantom cases: the whole story in minutes on two CPU cores", EMBEDDED),
    "workshop": Preset(
        "workshop", "a 2 B hub model in NF4 on an 8-12 GB GPU: an afternoon", "Qwen/Qwen3-VL-2B-Instruct", **ON_GPU,
        min_gpu_gb=7.5, n_test=240, n_shifted=120, max_side=448, max_new_tokens=256, rollout_batch=8, lora_rank=64,
        lora_alpha=128, learning_rate=1e-5, eval_batch=8,
    ),
    "full": Preset(
        "full", "the paper's model and settings (METHOD §3), NF4, on one GPU: a day", "Qwen/Qwen3-VL-4B-Instruct",
        **ON_GPU, min_gpu_gb=15.0, n_pool=4000, n_val=400, n_test=1000, n_shifted=500, max_side=672,
        max_new_tokens=512, rollout_batch=16, corruption="noise", lora_rank=128, lora_alpha=256, learning_rate=1e-6,
        eval_batch=16, bootstrap_draws=5000,
    ),
}  # fmt: skip
