"The notebooks of results: each says first what was found, with an interval, and last how to find it again."
import json
import re
from pathlib import Path

import pytest

from fer_synth.experiment.study_config import load_study

RESULTS = Path(__file__).parent.parent / "nbs" / "results"
NOTEBOOKS = sorted(RESULTS.glob("*.ipynb"))
STUDIES = sorted((RESULTS / "studies").glob("*.toml"))


def texts(notebook: Path, kind: str) -> list[str]:
    "The sources of the cells of one kind."
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_there_are_notebooks_and_studies(): assert NOTEBOOKS and STUDIES


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_conclusion_comes_first_and_the_command_last(notebook):
    told = texts(notebook, "markdown")
    title, conclusion = told[0].split("\n\n")[:2]
    assert title.startswith(f"# {notebook.stem.split('_')[0]}: ")
    assert conclusion.startswith("**") and conclusion.endswith("**")
    assert re.search(r"[+-]?\d+\.\d+ to [+-]?\d+\.\d+", conclusion), "a conclusion needs an interval"
    assert "```bash\n" in told[-1]
    checked = any("assert" in code for code in texts(notebook, "code"))
    assert checked, "the numbers of the text are not checked"


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.stem)
def test_the_settings_of_a_study_can_be_read(file):
    cfg = load_study(file)
    assert len(cfg.all_arms()[0]) > len(cfg.arms)
