"""A preference pair and the model's inputs for it: each text is tokenised once, each image encoded once."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from medalign_lite.cases.images import read_image
from medalign_lite.model.batches import Sequences, Span, encode, padded, padding, unpadded
from medalign_lite.model.families import why_unshared
from medalign_lite.model.features import ImageEncoder, Vision, beside_tokens, identify
from medalign_lite.model.lvlm import Lvlm, base_of
from medalign_lite.train import prefix

Picture = Image.Image | Path | str
PASS_TOKENS = 128  # one more forward pass costs about as much as these tokens on the embedded model
AGREES = {2: 5e-2, 4: 1e-3, 8: 1e-6}  # by bytes per number: relative difference of states that are the same


@dataclass(frozen=True)
class Pair:
    """One preference record ready to be scored: texts, character spans, and up to three images.

    `lesion` and `control` are corrupted images, None where they do not exist (a' or a° is 0 then). `chosen_ids` or
    `rejected_ids` are the ids as sampled, for the side that is the model's own answer. `gold` is the reference answer;
    `positive` says that the record is about a finding that is there."""

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


@dataclass(frozen=True)
class Row:
    """One forward pass: a pair's answer under one of its images."""

    pair: Pair
    image: str
    answer: str


class PairInputs:
    """Model inputs for rows. Texts and image features are kept between calls. Features are what the frozen vision tower
    and connector make of an image, kept by the image's content up to `feature_bytes`; beyond that they are made anew. A
    model family that cannot be handed features gets pixels each time (`encoder.possible` is False then)."""

    def __init__(self, lvlm: Lvlm, *, feature_bytes: int = 2**30):
        self.lvlm = lvlm
        self.body = base_of(lvlm.model).base_model
        self.free_bytes = feature_bytes
        self.encoder = ImageEncoder(self.body)
        self.unshared: str | None = None  # why answers did not share their prefix, where they could not
        self._tried, self._distrusted = False, None  # sharing was tried, and what was wrong with it
        self._texts: dict[str, prefix.Text] = {}
        self._features: dict[str, Vision] = {}
        self._pictures: dict[tuple[str, str], tuple[Picture, str, tuple[int, int]]] = {}

    def batch(self, rows: Sequence[Row]) -> prefix.Batch:
        """Inputs of one batch of rows, in parts of like length; rows with one question and image share their prefix
        where that pays. Raises ValueError as `encode` does, naming the record."""
        texts, groups = self._text_rows(rows), self._prefixes(rows)
        shared = [prefix.packed_length([texts[n] for n in group]) for group in groups]
        plain = [len(text.kinds) for text in texts]
        units, lengths, make = groups, shared, self._packed
        if len(groups) * max(shared) > len(rows) * max(plain) or not self._may_share(rows, groups, max(plain)):
            units, lengths, make = [[n] for n in range(len(rows))], plain, self.sequences
        cuts = prefix.like_lengths(lengths, pass_tokens=PASS_TOKENS)
        cuts = [[n for unit in cut for n in units[unit]] for cut in cuts]
        return prefix.join([(cut, make([rows[n] for n in cut])) for cut in cuts])

    def sequences(self, rows: Sequence[Row]) -> Sequences:
        """The same, one row per sequence and right padded."""
        visions = self._visions(rows)
        if visions is None:
            return self._encode(rows)
        texts = self._text_rows(rows)
        inputs = padded([text.inputs for text in texts], tokenizer=self.lvlm.processor.tokenizer, side="right")
        completion = pad_sequence([text.completion for text in texts], batch_first=True)
        kinds = pad_sequence([text.kinds for text in texts], batch_first=True)
        return Sequences(inputs | self.encoder.inputs_of(visions), completion, kinds)

    def warm(self, pairs: Sequence[Pair], *, images: Sequence[str], batch_size: int = 16) -> None:
        """Make the features of the pairs' images beforehand, in an order that depends on the pairs alone. A batch's
        composition moves the last bits of its features, so a run that was resumed must not make them in another order
        than one that was not."""
        for image in (name for name in ("clean", "lesion", "control") if name in images):
            rows = [Row(pair, image, "chosen") for pair in pairs if pair.picture(image) is not None]
            distinct = list({self._identify(row)[0]: row for row in rows}.values())
            for start in range(0, len(distinct) if self.encoder.possible else 0, batch_size):
                self._visions(distinct[start : start + batch_size])

    def fingerprint(self, row: Row) -> str:
        """A hash of what this row's score depends on beside the model: token ids and pixels."""
        ids = self._text_rows([row])[0].inputs["input_ids"]
        return hashlib.sha256(f"{ids.tolist()} {self._identify(row)[0]}".encode()).hexdigest()

    def _identify(self, row: Row) -> tuple[str, tuple[int, int]]:
        """The picture's content hash and its size in pixels."""
        key, source = (row.pair.id, row.image), row.pair.picture(row.image)
        if key not in self._pictures or self._pictures[key][0] != source:
            self._pictures[key] = (source, *identify(_open(row)))
        return self._pictures[key][1:]

    def _text_rows(self, rows: Sequence[Row]) -> list[prefix.Text]:
        """Unpadded texts. A text depends on its image by the size alone."""
        keys = [repr((row.pair.question, row.pair.text(row.answer), self._identify(row)[1])) for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._texts}
        if new:
            made = self._encode(list(new.values()))
            mask = made.inputs["attention_mask"].bool()
            for n, (key, inputs) in enumerate(zip(new, unpadded(made.inputs), strict=True)):
                self._texts[key] = prefix.Text(inputs, made.completion[n][mask[n]], made.kinds[n][mask[n]])
        return [self._texts[key] for key in keys]

    def _visions(self, rows: Sequence[Row]) -> list[Vision] | None:
        """Per row: what its image becomes; those that are not kept are made in one batch. None where that cannot be."""
        keys = [self._identify(row)[0] for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._features}
        fresh = {}
        if new and self.encoder.possible:
            fresh = dict(zip(new, self.encoder.encode(self._encode(list(new.values())).inputs) or (), strict=False))
            for key, vision in fresh.items():
                if vision.nbytes <= self.free_bytes:
                    self._features[key] = replace(vision, parts=tuple(part.clone() for part in vision.parts))
                    self.free_bytes -= vision.nbytes
        if not self.encoder.possible:
            return None
        return [fresh[key] if key in fresh else self._features[key] for key in keys]

    def _prefixes(self, rows: Sequence[Row]) -> list[list[int]]:
        """Rows with one question about one image, together."""
        found: dict[tuple[str, str], list[int]] = {}
        for n, row in enumerate(rows):
            found.setdefault((row.pair.question, self._identify(row)[0]), []).append(n)
        return list(found.values())

    def _packed(self, rows: Sequence[Row]) -> prefix.Packed:
        groups = self._prefixes(rows)
        firsts = [rows[group[0]] for group in groups]
        visions = self._visions(firsts)
        if visions is not None:
            image_inputs, about = self.encoder.inputs_of(visions), [vision.about for vision in visions]
        else:
            image_inputs, about = beside_tokens(self._encode(firsts).inputs)
        return prefix.pack(self.body, self._text_rows(rows), groups, image_inputs, about,
                           pad_id=padding(self.lvlm.processor.tokenizer))

    def _may_share(self, rows: Sequence[Row], groups: list[list[int]], longest: int) -> bool:
        """Whether this family can share prefixes; the first time, whether that gives what plain rows give."""
        reason = self._distrusted or why_unshared(self.body, longest=longest)
        if reason is None and not self._tried:
            self._tried = True
            self._distrusted = reason = self._disagreement([rows[n] for n in max(groups, key=len)])
        if reason and reason != self.unshared:
            warnings.warn(f"{self.lvlm.name}: image and prompt are run once per answer, because {reason}", stacklevel=3)
        self.unshared = reason
        return reason is None

    @torch.no_grad()
    def _disagreement(self, rows: Sequence[Row]) -> str | None:
        """What is wrong with the shared states of these rows of one prefix; None where they are the plain ones."""
        made = self._packed(rows), self.sequences(rows)
        shared, plain = (prefix.read_states(self.body, batch) for batch in made)
        if (shared - plain).norm() <= AGREES[plain.element_size()] * plain.norm():
            return None
        return f"{type(self.body).__name__} then gives other states, and families.py does not say why"

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


def _open(row: Row) -> Image.Image:
    picture = row.pair.picture(row.image)
    return picture if isinstance(picture, Image.Image) else read_image(Path(picture))
