"""Which devices a run can use, and that a run would work on the GPU of a Mac, which no test machine has.

What is known of that GPU (`mps`): it has no 64-bit floats and no sparse gradients, `max_pool2d` cannot be
differentiated twice on it, and an operation that has no kernel for it raises."""
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fer_synth import cli, processes, runtime
from fer_synth.config import save_config
from fer_synth.data.batches import Batches
from fer_synth.evaluation import copies, generators
from fer_synth.experiment import runs
from fer_synth.families.known import make_generator
from fer_synth.family_settings import VanillaConfig
from fer_synth.recipes import tiny_cgan, tiny_wgan_gp
from fer_synth.runtime import pick_device, start
from fer_synth.settings import UserError
from fer_synth.training import warmup
from fer_synth.training.steps import use_bf16


# ---- the choice ------------------------------------------------------------------------------------

def machine(monkeypatch, gpus: int = 0, mps: bool = False) -> None:
    "Let PyTorch say that this machine has so many CUDA GPUs, or that of a Mac."
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize("gpus, mps, name, chosen", [
    (0, False, "auto", "cpu"), (2, False, "auto", "cuda"), (0, True, "auto", "mps"),
    (1, True, "auto", "cuda"), (0, False, "cpu", "cpu"), (2, True, "cpu", "cpu"),
    (0, True, "mps", "mps"), (2, True, "mps", "mps"), (1, False, "cuda", "cuda"),
    (2, False, "cuda:0", "cuda:0"), (2, False, "cuda:1", "cuda:1"),
])
def test_the_devices_of_a_machine(monkeypatch, gpus, mps, name, chosen):
    machine(monkeypatch, gpus, mps)
    assert pick_device(name) == torch.device(chosen) == pick_device(torch.device(chosen))


@pytest.mark.parametrize("gpus, mps, name, use", [
    (0, False, "cuda", "auto, cpu"), (0, False, "mps", "auto, cpu"), (0, True, "cuda", "auto, mps, cpu"),
    (1, False, "cuda:1", "auto, cuda, cpu, cuda:0"), (2, False, "mps", "auto, cuda, cpu, cuda:0, cuda:1"),
    (0, True, "mps:0", "auto, mps, cpu"),
])
def test_a_device_that_the_machine_lacks(monkeypatch, gpus, mps, name, use):
    machine(monkeypatch, gpus, mps)
    with pytest.raises(UserError) as told: pick_device(name)
    assert str(told.value) == f"device is '{name}', which is none of this machine; use one of: {use}."


BAD = ("mps", "mps:0", "xpu", "xpu:0", "hpu", "meta", "vulkan", "mtia", "xla", "privateuseone",
       "cuda", "cuda:0", "cuda:7", "cuda:-1", "cuda:", "cuda:x", "cpu:0", "cpu:3", "CPU", " cpu", "cpu\n",
       "", "0", "gpu", "quantum", "None", "auto:0", "über")


@pytest.fixture
def begun(tmp_path, monkeypatch) -> Path:
    "A run folder of another machine, on one that has a CPU alone; the current folder is empty."
    machine(monkeypatch)
    run = tmp_path / "begun"
    (run / "steps").mkdir(parents=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return run


@pytest.mark.parametrize("name", BAD)
def test_a_bad_device_is_one_sentence_and_leaves_nothing(begun, capsys, name):
    save_config(replace(tiny_wgan_gp(), device=name), begun / "config.json")
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    where = ["--recipe", "tiny_wgan_gp", "--device", name]
    commands = (["run", *where], ["run", *where, "--out", "out"], ["baseline", *where],
                ["resume", str(begun)], ["extend", str(begun)])
    shown = " ".join(name.split())
    for words in commands:
        assert cli.main(words) == 2, words
        said = capsys.readouterr()
        assert said.err.startswith("fer-synth: ") and said.err.count("\n") == 1 and not said.out, said
        assert "device is '" in said.err and shown in said.err and "use one of: auto, cpu." in said.err, said
    with pytest.raises(UserError, match="use one of"): start(name)
    with pytest.raises(UserError, match="use one of"): runs.run(replace(tiny_wgan_gp(), device=name))
    assert not list(Path().iterdir())
    assert before == {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}


@pytest.mark.parametrize("wrong", [None, 0, 1.5, ("cpu",)])
def test_a_device_that_is_no_text(wrong):
    with pytest.raises(UserError, match="use one of"): start(wrong)


@pytest.mark.parametrize("name", ["mps", "cuda:1"])
def test_several_processes_do_not_share_one_device(monkeypatch, name):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=f"'{name}', which several processes cannot share"):
        processes.join_processes(name)


def test_the_record_names_the_chip_of_a_mac(monkeypatch):
    monkeypatch.setattr(runtime.sys, "platform", "darwin")
    monkeypatch.setattr(runtime, "command_output", lambda *words, **more: "Apple M2")
    made = runtime.environment(torch.device("mps"))
    assert (made["device"], made["gpu"], made["cpu"]) == ("mps", "Apple M2", "Apple M2")


# ---- a run without what the GPU of a Mac lacks ------------------------------------------------------

class Mac(TorchDispatchMode):
    "Refuses 64-bit floats, and notes the operations on dense tensors."

    def __init__(self):
        super().__init__()
        self.operations, self.on = set(), True

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, found)) if isinstance(t, torch.Tensor)]
        if self.on and all(t.layout == torch.strided for t in tensors):
            assert all(t.dtype != torch.float64 for t in tensors), f"64-bit floats in {operation}"
            if operation.namespace == "aten": self.operations.add(str(operation).removeprefix("aten."))
        return found

    def aside(self, function):
        "A function that is computed on the CPU in the place of the GPU."
        def called(*args, **more):
            self.on = False
            try: return function(*args, **more)
            finally: self.on = True
        return called


class NoPlainMaxPool(TorchFunctionMode):
    "Refuses `max_pool2d` without the places of the maxima."
    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function is not torch.max_pool2d, "it cannot be differentiated twice on mps; use max_pool"
        return function(*args, **(kwargs or {}))


def vanilla():
    "Every choice that the two tiny recipes do not make."
    cfg = tiny_wgan_gp()
    own = {f.name for f in fields(VanillaConfig)} - {"family"}
    shared = {f.name: getattr(cfg.gan, f.name) for f in fields(cfg.gan) if f.name in own}
    clf = replace(cfg.clf, arch="small_resnet", dropout=.2, one_cycle=True, mirror=True, shift=1)
    return replace(cfg, gan=VanillaConfig(**shared), clf=clf, warmup=replace(cfg.warmup, mode="unpaired"),
                   data=replace(cfg.data, classes=("happy", "sad")),
                   selection=replace(cfg.selection, score="density", threshold=0.0))


def shortened(cfg):
    "The same with one seed, trained as briefly as can be."
    return replace(cfg, clf=replace(cfg.clf, epochs=.5),
                   compare=replace(cfg.compare, seeds=1, arms=("real", "augmented"), bootstrap=20))


@pytest.fixture(scope="module")
def kernels() -> dict[str, str]:
    "What PyTorch declares about each of its operations: name -> the lines of its entry."
    torchgen = pytest.importorskip("torchgen")
    file = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    if not file.exists(): pytest.skip("this PyTorch does not say which kernels it has")
    entries = re.split(r"^- func: ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {entry[:entry.index("(")]: entry for entry in entries}


def on_mps(name: str, kernels: dict[str, str]) -> bool:
    "Whether an operation has a kernel for mps, or is made of others."
    entry = kernels[name]
    shared = re.search(r"structured_delegate: (\S+)", entry)
    if shared: return on_mps(shared[1], kernels)
    if "  dispatch:" not in entry: return True
    where = re.findall(r"^    ([\w, ]+): \w+", entry, re.MULTILINE)
    keys = {key for keys in where for key in keys.split(", ")}
    return any(key == "MPS" or key.startswith("Composite") for key in keys)


def test_what_has_a_kernel(kernels):
    "The reading of PyTorch's declarations, by operations that are known."
    assert on_mps("relu", kernels) and on_mps("lerp.Scalar", kernels) and on_mps("linalg_svd", kernels)
    assert not on_mps("_cudnn_rnn", kernels) and not on_mps("_coalesce", kernels)


@pytest.mark.parametrize("recipe", [tiny_wgan_gp, tiny_cgan, vanilla], ids=lambda r: r.__name__)
def test_a_run_asks_for_nothing_that_mps_lacks(tmp_path, monkeypatch, kernels, recipe):
    mac = Mac()
    for module, name in ((generators, "pixel_neighbours"), (warmup, "pca_codes")):     # see the next tests
        monkeypatch.setattr(module, name, mac.aside(getattr(module, name)))
    with NoPlainMaxPool(), mac: runs.run(shortened(recipe()), tmp_path / "run", show=False)
    assert len(mac.operations) > 60
    lacking = [name for name in mac.operations if not on_mps(name.removesuffix(".default"), kernels)]
    assert not lacking, "there is no kernel for mps in this version of PyTorch"


def test_what_mps_lacks_is_computed_on_the_cpu():
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16)).astype(np.uint8)
    on_cpu, on_mac = (copies.pixel_neighbours(images[:9], images[9:], device=d) for d in ("cpu", "mps"))
    assert np.array_equal(on_cpu.distance, on_mac.distance) and np.array_equal(on_cpu.index, on_mac.index)
    assert not use_bf16("auto", "mps")


def test_the_codes_of_the_warm_up_stay_on_the_cpu():
    "Their sparse gradients exist there alone; the generator and the images are elsewhere."
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16)).astype(np.uint8)
    gen = make_generator(tiny_wgan_gp().gan, 2, 16, 1, 0).to("meta")
    batches = Batches(images, np.arange(20) % 2, 4, 0)
    warm = warmup.WarmUp(tiny_wgan_gp().warmup, gen, batches, None, 0, torch.device("meta"))
    rows = batches.rows(0)
    assert warm.codes.weight.device.type == "cpu" and warm.latents(0, rows).device.type == "meta"
