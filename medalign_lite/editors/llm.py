"""``python -m medalign_lite llm``: preference records of a finished run, edited by a language model.

    ALLOW_NETWORK=1 python -m medalign_lite llm RUN=artifacts/ci URL=http://127.0.0.1:11434/v1 MODEL=NAME OUT=edits/NAME

The model's own answers of stage 01 go, with their questions and references, as text to a server with
/v1/chat/completions (vLLM, Ollama, llama.cpp, `transformers serve`, or a hosted one; its key in LLM_API_KEY) and
nowhere else. The model answers with replacements of words that it copies from the answer, so all else stays as it was;
`verify` decides whether the result may be used, `diff` finds the spans, `records.check_record` has the last word.

OUT gets records.jsonl, rejected.json (reasons with counts), pairs.jsonl and validation.jsonl for
`medalign_lite.train.train`, editor.json (settings and what was used) and replies/: a run that stopped, for whatever
reason, goes on from there, and a finished one costs nothing again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.editors.chat import BadReply, Budget, Chat, ChatError, Endpoint
from medalign_lite.edits.records import build_records
from medalign_lite.edits.repair import Edit, edit_of
from medalign_lite.edits.truths import Facts, truth_of
from medalign_lite.files import bar, write_json
from medalign_lite.model.lvlm import decoder
from medalign_lite.run.commands import ArgumentError, command, needed, read_arguments, value_of
from medalign_lite.run.pairs import REFUSED, open_run, run_answers, write_edited
from medalign_lite.text.facts import FINDINGS
from medalign_lite.text.grammar import broken
from medalign_lite.text.spans import Change, NoEdit, make_changes

ALLOWED = {
    "RUN": "a run of `make reproduce` (OUT/PRESET)", "OUT": "the folder that is written to",
    "URL": "the server, up to /v1", "MODEL": "the model's name there",
    "LIMIT": "only so many answers, the first; 0 = all (default: 0)",
    "MAX_REQUESTS": "budget of this call (default: 1000)",
    "MAX_TOKENS": "budget of this call, prompts and replies (default: 1000000)",
    "TIMEOUT": "seconds for one reply (default: 120)",
    "COUNTERFACTUAL_SHARE": "of the answers called right (default: 1.0)",
}
NUMBERS = {"LIMIT": 0, "MAX_REQUESTS": 1000, "MAX_TOKENS": 1_000_000, "TIMEOUT": 120.0, "COUNTERFACTUAL_SHARE": 1.0}
PROMPTS = Path(__file__).parent / "prompts"


def _holding(**properties: dict) -> dict:
    """The JSON schema of an object that has all of these and nothing else."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


_CHANGES = {"type": "array", "items": _holding(old={"type": "string"}, new={"type": "string"})}
COUNTERFACTUAL = _holding(changes=_CHANGES)
CORRECTION = _holding(verdict={"type": "string", "enum": ["right", "wrong", "unsure"]}, changes=_CHANGES)


@dataclass(frozen=True)
class LlmEditor:
    """An editor for `records.build_records`; of the answers called right, `counterfactual_share` are made wrong."""

    chat: Chat
    counterfactual_share: float = 1.0

    def __call__(self, rollout: Rollout, case: Case, question: Question, rng: np.random.Generator) -> Edit:
        """The verified edit of one answer. Raises NoEdit, whose message is the reason, where the model gives none or
        one that cannot be verified, and ChatError where it cannot be asked."""
        answer = rollout.text
        reply, version = self._ask("correct_v1", answer, case, question, CORRECTION)
        if reply["verdict"] == "unsure":
            raise NoEdit("the language model is not sure")
        if reply["verdict"] == "wrong":
            chosen = apply_changes(answer, reply["changes"])
            return self._edit((chosen, answer), "corrected", case, question, version)
        if reply["changes"]:
            raise NoEdit("the language model calls the answer right and changes it")
        if rng.random() >= self.counterfactual_share:
            raise NoEdit("a right answer, left out of the counterfactual share")
        reply, version = self._ask("counterfactual_v1", answer, case, question, COUNTERFACTUAL)
        return self._edit((answer, apply_changes(answer, reply["changes"])), "counterfactual", case, question, version)

    def _ask(self, prompt: str, answer: str, case: Case, question: Question, schema: dict) -> tuple[dict, str]:
        """The model's reply to a prompt of `prompts/`, and the prompt's version."""
        (told, version), (kind, reference) = read_prompt(prompt), describe_truth(case, question)
        fields = {"question": question.text, "answer": answer, "reference_kind": kind, "reference": reference}
        text = json.dumps(fields, ensure_ascii=False, indent=1)
        try:
            return self.chat.ask(told, text, name=prompt, schema=schema), version
        except BadReply as error:
            raise NoEdit("the language model's reply does not fit the schema") from error

    def _edit(self, pair: tuple[str, str], source: str, case: Case, question: Question, version: str) -> Edit:
        """The edit of (chosen, rejected), if it is verified."""
        truth, answer = truth_of(case, question), pair[source == "corrected"]
        truth.verify(*pair, answer)
        if fault := broken(pair[source != "corrected"], answer):
            raise NoEdit(f"the language model breaks a sentence ({fault})")
        how = f"{truth.how}; edited by {self.chat.name} with prompt {version}"
        return edit_of(*pair, source, truth.evidence(*pair), how)


def read_prompt(name: str) -> tuple[str, str]:
    """The instructions in `prompts/NAME.txt`, and their version: the name and the first digits of their sha256."""
    text = (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")
    return text, f"{name} ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def describe_truth(case: Case, question: Question) -> tuple[str, str]:
    """What decides about an answer (BY_FACTS, BY_GOLD or BY_REPORT), and its text for the model."""
    truth = truth_of(case, question)
    if not isinstance(truth, Facts):
        return truth.how, truth.words
    there, hidden = [], []
    for fact in case.facts:
        told = [f"{name} {value}" for name in ("side", "zone", "size") if (value := getattr(fact, name))]
        there += [f"present: {', '.join([fact.finding, *told])}"] if fact.visible else []
        hidden += [] if fact.visible else [f"not settled: {fact.finding}"]
    absent = [name for name in FINDINGS if name not in {fact.finding for fact in case.facts}]
    return truth.how, "\n".join([*there, f"absent: {', '.join(absent) or 'nothing'}", *hidden])


def apply_changes(answer: str, changes: list[dict]) -> str:
    """`answer` with each `old` replaced by its `new`. Raises NoEdit for no change, one whose words do not stand in the
    answer exactly once, or two that overlap."""
    places = []
    for change in changes:
        if not change["old"] or answer.count(change["old"]) != 1:
            raise NoEdit("the language model changes words that do not stand in the answer exactly once")
        start = answer.index(change["old"])
        places.append(Change(start, start + len(change["old"]), change["new"]))
    places.sort()
    if any(a.end > b.start for a, b in zip(places, places[1:])):
        raise NoEdit("the language model changes the same words twice")
    if (changed := make_changes(answer, places)) == answer:
        raise NoEdit("the language model changes nothing")
    return changed


@command(refused=REFUSED, stopped=(ChatError,), resume="the same command goes on from the replies that are kept")
def main(arguments: Sequence[str]) -> None:
    """Exit status: 0 done, 2 bad arguments or data, 1 a server or budget that ended the run, 130 interrupted."""
    given = needed(read_arguments(arguments, ALLOWED), "RUN", "URL", "MODEL", "OUT")
    given |= {name: value_of(name, given.get(name), usual) for name, usual in NUMBERS.items()}
    if below := [name for name in NUMBERS if not given[name] >= 0]:
        raise ArgumentError(f"{below[0]}={given[below[0]]} is below 0")
    stage = open_run(given["RUN"], needs=("00_start", "01_rollout"))
    rollouts, cases = run_answers(stage)
    rollouts, out = rollouts[: given["LIMIT"] or None], Path(given["OUT"])
    leaves = f"text alone, of up to {len(rollouts)} answers, each with its question and its reference as they stand; " \
             "no image, no name of a file or case"
    endpoint = Endpoint(given["URL"], given["MODEL"], timeout=given["TIMEOUT"])
    budget = Budget(given["MAX_REQUESTS"], given["MAX_TOKENS"])
    chat = Chat(endpoint, budget, cache=out / "replies", leaves=leaves, say=tqdm.write)
    editor = LlmEditor(chat, given["COUNTERFACTUAL_SHARE"])
    with bar("editing", len(rollouts), unit="answer") as done:

        def edit(rollout: Rollout, case: Case, question: Question, rng: np.random.Generator) -> Edit:
            done.update()
            done.set_postfix_str(chat.progress())
            return editor(rollout, case, question, rng)

        records, rejected = build_records(rollouts, cases, decode=decoder(stage.model), seed=stage.seed, editor=edit)
    told = write_edited(stage, out, records, rejected, cases)
    write_json(out / "editor.json", {"model": asdict(chat.endpoint), "used": chat.progress()})
    print(f"{len(rollouts)} answers: {told}\n{chat.progress()}")
