"""What tools/on_gpu.py measures with: games and classifiers from the package's recipes, comparisons of two
trainings, the speed of a step. What both files know of the package's settings and constructors is in the
functions from `config` to `packed_images`."""
import math
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fer_synth.config import DataConfig, RunConfig
from fer_synth.data.batches import Batches, MirrorAndShift
from fer_synth.data.drawn import draw_faces
from fer_synth.data.images import ImageSet
from fer_synth.data.load import load_images
from fer_synth.data.training_set import TrainingSet
from fer_synth.families.known import get_family, make_critic, make_generator
from fer_synth.models.blocks import conv_macs
from fer_synth.models.classifier import make_classifier
from fer_synth.models.samplers import Sampler
from fer_synth.recipes import FIVE_EMOTIONS, cgan_fer32, tiny_wgan_gp, vanilla_drawn32, wgan_gp_fer32
from fer_synth.records import StepFolder
from fer_synth.runtime import derive, rng, seeded, start
from fer_synth.training.classifier import Schedule, predict, train_classifier
from fer_synth.training.gan import Budget, Meter, Watch, play, train
from fer_synth.training.objectives import Game
from fer_synth.training.steps import Recorded, Rehearsed, arithmetic, make_adam, step_optimizer
from fer_synth.training.warmup import WarmUp

FAMILIES = {"cgan": cgan_fer32, "wgan_gp": wgan_gp_fer32, "vanilla": vanilla_drawn32}
CLASSIFIERS = ("simple_cnn", "small_resnet")
WITH_BF16 = ("cgan", *CLASSIFIERS)       # the other families compute in 32 bits only
CLASSES = len(FIVE_EMOTIONS)
MODES = {"eager": False, "graphs": False, "graphs bf16": True}      # whether it is in bf16
SMALL = {"z": 8, "gen_width": 8, "critic_width": 8, "batch": 8}
NO_END = 1 << 60     # planned steps of a training that has no end: the learning rates stay as they are
MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Options:
    "What every section is told."
    out: Path
    rehearse: bool = False
    data: Path | None = None  # what `pack` wrote; None: drawn faces
    deadline: float = 0.0     # when all must be done, in seconds since 1970

    @property
    def report(self) -> Path: return self.out / "on_gpu.json"


# The package's settings and constructors

def config(family: str, o: Options, rates: float = 1.0, **gan) -> RunConfig:
    "The family's recipe, small in a rehearsal; `rates` multiplies the learning rates, `gan` changes fields."
    cfg = FAMILIES[family]()
    if o.rehearse:
        tiny = tiny_wgan_gp()
        cfg = replace(cfg, data=tiny.data, clf=tiny.clf, warmup=tiny.warmup)
        gan = SMALL | gan
    if family not in WITH_BF16: gan.pop("precision", None)
    slower = {name: getattr(cfg.gan, name) * rates for name in ("lr_gen", "lr_critic")}
    return replace(cfg, gan=replace(cfg.gan, **slower | gan))


def make_game(cfg: RunConfig, images, labels, device, recorder=Recorded, judge=None, gen=None) -> Game:
    "A family's game from seed 0, whose steps are wrapped by `recorder`."
    shape = CLASSES, cfg.data.size, cfg.data.channels
    family = get_family(cfg.gan.family)
    family = type(family.__name__, (family,), {"recorder": staticmethod(recorder)})
    gen = gen or make_generator(cfg.gan, *shape, 0).to(device)
    critic = make_critic(cfg.gan, *shape, 0).to(device)
    transform = MirrorAndShift() if cfg.gan.mirror else None
    batches = Batches(images, labels, cfg.gan.batch, 0, "gan",
                      device=device, transform=transform, even=cfg.gan.even)
    return family(cfg.gan, gen, critic, batches, 0, device, judge=judge or untrained_judge(cfg, device))


def untrained_judge(cfg: RunConfig, device) -> torch.nn.Module:
    "A classifier from seed 0, which takes as much time as a trained one."
    with seeded(0, "judge"):
        judge = make_classifier(cfg.clf, CLASSES, cfg.data.size, cfg.data.channels)
    return judge.eval().to(device)


def train_gan(game: Game, folder: StepFolder, steps: int, minutes=0.0, measure=None) -> None:
    "Train a game as a run does, on from its checkpoint if there is one."
    shown = game.cfg.batch * (game.cfg.critic_steps + 1)
    watch = Watch.of(game.cfg, measure=measure, n_classes=CLASSES, batch=shown)
    train(game, folder, Budget(folder, steps, minutes), watch)


def train_judge(cfg: RunConfig, data: ImageSet, folder: StepFolder, device) -> tuple:
    "A classifier of the training rows, and its accuracy on the validation rows."
    real, held = (TrainingSet(*data.part(split), data.classes) for split in ("train", "val"))
    clf = train_classifier(cfg.clf, real, held, Schedule.of(cfg.clf, len(real)), folder, 0, device)
    return clf, float((predict(clf, held.images, device).argmax(1) == held.labels).mean())


def strong_judge(cfg: RunConfig) -> RunConfig:
    "Settings of a better classifier than the recipe's: what measures a generator that has met the other one."
    clf = replace(cfg.clf, arch="small_resnet", epochs=8.0, dropout=0.2, mirror=True, shift=2, one_cycle=True)
    return replace(cfg, clf=clf)


def warmed_up(cfg: RunConfig, data: ImageSet, judge, folder: StepFolder, device) -> torch.nn.Module:
    "A generator after its warm-up."
    gen = make_generator(cfg.gan, CLASSES, cfg.data.size, cfg.data.channels, 0).to(device)
    batches = Batches(*data.part("train"), cfg.warmup.batch, 0, "warmup", device=device)
    lesson = WarmUp(cfg.warmup, gen, batches, judge.features, 0, device)
    train(lesson, folder, Budget(folder, cfg.warmup.steps), Watch(n_classes=CLASSES, checkpoint_every=NO_END))
    return gen


def few_faces(cfg: RunConfig, n: int = 512) -> tuple[np.ndarray, np.ndarray]:
    "Drawn faces of all classes in turn, and their labels."
    labels = np.arange(n) % CLASSES
    return draw_faces(labels, 0, cfg.data.size, channels=cfg.data.channels), labels


def generated(sampler: Sampler, labels: np.ndarray, seed: int) -> np.ndarray:  # uint8 (N, C, H, W)
    "A generated image for each label."
    seeds = [derive(seed, "faces", i) for i in range(len(labels))]
    return sampler.draw(sampler.request(labels, seeds))


def pack(source: Path, out: Path) -> str:
    "Write the training and validation rows of FER2013, five emotions at 32x32; no test row goes along."
    data = load_images(DataConfig(source=str(source), classes=FIVE_EMOTIONS))
    if "val" not in data.report["cut"]:
        raise SystemExit(f"{source} has a validation split; only rows of its training split may be packed.")
    rows = data.split != "test"
    np.savez_compressed(out, images=np.asarray(data.images[rows]), labels=data.labels[rows],
                        split=data.split[rows], classes=np.array(data.classes))
    size = out.stat().st_size / MIB
    if size > 30: raise SystemExit(f"{out} has {size:.1f} MiB; 30 are the most that is carried along.")
    return f"{out}: {rows.sum()} images, {size:.1f} MiB"


def packed_images(cfg: RunConfig, o: Options) -> ImageSet:
    "What `pack` wrote, or drawn faces."
    if o.data is None: return load_images(replace(cfg.data, source="drawn", classes=()))
    with np.load(o.data, allow_pickle=False) as f: arrays = dict(f)
    n, classes = len(arrays["labels"]), tuple(arrays.pop("classes").tolist())
    unknown = {"names": ("",) * n, "hashes": np.full(n, ""), "report": {}}
    return ImageSet(**arrays, **unknown, classes=classes, source="fer2013")


# The device

def begin(o: Options, deterministic: bool = False) -> torch.device:
    "The device, ready for one section."
    if o.rehearse: warnings.filterwarnings("ignore", message='precision "bf16"')
    torch.backends.cudnn.deterministic = deterministic
    return start("cpu" if o.rehearse else "cuda")


def set_tf32(on: bool) -> None:
    "Whether single precision may be computed with ten bits of mantissa, in convolutions and in matmul."
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cuda.matmul.allow_tf32 = on


def synchronize(device: torch.device) -> None:
    "Wait until the device has done all that it was told."
    if device.type == "cuda": torch.cuda.synchronize()


def eager(function: Callable, device) -> Callable:
    "A recorder that records nothing."
    return function


def graphs(o: Options) -> type:
    "The recorder whose steps are replayed: a CUDA graph, or in a rehearsal its stand-in."
    return Rehearsed if o.rehearse else Recorded


# Comparisons of two trainings

def compared(difference: float, tolerance: float) -> dict:
    "A number beside what it may be at most; not-a-number is outside."
    return {"difference": difference, "tolerance": tolerance, "within": difference <= tolerance}


def losses(game: Game, steps: int) -> np.ndarray:  # (steps, 2)
    "The critic's and the generator's loss in each of the first steps."
    rows = []
    for step in range(steps):
        meter = Meter()
        play(game, step, NO_END, meter)
        rows.append([torch.stack(meter.values[name]).mean().item() for name in ("loss_critic", "loss_gen")])
    return np.array(rows)


def loss_difference(a: np.ndarray, b: np.ndarray) -> list[float]:  # one number a step
    "How far losses are apart, as a share of the loss, or absolutely where it is below 1."
    return (np.abs(a - b) / np.maximum(1, np.abs(b))).max(1).tolist()


@torch.no_grad()
def nudge(game: Game, share: float) -> None:
    "Change every weight at random, by about this share of it."
    random = rng(0, "nudge")
    for net in (game.gen, game.critic):
        for p in net.parameters(): p.mul_(1 + share * torch.randn(p.shape, generator=random).to(p.device))


def weights(state: dict, network: str) -> torch.Tensor:
    "All weights of a network in a game's state, as one vector."
    return torch.cat([v.double().cpu().flatten() for k, v in state.items() if k.startswith(network + "/")])


def same_state(found: dict, wanted: dict, again: dict) -> dict:
    "Whether two states of a game are equal; `again` is of a second training like the wanted one."
    def distance(state) -> float:
        parts = [(weights(state, name), weights(wanted, name)) for name in ("gen", "critic", "ema")]
        return max(((a - b).norm() / b.norm()).item() for a, b in parts)
    spread = distance(again)
    unequal = [k for k in wanted if not torch.equal(found[k].cpu(), wanted[k].cpu())]
    return compared(distance(found), max(1e-3, 10 * spread)) | {
        "exactly_equal": not unequal, "unequal_tensors": unequal[:5], "wanted_against_again": spread}


# Speed

def peak_throughput(dtype, size: int, device, seconds: float = 0.5) -> float:  # TFLOP/s
    "The fastest of several matmuls of size x size."
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    for _ in range(3): a @ b
    synchronize(device)
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        for _ in range(4): a @ b
        synchronize(device)
        best = min(best, (time.perf_counter() - began) / 4)
    return 2 * size**3 / best / 1e12


PENALTY_PASSES = {"cgan": 6, "wgan_gp": 4, "vanilla": 3}
COUNTED = (
    "Multiply-adds of convolutions and linear layers, two FLOP each. A backward pass counts as two forward "
    "passes, or as one where only the input's gradient is needed; a penalty, second derivatives included, "
    f"counts as {PENALTY_PASSES} forward passes of the critic for a real image.")


@dataclass
class Task:
    "Something whose speed is measured."
    step: Callable[[int], object]
    period: int      # steps in which every kind of update has its share
    images: int      # images a step; of a game the real ones that its critic is shown
    gflop: float     # work for each of these images


def game_gflop(game: Game, cfg: RunConfig) -> float:
    "Work for each real image, as `COUNTED` says."
    inputs = game.inputs("critic", 0)
    gen = conv_macs(game.gen, inputs["z"], inputs["y"])
    critic = conv_macs(game.critic, inputs["x"], inputs["y"])
    judge = conv_macs(game.judge, inputs["x"]) if getattr(cfg.gan, "projected", False) else 0.0
    critic_update = gen + 6 * critic + 2 * judge
    penalty = PENALTY_PASSES[cfg.gan.family] * critic + 4 * judge
    gen_update = 3 * gen + 2 * critic + 2 * judge
    return 2 * (critic_update + penalty / cfg.gan.penalty_every + gen_update / cfg.gan.critic_steps) / 1e9


def game_task(name: str, batch: int, mode: str, images: tuple, o: Options, device) -> Task:
    "Whole steps of a family, after every kind of update was called often enough to be recorded."
    cfg = config(name, o, batch=batch, precision="bf16" if MODES[mode] else "fp32")
    game = make_game(cfg, *images, device, eager if mode == "eager" else graphs(o))
    every = cfg.gan.penalty_every
    for i in range(5):
        game.critic_update(i * every)
        if every > 1: game.critic_update(i * every + 1)
        game.update_gen(i, 0)

    def step(i): play(game, i, NO_END, Meter())
    period = every // math.gcd(every, cfg.gan.critic_steps)
    return Task(step, period, batch * cfg.gan.critic_steps, game_gflop(game, cfg))


def classifier_task(name: str, batch: int, mode: str, images: tuple, o: Options, device) -> Task:
    "Steps of a classifier. The package trains it eagerly and in fp32; the other modes show what that leaves."
    cfg = config("cgan", o)
    net = make_classifier(replace(cfg.clf, arch=name), CLASSES, cfg.data.size, cfg.data.channels).to(device)
    opt = make_adam(net, 1e-3, (0.9, 0.999), device)
    batches = Batches(*images, batch, 0, "clf", device=device)

    def update(inputs: dict) -> dict:
        with arithmetic(MODES[mode], device): logits = net(inputs["x"])
        loss = F.cross_entropy(logits.float(), inputs["y"])
        step_optimizer(opt, loss)
        return {"loss": loss.detach()}

    recorded = update if mode == "eager" else graphs(o)(update, device)

    def step(i): recorded(dict(zip("xy", batches[i])))
    for i in range(5): step(i)
    return Task(step, 4, batch, 3 * 2 * conv_macs(net, batches[0][0]) / 1e9)


def timed(task: Task, seconds: float, device) -> float:
    "Images a second, over whole periods."
    synchronize(device)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(task.period):
            task.step(done)
            done += 1
        synchronize(device)
    return done * task.images / (time.perf_counter() - began)


def rate(name: str, batch: int, mode: str, images: tuple, o: Options, device, peaks: dict) -> dict:
    "Speed, share of the peak in the same arithmetic, and memory; or the error, such as too little memory."
    row, on_gpu = {"network": name, "batch": batch, "mode": mode}, device.type == "cuda"
    if on_gpu: torch.cuda.reset_peak_memory_stats()
    try:
        task = (game_task if name in FAMILIES else classifier_task)(name, batch, mode, images, o, device)
        row["images_per_s"] = timed(task, 0.02 if o.rehearse else 0.8, device)
    except Exception:
        return row | {"error": traceback.format_exc()}
    kind = "fp32"
    if on_gpu and torch.backends.cudnn.allow_tf32: kind = "tf32"
    if MODES[mode]: kind = "bf16"
    row |= {"gflop_per_image": task.gflop, "peak_kind": kind}
    row["tflops"] = row["images_per_s"] * task.gflop / 1e3
    if kind in peaks: row["share_of_peak"] = row["tflops"] / peaks[kind]
    if on_gpu:
        row["allocated_gib"] = torch.cuda.max_memory_allocated() / GIB
        row["reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
    return row


def draw_rates(rows: list[dict], path: Path) -> None:
    "Images a second against batch size, a panel for each network, a line for each mode."
    fig = Figure(figsize=(13, 3.2), layout="constrained")
    FigureCanvasAgg(fig)
    panels = fig.subplots(1, len(FAMILIES) + len(CLASSIFIERS), sharey=True)
    styles = {"eager": ("#595959", "o:"), "graphs": ("#0072B2", "s--"), "graphs bf16": ("#E69F00", "D-")}
    batches = sorted({row["batch"] for row in rows})
    for ax, name in zip(panels, (*FAMILIES, *CLASSIFIERS)):
        for mode, (colour, style) in styles.items():
            found = {row["batch"]: row["images_per_s"] for row in rows
                     if (row["network"], row["mode"]) == (name, mode) and "images_per_s" in row}
            if found: ax.loglog(*zip(*sorted(found.items())), style, color=colour, label=mode)
        ax.set_xticks(batches, map(str, batches))
        ax.minorticks_off()
        ax.set(title=name, xlabel="batch")
        ax.grid(color="#E6E6E6")
    panels[0].set_ylabel("images a second")
    panels[0].legend(frameon=False)
    fig.savefig(path, dpi=150)
