"""Families of GANs through the whole pipeline: an invented one needs no edit outside this file; trouble is
told and can be got out of."""
from dataclasses import replace

import numpy as np
import pytest
import run_files
import torch
from run_files import metrics, stats, with_seeds
from torch import nn

from fer_synth.experiment import results, runs
from fer_synth.config import UserError
from fer_synth.data.batches import Batches
from fer_synth.families import known
from fer_synth.losses import GAME_LOSSES
from fer_synth.models.classifier import SimpleCNN
from fer_synth.recipes import get_recipe, tiny_cgan, tiny_wgan_gp
from fer_synth.report import make_report
from fer_synth.runtime import RunFolder, Stopped, load_tensors, seeded
from fer_synth.selection.pools import weights_hash
from fer_synth.training.objectives import Game


class LinearGenerator(nn.Module):
    "One matrix from latent code and class embedding to pixels."
    def __init__(self, z, n_classes, size, channels):
        super().__init__()
        self.z, self.shape = z, (channels, size, size)
        self.embed = nn.Embedding(n_classes, z)
        self.paint = nn.Linear(z, channels * size**2)

    def forward(self, z, y):
        return torch.tanh(self.paint(z + self.embed(y))).view(len(z), *self.shape)


class LinearCritic(nn.Module):
    "One matrix from pixels to a number for each class."
    def __init__(self, n_classes, size, channels):
        super().__init__()
        self.look = nn.Linear(channels * size**2, n_classes)

    def forward(self, x, y):
        return self.look(x.flatten(1)).gather(1, y[:, None]).squeeze(1)


class Linear(Game):
    "As small as a family can be: one matrix each way, with the hinge loss."
    @staticmethod
    def make_generator(cfg, n_classes, size, channels):
        return LinearGenerator(cfg.z, n_classes, size, channels)

    @staticmethod
    def make_critic(cfg, n_classes, size, channels):
        return LinearCritic(n_classes, size, channels)

    def critic_loss(self, inputs, penalty_step):
        with torch.no_grad(): fake = self.gen(inputs["z"], inputs["y"])
        real_logits = self.critic(inputs["x"], inputs["y"])
        fake_logits = self.critic(fake, inputs["y"])
        gap = (real_logits.mean() - fake_logits.mean()).detach()
        return GAME_LOSSES["hinge"].critic(real_logits, fake_logits), {"logit_gap": gap}

    def gen_loss(self, inputs):
        fake = self.gen(inputs["z"], inputs["y"])
        return -self.critic(fake, inputs["y"]).mean()


def short(cfg, **gan):
    return with_seeds(replace(cfg, gan=replace(cfg.gan, **gan)), 1)


def test_an_invented_family_runs_from_data_to_report(tmp_path, monkeypatch):
    monkeypatch.setitem(known.FAMILIES, "linear", Linear)
    cfg = short(tiny_wgan_gp(), family="linear", measure_every=3, measure_images=50)
    path = runs.run(cfg, tmp_path / "run", show=False)
    assert "augmented" in metrics(path)["arms"]
    assert results.generate(path, "happy", 2, tmp_path / "faces").exists()
    assert "linear" in make_report(path).read_text()
    assert {line["stage"] for line in stats(path) if "frechet" in line} == {"gan-1", "gan-2"}


def test_an_unknown_family_is_refused_before_anything_is_written(tmp_path):
    cfg, out = short(tiny_wgan_gp(), family="cgam"), tmp_path / "run"
    with pytest.raises(UserError, match="did you mean 'cgan'"): runs.run(cfg, out, show=False)
    assert not out.exists()


def test_a_family_without_classes_trains_one_gan_for_each(tmp_path):
    cfg = short(tiny_wgan_gp(), family="vanilla", gen_width=8, critic_width=8)
    path = runs.run(cfg, tmp_path / "run", show=False)
    stages = [file.stem for file in run_files.checkpoints(path)]
    assert len([stage for stage in stages if stage.startswith("gan-2-")]) == 5
    tensors, _ = load_tensors(run_files.checkpoint(path, "gan-2-happy"))
    assert not any(name.startswith("ema/embed") for name in tensors)


def test_cgan_stopped_in_the_middle_and_resumed_equals_one_that_was_not(shared_run, tmp_path, monkeypatch):
    "With adaptive augmentation, measurements and the best generator kept: all of it is in the checkpoint."
    cfg, whole, again = short(tiny_cgan()), shared_run("tiny_cgan"), tmp_path / "again"
    due = [3, 1]    # between two measurements of the first round, and early in the second

    class Impatient(known.FAMILIES["cgan"]):
        def after_step(self, step):
            super().after_step(step)
            if due and step == due[0]:
                due.pop(0)
                RunFolder(again).request_stop()

    monkeypatch.setitem(known.FAMILIES, "cgan", Impatient)
    with pytest.raises(Stopped): runs.run(cfg, again, show=False)
    with pytest.raises(Stopped): runs.resume(again, show=False)
    runs.resume(again, show=False)
    assert not due and metrics(again) == metrics(whole) and stats(again) == stats(whole)
    for stage in ("gan-1", "gan-2"):
        a, b = (load_tensors(run_files.checkpoint(run, stage))[0] for run in (whole, again))
        assert run_files.same_tensors(a, b)
    assert any(name.startswith("best/") for name in a)
    assert {"strength/value", "critic/view.down.weight"} <= a.keys()


def test_the_pool_is_drawn_by_the_best_generator_when_that_is_asked_for(tmp_path, monkeypatch):
    "Measurements that only get worse: the first one of the last round is the best, and not the last."
    cfg, worse = short(tiny_cgan()), iter(range(1, 100))
    monkeypatch.setattr(experiment, "make_measure", lambda *_: lambda gen: {"frechet": float(next(worse))})
    path = runs.run(cfg, tmp_path / "run", show=False)
    tensors, notes = load_tensors(run_files.checkpoint(path, "gan-2"))
    assert notes["best_step"] == 3 and notes["step"] == 4
    member, = experiment.members(cfg, tuple(RunFolder(path).read("data.json")["classes"]))
    experiment.load_member(RunFolder(path), cfg, member, "cpu")
    loaded = member.gen.state_dict()
    best, last = ({name: tensors[f"{kind}/{name}"] for name in loaded} for kind in ("best", "ema"))
    assert run_files.same_tensors(loaded, best) and not run_files.same_tensors(loaded, last)
    made_by = np.load(run_files.pool(path, 2))["generator"].tolist()
    assert set(made_by) == {experiment.weights_hash(member.gen)}


def test_a_breakdown_says_what_is_good_and_how_to_go_on(tmp_path, monkeypatch):
    "Weights blow up in step 5 of 6: the checkpoint of step 4 stays, and half the rates lead to the end."
    cfg, out, broken = short(tiny_cgan()), tmp_path / "run", []

    class Fragile(known.FAMILIES["cgan"]):
        def after_step(self, step):
            super().after_step(step)
            if step == 4 and not broken:
                broken.append(step)
                with torch.no_grad(): next(self.gen.parameters()).fill_(float("nan"))

    monkeypatch.setitem(known.FAMILIES, "cgan", Fragile)
    words = r"gan-1 broke down at step 6: .* is not finite; the state of step 4 .*--slower 0.5"
    with pytest.raises(UserError, match=words): runs.run(cfg, out, show=False)
    tensors, _ = load_tensors(run_files.checkpoint(out, "gan-1"))
    assert all(t.isfinite().all() for t in tensors.values())
    path = runs.resume(out, show=False, slower=0.5)
    folder, now = RunFolder.open(path)
    assert now.gan.lr_gen == cfg.gan.lr_gen / 2 and now.gan.lr_critic == cfg.gan.lr_critic / 2
    rates = {name: [getattr(cfg.gan, name), getattr(now.gan, name)] for name in ("lr_gen", "lr_critic")}
    assert folder.read("changes.json") == [{"at": {"gan-1": 4}, **rates}]
    assert (path / "metrics.json").exists()
    with pytest.raises(UserError, match="slower is 0"): runs.resume(path, show=False, slower=0)


def small_judge(n_classes):
    "The same untrained classifier each time."
    with seeded(0, "judge"): return SimpleCNN(n_classes, 16)


def small_game(cfg, batches, judge=None):
    "cgan between two new networks, for two classes of grey 16x16."
    gen, critic = (make(cfg, 2, 16, 1, 0) for make in (known.make_generator, known.make_critic))
    return known.FAMILIES["cgan"](cfg, gen, critic, batches, 0, "cpu", judge=judge)


@pytest.mark.parametrize("loss", ["hinge", "nonsaturating", "relativistic"])
@pytest.mark.parametrize("augment", ["none", "fixed"])
@pytest.mark.filterwarnings("ignore:precision")      # not every processor is made for it
def test_every_game_of_cgan_trains_in_bf16_too(loss, augment):
    "Finite numbers in 16 bits, and near those in 32."
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16)).astype(np.uint8)
    judge, found = small_judge(2), {}
    for precision in ("fp32", "bf16"):
        cfg = replace(get_recipe("tiny_cgan").gan, loss=loss, augment=augment, precision=precision)
        game = small_game(cfg, Batches(images, np.arange(40) % 2, cfg.batch, 0, "gan"), judge)
        found[precision] = [{k: float(v) for k, v in game.critic_update(k).items()} for k in range(4)]
    # The classifier whose feature maps the critic sees stays as it is.
    assert run_files.same_tensors(judge.state_dict(), small_judge(2).state_dict())
    for a, b in zip(found["fp32"], found["bf16"]):
        assert a.keys() == b.keys() and all(np.isfinite(list(b.values())))
        # eight bits of precision, four Adam steps
        assert b["loss_critic"] == pytest.approx(a["loss_critic"], rel=.1, abs=.05)


def test_a_critic_without_the_classifier_whose_feature_maps_it_needs_is_refused():
    with pytest.raises(UserError, match="there is no judge"): small_game(tiny_cgan().gan, None)
