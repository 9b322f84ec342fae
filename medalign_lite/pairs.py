"""A preference pair and the model's inputs for it: each text is tokenised once, each image encoded once."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling

from medalign_lite.batches import Sequences, Span, encode
from medalign_lite.images import read_image
from medalign_lite.lvlm import Lvlm, base_of
from medalign_lite.records import Record

Picture = Image.Image | Path | str


@dataclass(frozen=True)
class Pair:
    """One preference record ready to be scored: texts, character spans, and up to three images.

    `lesion` and `control` are corrupted images, None where they do not exist (a' or a° is 0 then). `chosen_ids` or
    `rejected_ids` are the ids as sampled, for the side that is the model's own answer. `gold` is the reference answer;
    `positive` says that the record is about a finding that is there.
    """

    id: str
    question: str
    chosen: str
    rejected: str
    spans_chosen: tuple[Span, ...]
    spans_rejected: tuple[Span, ...]
    clean: Picture
    lesion: Picture | None = None
    control: Picture | None = None
    gold: str | None = None
    positive: bool = True
    chosen_ids: tuple[int, ...] | None = None
    rejected_ids: tuple[int, ...] | None = None

    def picture(self, image: str) -> Picture | None:
        """The image called clean, lesion or control."""
        return {"clean": self.clean, "lesion": self.lesion, "control": self.control}[image]

    def text(self, answer: str) -> tuple[str, tuple[Span, ...], tuple[int, ...] | None]:
        """Text, spans and sampled ids of the answer called chosen, rejected or gold. ValueError without a gold one."""
        if answer == "gold":
            if self.gold is None:
                raise ValueError(f"record {self.id} has no gold answer, which this recipe learns from")
            return self.gold, (), None
        if answer == "chosen":
            return self.chosen, self.spans_chosen, self.chosen_ids
        return self.rejected, self.spans_rejected, self.rejected_ids


def pair_of(record: Record, *, clean: Picture, lesion: Picture | None = None, control: Picture | None = None,
            gold: str | None = None) -> Pair:
    """A record with its images. The side that the model itself said keeps the ids that were sampled."""
    sampled = {"corrected": "rejected_ids", "counterfactual": "chosen_ids"}[record.source]
    return Pair(
        record.id, record.question, record.chosen, record.rejected, tuple(record.spans_chosen),
        tuple(record.spans_rejected), clean, lesion, control, gold, positive=record.evidence is not None,
        **{sampled: tuple(record.response_ids)},
    )


@dataclass(frozen=True)
class Row:
    """One forward pass: a pair's answer under one of its images."""

    pair: Pair
    image: str
    answer: str


class PairInputs:
    """Model inputs for rows, right padded. Texts and image features are kept between calls.

    Features are what the frozen vision tower and connector make of an image (`get_image_features`), kept by the
    image's content up to `feature_bytes`; beyond that they are made anew. A model family that cannot be handed
    features gets pixels each time (`shares_features` is False then).
    """

    def __init__(self, lvlm: Lvlm, *, feature_bytes: int = 2**30):
        self.lvlm = lvlm
        self.body = base_of(lvlm.model).base_model
        self.free_bytes = feature_bytes
        self.shares_features = "mm_encoder_outputs" in inspect.signature(self.body.forward).parameters
        self._texts: dict[str, tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]] = {}
        self._features: dict[str, torch.Tensor] = {}
        self._pictures: dict[tuple[str, str], tuple[Picture, str, tuple[int, int]]] = {}

    def sequences(self, rows: Sequence[Row]) -> Sequences:
        """Inputs of one batch of rows. Raises ValueError as `encode` does, naming the record."""
        if self.shares_features:
            features = self._image_features(rows)
        if not self.shares_features:  # found out at the latest when features are first made
            return self._encode(rows)
        texts = self._text_rows(rows)
        inputs = {name: _pad([text[0][name] for text in texts], fill=self._fill(name)) for name in texts[0][0]}
        inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=features)}
        completion, kinds = (_pad([text[part] for text in texts]) for part in (1, 2))
        return Sequences(inputs, completion, kinds)

    def warm(self, pairs: Sequence[Pair], *, images: Sequence[str], batch_size: int = 16) -> None:
        """Make the features of the pairs' images beforehand, in an order that depends on the pairs alone.

        A batch's composition moves the last bits of its features, so a run that was resumed must not make them in
        another order than one that was not.
        """
        for image in (name for name in ("clean", "lesion", "control") if name in images):
            rows = [Row(pair, image, "chosen") for pair in pairs if pair.picture(image) is not None]
            distinct = list({self._identify(row)[0]: row for row in rows}.values())
            for start in range(0, len(distinct) if self.shares_features else 0, batch_size):
                self._image_features(distinct[start : start + batch_size])

    def fingerprint(self, row: Row) -> str:
        """A hash of what this row's score depends on beside the model: token ids and pixels."""
        if self.shares_features:
            ids = self._text_rows([row])[0][0]["input_ids"]
        else:
            ids = self._encode([row]).inputs["input_ids"][0]
        return hashlib.sha256(f"{ids.tolist()} {self._identify(row)[0]}".encode()).hexdigest()

    def _identify(self, row: Row) -> tuple[str, tuple[int, int]]:
        """The picture's content hash and its size in pixels."""
        key, source = (row.pair.id, row.image), row.pair.picture(row.image)
        if key not in self._pictures or self._pictures[key][0] != source:
            picture = _open(row)
            digest = hashlib.sha256(f"{picture.mode} {picture.size} ".encode() + picture.tobytes()).hexdigest()
            self._pictures[key] = (source, digest, picture.size)
        return self._pictures[key][1:]

    def _text_rows(self, rows: Sequence[Row]) -> list[tuple]:
        """Per row: unpadded per-token inputs, completion, kinds. A text depends on its image by the size alone."""
        keys = [repr((row.pair.question, row.pair.text(row.answer), self._identify(row)[1])) for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._texts}
        if new:
            made = self._encode(list(new.values()))
            mask = made.inputs["attention_mask"].bool()
            aligned = {name: value for name, value in made.inputs.items() if value.shape == mask.shape}
            for n, key in enumerate(new):
                inputs = {name: value[n][mask[n]] for name, value in aligned.items()}
                self._texts[key] = (inputs, made.completion[n][mask[n]], made.kinds[n][mask[n]])
        return [self._texts[key] for key in keys]

    @torch.no_grad()
    def _image_features(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Per row: the features of its image; those that are not kept are made in one batch."""
        keys = [self._identify(row)[0] for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._features}
        fresh = {}
        if new:
            made = self._encode(list(new.values())).inputs
            pixels = {name: value for name, value in made.items() if value.shape != made["attention_mask"].shape}
            if any(not name.startswith("pixel_") for name in pixels):  # the language model wants to know of the image
                self.shares_features = False
                return []
            output = self.body.get_image_features(**pixels, return_dict=True)
            if output.get("deepstack_features") is not None or len(output.pooler_output) != len(new):
                self.shares_features = False
                return []
            fresh = dict(zip(new, output.pooler_output, strict=True))
            self._keep(fresh)
        return [fresh[key] if key in fresh else self._features[key] for key in keys]

    def _keep(self, fresh: dict[str, torch.Tensor]) -> None:
        for key, value in fresh.items():
            if value.nbytes <= self.free_bytes:
                self._features[key] = value.clone()
                self.free_bytes -= value.nbytes

    def _encode(self, rows: Sequence[Row]) -> Sequences:
        texts = [row.pair.text(row.answer) for row in rows]
        answers, spans, ids = zip(*texts, strict=True)
        try:
            return encode(
                self.lvlm.processor, [_open(row) for row in rows], [row.pair.question for row in rows], answers, spans,
                answer_ids=ids, device=self.lvlm.device,
            )
        except ValueError as error:
            raise ValueError(f"records {', '.join(sorted({row.pair.id for row in rows}))}: {error}") from error

    def _fill(self, name: str) -> int:
        tokenizer = self.lvlm.processor.tokenizer
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return pad if name == "input_ids" else 0


def _open(row: Row) -> Image.Image:
    picture = row.pair.picture(row.image)
    return picture if isinstance(picture, Image.Image) else read_image(Path(picture))


def _pad(rows: list[torch.Tensor], *, fill: int = 0) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
