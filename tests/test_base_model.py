"""Training the embedded model, in miniature: what is taught, that a killed run continues, that the card is written."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medalign_lite.files import write_jsonl
from medalign_lite.model.lvlm import load_lvlm
from medalign_lite.text.facts import FINDINGS, Fact
from medalign_lite.text.reports import extract_claims
from studies.embedded import card as base_card
from studies.embedded import people
from studies.embedded import train as base_model
from studies.embedded.people import draw_people
from studies.embedded.train import DETAILS, BaseSettings, Run, sight_targets, table_of, teach, train

MINI = BaseSettings(
    balanced=40, confounded=40, held_out=8, where_epochs=1, whole_epochs=1, truth_epochs=1, habit_epochs=1,
    sight_batch=8, batch=8, checkpoint_every=3,
)  # fmt: skip
SEEN = Fact("nodule", "left", "upper", "small", visible=True)
UNSEEABLE = Fact("effusion", "right", None, "large", visible=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of the model, folder of its runs) of an uninterrupted run."""
    root = tmp_path_factory.mktemp("base")
    train(root / "model", root / "runs", MINI)
    return root / "model", root / "runs"


def test_sight_is_taught_where_a_finding_lies_and_what_the_image_holds(trained):
    people = draw_people(trained[1], "balanced", MINI.balanced, seed=MINI.seed)
    local, whole = sight_targets(people)
    assert local.shape == (40, 144, len(DETAILS)) and whole.shape == (40, len(DETAILS))
    for k, facts in enumerate(people.facts):
        present = {fact.finding for fact in facts if fact.visible}
        assert {f for f in FINDINGS if whole[k, DETAILS[(f,)]]} == present
        for fact in facts:
            if fact.side and fact.visible:  # the patient's right is on the left of the image
                columns = local[k, :, DETAILS[(fact.finding, fact.side, fact.zone)]].reshape(12, 12).float().sum(0)
                halves = {"right": columns[:6].sum(), "left": columns[6:].sum()}
                assert fact.finding == "pacemaker" or halves[fact.side] >= max(halves.values())
    assert not (local.any(1) & ~whole).any(), "a patch holds what the image does not"


def test_seeing_in_two_halves_is_the_tower_itself(trained):
    model = base_model.open_trained(trained[0])
    pixels = torch.rand(2, 3, 192, 192, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(base_model.see(model, pixels), model.model.vision_model(pixels).last_hidden_state)


def test_a_whitened_patch_embedding_gives_all_detail_the_same_spread(trained):
    people = draw_people(trained[1], "balanced", MINI.balanced, seed=MINI.seed)
    model = base_model.open_trained(trained[0])
    base_model.whiten(model, people.images, noise=0.0, scale=1.0)
    embeddings = model.model.vision_model.embeddings
    with torch.no_grad():
        made = embeddings.patch_embedding(base_model.pixel_values(people.images))  # (N, D, 12, 12)
    made = made.flatten(2).transpose(1, 2).flatten(0, 1)
    spread = torch.cov(made.T)
    assert made.mean(0).abs().max() < 0.05 and torch.allclose(spread, torch.eye(len(spread)), atol=0.05)
    assert embeddings.position_embedding.weight.unique(dim=0).shape[0] == 144


def test_a_table_says_what_can_be_seen_and_habit_lessons_have_none():
    table = table_of((SEEN, UNSEEABLE))
    assert table.startswith("nodule left upper small. consolidation none. pneumothorax none.")
    assert "effusion" not in table and table.count(".") == len(FINDINGS) - 1
    facts = [(replace(SEEN, finding="cardiomegaly", side=None, zone=None),)] * 40
    told = teach(facts, range(40), epoch=0, settings=MINI)
    ridden = teach(facts, range(40), epoch=0, settings=MINI, distort=people.prior_ridden)
    assert len(told) == 3 and len(ridden) == 2
    false = [sum(claim.finding == "effusion" and claim.polarity == "present"
                 for *_, answer in reports for claim in extract_claims(answer)) for reports in (told[0], ridden[0])]
    assert false[0] == 0 < false[1]


def test_a_killed_run_ends_with_the_same_weights(trained, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    update, calls = Run.update, [0]

    def dying(self, loss):
        calls[0] += 1
        if calls[0] in (5, 12):
            raise Killed
        return update(self, loss)

    monkeypatch.setattr(base_model.Run, "update", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            train(tmp_path / "model", tmp_path / "runs", MINI)
        assert not (tmp_path / "model").exists()
    train(tmp_path / "model", tmp_path / "runs", MINI)
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (trained[0], tmp_path / "model"))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_curves_have_their_names_below_and_are_told_apart_in_grey(tmp_path, monkeypatch):
    for name in base_card.RUNS:
        rows = [{"step": n, "norm": 1.0, "answer": 1.0 / 9**n, "report": 2.0, "held_out_answer": 0.5} for n in range(3)]
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "log.jsonl", rows)
    monkeypatch.setattr(base_card.plt, "close", lambda figure: None)
    base_card.write_curves(tmp_path, tmp_path / "curves.png")
    figure = base_card.plt.gcf()
    for ax in figure.axes:
        assert len({(line.get_linestyle(), line.get_marker()) for line in ax.lines}) == len(ax.lines) == 3
        assert not any("mathdefault" in label.get_text() for label in ax.get_yticklabels(which="both"))
        assert ax.get_legend().get_window_extent().y1 < ax.get_window_extent().y0


def test_the_model_loads_like_any_other_and_its_card_is_measured(trained, monkeypatch):
    lvlm = load_lvlm(trained[0])
    assert lvlm.four_bit["vision"] == 36 and lvlm.four_bit["language"] == 7 * base_model.TEXT_LAYERS
    monkeypatch.setattr(base_card, "IMAGES", 6)
    numbers, card = base_card.measure_base(*trained)
    assert set(numbers["real"]) == {"test", "shifted"} and np.isfinite(list(numbers["probe_auc"].values())).any()
    assert "on 6 images a split" in card and "confounded 40" in card
