"""How long does reading a source take, in this checkout and in another one?

`python tools/read_speed.py SOURCE ... [--against OTHER_CHECKOUT] [--repeats 3]` reads each source in turn
with each checkout, in processes of one thread, and prints the seconds of each reading.
Run it on a quiet machine.
"""
import argparse
import os
import subprocess
import sys
from pathlib import Path

READ = """
import sys, time
from fer_synth.config import DataConfig
from fer_synth.data.load import load_images
start = time.perf_counter()
images = load_images(DataConfig(source=sys.argv[1], size=48))
print(len(images.labels), time.perf_counter() - start)
"""


def read(checkout: Path, source: str) -> tuple[int, float]:
    "Images and seconds of one reading with the code of a checkout."
    env = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READ, source]
    done = subprocess.run(command, env=env, cwd=checkout, capture_output=True, text=True)
    if done.returncode: sys.exit(done.stderr.strip().splitlines()[-1])
    count, seconds = done.stdout.split()
    return int(count), float(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    checkouts = [Path(__file__).resolve().parents[1]]
    if options.against: checkouts.append(options.against.resolve())
    for source in options.sources:
        for _ in range(options.repeats):
            for checkout in checkouts:
                count, seconds = read(checkout, str(Path(source).resolve()))
                print(f"{source}: {count:,} images in {seconds:.2f} s with {checkout}", flush=True)


if __name__ == "__main__": main()
