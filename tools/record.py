"""The small run that the package carries.

`python tools/record.py runs/recorded` copies its records to fer_synth/recorded. The run itself is made by
    fer-synth demo --gan.steps 200 --selection.max-pool 300 --out runs/recorded
Of the checkpoints only the averaged generator and the judge's best weights (in half precision) are kept:
enough to make and judge new faces, not to go on training.
"""
import shutil
import sys
from pathlib import Path

import numpy as np

from fer_synth.config import load_config
from fer_synth.data.load import load_images
from fer_synth.experiment import load_judge
from fer_synth.figures import spread
from fer_synth.runtime import RunFolder, load_tensors, pick_device, save_tensors
from fer_synth.selection.pools import write_validation
from fer_synth.training.classifier import predict

HERE = Path(__file__).resolve().parent.parent / "fer_synth" / "recorded"
PLAIN = ("config.json", "env.json", "data.json", "metrics.json", "timings.json", "stats.jsonl",
         "selection.csv", "predictions.npz")


def slim(run: Path, out: Path, stage: str, prefix: str, half: bool = False) -> None:
    "The part of a checkpoint that is used after training."
    tensors, notes = load_tensors(run / "checkpoints" / f"{stage}.safetensors")
    kept = {k: v for k, v in tensors.items() if k.startswith(prefix)}
    if half: kept = {k: v.half() if v.is_floating_point() else v for k, v in kept.items()}
    save_tensors(out / "checkpoints" / f"{stage}.safetensors", kept, config=notes["config"])


def validations(run: Path, out: Path) -> None:
    "What each round's judge says about the validation faces; where the run has no record, it is asked again."
    cfg, device = load_config(run / "config.json"), pick_device("cpu")
    faces = load_images(cfg.data)
    images, truth = faces.part("val")
    for r in range(1, cfg.rounds.count + 1):
        name = Path("pool") / f"validation-{r}.npz"
        if (run / name).exists():
            shutil.copyfile(run / name, out / name)
            continue
        judge = load_judge(RunFolder(run), cfg, len(faces.classes), device, before=r)
        write_validation(out / name, predict(judge, images, device), truth)


def record(run: Path, out: Path = HERE) -> list[Path]:
    "Copy what the notebooks show; the folder is made anew."
    if not (run / "metrics.json").exists(): raise SystemExit(f"{run} is not a finished run.")
    if load_config(run / "config.json").data.source != "drawn":
        raise SystemExit(f"{run} is of real pictures; only drawn faces go into the package.")
    shutil.rmtree(out, ignore_errors=True)
    for name in ("checkpoints", "pool", "samples"): (out / name).mkdir(parents=True)
    for name in PLAIN: shutil.copyfile(run / name, out / name)
    for path in sorted((run / "pool").glob("round-*.npz")):
        with np.load(path, allow_pickle=False) as f: np.savez_compressed(out / "pool" / path.name, **f)
    sheets = [p for kind in ("warmup", "gan") for p in sorted((run / "samples").glob(f"{kind}-*.png"))]
    shown = [run / "samples" / "real.png", *(sheets[i] for i in spread(len(sheets), 10))]
    for path in shown: shutil.copyfile(path, out / "samples" / path.name)
    validations(run, out)
    rounds = load_config(run / "config.json").rounds.count
    slim(run, out, f"gan-{rounds}", "ema/")
    slim(run, out, f"judge-{rounds - 1}", "best/", half=True)
    return sorted(p for p in out.rglob("*") if p.is_file())


if __name__ == "__main__":
    if len(sys.argv) != 2: raise SystemExit(__doc__)
    for path in record(Path(sys.argv[1])): print(f"{path.stat().st_size:>9,}  {path.relative_to(HERE)}")
