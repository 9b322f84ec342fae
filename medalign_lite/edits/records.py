"""Preference records (METHOD §1): made from rollouts, checked against D1-D6, rejected with a reason and counted."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from medalign_lite.cases.case import Case, Question, prompt_of
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.edits.repair import Edit
from medalign_lite.edits.truths import edit_answer, truth_of
from medalign_lite.text.answers import WHOLE_ANSWER_WORDS
from medalign_lite.text.diff import edited_tokens, remove_spans, tokens
from medalign_lite.text.says import yes_no
from medalign_lite.text.spans import KINDS, NoEdit, Span

Editor = Callable[[Rollout, Case, Question, np.random.Generator], Edit]  # raises NoEdit with the reason
HELD_OUT = ("test", "shifted")  # validation has records too: they are looked at, never learnt from
_GENERAL = re.compile(r"\b(?:abnormal\w*|diseases?|lesions?|tumou?rs?|unhealthy|healthy|normal)\b", re.I)


@dataclass(frozen=True)
class Record:
    """One (image, question) with its pair of answers; see METHOD §1.

    Spans are [start, end, kind] in characters. `image` is relative to the folder of the cases, so that records do not
    depend on where that lies. Masks are paths of PNG files, or None. `evidence` names the findings in
    the image that the edited true statement is about (lesion labels on real data); None where it is about something
    absent, and then there is no lesion to corrupt.
    """

    id: str
    group: str
    case_id: str
    question_id: str
    image: str
    question: str
    response_ids: tuple[int, ...]
    response: str
    decoding: dict
    chosen: str
    rejected: str
    spans_chosen: tuple[Span, ...]
    spans_rejected: tuple[Span, ...]
    source: str  # "corrected" | "counterfactual"
    verified: dict  # {"chosen": "true", "rejected": "false", "how": ...}
    evidence: tuple[str, ...] | None = None
    lesion_mask: str | None = None
    control_mask: str | None = None


def make_record(rollout: Rollout, case: Case, question: Question, edit: Edit) -> Record:
    """The record of one rollout and its edit; masks come later, in the corruption stage."""
    return Record(
        id=f"{rollout.id}/{rollout.sample}",
        group=case.group,
        case_id=case.id,
        question_id=question.id,
        image=_place(case),
        question=prompt_of(question),
        response_ids=tuple(rollout.ids),
        response=rollout.text,
        decoding=dict(rollout.decoding),
        chosen=edit.chosen,
        rejected=edit.rejected,
        spans_chosen=edit.spans_chosen,
        spans_rejected=edit.spans_rejected,
        source=edit.source,
        verified={"chosen": "true", "rejected": "false", "how": edit.how},
        evidence=_evidence(case, question, edit),
    )


def check_record(
    record: Record,
    *,
    decode: Callable[[Sequence[int]], str] | None = None,
    held_out: Iterable[str] = (),
    max_edit_ratio: float = 0.35,
    min_edit_tokens: int = 3,
) -> str | None:
    """The first of D1-D6 that the record breaks, with what breaks it; None for a sound record.

    `decode` turns token ids into text without special tokens; with it, the answer's own side must be what the sampled
    ids decode to. `held_out`: groups that no record may come from. An answer of at most `WHOLE_ANSWER_WORDS` words and
    marks may change as a whole; a longer one in at most max(`min_edit_tokens`, `max_edit_ratio` x its length) of them.
    """
    pair = (record.chosen, record.rejected)
    spans = (record.spans_chosen, record.spans_rejected)
    if not all(text.strip() for text in pair):
        return "D1: an empty answer"
    if record.chosen == record.rejected:
        return "D1: chosen and rejected are the same"
    own = record.rejected if record.source == "corrected" else record.chosen
    if own != record.response or (decode and decode(record.response_ids).strip() != own):
        return "D1: neither side is the answer as sampled"
    for text, parts in zip(pair, spans, strict=True):
        if any(not 0 <= a < b <= len(text) or kind not in KINDS for a, b, kind in parts):
            return "D3: a span that is empty, outside its text or of unknown kind"
    if not all(spans):
        return "D3: a side without spans"
    if remove_spans(record.chosen, record.spans_chosen) != remove_spans(record.rejected, record.spans_rejected):
        return "D2: the sides differ outside their spans"
    for text, parts in zip(pair, spans, strict=True):
        length = len(tokens(text))
        whole = length if length <= WHOLE_ANSWER_WORDS else 0
        if edited_tokens(text, parts) > max(min_edit_tokens, max_edit_ratio * length, whole):
            return "D4: too much of the answer is edited"
    if (record.verified.get("chosen"), record.verified.get("rejected")) != ("true", "false"):
        return "D5: not verified true against false"
    if record.group in set(held_out):
        return "D6: the group is held out"
    return None


def edit_share(record: Record) -> float:
    """Edited words and marks over all of them, of the side where that is more (the D4 histogram)."""
    sides = ((record.chosen, record.spans_chosen), (record.rejected, record.spans_rejected))
    return max(edited_tokens(text, spans) / max(len(tokens(text)), 1) for text, spans in sides)


def build_records(
    rollouts: Sequence[Rollout],
    cases: Sequence[Case],
    *,
    decode: Callable[[Sequence[int]], str] | None = None,
    seed: int = 0,
    counterfactual_share: float = 1.0,
    max_edit_ratio: float = 0.35,
    editor: Editor | None = None,
) -> tuple[list[Record], Counter]:
    """Records of all rollouts that give a sound one, and how many were rejected by reason.

    Training and validation cases give records, those of the test sets and of a group in two splits do not (D6). A wrong
    answer is corrected; of the right ones a share gets a counterfactual. The draw of each depends on `seed` and its id
    only. `editor` takes the place of the rules of `edits`; who made an edit changes nothing in what is checked.

    Raises:
        KeyError: for a rollout whose case or question is not among `cases`.
    """
    by_id = {case.id: case for case in cases}
    splits = {case.group: set() for case in cases}
    for case in cases:
        splits[case.group].add(case.split)
    held_out = {group for group, found in splits.items() if len(found) > 1 or found & set(HELD_OUT)}
    rules = partial(_edit, share=counterfactual_share)
    records, rejected, seen = [], Counter(), set()
    for rollout in rollouts:
        case = by_id[rollout.case_id]
        question = {q.id: q for q in case.questions}[rollout.question_id]
        rng = _generator(seed, f"{rollout.id}/{rollout.sample}")
        try:
            _check_answer(rollout, question)
            edit = (editor or rules)(rollout, case, question, rng)
        except NoEdit as reason:
            rejected[str(reason)] += 1
            continue
        record = make_record(rollout, case, question, edit)
        broken = check_record(record, decode=decode, held_out=held_out, max_edit_ratio=max_edit_ratio)
        pair = (case.id, question.id, record.chosen, record.rejected)
        if broken or pair in seen:
            rejected[broken or "the same pair as another sample of the question"] += 1
            continue
        seen.add(pair)
        records.append(record)
    return records, rejected


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON object a line, UTF-8."""
    lines = (json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records)
    Path(path).write_text("".join(lines), encoding="utf-8")


def read_records(path: Path) -> list[Record]:
    """The records of a file of `write_records`.

    Raises:
        ValueError: for a line that is not a record, with its number.
    """
    records = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(_from_json(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} line {number} is not a preference record: {error}; run stage 02 again") from error
    return records


def _from_json(entry: dict) -> Record:
    names = {f.name for f in fields(Record)}
    if not isinstance(entry, dict) or set(entry) != names:
        raise ValueError(f"its fields are not {', '.join(sorted(names))}")
    for name in ("spans_chosen", "spans_rejected"):
        entry[name] = tuple((int(a), int(b), str(kind)) for a, b, kind in entry[name])
    entry["response_ids"] = tuple(entry["response_ids"])
    entry["evidence"] = None if entry["evidence"] is None else tuple(entry["evidence"])
    return Record(**entry)


def _check_answer(rollout: Rollout, question: Question) -> None:
    if not question.visible:
        raise NoEdit("a question about what cannot be seen")
    if not rollout.decoding.get("finished", True):
        raise NoEdit("an answer cut off at the token limit")


def _edit(rollout: Rollout, case: Case, question: Question, rng: np.random.Generator, *, share: float) -> Edit:
    return edit_answer(truth_of(case, question), rollout.text, rng, share)


def _place(case: Case) -> str:
    image, folder = case.image, case.folder
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else str(image)


def _evidence(case: Case, question: Question, edit: Edit) -> tuple[str, ...] | None:
    """Findings behind the pair; on real data the labels of the lesions that question or gold answer speak of."""
    if case.facts is not None:
        return edit.evidence or None
    if yes_no(question.answer) is False:
        return None
    said = f"{question.text} {question.answer}"
    labels = {lesion.label for lesion in case.lesions}
    named = {label for label in labels if label.lower() in said.lower()}
    return tuple(sorted(named or (labels if _GENERAL.search(said) else ()))) or None


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def learnable(rollouts: Sequence[Rollout], cases: Sequence[Case]) -> list[Rollout]:
    """Answers about cases that no test set holds: others give no record, and are not sent."""
    kept = {case.id for case in cases if case.split not in HELD_OUT}
    return [rollout for rollout in rollouts if rollout.case_id in kept]
