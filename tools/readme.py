"README.md from nbs/index.ipynb: `python tools/readme.py` writes it, `--check` only compares."
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import RegexRemovePreprocessor

ROOT = Path(__file__).resolve().parent.parent


def render(root: Path = ROOT) -> str:
    "The text of README: index.ipynb without its hidden cells, with links that hold at the top level."
    notebook = nbformat.read(root / "nbs" / "index.ipynb", as_version=4)
    exporter = MarkdownExporter()
    exporter.register_preprocessor(RegexRemovePreprocessor(patterns=[r"^#\|\s*hide"]), enabled=True)
    text, resources = exporter.from_notebook_node(notebook)
    if resources.get("outputs"):
        raise SystemExit("nbs/index.ipynb has picture outputs; save them to images/ and link to them.")
    return text.replace("](../", "](").replace('src="../', 'src="').strip() + "\n"


if __name__ == "__main__":
    path, text = ROOT / "README.md", render()
    same = path.exists() and path.read_text(encoding="utf-8") == text
    if "--check" in sys.argv:
        sys.exit(0 if same else "README.md differs from nbs/index.ipynb; run 'make readme'.")
    if not same: path.write_text(text, encoding="utf-8")
