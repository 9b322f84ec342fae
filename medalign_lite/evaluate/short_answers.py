"""Three scorers for short answers, each exact and named, every score in 0..1; and questions that catch a model saying
what is usual: twins of questions (Yan et al. 2024), and wrong premises.

`llavamed`  the rules published with LLaVA-Med v1.0 (Li et al. 2023), quirks included, to compare with the literature:
            open questions by recall of words, closed ones by substring.
`strict`    ours. Closed: yes, no or neither as `says.yes_no` reads it, an option by `says.option_of`, other answers
            by whole words that are not negated. Open: recall of words with multiplicity.
`lmms`      exact match after normalising, as lmms-eval scores SLAKE (see `lmms_normalise`), for both kinds.
"""

import re
import string
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from medalign_lite.cases.case import Case
from medalign_lite.text.answers import option_of, strict_match, words
from medalign_lite.text.reports import extract_claims
from medalign_lite.text.says import yes_no

SCORERS = ("llavamed", "strict", "lmms")
OPEN_SCORER, CLOSED_SCORER = "llavamed", "strict"  # those of the report

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = ("a", "an", "the")
_NUMBERS = {
    word: str(value) for value, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
_CONTRACTED = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't
he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd
there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've""".split()

# Each with exactly one of its apostrophes left out, once per apostrophe.
_CONTRACTIONS = {word[:i] + word[i + 1 :]: word for word in _CONTRACTED for i, c in enumerate(word) if c == "'"}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the published table has this entry the wrong way round


def llavamed_normalise(text: str) -> str:
    """`text` as the LLaVA-Med scorer sees it: lower case, no punctuation or articles, numbers as digits. A punctuation
    mark is deleted everywhere if it touches a space anywhere (or if the text holds a comma between digits), else it
    becomes a space. At most 32 full stops go: the published call passes a flag as the count."""
    text = text.lower()
    thousands = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        touches_space = mark + " " in text or " " + mark in text
        cleaned = cleaned.replace(mark, "" if touches_space or thousands else " ")
    cleaned = re.sub(r"\.(?!\d)", "", cleaned, count=32)
    words = [_NUMBERS.get(word, word) for word in cleaned.split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def llavamed_open(candidate: str, gold: str) -> tuple[float, float, float]:
    """(F1, precision, recall) over words; recall is the published "open" number. True positives count with the
    candidate's multiplicity, so recall = tp / (tp + fn) can reward repetition."""
    said = Counter(llavamed_normalise(candidate).split())
    wanted = Counter(llavamed_normalise(gold).split())
    tp = sum(count for word, count in said.items() if word in wanted)
    if tp == 0:
        return 0.0, 0.0, 0.0
    fn = sum(count for word, count in wanted.items() if word not in said)
    precision, recall = tp / said.total(), tp / (tp + fn)
    return 2 * precision * recall / (precision + recall), precision, recall


def llavamed_closed(candidate: str, gold: str) -> int:
    """1 if the candidate holds "yes" or "no" and the gold answer, all as substrings ("normal" holds "no"). The
    published loop leaves an answer with yes or no but without the gold out of its average; here it scores 0."""
    said, wanted = llavamed_normalise(candidate), llavamed_normalise(gold)
    return int(("yes" in said or "no" in said) and wanted in said)


def strict_closed(candidate: str, gold: str, question: str = "", options: Sequence[str] = ()) -> bool:
    """True if the candidate says yes or no as the gold answer does, or the same option; another gold answer's words
    must stand there. An answer that says neither yes nor no, or no option, is wrong."""
    if options:
        right = option_of(gold, options)
        return right is not None and option_of(candidate, options) == right
    wanted = yes_no(gold)
    return strict_match(candidate, gold) if wanted is None else yes_no(candidate, question) == wanted


def strict_recall(candidate: str, gold: str) -> float:
    """Share of the gold answer's words that the candidate says, each as often as both have it: repeating earns nothing.
    0 for a gold answer without words."""
    said, wanted = Counter(words(candidate)), Counter(words(gold))
    return (said & wanted).total() / wanted.total() if wanted else 0.0


_LMMS_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))
_LMMS_WHOLE = {"x ray": "xray"} | dict.fromkeys(("yeah", "yep", "true"), "yes") | dict.fromkeys(("nope", "false"), "no")


def lmms_normalise(text: str) -> str:
    """`text` as lmms-eval's SLAKE task compares English answers.

    Lower case; what stands in round brackets goes; every ASCII punctuation mark becomes a space; runs of white space
    become one space. Then whole answers are unified: "x ray" is "xray", yeah, yep and true are "yes", nope and false
    are "no". Articles and number words stay, and so do Chinese answers, which lmms-eval maps as well."""
    text = re.sub(r"\([^)]*\)", " ", text.lower())
    text = " ".join(text.translate(_LMMS_PUNCTUATION).split())
    return _LMMS_WHOLE.get(text, text)


def score_answer(
    candidate: str, gold: str, kind: str, question: str = "", options: Sequence[str] = ()
) -> dict[str, float]:
    """{scorer: score} of one answer by all SCORERS; `kind` is "closed", "choice" or "open"; the question's text and its
    options help to read the answer. By lmms a right answer in a sentence does not count. Raises ValueError for another
    kind."""
    if kind not in ("closed", "choice", "open"):
        raise ValueError(f"kind {kind!r} is no short answer: use closed, choice or open, and score reports by their "
                         "facts")
    if kind == "open":
        scores = llavamed_open(candidate, gold)[2], strict_recall(candidate, gold)
    else:
        scores = llavamed_closed(candidate, gold), strict_closed(candidate, gold, question, options)
    lmms = lmms_normalise(candidate) == lmms_normalise(gold)
    return dict(zip(SCORERS, map(float, (*scores, lmms)), strict=True))


def probe_counts(case: Case, texts: Mapping[str, str]) -> dict[str, float]:
    """Columns of `metrics` for one case's answers {question id: text}: twins, and questions with a wrong premise. A
    pair of twins counts where both were asked, and is right where both answers are."""
    asked = [question for question in case.questions if question.visible and question.id in texts]
    twins: dict[str, list[bool]] = defaultdict(list)
    for q in (q for q in asked if q.topic == "twin"):
        twins[q.id.rpartition("-")[0]].append(strict_closed(texts[q.id], q.answer, q.text, q.options))
    pairs = [both for both in twins.values() if len(both) == 2]
    premises = [rejects_premise(texts[q.id], q.finding, q.text) for q in asked if q.topic == "premise"]
    return {
        "twins": len(pairs), "twins_right": sum(map(all, pairs)),
        "premises": len(premises), "premises_rejected": sum(premises),
    }  # fmt: skip


def rejects_premise(text: str, finding: str | None, question: str = "") -> bool:
    """Whether the answer to a question that takes `finding` for granted says that it is not there. To deny it on one
    side, in one zone or of one size is not enough. An answer that names no finding must say no."""
    claims = extract_claims(text)
    about = [claim for claim in claims if claim.finding == finding]
    if about:
        whole = any(not (claim.side or claim.zone or claim.size) for claim in about)
        return whole and all(claim.polarity == "absent" for claim in about)
    return not claims and yes_no(text, question) is False
