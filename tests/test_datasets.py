"Data sets that are in Python already: one line each, from the facts to a tiny run, and as a saved file."
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder

from fer_synth import cli
from fer_synth.config import DataConfig, UserError
from fer_synth.data.images import ImageSet, describe
from fer_synth.data.load import load_images
from fer_synth.recipes import tiny_wgan_gp


def digits():
    return ImageSet.from_arrays(*load_digits(return_X_y=True), value_range=(0, 16), size=16, limit=30)


def fake(tmp_path):
    return ImageSet.from_dataset(FakeData(90, (3, 24, 24), 3), size=16)


def folder(tmp_path):
    faces = load_images(replace(tiny_wgan_gp().data, classes=("happy", "sad", "fear")))
    for i, (pixels, label) in enumerate(zip(*faces.part("train"))):
        place = tmp_path/"faces"/faces.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(place/f"{i}.png")
    return ImageSet.from_dataset(ImageFolder(tmp_path/"faces"), size=16, channels=1)


@pytest.mark.parametrize("make, classes, channels", [
    (lambda tmp_path: digits(), tuple("0123456789"), 1), (fake, ("0", "1", "2"), 3),
    (folder, ("fear", "happy", "sad"), 1)], ids=["scikit-learn", "FakeData", "ImageFolder"])
def test_from_the_facts_to_a_tiny_run(request, tmp_path, capsys, make, classes, channels):
    if make is not fake: request.getfixturevalue("no_pictures")     # drawn once, in colour
    images = make(tmp_path)
    assert images.classes == classes and images.images.shape[1:] == (channels, 16, 16)
    assert f"{len(classes)} classes, used as 16x16" in describe(images)
    path = images.save(tmp_path/"set.npz")
    options = ["--data", str(path), "--data.size", "16", "--data.channels", str(channels)]
    cli.main(["data", *options])
    assert "arrays images" in capsys.readouterr().out
    short = ["--compare.seeds", "1", "--compare.arms", "real", "augmented", "--rounds.count", "1",
             "--clf.epochs", "1"]
    cli.main(["run", "--recipe", "tiny_wgan_gp", *options, *short, "--out", str(tmp_path/"run")])
    assert (tmp_path/"run"/"report.html").exists()


def test_a_saved_set_is_the_same_table(tmp_path):
    images = digits()
    again = load_images(DataConfig(source=str(images.save(tmp_path/"digits")), size=16))
    def rows(table): return {n: (s, y, x.tobytes()) for n, s, y, x in
                             zip(table.names, table.split, table.labels, table.images)}
    assert again.classes == images.classes and rows(again) == rows(images) and again.report["cut"] == []


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **arrays): raise OSError(28, "No space left on device")
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError): digits().save(tmp_path/"digits.npz")
    assert not list(tmp_path.iterdir())


def test_values_of_every_kind_are_the_same_images():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 16, 16), np.uint8), np.arange(40) % 2
    pixels[0, 0, :2] = 0, 255
    forms = {"uint8": pixels, "fractions": pixels / 255, "16 bits": pixels.astype(np.uint16) * 257,
             "tensor": torch.tensor(pixels)[:, None], "flat": pixels.reshape(40, -1),
             "channels last": pixels[..., None], "floats to 255": pixels.astype(np.float32)}
    prints = {name: ImageSet.from_arrays(x, labels, size=16).fingerprint() for name, x in forms.items()}
    normalised = ImageSet.from_arrays(pixels / 127.5 - 1, labels, value_range=(-1, 1), size=16)
    assert set(prints.values()) == {normalised.fingerprint()}, prints


def test_data_sets_of_pytorch():
    "Tensors, subsets and joined sets; classes by name; official splits; a normalisation that is named."
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(60, 3, 16, 16, generator=rng), torch.arange(60) % 3
    rows = TensorDataset(images, labels)
    names = ("cat", "dog", "owl")
    joined = ConcatDataset([Subset(rows, range(30)), Subset(rows, range(30, 60))])
    plain = ImageSet.from_arrays(images, labels, classes=names, size=16)
    assert ImageSet.from_dataset(joined, classes=names, size=16).fingerprint() == plain.fingerprint()
    some, others = Subset(rows, range(40)), Subset(rows, range(40, 60))
    cut = ImageSet.from_dataset(some, test=others, classes=names, size=16)
    assert Counter(cut.split.tolist())["test"] == 20 and cut.report["cut"] == ["val"]

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([.5] * 3, [.5] * 3)])
    plain, shifted = FakeData(30, (3, 16, 16), 2), FakeData(30, (3, 16, 16), 2, transform)
    with pytest.raises(UserError, match="value_range"): ImageSet.from_dataset(shifted)
    again = ImageSet.from_dataset(shifted, value_range=(-1, 1), size=16)
    assert again.fingerprint() == ImageSet.from_dataset(plain, size=16).fingerprint()

    erasing = transforms.Compose([transforms.ToTensor(), transforms.RandomErasing(p=1)])
    noisy = FakeData(30, (3, 16, 16), 2, erasing)
    with pytest.raises(UserError, match="random transforms"): ImageSet.from_dataset(noisy)


def test_data_sets_of_hugging_face():
    hugging = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    features = hugging.Features({"image": hugging.Image(), "label": hugging.ClassLabel(names=["cat", "dog"])})
    def part(seed, n):
        rng = np.random.default_rng(seed)
        pictures = [Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)) for _ in range(n)]
        return hugging.Dataset.from_dict({"image": pictures, "label": [i % 2 for i in range(n)]}, features)
    sets = hugging.DatasetDict({"train": part(0, 20), "validation": part(1, 6), "test": part(2, 6)})
    images = ImageSet.from_dataset(sets, size=16)
    assert images.classes == ("cat", "dog") and images.images.shape[1:] == (3, 16, 16)
    assert Counter(images.split.tolist()) == {"train": 20, "val": 6, "test": 6}
    streamed = ImageSet.from_dataset(part(0, 20).to_iterable_dataset(), size=16)
    assert len(streamed.labels) == 20


@pytest.mark.parametrize("rows, part", [
    ([], "is empty"), ([3, 4], "pair of picture and class"),
    ([("cat.png", 0), ("dog.png", 1)], "for a picture"),
    ([(np.zeros((8, 8), np.uint8), None)] * 4, "class numbers or class names"),
    ([(np.zeros((8, 8), np.uint8), 0)] * 4, "only the class"),
    ([(np.zeros((2, 2, 8, 8), np.uint8), 0)] * 4, "for a picture")])
def test_rows_that_are_none_end_in_a_sentence(rows, part):
    with pytest.raises(UserError, match=part): ImageSet.from_dataset(rows, size=16)
