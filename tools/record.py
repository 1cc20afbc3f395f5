"""The small run and the small study that the package carries.

`python tools/record.py runs/recorded` copies its records to fer_synth/recorded. The run itself is made by
    fer-synth demo --gan.steps 200 --selection.max-pool 300 --out runs/recorded
Of the checkpoints only the averaged generators of the last round and the last judge's best weights (in half
precision) are kept: enough to generate and judge new faces, not to go on training.

`python tools/record.py studies/drawn` does the same for a study, made by
    fer-synth study --recipe study_drawn32 --workers 2 --out studies/drawn
It keeps study.json and the answers of its students with the largest share of the rows.
"""
import shutil
import sys
from pathlib import Path

import numpy as np

from fer_synth.experiment.results import Run
from fer_synth.experiment.studies import is_study
from fer_synth.figures import spread
from fer_synth.records import RunFolder, StepFolder, read_json
from fer_synth.steps import Step, Store, file_hashes
from fer_synth.widgets.study_state import ANSWERS

HERE = Path(__file__).resolve().parent.parent / "fer_synth" / "recorded"
PUBLISHED = ("config.json", "env.json", "data.json", "plan.json", "selection.csv", "metrics.json",
             "predictions.npz", "measures.json")
OF_A_STEP = ("facts.json", "real.png", "stats.jsonl", "kept.npy", "selection.csv", "selection.json")
SHEETS = 10     # grids of samples, of all that a run makes


def copy_weights(source: StepFolder, target: StepFolder, prefixes: tuple[str, ...], half: bool) -> None:
    "The part of a checkpoint that is used after training."
    tensors, notes = source.load()
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
    if half: kept = {name: t.half() if t.is_floating_point() else t for name, t in kept.items()}
    target.save(kept, **notes)


def copy_compressed(source: Path, target: Path) -> None:
    with np.load(source, allow_pickle=False) as arrays: np.savez_compressed(target, **arrays)


def shown_sheets(run: Run) -> set[Path]:
    "The grids of samples that are kept: evenly spread over warm-up and rounds."
    trainings = [run.store.folder(s) for kind in ("warmup", "gan") for s in run.plan.of(kind)]
    sheets = [path for folder in trainings for path in sorted((folder / "samples").glob("*.png"))]
    return {sheets[i] for i in spread(len(sheets), SHEETS)}


def copy_step(run: Run, step: Step, copy: Store, sheets: set[Path]) -> None:
    "What is kept of a step, and its step.json with the hashes of these files."
    source, target = run.store.folder(step), copy.folder(step).make()
    for name in OF_A_STEP:
        if (source / name).exists(): shutil.copyfile(source / name, target / name)
    for sheet in sheets & set((source / "samples").glob("*.png")):
        (target / "samples").mkdir(exist_ok=True)
        shutil.copyfile(sheet, target / "samples" / sheet.name)
    if step.kind == "pool":
        for name in ("pool.npz", "validation.npz"): copy_compressed(source / name, target / name)
    if step in run.plan.of("gan", round=run.cfg.rounds.count):
        copy_weights(source, target, ("ema/", "best/"), half=False)
    if step is run.plan.of("judge")[-1]: copy_weights(source, target, ("best/",), half=True)
    target.write_json("step.json", run.store.note(step) | {"files": file_hashes(target.path)})


def rounded(probs: np.ndarray) -> np.ndarray:
    "Probabilities with three decimals, which add up to one; the file is half as large."
    short, best = np.round(probs, 3), probs.argmax(-1)[..., None]
    rest = 1 - short.sum(-1, keepdims=True) + np.take_along_axis(short, best, -1)
    np.put_along_axis(short, best, rest, -1)
    return short.astype(np.float32)


def record_study(path: Path, out: Path = HERE / "study") -> list[Path]:
    "Copy what the study explorer shows; the folder is made anew."
    if not (path / "study.json").exists(): raise SystemExit(f"{path} is not a finished study.")
    study = read_json(path / "study.json")
    if study["source"] != "drawn":
        raise SystemExit(f"{path} is of real pictures; only drawn faces go into the package.")
    shutil.rmtree(out, ignore_errors=True)
    (out / ANSWERS).mkdir(parents=True)
    name = f"test-{100 * max(study['fractions']):g}.npz"
    shutil.copyfile(path / "study.json", out / "study.json")
    with np.load(path / ANSWERS / name, allow_pickle=False) as f: arrays = dict(f)
    arrays["probs"] = rounded(arrays["probs"])
    np.savez_compressed(out / ANSWERS / name, **arrays)
    return sorted(p for p in out.rglob("*") if p.is_file())


def record(path: Path, out: Path = HERE) -> list[Path]:
    "Copy what the notebooks show; the folder is made anew."
    run = Run.open(path)
    if not (path / "metrics.json").exists(): raise SystemExit(f"{path} is not a finished run.")
    if run.cfg.data.source != "drawn":
        raise SystemExit(f"{path} is of real pictures; only drawn faces go into the package.")
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():           # the recorded study stays
        if old.is_file(): old.unlink()
    shutil.rmtree(out / "steps", ignore_errors=True)
    for name in PUBLISHED: shutil.copyfile(path / name, out / name)
    copy, sheets = Store(RunFolder(out)), shown_sheets(run)
    for step in run.plan: copy_step(run, step, copy, sheets)
    return sorted(p for p in out.rglob("*") if p.is_file())


if __name__ == "__main__":
    if len(sys.argv) != 2: raise SystemExit(__doc__)
    given = Path(sys.argv[1])
    for path in (record_study if is_study(given) else record)(given):
        print(f"{path.stat().st_size:>9,}  {path.relative_to(HERE)}")
