"""A question as it is put to a model, and the answer that it gave. No torch is needed to read either."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Prompt:
    """One question about one image: a Pillow image, the path of one, or None to ask without an image."""

    id: str
    case_id: str
    question_id: str
    image: Image.Image | Path | str | None
    question: str


@dataclass(frozen=True)
class Rollout:
    """One answer. `ids` are the tokens as sampled, the end token included if it came; `logps` in nats, one per id,
    under the model itself: the temperature changes what is drawn, never the log-probability that is recorded.
    `decoding["finished"]` says that the end token came and no other special token: only then is `text` all of `ids`."""

    id: str
    case_id: str
    question_id: str
    sample: int
    text: str
    ids: list[int]
    logps: list[float]
    decoding: dict
