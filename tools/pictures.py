"The pictures of README, from a finished run: `python tools/pictures.py runs/fer32 fer32` writes images/fer32-*.png."
import shutil
import sys
from pathlib import Path

SHOWN = ("faces-generated", "kept-and-dropped", "confusion", "differences")  # generated faces and plots; never a real face


def copy(run: Path, name: str, images: Path = Path(__file__).resolve().parent.parent / "images") -> list[Path]:
    "Copy the figures that README shows; a run without its figures is named."
    images.mkdir(exist_ok=True)
    missing = [s for s in SHOWN if not (run / "figures" / f"{s}.png").exists()]
    if missing: raise SystemExit(f"{run} has no figures/{missing[0]}.png; make it with: fer-synth report {run}")
    return [Path(shutil.copyfile(run / "figures" / f"{s}.png", images / f"{name}-{s}.png")) for s in SHOWN]


if __name__ == "__main__":
    if len(sys.argv) != 3: raise SystemExit(__doc__)
    for path in copy(Path(sys.argv[1]), sys.argv[2]): print(path)
