"""The documentation site: `python tools/docs.py [--out _docs] [--plain]`.

With Quarto on this machine, nbdev makes it; without, or with --plain, every notebook becomes an HTML page by
nbconvert, with an index. The pages need no network and no JavaScript; their style is docs.css."""
import argparse
import base64
import configparser
import html
import io
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties
from nbconvert import HTMLExporter, TemplateExporter
from nbconvert.filters.highlight import Highlight2HTML
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
GROUPS = (
    ("start", "Start here"), ("explore", "Notebooks to explore"), ("results", "Results"),
    ("", "Rooms: the code, in reading order"),
)
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg"}
WIDGET = "application/vnd.jupyter.widget-view+json"
Titles = dict[Path, tuple[str, str]]     # page -> title and first sentence


class BrokenLink(Exception):
    "A notebook links to something that is not there."


def settings() -> dict:
    ini = configparser.ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(ini["DEFAULT"])


# ---- which pages there are --------------------------------------------------------------------------

def hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def notebooks(root: Path = ROOT) -> list[Path]:
    "All notebooks below nbs, relative to it: the index, the pages beside it, explore, results, the rooms."
    found = [path.relative_to(root / "nbs") for path in (root / "nbs").rglob("*.ipynb")]
    order = {part: i for i, (part, _) in enumerate(GROUPS)}
    shown = [path for path in found if not hidden(path)]
    return sorted(shown, key=lambda p: (p.name != "index.ipynb", order.get(part_of(p), 9), p.as_posix()))


def part_of(page: Path) -> str:
    "Which group a page is in: its folder; of those beside the index, the numbered ones are rooms."
    folder = page.parent.as_posix().removeprefix(".")
    return folder or ("" if page.name[0].isdigit() else "start")


def page_of(notebook: Path) -> str:
    return notebook.with_suffix(".html").as_posix()


def grouped(titles: Titles) -> list[tuple[str, list[Path]]]:
    "The groups that have pages: (name, paths)."
    members: dict[str, list[Path]] = {part: [] for part, _ in GROUPS}
    for page in titles:
        if page.name != "index.ipynb": members.setdefault(part_of(page), []).append(page)
    names = dict(GROUPS)
    return [(names.get(part, part), pages) for part, pages in members.items() if pages]


# ---- a notebook as its reader wants it --------------------------------------------------------------

SIMPLER = ((r"\lVert", r"\Vert"), (r"\rVert", r"\Vert"), (r"\lvert", r"\vert"), (r"\rvert", r"\vert"),
           (r"\tfrac", r"\frac"))
FORMULA = re.compile(r"(?P<code>```.*?```|`[^`]*`)|\$(?=\S)(?P<tex>[^$\n]+?)(?<=\S)\$", re.S)


def formula(match: re.Match) -> str:
    "A formula as a small picture that stands on the line of its text; code stays as it is."
    if match["code"]: return match["code"]
    simple, file, font = match["tex"], io.BytesIO(), FontProperties(size=12.5)
    for old, new in SIMPLER: simple = simple.replace(old, new)
    text = html.escape(match["tex"])
    try: depth = mathtext.math_to_image(f"${simple}$", file, prop=font, dpi=72, format="svg")
    except ValueError: return f"<code>{text}</code>"
    data = base64.b64encode(file.getvalue()).decode()
    return (f'<img class="math" alt="{text}" style="vertical-align:-{depth:.1f}px" '
            f'src="data:image/svg+xml;base64,{data}">')


def prepare_code(cell) -> bool:
    "Take directives, and widgets, which need a kernel, from a code cell; whether it is shown at all."
    words = " ".join(re.findall(r"^#\|\s*(.*)$", cell.source, re.M)).split()
    if {"hide", "default_exp"} & set(words): return False
    if re.search(r"google\.colab.*pip install", cell.source, re.S): return False
    cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip("\n")
    if {"export", "exporti", "exports"} & set(words): cell.metadata["tags"] = ["exported"]
    cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    return bool(cell.source or cell.outputs)


def prepared(notebook):
    "A notebook without hidden cells, directives and widgets, with formulas as pictures."
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown": cell.source = FORMULA.sub(formula, cell.source)
        elif not prepare_code(cell): continue
        cells.append(cell)
    notebook.cells = cells
    return notebook


def without_markup(text: str) -> str:
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"[*_`]{1,2}(\S[^*`]*?)[*`]{1,2}", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


def heading(notebook, name: str) -> tuple[str, str]:
    "Title and first sentence of a notebook, without markup."
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    title = re.search(r"^# +(.+)$", text, re.M)
    rest = text[title.end() if title else 0:].split("\n\n")
    prose = [part for part in rest if part.strip() and not re.match(r"\s*(#|\||```|>|\[?!?\[|[-*] )", part)]
    sentence = re.match(r".*?[.?!](?=\s|$)", without_markup(prose[0]) + " ", re.S) if prose else None
    return without_markup(title[1]) if title else name, sentence[0].strip() if sentence else ""


# ---- links -----------------------------------------------------------------------------------------

class Links:
    "Leads the links and pictures of one page to a page, a copied picture, or the repository's web page."
    def __init__(self, notebook: Path, out: Path, root: Path, web: str):
        self.notebook, self.out, self.root, self.web = notebook, out, root, web
        self.folder = notebook.parent.as_posix()

    def turned(self, tag: str, url: str) -> str:
        "Where an address leads on the site; one that leads nowhere ends the build."
        address, mark, part = url.partition("#")
        if not address or re.match(r"[a-z]+:", address): return url
        target = posixpath.normpath(posixpath.join("nbs", self.folder, html.unescape(address)))
        if not (self.root / target).exists():
            raise BrokenLink(f"nbs/{self.notebook.as_posix()} links to {address}, which does not exist.")
        if target.endswith(".ipynb") and target.startswith("nbs/"):
            page = page_of(Path(target).relative_to("nbs"))
            return posixpath.relpath(page, self.folder) + mark + part
        if tag == "a" and Path(target).suffix not in PICTURES:
            kind = "tree" if (self.root / target).is_dir() else "blob"
            return f"{self.web}/{kind}/main/{target}{mark}{part}"
        (self.out / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / target, self.out / target)
        return posixpath.relpath(target, self.folder)

    def turn(self, body: str) -> str:
        "The page's text with all links turned; a picture from the network is replaced by its description."
        body = re.sub(r'<img\b[^>]*?\bsrc="https?:[^>]*>', description, body)
        attribute = r'<(a|img)\b([^>]*?)\b(href|src)="([^"]*)"'
        return re.sub(attribute, lambda m: f'<{m[1]}{m[2]}{m[3]}="{self.turned(m[1], m[4])}"', body)


def description(image: re.Match) -> str:
    found = re.search(r'alt="([^"]*)"', image[0])
    return found[1] if found else "picture"


# ---- the frame of a page ---------------------------------------------------------------------------

def link(page: Path, here: Path, text: str, more: str = "") -> str:
    "A link from one page to another."
    return f'<a href="{posixpath.relpath(page_of(page), here.parent.as_posix())}"{more}>{text}</a>'


def home(here: Path) -> str:
    "The link to the first page."
    return link(Path("index.ipynb"), here, settings()["title"], ' class="home"')


def navigation(here: Path, titles: Titles) -> str:
    "The list of all pages, with the present one marked."
    parts = []
    for name, members in grouped(titles):
        entries = ""
        for page in members:
            mark = " aria-current=page" if page == here else ""
            entries += f"<li>{link(page, here, html.escape(titles[page][0]), mark)}</li>"
        parts.append(f"<h2>{html.escape(name.split(':')[0])}</h2><ul>{entries}</ul>")
    return f'<nav class="site" id="pages" aria-label="Pages"><div>{home(here)}{"".join(parts)}</div></nav>'


def sentence(text: str) -> str:
    "A first sentence as HTML; its formulas are pictures already."
    parts = re.split(r'(<img class="math"[^>]*>)', text)
    return "".join(part if part.startswith('<img class="math"') else html.escape(part) for part in parts)


def listing(titles: Titles) -> str:
    "The index page's list: every page with its first sentence."
    here, parts = Path("index.ipynb"), []
    for name, members in grouped(titles):
        place = re.sub("[^a-z]+", "-", name.lower())
        entries = [f"<dt>{link(p, here, html.escape(titles[p][0]))}</dt><dd>{sentence(titles[p][1])}</dd>"
                   for p in members]
        parts.append(f'<h2 id="{place}">{html.escape(name)}</h2><dl class="rooms">{"".join(entries)}</dl>')
    return "".join(parts)


def turn(here: Path, titles: Titles) -> str:
    "Links to the page before and the page after."
    pages = list(titles)
    i = pages.index(here)
    before = link(pages[i - 1], here, f"← {html.escape(titles[pages[i - 1]][0])}") if i else "<span></span>"
    after = ""
    if i + 1 < len(pages): after = link(pages[i + 1], here, f"{html.escape(titles[pages[i + 1]][0])} →")
    return f'<div class="turn">{before}{after}</div>'


def whole_page(path: Path, body: str, titles: Titles, web: str) -> str:
    "The HTML of a page around the text of its notebook."
    up, name = posixpath.relpath(".", path.parent.as_posix()), f"nbs/{path.as_posix()}"
    is_index = path == Path("index.ipynb")
    source = "" if is_index else f'<p class="where">From <a href="{web}/blob/main/{name}">{name}</a></p>'
    head = ('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(titles[path][0])}</title>"
            f'<link rel="icon" href="data:,"><link rel="stylesheet" href="{up}/style.css">')
    main = source + body + (listing(titles) if is_index else "") + turn(path, titles)
    return (f'<!DOCTYPE html><html lang="en"><head>{head}</head>'
            f'<body><header>{home(path)}<a href="#pages">All pages</a></header>'
            f'<div class="page"><main>{main}</main>{navigation(path, titles)}</div></body></html>\n')


# ---- the site --------------------------------------------------------------------------------------

UNDESCRIBED = "No description has been provided for this image"


class Exporter(HTMLExporter):
    """nbconvert's exporter without its second look at the HTML, which is taken apart and put together again
    there to add what a picture without a description says; that takes two thirds of the time."""
    def from_notebook_node(self, nb, resources=None, **more):
        self.register_filter("highlight_code", Highlight2HTML(parent=self))
        text, resources = TemplateExporter.from_notebook_node(self, nb, resources, **more)
        return re.sub(r"<img\b(?![^>]*\balt=)", f'<img alt="{UNDESCRIBED}"', text), resources


def bodies(found: dict[Path, nbformat.NotebookNode]) -> Iterator[tuple[Path, str]]:
    "Each notebook's text as HTML."
    # nbconvert cleans the HTML of highlighted code, since a notebook may come from anybody. These are our
    # own, and the cleaning takes half of the time.
    exporter = Exporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True,
        exclude_anchor_links=False, filters={"clean_html": lambda text: text})
    for path, notebook in found.items():
        yield path, exporter.from_notebook_node(notebook)[0].replace("celltag_exported", "exported")


def build(out: Path, root: Path = ROOT) -> list[Path]:
    "Write the site; the pages' paths. What was in `out` before is gone."
    out, web = Path(out), settings()["git_url"]
    if out.exists(): shutil.rmtree(out)
    out.mkdir(parents=True)
    found = {path: prepared(nbformat.read(root / "nbs" / path, as_version=4)) for path in notebooks(root)}
    titles = {path: heading(notebook, path.stem) for path, notebook in found.items()}
    style = Path(__file__).with_name("docs.css").read_text(encoding="utf-8")
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    (out / "style.css").write_text(style + code, encoding="utf-8")
    for path, body in bodies(found):
        (out / path.parent).mkdir(exist_ok=True)
        body = Links(path, out, root, web).turn(body)
        (out / page_of(path)).write_text(whole_page(path, body, titles, web), encoding="utf-8")
    return [out / page_of(path) for path in found]


def by_quarto() -> bool:
    "Let nbdev and Quarto make `_docs`; README and nbs stay as they were. False where it does not succeed."
    readme, made = ROOT / "README.md", [ROOT / "nbs" / n for n in ("_quarto.yml", "nbdev.yml", "sidebar.yml")]
    text, new = readme.read_bytes(), [path for path in made if not path.exists()]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [shutil.which("nbdev_docs", path=path) or "nbdev_docs"]
    try: return subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}).returncode == 0
    except OSError: return False
    finally:
        readme.write_bytes(text)
        for file in new: file.unlink(missing_ok=True)


def options(argv) -> argparse.Namespace:
    default = ROOT / settings()["doc_path"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=default, help="folder that is made anew (default: _docs)")
    parser.add_argument("--plain", action="store_true", help="use nbconvert although Quarto is present")
    given = parser.parse_args(argv)
    given.is_default = given.out.resolve() == default.resolve()
    return given


def main(argv=None) -> None:
    given = options(argv)
    index = given.out / "index.html"
    if given.out.exists() and any(given.out.iterdir()) and not index.exists():
        raise SystemExit(f"{given.out} holds something else; name an empty folder.")
    if given.is_default and not given.plain and shutil.which("quarto"):
        if by_quarto(): return print(f"{index} (by Quarto)")
        print("Quarto did not make the site; nbconvert makes it instead.")
    try: pages = build(given.out)
    except BrokenLink as e: raise SystemExit(str(e)) from None
    print(f"{index}: {len(pages)} pages")


if __name__ == "__main__": main()
