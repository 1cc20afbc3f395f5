"""The pictures of README, from a finished run.

`python tools/pictures.py runs/fer32 fer32` writes images/fer32-*.png."""
import shutil
import sys
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "images"
SHOWN = ("faces-generated", "kept-and-dropped", "confusion", "differences")  # never a real face


def copy(run: Path, name: str, images: Path = IMAGES) -> list[Path]:
    "Copy the figures that README shows; a run without its figures is named."
    images.mkdir(exist_ok=True)
    figures = {figure: run / "figures" / f"{figure}.png" for figure in SHOWN}
    missing = [path for path in figures.values() if not path.exists()]
    if missing: raise SystemExit(f"{missing[0]} does not exist; make it with: fer-synth report {run}")
    return [Path(shutil.copyfile(path, images / f"{name}-{figure}.png")) for figure, path in figures.items()]


if __name__ == "__main__":
    if len(sys.argv) != 3: raise SystemExit(__doc__)
    for path in copy(Path(sys.argv[1]), sys.argv[2]): print(path)
