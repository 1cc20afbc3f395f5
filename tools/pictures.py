"""The pictures of README, from a finished run.

`python tools/pictures.py runs/fer32 fer32` writes images/fer32-*.png.
"""
import shutil
import sys
from pathlib import Path

IMAGES = Path(__file__).resolve().parent.parent / "images"
SHOWN = ("faces-generated", "kept-and-dropped", "confusion", "differences")  # never a real image


def copy(
    run: Path,                # run folder
    name: str,                # first part of the names
    images: Path = IMAGES,    # where the copies go
) -> list[Path]:
    "Copy the figures that README shows; a run without its figures is named."
    images.mkdir(exist_ok=True)
    copies = []
    for shown in SHOWN:
        figure = run / "figures" / f"{shown}.png"
        if not figure.exists():
            raise SystemExit(f"{run} has no figures/{shown}.png; make it with: fer-synth report {run}")
        copies.append((figure, images / f"{name}-{shown}.png"))
    return [Path(shutil.copyfile(figure, to)) for figure, to in copies]


if __name__ == "__main__":
    if len(sys.argv) != 3: raise SystemExit(__doc__)
    for path in copy(Path(sys.argv[1]), sys.argv[2]): print(path)
