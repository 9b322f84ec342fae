"""``python -m medalign_lite.editors.llm``: preference records of a finished run, edited by a language model.

    ALLOW_NETWORK=1 python -m medalign_lite.editors.llm --run artifacts/ci --url http://127.0.0.1:11434/v1 \\
        --model NAME --out edits/NAME

The model's own answers of stage 01 go, with their questions and references, as text to a server with
/v1/chat/completions (vLLM, Ollama, llama.cpp, `transformers serve`, or a hosted one; its key in LLM_API_KEY) and
nowhere else. OUT gets records.jsonl, rejected.json (reasons with counts), pairs.jsonl and
validation.jsonl for `medalign_lite.train.train`, editor.json (settings and what was used) and replies/: a run
that stopped, for whatever reason, goes on from there, and a finished one costs nothing again.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from medalign_lite.cases.case import Case, Question
from medalign_lite.cases.rollouts import Rollout
from medalign_lite.dials import PresetError
from medalign_lite.editors.chat import Budget, Chat, ChatError, Endpoint
from medalign_lite.editors.llm_edits import LlmEditor
from medalign_lite.editors.write import write_edited
from medalign_lite.edits.records import build_records, learnable
from medalign_lite.edits.repair import Edit
from medalign_lite.files import bar, write_json
from medalign_lite.model.lvlm import decoder
from medalign_lite.model.weights import ModelError
from medalign_lite.run.cohort import read_cohort
from medalign_lite.run.commands import exit_status
from medalign_lite.run.pairs import open_run
from medalign_lite.run.stages import Stage, StageError, read_jsonl


def parser() -> argparse.ArgumentParser:
    """Data, server, budget."""
    made = argparse.ArgumentParser(
        prog="python -m medalign_lite.editors.llm", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--run", type=Path, required=True, help="a run of `make reproduce` (OUT/PRESET)")
    made.add_argument("--out", type=Path, required=True, help="the folder that is written to")
    made.add_argument("--url", required=True, help="the server, up to /v1")
    made.add_argument("--model", required=True, help="the model's name there")
    made.add_argument("--limit", type=int, default=0, help="only so many answers, the first; 0 = all (default: 0)")
    made.add_argument("--max-requests", type=int, default=1000, help="budget of this call (default: 1000)")
    made.add_argument(
        "--max-tokens", type=int, default=1_000_000, help="budget of this call, prompts and replies (default: 1000000)"
    )
    made.add_argument("--timeout", type=float, default=120.0, help="seconds for one reply (default: 120)")
    made.add_argument(
        "--counterfactual-share", type=float, default=1.0, help="of the answers called right (default: 1.0)"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0 done, 2 bad arguments or data, 1 a server or budget that ended the run, 130 interrupted."""
    given = parser().parse_args(arguments)
    return exit_status(
        lambda: make_records(given, open_run(given.run, needs=("00_start", "01_rollout"))),
        refused=(ValueError, OSError, StageError, PresetError, ModelError), stopped=(ChatError,),
        resume="the same command goes on from the replies that are kept",
    )  # fmt: skip


def make_records(given: argparse.Namespace, stage: Stage) -> None:
    """Ask about every answer that may be learnt from, and write OUT. Raises ChatError as `Chat.ask` does."""
    cases = read_cohort(stage).cases
    rollouts = learnable([Rollout(**row) for row in read_jsonl(stage.input("01_rollout", "rollouts.jsonl"))], cases)
    rollouts = rollouts[: given.limit] if given.limit else rollouts
    chat = _chat(given, len(rollouts))
    editor = LlmEditor(chat, given.counterfactual_share)
    with bar("editing", len(rollouts), unit="answer") as done:

        def edit(rollout: Rollout, case: Case, question: Question, rng: np.random.Generator) -> Edit:
            done.update()
            done.set_postfix_str(chat.progress())
            return editor(rollout, case, question, rng)

        records, rejected = build_records(rollouts, cases, decode=decoder(stage.model), seed=stage.seed, editor=edit)
    told = write_edited(given.out, records, rejected, cases, corruption=stage.preset.corruption, seed=stage.seed)
    write_json(given.out / "editor.json", {"model": asdict(chat.endpoint), "used": chat.progress()})
    print(f"{len(rollouts)} answers: {told}")
    print(chat.progress())


def _chat(given: argparse.Namespace, answers: int) -> Chat:
    leaves = f"text alone, of up to {answers} answers, each with its question and its reference as they stand; " \
             "no image, no name of a file or case"  # fmt: skip
    endpoint = Endpoint(given.url, given.model, timeout=given.timeout)
    budget = Budget(given.max_requests, given.max_tokens)
    return Chat(endpoint, budget, cache=given.out / "replies", leaves=leaves, say=tqdm.write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
