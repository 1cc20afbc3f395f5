"""The record of a study for a notebook of results: study.json without pictures, and numbers of five digits.

    python tools/record_study.py studies/selectors nbs/results/records/selectors.json
"""
import argparse
import json
from pathlib import Path

from fer_synth.config import write_atomic
from fer_synth.settings import UserError
from fer_synth.study_facts import read_study

PICTURES = "worst", "rows"          # of the search for copies; real images are among them
LEFT_OUT = "reliability", "curves", "provenance", "command"


def rounded(value):
    "The same with five significant digits."
    if isinstance(value, dict): return {name: rounded(v) for name, v in value.items()}
    if isinstance(value, list): return [rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def record(study: dict) -> dict:
    "What is kept of a study."
    found = {name: value for name, value in study.items() if name not in LEFT_OUT}
    audit = found["memorisation"]
    found["memorisation"] = {name: value for name, value in audit.items() if name not in PICTURES}
    found["made"] = {name: value for name, value in found["made"].items() if name != "command"}
    found["source"] = Path(found["source"]).name
    return rounded({"version": 1, **found})


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    found = record(read_study(args.study))
    text = "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(v)}" for name, v in found.items()) + "\n}\n"
    if "data:image" in text: raise UserError(f"{args.study} has pictures in other places than was thought.")
    write_atomic(args.out, text)
    print(f"Written: {args.out} ({len(text) / 1024:.0f} KiB)")


if __name__ == "__main__": main()
