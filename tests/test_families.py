"""Families of GANs through the whole pipeline: invented ones need no edit outside this file; trouble is told
and can be got out of."""
import csv
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import run_files
import torch
from run_files import metrics, stats, with_seeds
from torch import nn

from fer_synth import cli
from fer_synth.config import UserError
from fer_synth.data.batches import Batches, to_float
from fer_synth.data.load import load_images
from fer_synth.experiment import results, runs, work
from fer_synth.experiment.results import Run
from fer_synth.families import known
from fer_synth.family_settings import FAMILY_SETTINGS, AdversarialConfig, change_family
from fer_synth.losses import GAME_LOSSES
from fer_synth.models.classifier import SimpleCNN
from fer_synth.models.samplers import Request, SourceSampler
from fer_synth.recipes import get_recipe, tiny_cgan, tiny_wgan_gp
from fer_synth.records import RunFolder, Stopped
from fer_synth.runtime import load_tensors, seeded
from fer_synth.selection.pools import Pool, read_selection, weights_hash
from fer_synth.settings import Range, setting
from fer_synth.steps import file_hashes
from fer_synth.training.objectives import Game


# ---- two invented families -------------------------------------------------------------------------

class LinearCritic(nn.Module):
    "One matrix from pixels to a number for each class."
    def __init__(self, n_classes, size, channels):
        super().__init__()
        self.look = nn.Linear(channels * size**2, n_classes)

    def forward(self, x, y):
        return self.look(x.flatten(1)).gather(1, y[:, None]).squeeze(1)


class SmallGame(Game):
    "A hinge game against a linear critic. A family gives `make_generator` and `generate`."
    @staticmethod
    def make_critic(cfg, n_classes, size, channels):
        return LinearCritic(n_classes, size, channels)

    def critic_loss(self, inputs, penalty_step):
        with torch.no_grad(): fake = self.generate(inputs)
        real_logits = self.critic(inputs["x"], inputs["y"])
        fake_logits = self.critic(fake, inputs["y"])
        gap = (real_logits.mean() - fake_logits.mean()).detach()
        return GAME_LOSSES["hinge"].critic(real_logits, fake_logits), {"gap": gap}

    def gen_loss(self, fake, inputs):
        return -self.critic(fake, inputs["y"]).mean()


class LinearGenerator(nn.Module):
    "One matrix from latent code and class embedding to pixels."
    def __init__(self, cfg, n_classes, size, channels):
        super().__init__()
        self.z, self.contrast, self.shape = cfg.z, cfg.contrast, (channels, size, size)
        self.embed = nn.Embedding(n_classes, cfg.z)
        self.paint = nn.Linear(cfg.z, channels * size**2)

    def forward(self, z, y):
        x = self.contrast * self.paint(z + self.embed(y))
        return torch.tanh(x).view(len(z), *self.shape)


class Linear(SmallGame):
    "As small as a latent family can be: one matrix each way."
    @staticmethod
    def make_generator(cfg, n_classes, size, channels):
        return LinearGenerator(cfg, n_classes, size, channels)


@dataclass(frozen=True, kw_only=True)
class LinearConfig(AdversarialConfig):
    "The settings of `Linear`."
    family: str = "linear"  # which GAN
    z: int = setting(8, Range(1), part="generator")  # latent dimensions
    contrast: float = setting(1.0, Range(0.5, 2), part="generator")  # factor before the generator's tanh


class TintGenerator(nn.Module):
    "Adds an image of the wanted class to its source."
    def __init__(self, cfg, n_classes, size, channels):
        super().__init__()
        self.share, self.shape = cfg.share, (channels, size, size)
        self.change = nn.Embedding(n_classes, channels * size**2)

    def forward(self, x, y):
        change = torch.tanh(self.change(y)).view(len(x), *self.shape)
        return (1 - self.share) * x + self.share * change


class Tint(SmallGame):
    "As small as an image-to-image family can be; the source images are training images."
    latent = False
    sampler_class = SourceSampler

    @staticmethod
    def make_generator(cfg, n_classes, size, channels):
        return TintGenerator(cfg, n_classes, size, channels)

    def more(self, role, n, random, penalty_step):
        seed = int(torch.randint(1 << 60, (1,), generator=random))
        hashes = self.sources.draw(n, seed)
        return {"source": to_float(torch.as_tensor(self.sources.take(hashes)))}

    def generate(self, inputs):
        return self.gen(inputs["source"], inputs["y"])


@dataclass(frozen=True, kw_only=True)
class TintConfig(AdversarialConfig):
    "The settings of `Tint`."
    family: str = "tint"  # which GAN
    share: float = setting(0.3, Range(0, 1), part="generator")  # how much of an image is not its source


INVENTED = {"linear": (Linear, LinearConfig), "tint": (Tint, TintConfig)}


def add_families(monkeypatch) -> None:
    "Make the invented families known for the length of a test."
    for name, (family, settings) in INVENTED.items():
        monkeypatch.setitem(known.FAMILIES, name, family)
        monkeypatch.setitem(FAMILY_SETTINGS, name, settings)


@pytest.fixture
def invented(monkeypatch):
    add_families(monkeypatch)


SHORT = ("--recipe", "tiny_wgan_gp", "--gan.batch", "16", "--gan.critic-steps", "1",
         "--gan.critic-first", "2", "--gan.measure-every", "3", "--gan.measure-images", "50",
         "--compare.seeds", "1")


def family_words(family: str, out, *more: str) -> list[str]:
    "The command that runs a family from data to report."
    return ["run", *SHORT, "--gan.family", family, "--out", str(out), *more]


@pytest.mark.parametrize("family, option, text", [
    ("linear", "--gan.contrast", "factor before the generator's tanh"),
    ("tint", "--gan.share", "how much of an image is not its source"),
])
def test_help_shows_the_settings_of_the_family_that_is_named(invented, capsys, family, option, text):
    assert cli.main(["run", "--gan.family", family, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert option in shown and text in shown and "--gan.penalty " not in shown
    assert cli.main(["run", "--help"]) == 0
    assert option not in capsys.readouterr().out


@pytest.mark.parametrize("family, words, said", [
    ("linear", ("--gan.contrast", "3"), "gan.contrast is 3.0; it must be between 0.5 and 2"),
    ("linear", ("--gan.contrast", "nan"), "gan.contrast is nan"),
    ("linear", ("--gan.z", "0"), "gan.z is 0; it must be 1 or more"),
    ("linear", ("--gan.share", "0.5"), "'--gan.share'"),
    ("tint", ("--gan.share", "1.5"), "gan.share is 1.5; it must be between 0 and 1"),
])
def test_a_setting_out_of_its_range_is_refused_by_name(invented, tmp_path, capsys, family, words, said):
    assert cli.main(family_words(family, tmp_path / "run", *words)) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_an_invented_family_runs_from_data_to_report(invented, no_pictures, tmp_path):
    path = tmp_path / "run"
    assert cli.main(family_words("linear", path, "--gan.contrast", "1.5")) == 0
    run = Run.open(path)
    assert type(run.cfg.gan) is LinearConfig and run.cfg.gan.contrast == 1.5
    for step in (run.plan["warmup-1"].settings["generator"], run.plan["gan-2"].settings["gan"]):
        assert step["contrast"] == 1.5
    assert run.drawings()[0].sampler.gen.contrast == 1.5
    assert "augmented" in metrics(path)["arms"]
    assert {line["stage"] for line in stats(path) if "frechet" in line} == {"gan-1", "gan-2"}
    assert "linear" in (path / "report.html").read_text()
    assert "source" not in read_selection(run_files.selection(path))
    made = results.generate(path, "happy", 2, tmp_path / "images", device="cpu")
    assert "source" not in made.read_text().splitlines()[0].split(",")


# ---- image to image --------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def tinted(tmp_path_factory):
    "A run of the invented image-to-image family, made by the command line."
    path = tmp_path_factory.mktemp("tinted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        add_families(patch)
        assert cli.main(family_words("tint", path)) == 0
    return path


@pytest.fixture(scope="module")
def images():
    "The images of that run."
    return load_images(tiny_wgan_gp().data)


def training_hashes(images) -> set[str]:
    return set(images.hashes[images.split == "train"].tolist())


def test_an_image_to_image_family_runs_from_data_to_report(invented, tinted, images, tmp_path):
    run = Run.open(tinted)
    assert type(run.cfg.gan) is TintConfig and not run.plan.of("warmup")
    assert "augmented" in metrics(tinted)["arms"] and "tint" in (tinted / "report.html").read_text()
    assert {line["stage"] for line in stats(tinted) if "frechet" in line} == {"gan-1", "gan-2"}
    assert len(run_files.samples(tinted, "gan-*")) == 3
    assert RunFolder(tinted).read("measures.json")["images"] == 50
    table = read_selection(run_files.selection(tinted))
    for r in (1, 2):
        pool = Pool.load(run_files.pool(tinted, r))
        assert set(pool.sources.tolist()) <= training_hashes(images) and len(set(pool.sources.tolist())) > 50
        assert table["source"][table["round"] == r].tolist() == pool.sources.tolist()
    assert (table["decision"] == "kept").any(), "no student has learned from an image with a source"
    drawing, = run.drawings("cpu", images)
    again = drawing.sampler.draw(Request(pool.labels, pool.seeds, pool.sources))
    assert np.array_equal(again, pool.images), "an image does not follow from class, seed and source"


def test_generated_images_name_their_sources(invented, tinted, images, tmp_path):
    made = results.generate(tinted, "happy", 5, tmp_path / "images", device="cpu")
    with open(made) as file: rows = list(csv.DictReader(file))
    assert len(rows) == 5 and {row["source"] for row in rows} <= training_hashes(images)
    again = results.generate(tinted, "happy", 5, tmp_path / "again", device="cpu")
    assert again.read_bytes() == made.read_bytes()
    assert "Fr" in results.measure(tinted, 50, cas=False, device="cpu", show=False)


def held_out(images, split: str) -> tuple[str, str]:
    "Hash and name of an image that nothing may be generated from."
    row = np.flatnonzero(images.split == split)[0]
    return images.hashes[row], images.names[row]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_source_that_is_held_out_is_refused_where_images_are_drawn(invented, tinted, images, split):
    drawing, = Run.open(tinted).drawings("cpu", images)
    request = drawing.request(0, [1, 2])
    wrong, name = held_out(images, split)
    sources = np.array([request.sources[0], wrong])
    with pytest.raises(UserError, match=rf"'{name}' \({wrong}\) is in the {split} split"):
        drawing.sampler.draw(replace(request, sources=sources))


def with_source(run: Run, wrong: str) -> None:
    "Give a kept image of the last pool another source, as if it had been drawn so."
    select, pool_step = run.plan["select-2"], run.plan["pool-2"]
    kept = np.load(run.store.folder(select) / "kept.npy")
    file = run.store.folder(pool_step) / "pool.npz"
    pool = Pool.load(file)
    pool.sources[np.flatnonzero(kept)[0]] = wrong
    pool.save(file)
    run.store.write_note(pool_step, files=file_hashes(file.parent))


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("reader", ["select-2", "student-augmented-0"])
def test_a_source_that_is_held_out_is_refused_where_a_pool_is_used(
        invented, tinted, images, tmp_path, split, reader):
    path = shutil.copytree(tinted, tmp_path / "run")
    run, (wrong, name) = Run.open(path), held_out(images, split)
    with_source(run, wrong)
    shutil.rmtree(run.store.folder(run.plan[reader]).path)
    with pytest.raises(UserError, match=rf"'{name}' \({wrong}\) is in the {split} split"):
        runs.resume(path, show=False)
    assert run.store.state(run.plan[reader]) != "done"


# ---- the families that there are -------------------------------------------------------------------

def short(cfg, **gan):
    return with_seeds(replace(cfg, gan=replace(cfg.gan, **gan)), 1)


def test_an_unknown_family_is_refused_before_anything_is_written(tmp_path):
    cfg, out = short(tiny_wgan_gp(), family="cgam"), tmp_path / "run"
    with pytest.raises(UserError, match="did you mean 'cgan'"): runs.run(cfg, out, show=False)
    assert not out.exists()


def test_settings_of_another_family_are_refused(tmp_path):
    cfg, out = short(tiny_wgan_gp(), family="vanilla"), tmp_path / "run"
    with pytest.raises(UserError, match="settings of WganGpConfig"): runs.run(cfg, out, show=False)
    assert not out.exists()


def test_a_family_without_classes_trains_one_gan_for_each(tmp_path):
    tiny = tiny_wgan_gp()
    gan = change_family(tiny.gan, "vanilla")
    gan = replace(gan, z=8, batch=16, critic_steps=2, gen_width=8, critic_width=8)
    path = runs.run(with_seeds(replace(tiny, gan=gan), 1), tmp_path / "run", show=False)
    assert len(run_files.step_folders(path, "gan-2-*")) == 5
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
    for step in ("gan-1", "gan-2"):
        a, b = (load_tensors(run_files.checkpoint(run, step))[0] for run in (whole, again))
        assert run_files.same_tensors(a, b)
    assert any(name.startswith("best/") for name in a)
    assert {"augment/p", "augment/r_t", "critic/view.down.weight"} <= a.keys()


def test_the_pool_is_drawn_by_the_best_generator_when_that_is_asked_for(tmp_path, monkeypatch):
    "Measurements that only get worse: the first one of the last round is the best, and not the last."
    cfg, worse = short(tiny_cgan()), iter(range(1, 100))
    monkeypatch.setattr(work, "make_measure", lambda *_: lambda sampler: {"frechet": float(next(worse))})
    path = runs.run(cfg, tmp_path / "run", show=False)
    tensors, notes = load_tensors(run_files.checkpoint(path, "gan-2"))
    assert notes["best_step"] == 3 and notes["step"] == 4
    drawing, = Run.open(path).drawings()
    loaded = drawing.sampler.gen.state_dict()
    best, last = ({name: tensors[f"{kind}/{name}"] for name in loaded} for kind in ("best", "ema"))
    assert run_files.same_tensors(loaded, best) and not run_files.same_tensors(loaded, last)
    assert set(Pool.load(run_files.pool(path, 2)).generators) == {weights_hash(drawing.sampler.gen)}


def test_a_breakdown_says_what_is_good_and_how_to_go_on(tmp_path, monkeypatch):
    "Weights blow up in step 5 of 6: the checkpoint of step 4 stays, and half the rates lead to the end."
    cfg, out, broken, rates = short(tiny_cgan()), tmp_path / "run", [], []

    class Fragile(known.FAMILIES["cgan"]):
        def __init__(self, cfg, *args, **more):
            super().__init__(cfg, *args, **more)
            rates.append((cfg.lr_gen, cfg.lr_critic))

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
    half = cfg.gan.lr_gen / 2, cfg.gan.lr_critic / 2
    whole = cfg.gan.lr_gen, cfg.gan.lr_critic
    assert rates == [whole, half, half]      # the first round twice, and the second
    run = Run.open(path)
    assert run.cfg.slowed == ("gan-1@4*0.5",) and run.cfg.gan == cfg.gan
    for gan in run.plan.of("gan"):
        assert (gan.settings["gan"]["lr_gen"], gan.settings["gan"]["lr_critic"]) == half
    assert run.plan["gan-1"].settings["gan"]["slowed"] == [[4, 0.5]]
    assert [line["step"] for line in stats(path) if line["stage"] == "gan-1"][:3] == [2, 3, 4]
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
