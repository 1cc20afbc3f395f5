"""The documentation site: `python tools/docs.py [--out _docs] [--plain]`. With Quarto on this machine, nbdev makes it; without, or with
--plain, every notebook becomes an HTML page by nbconvert, with an index. The pages need no network and no JavaScript."""
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
from pathlib import Path

import nbformat
from matplotlib import mathtext
from matplotlib.font_manager import FontProperties
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
GROUPS = (("start", "Start here"), ("explore", "Notebooks to explore"), ("results", "Results"), ("", "Rooms: the code, in reading order"))
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg"}
CSS = """*{box-sizing:border-box} html{scroll-padding-top:1rem}
body{margin:0;font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#1d2329;background:#fff}
a{color:#005f9e} a:hover{text-decoration-thickness:2px} a:focus-visible{outline:3px solid #0072B2;outline-offset:2px}
header{display:none}
.page{display:grid;grid-template-columns:17rem minmax(0,1fr);max-width:1240px;margin:0 auto}
nav.site{grid-area:1/1;border-right:1px solid #dfe3e8;padding:1.2rem 1rem;font-size:.875rem;line-height:1.45}
nav.site>div{position:sticky;top:1.2rem;max-height:calc(100vh - 2.4rem);overflow-y:auto}
.home{font-weight:700;font-size:1.15rem;text-decoration:none;color:inherit} nav.site h2{font-size:.75rem;text-transform:uppercase;letter-spacing:.05em;color:#59636e;margin:1.1rem 0 .3rem}
nav.site ul{list-style:none;margin:0;padding:0} nav.site li a{display:block;padding:.16rem .5rem;text-decoration:none;color:inherit;border-left:3px solid transparent}
nav.site li a:hover{background:#f3f5f7} nav.site a[aria-current]{border-left-color:#0072B2;background:#eaf3fa;font-weight:600}
main{grid-area:1/2;padding:1.2rem 2.2rem 3rem;min-width:0;max-width:60rem}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 1rem} h2{font-size:1.35rem;margin:2rem 0 .6rem;border-bottom:1px solid #dfe3e8;padding-bottom:.2rem} h3{font-size:1.1rem}
.anchor-link{margin-left:.4rem;text-decoration:none;color:#9aa4ae;opacity:0} :hover>.anchor-link,.anchor-link:focus{opacity:1}
img{max-width:100%;height:auto} .output_area img{margin:.2rem 0} img.math{max-width:none;margin:0}
pre,code{font-family:ui-monospace,"Cascadia Code",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.85em} p code,li code,td code{background:#f3f5f7;padding:.1em .3em;border-radius:3px}
pre{overflow-x:auto;line-height:1.45;margin:0} .rendered_html pre,.input_area{background:#f6f8fa;border:1px solid #e4e8ec;border-radius:5px;padding:.6rem .8rem;margin:.8rem 0}
.input_area .highlight,.rendered_html pre code{background:none;padding:0} .input_area pre{font-size:.82rem} .exported .input_area{border-left:4px solid #0072B2}
.output_area{margin:.4rem 0 1rem .2rem;overflow-x:auto} .output_area pre{font-size:.82rem;color:#30363d;border-left:3px solid #dfe3e8;padding-left:.8rem} .output_stderr pre{border-color:#c35}
.rendered_html{overflow-x:auto} table{border-collapse:collapse;font-size:.9rem;margin:.8rem 0} th,td{border-bottom:1px solid #dfe3e8;padding:.3rem .7rem .3rem 0;text-align:left;vertical-align:top}
.rooms dt{font-weight:600;margin-top:.7rem} .rooms dd{margin:0;color:#444c55} .turn{display:flex;justify-content:space-between;gap:1rem;margin-top:3rem;border-top:1px solid #dfe3e8;padding-top:1rem}
.where{font-size:.85rem;color:#59636e;margin:0 0 1rem}
@media (max-width:52rem){.page{display:block} header{display:flex;justify-content:space-between;padding:.7rem 1rem;border-bottom:1px solid #dfe3e8}
nav.site{border:0;border-top:1px solid #dfe3e8;padding:1rem} nav.site>div{position:static;max-height:none} main{padding:.8rem 1rem 2rem} h1{font-size:1.55rem}}
@media print{nav.site,header,.turn{display:none} .page{display:block}}
"""


class BrokenLink(Exception):
    "A notebook links to something that is not there."


def settings() -> dict:
    ini = configparser.ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(ini["DEFAULT"])


def notebooks(root: Path = ROOT) -> list[Path]:
    "All notebooks below nbs, as paths relative to it: the index, the pages beside it, those to explore, results, and the rooms by number."
    found = [p.relative_to(root / "nbs") for p in (root / "nbs").rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in p.relative_to(root).parts)]
    order = {part: i for i, (part, _) in enumerate(GROUPS)}
    return sorted(found, key=lambda p: (p.name != "index.ipynb", order.get(part_of(p), 9), p.as_posix()))


def part_of(page: Path) -> str:
    "Which group a page is in: its folder; of those beside the index, the numbered ones are rooms."
    return page.parent.as_posix().removeprefix(".") or ("" if page.name[0].isdigit() else "start")


def formula(match: re.Match) -> str:
    "A formula as a small picture that stands on the line of its text; code stays as it is."
    if match["code"]: return match["code"]
    tex, file = match["tex"], io.BytesIO()
    simple = tex.replace(r"\lVert", r"\Vert").replace(r"\rVert", r"\Vert").replace(r"\lvert", r"\vert").replace(r"\rvert", r"\vert").replace(r"\tfrac", r"\frac")
    try: depth = mathtext.math_to_image(f"${simple}$", file, prop=FontProperties(size=12.5), dpi=72, format="svg")
    except ValueError: return f"<code>{html.escape(tex)}</code>"
    return (f'<img class="math" alt="{html.escape(tex)}" style="vertical-align:-{depth:.1f}px" '
            f'src="data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}">')


def prepared(notebook):
    "A notebook as a reader wants it: no hidden cells, no directives, no widgets that would need a kernel, formulas as pictures."
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?P<code>```.*?```|`[^`]*`)|\$(?=\S)(?P<tex>[^$\n]+?)(?<=\S)\$", formula, cell.source, flags=re.S)
        else:
            words = " ".join(re.findall(r"^#\|\s*(.*)$", cell.source, re.M)).split()
            if {"hide", "default_exp"} & set(words) or re.search(r"google\.colab.*pip install", cell.source, re.S): continue
            cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip("\n")
            if {"export", "exporti", "exports"} & set(words): cell.metadata["tags"] = ["exported"]
            cell.outputs = [o for o in cell.outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})]
            if not cell.source and not cell.outputs: continue
        cells.append(cell)
    notebook.cells = cells
    return notebook


def heading(notebook, name: str) -> tuple[str, str]:
    "Title and first sentence of a notebook, without markup."
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    plain = lambda t: re.sub(r"\s+", " ", re.sub(r"[*_`]{1,2}(\S[^*`]*?)[*`]{1,2}", r"\1", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", t))).strip()
    title = re.search(r"^# +(.+)$", text, re.M)
    rest = [p for p in text[title.end() if title else 0:].split("\n\n") if p.strip() and not re.match(r"\s*(#|\||```|>|\[?!?\[|[-*] )", p)]
    sentence = re.match(r".*?[.?!](?=\s|$)", plain(rest[0]) + " ", re.S) if rest else None
    return plain(title[1]) if title else name, sentence[0].strip() if sentence else ""


def page_of(notebook: Path) -> str: return notebook.with_suffix(".html").as_posix()


def turn_links(body: str, notebook: Path, out: Path, root: Path, web: str) -> str:
    "Lead each link and picture to a page, a copied picture, or the repository's web page. A link that leads nowhere ends the build."
    here = posixpath.join("nbs", notebook.parent.as_posix())
    def turned(tag: str, url: str) -> str:
        address, _, part = url.partition("#")
        if not address or re.match(r"[a-z]+:", address): return url
        target = posixpath.normpath(posixpath.join(here, html.unescape(address)))
        if not (root / target).exists(): raise BrokenLink(f"nbs/{notebook.as_posix()} links to {address}, which does not exist.")
        part = "#" + part if part else ""
        if target.endswith(".ipynb") and target.startswith("nbs/"): return posixpath.relpath(page_of(Path(target).relative_to("nbs")), notebook.parent.as_posix()) + part
        if tag == "a" and Path(target).suffix not in PICTURES: return f"{web}/{'tree' if (root / target).is_dir() else 'blob'}/main/{target}{part}"
        (out / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / target, out / target)
        return posixpath.relpath(target, notebook.parent.as_posix())
    body = re.sub(r'<img\b[^>]*?\bsrc="https?:[^>]*>', lambda m: (re.search(r'alt="([^"]*)"', m[0]) or [0, "picture"])[1], body)
    return re.sub(r'<(a|img)\b([^>]*?)\b(href|src)="([^"]*)"', lambda m: f'<{m[1]}{m[2]}{m[3]}="{turned(m[1], m[4])}"', body)


def navigation(here: Path, titles: dict) -> str:
    "The list of all pages, with the present one marked."
    link = lambda p: (f'<li><a href="{posixpath.relpath(page_of(p), here.parent.as_posix())}"{" aria-current=page" if p == here else ""}>'
                      f"{html.escape(titles[p][0])}</a></li>")
    parts = [f"<h2>{html.escape(name.split(':')[0])}</h2><ul>{''.join(map(link, members))}</ul>" for name, members in grouped(titles)]
    return f'<nav class="site" id="pages" aria-label="Pages"><div>{home(here)}{"".join(parts)}</div></nav>'


def home(here: Path) -> str:
    "The link to the first page."
    return f'<a class="home" href="{posixpath.relpath("index.html", here.parent.as_posix())}">{settings()["title"]}</a>'


def grouped(titles: dict) -> list:
    "The groups that have pages: (name, paths)."
    members = lambda part: [p for p in titles if p.name != "index.ipynb" and part_of(p) == part]
    known = [(name, members(part)) for part, name in GROUPS]
    others = sorted({part_of(p) for p in titles} - {part for part, _ in GROUPS})
    return [(name, m) for name, m in known + [(f, members(f)) for f in others] if m]


def listing(titles: dict) -> str:
    "The index page's list: every page with its first sentence."
    text = lambda t: "".join(part if part.startswith("<img class=\"math\"") else html.escape(part) for part in re.split(r'(<img class="math"[^>]*>)', t))
    entry = lambda p: f'<dt><a href="{page_of(p)}">{html.escape(titles[p][0])}</a></dt><dd>{text(titles[p][1])}</dd>'
    return "".join(f'<h2 id="{re.sub("[^a-z]+", "-", name.lower())}">{html.escape(name)}</h2><dl class="rooms">{"".join(map(entry, m))}</dl>' for name, m in grouped(titles))


def turn(here: Path, titles: dict) -> str:
    "Links to the page before and the page after."
    pages = list(titles)
    i = pages.index(here)
    link = lambda p, mark: f'<a href="{posixpath.relpath(page_of(p), here.parent.as_posix())}">{mark.format(html.escape(titles[p][0]))}</a>'
    return f'<div class="turn">{link(pages[i - 1], "← {}") if i else "<span></span>"}{link(pages[i + 1], "{} →") if i + 1 < len(pages) else ""}</div>'


def build(out: Path, root: Path = ROOT) -> list[Path]:
    "Write the site; the pages' paths. What was in `out` before is gone."
    out, web = Path(out), settings()["git_url"]
    if out.exists(): shutil.rmtree(out)
    out.mkdir(parents=True)
    found = {p: prepared(nbformat.read(root / "nbs" / p, as_version=4)) for p in notebooks(root)}
    titles = {p: heading(nb, p.stem) for p, nb in found.items()}
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=False)
    (out / "style.css").write_text(CSS + HtmlFormatter(style="default").get_style_defs(".highlight"), encoding="utf-8")
    for path, notebook in found.items():
        body = turn_links(exporter.from_notebook_node(notebook)[0].replace("celltag_exported", "exported"), path, out, root, web)
        up = posixpath.relpath(".", path.parent.as_posix())
        source = "" if path.name == "index.ipynb" else f'<p class="where">From <a href="{web}/blob/main/nbs/{path.as_posix()}">nbs/{path.as_posix()}</a></p>'
        (out / path.parent).mkdir(exist_ok=True)
        (out / page_of(path)).write_text(
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{html.escape(titles[path][0])}</title><link rel="icon" href="data:,"><link rel="stylesheet" href="{up}/style.css"></head>'
            f'<body><header>{home(path)}<a href="#pages">All pages</a></header><div class="page"><main>{source}{body}'
            f'{listing(titles) if path.as_posix() == "index.ipynb" else ""}{turn(path, titles)}</main>{navigation(path, titles)}</div></body></html>\n', encoding="utf-8")
    return [out / page_of(p) for p in found]


def by_quarto() -> bool:
    "Let nbdev and Quarto make `_docs`; README and the notebooks' folder stay as they were. False where it does not succeed."
    readme, made = ROOT / "README.md", [ROOT / "nbs" / n for n in ("_quarto.yml", "nbdev.yml", "sidebar.yml")]
    text, new = readme.read_bytes(), [p for p in made if not p.exists()]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try: return subprocess.run([shutil.which("nbdev_docs", path=path) or "nbdev_docs"], cwd=ROOT, env={**os.environ, "PATH": path}).returncode == 0
    except OSError: return False
    finally:
        readme.write_bytes(text)
        for p in new: p.unlink(missing_ok=True)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / settings()["doc_path"], help="folder that is made anew (default: _docs)")
    parser.add_argument("--plain", action="store_true", help="use nbconvert although Quarto is present")
    given = parser.parse_args(argv)
    default = given.out.resolve() == (ROOT / settings()["doc_path"]).resolve()
    if given.out.exists() and any(given.out.iterdir()) and not (given.out / "index.html").exists():
        raise SystemExit(f"{given.out} holds something else; name an empty folder.")
    if default and not given.plain and shutil.which("quarto"):
        if by_quarto(): return print(f"{given.out / 'index.html'} (by Quarto)")
        print("Quarto did not make the site; nbconvert makes it instead.")
    try: pages = build(given.out)
    except BrokenLink as e: raise SystemExit(str(e)) from None
    print(f"{given.out / 'index.html'}: {len(pages)} pages")


if __name__ == "__main__": main()
