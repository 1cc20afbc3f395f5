"Families of GANs through the whole pipeline: a made-up one needs no edit outside this file; trouble is told and can be got out of."
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fer_synth.experiment import results, runs
from fer_synth.config import UserError, save_config
from fer_synth.families import known
from fer_synth.losses import GAME_LOSSES
from fer_synth.models.classifier import SimpleCNN
from fer_synth.recipes import get_recipe, tiny_cgan, tiny_wgan_gp
from fer_synth.report import make_report
from fer_synth.runtime import RunFolder, Stopped, load_tensors, seeded
from fer_synth.selection.pools import weights_hash
from fer_synth.training.objectives import Game


class Linear(Game):
    "As small as a family can be: one matrix each way, in the hinge game."
    @staticmethod
    def make_generator(cfg, n_classes, size, channels):
        class Painter(nn.Module):
            def __init__(self):
                super().__init__()
                self.z, self.embed, self.paint = cfg.z, nn.Embedding(n_classes, cfg.z), nn.Linear(cfg.z, channels * size**2)
            def forward(self, z, y): return torch.tanh(self.paint(z + self.embed(y))).view(len(z), channels, size, size)
        return Painter()
    @staticmethod
    def make_critic(cfg, n_classes, size, channels):
        class Looker(nn.Module):
            def __init__(self):
                super().__init__()
                self.look = nn.Linear(channels * size**2, n_classes)
            def forward(self, x, y): return self.look(x.flatten(1)).gather(1, y[:, None]).squeeze(1)
        return Looker()
    def critic_loss(self, inputs, penalty_step):
        with torch.no_grad(): fake = self.gen(inputs["z"], inputs["y"])
        real, fake = self.critic(inputs["x"], inputs["y"]), self.critic(fake, inputs["y"])
        return GAME_LOSSES["hinge"].critic(real, fake), {"gap": (real.mean() - fake.mean()).detach()}
    def gen_loss(self, inputs): return -self.critic(self.gen(inputs["z"], inputs["y"]), inputs["y"]).mean()


def short(cfg, **gan):
    return replace(cfg, gan=replace(cfg.gan, **gan), compare=replace(cfg.compare, seeds=1))


def test_a_made_up_family_runs_from_data_to_report(tmp_path, monkeypatch):
    monkeypatch.setitem(known.FAMILIES, "linear", Linear)
    cfg = short(tiny_wgan_gp(), family="linear", measure_every=3, measure_images=50)
    path = runs.run(cfg, tmp_path/"run", show=False)
    assert "augmented" in json.loads((path/"metrics.json").read_text())["arms"]
    assert results.generate(path, "happy", 2, tmp_path/"faces").exists()
    assert "linear" in make_report(path).read_text()
    assert {l["stage"] for l in map(json.loads, (path/"stats.jsonl").read_text().splitlines()) if "frechet" in l} == {"gan-1", "gan-2"}


def test_an_unknown_family_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="did you mean 'cgan'"): runs.run(short(tiny_wgan_gp(), family="cgam"), tmp_path/"run", show=False)
    assert not (tmp_path/"run").exists()


def test_a_family_without_classes_trains_one_gan_for_each(tmp_path):
    cfg = short(tiny_wgan_gp(), family="vanilla", gen_width=8, critic_width=8)
    path = runs.run(cfg, tmp_path/"run", show=False)
    assert len(list((path/"checkpoints").glob("gan-2-*.safetensors"))) == 5
    assert not any(k.startswith("ema/embed") for k in load_tensors(path/"checkpoints"/"gan-2-happy.safetensors")[0])


def facts(path):
    "What a run found out, without what it took."
    lines = [{k: v for k, v in json.loads(t).items() if k not in ("seconds", "images_per_s")} for t in (path/"stats.jsonl").read_text().splitlines()]
    return {k: v for k, v in RunFolder(path).read("metrics.json").items() if k != "resources"}, lines


def test_cgan_stopped_in_the_middle_and_resumed_equals_one_that_was_not(tmp_path, monkeypatch):
    "With adaptive augmentation, measurements and the best generator kept: all of it is in the checkpoint."
    cfg = short(tiny_cgan())
    whole = runs.run(cfg, tmp_path/"whole", show=False)
    family, stopped = known.FAMILIES["cgan"], []

    class Impatient(family):
        def after_step(self, step):
            super().after_step(step)
            if len(stopped) < 2 and step == (3, 1)[len(stopped)]:       # between two measurements of the first round, and early in the second
                stopped.append(step)
                RunFolder(tmp_path/"again").request_stop()

    monkeypatch.setitem(known.FAMILIES, "cgan", Impatient)
    with pytest.raises(Stopped): runs.run(cfg, tmp_path/"again", show=False)
    with pytest.raises(Stopped): runs.resume(tmp_path/"again", show=False)
    again = runs.resume(tmp_path/"again", show=False)
    assert stopped == [3, 1] and facts(again) == facts(whole)
    for name in ("gan-1", "gan-2"):
        a, b = (load_tensors(p/"checkpoints"/f"{name}.safetensors")[0] for p in (whole, again))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert any(k.startswith("best/") for k in a) and {"augment/p", "critic/view.down.weight"} <= a.keys()


def test_the_pool_is_drawn_by_the_best_generator_when_that_is_asked_for(tmp_path, monkeypatch):
    "Measurements that only get worse: the first one of the last round is the best, and not the last."
    worse = iter(range(1, 100))
    monkeypatch.setattr(experiment, "make_measure", lambda *_: lambda gen: {"frechet": float(next(worse))})
    path = runs.run(cfg := short(tiny_cgan()), tmp_path/"run", show=False)
    tensors, notes = load_tensors(path/"checkpoints"/"gan-2.safetensors")
    assert notes["best_step"] == 3 and notes["step"] == 4
    member, = experiment.members(cfg, tuple(RunFolder(path).read("data.json")["classes"]))
    experiment.load_member(RunFolder(path), cfg, member, "cpu")
    state = member.gen.state_dict()
    assert all(torch.equal(tensors[f"best/{k}"], v) for k, v in state.items()) and not all(torch.equal(tensors[f"ema/{k}"], v) for k, v in state.items())
    assert set(np.load(path/"pool"/"round-2.npz")["generator"].tolist()) == {weights_hash(member.gen)}


def test_a_breakdown_says_what_is_good_and_how_to_go_on(tmp_path, monkeypatch):
    "The weights blow up in step 5 of 6: the checkpoint of step 4 stays, and half the rates bring the run to its end."
    cfg, family, broken = short(tiny_cgan()), known.FAMILIES["cgan"], []

    class Fragile(family):
        def after_step(self, step):
            super().after_step(step)
            if step == 4 and not broken:
                broken.append(step)
                with torch.no_grad(): next(self.gen.parameters()).fill_(float("nan"))

    monkeypatch.setitem(known.FAMILIES, "cgan", Fragile)
    with pytest.raises(UserError, match=r"gan-1 broke down at step 6: .* is not finite; the state of step 4 .*--slower 0.5"):
        runs.run(cfg, tmp_path/"run", show=False)
    assert all(v.isfinite().all() for v in load_tensors(tmp_path/"run"/"checkpoints"/"gan-1.safetensors")[0].values())
    path = runs.resume(tmp_path/"run", show=False, slower=0.5)
    folder, now = RunFolder.open(path)
    assert now.gan.lr_gen == cfg.gan.lr_gen / 2 and now.gan.lr_critic == cfg.gan.lr_critic / 2
    assert folder.read("changes.json") == [{"at": {"gan-1": 4}, "lr_gen": [cfg.gan.lr_gen, now.gan.lr_gen], "lr_critic": [cfg.gan.lr_critic, now.gan.lr_critic]}]
    assert (path/"metrics.json").exists()
    with pytest.raises(UserError, match="slower is 0"): runs.resume(path, show=False, slower=0)


@pytest.mark.parametrize("loss", ["hinge", "nonsaturating", "relativistic"])
@pytest.mark.parametrize("augment", ["none", "fixed"])
@pytest.mark.filterwarnings("ignore:precision")      # not every processor is made for it
def test_every_game_of_cgan_trains_in_bf16_too(loss, augment):
    "Finite numbers in 16 bits, and near those in 32."
    from fer_synth.data.batches import Batches
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16)).astype(np.uint8)
    with seeded(0, "judge"): judge = SimpleCNN(2, 16)
    found = {}
    for precision in ("fp32", "bf16"):
        cfg = replace(get_recipe("tiny_cgan").gan, loss=loss, augment=augment, precision=precision)
        nets = (make(cfg, 2, 16, 1, 0) for make in (known.make_generator, known.make_critic))
        game = known.FAMILIES["cgan"](cfg, *nets, Batches(images, np.arange(40) % 2, cfg.batch, 0, "gan"), 0, "cpu", judge=judge)
        found[precision] = [{k: float(v) for k, v in game.critic_update(k).items()} for k in range(4)]
    with seeded(0, "judge"): as_before = SimpleCNN(2, 16)
    assert all(torch.equal(a, b) for a, b in zip(judge.state_dict().values(), as_before.state_dict().values()))      # whom the critic looks through stays as it is
    for a, b in zip(found["fp32"], found["bf16"]):
        assert a.keys() == b.keys() and all(np.isfinite(list(b.values())))
        assert b["loss_critic"] == pytest.approx(a["loss_critic"], rel=.1, abs=.05)      # eight bits of precision, four Adam steps


def test_a_critic_without_the_judge_that_it_shall_look_through_is_refused():
    cfg = tiny_cgan().gan
    nets = (make(cfg, 2, 16, 1, 0) for make in (known.make_generator, known.make_critic))
    with pytest.raises(UserError, match="there is no judge"): known.FAMILIES["cgan"](cfg, *nets, None, 0, "cpu")
