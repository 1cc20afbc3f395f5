"The answer of a study: true in every case and short; and its page: complete, self-contained and safe."
import copy
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from study_records import GAINS, made_study, put, write_study
from test_report import Page

from fer_synth import study_page
from fer_synth.figures import png
from fer_synth.settings import UserError
from fer_synth.study_facts import complete, recommended, shown, study_answer
from fer_synth.study_page import make_study_page
from fer_synth.study_pictures import STUDY_PICTURES

FEW, HELPS, OPEN, LEVEL, BEHIND, NOTHING, HARMS = (      # mean, low, high in points, p after Holm
    (6, 4, 8, .001), (5, 3, 7, .004), (1, -1, 3, .4), (-.2, -1, .6, .8), (-2, -3, -1, .01), (.2, -.5, .9, .7),
    (-3, -4, -2, .01))


def small_study(twin, best, few=NOTHING, seeds=5, names=("real", "flips", "soft")):
    "Two baseline arms and one with generated images, whose differences are given."
    arms = dict(zip(names, (GAINS[a] for a in ("real", "flips", "soft"))))
    arms[names[2]] = ("generated", names[0], *arms[names[2]][2:])
    study = made_study(arms, seeds=seeds)
    for role, full in (("twin", twin), ("best baseline", best)):
        put(study, names[2], role, *full, fraction=1.0)
        put(study, names[2], role, *few, fraction=.25)
    return study


CASES = {     # what is recorded -> beginning and end of the answer
    "helps": ((HELPS, FEW), "Yes: +5.0 points of accuracy (+3.0 to +7.0) over the same training without them",
              "at 100 % of the rows, with ‘soft’."),
    "no lead": ((HELPS, OPEN), "Yes: +5.0 points", "with ‘soft’; no lead over ‘flips’ is shown."),
    "as good without": ((HELPS, LEVEL), "Partly: ‘soft’ helps over its twin, +5.0 points",
                        "but ‘flips’ without generated images is as good."),
    "better without": ((HELPS, BEHIND), "Partly:", "but ‘flips’ without generated images is better."),
    "nothing": ((NOTHING, BEHIND), "No: no use of generated images is shown to help; the best is ‘soft’",
                "with +0.2 points of accuracy (−0.5 to +0.9) at 100 %."),
    "not after correction": (((5, 3, 7, .2), FEW), "Not shown: ‘soft’ gained +5.0",
                             "but not after correction for several arms."),
    "harms": ((HARMS, BEHIND), "They harm: −3.0 points of accuracy (−4.0 to −2.0)", "with ‘soft’."),
    "fewer rows": ((NOTHING, LEVEL, FEW), "Only with fewer rows: +6.0", "at 100 % nothing is shown."),
    "few seeds": ((HELPS, FEW, FEW, 4), "Not shown: 4 seeds are too few for a conclusion", "at 100 %."),
    "one seed": ((HELPS, FEW, FEW, 1), "Not shown: 1 seed is too few", "at 100 %.")}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_answer(case):
    given, begins, ends = CASES[case]
    text = study_answer(small_study(*given))
    assert text.startswith(begins) and text.endswith(ends), text
    assert len(text.split()) <= 25


@pytest.mark.parametrize("case", CASES)
def test_long_names_make_no_longer_answer(case):
    names = ("only the real images", "mirrored and shifted a little", " ".join(["a name of many words"] * 10))
    text = study_answer(small_study(*CASES[case][0], names=names))
    assert text.startswith(CASES[case][1].split(":")[0]) and text.endswith("."), text
    assert len(text.split()) <= 25


def test_yes_is_said_exactly_where_it_is_true():
    "Random intervals and p-values against the rule, written down once more."
    rng = np.random.default_rng(1)
    study, verdicts = small_study(HELPS, HELPS), set()
    for _ in range(300):
        ends = {}
        for role in ("twin", "best baseline"):
            mean, half, p = rng.normal(1.5, 2), rng.uniform(.2, 3), rng.choice([.001, .03, .2])
            ends[role] = mean, mean - half, mean + half, p
            put(study, "soft", role, *ends[role])
            put(study, "soft", role, *NOTHING, fraction=.25)
        (_, low, _, p), (best, _, high, _) = ends["twin"], ends["best baseline"]
        helps = low > 0 and p < .05
        head = study_answer(study).split(":")[0]
        assert (head == "Yes") == (helps and best > 0 and high > 0), (ends, study_answer(study))
        assert (head == "Partly") == (helps and best <= 0)
        assert (head == "They harm") == (ends["twin"][2] < 0 and p < .05)
        verdicts.add(head)
    assert {"Yes", "Partly", "They harm", "No", "Not shown"} == verdicts


def test_what_is_recommended_is_what_is_shown_to_be_ahead():
    found = recommended(small_study(HELPS, FEW))
    assert found["arm"] == "soft" and found["over_twin"]["mean"] == .05 and found["seconds"] == 490
    for given in ((HELPS, OPEN), (HELPS, LEVEL), (NOTHING, BEHIND), (HARMS, BEHIND), (HELPS, FEW, FEW, 3)):
        found = recommended(small_study(*given))
        assert found["arm"] == "flips" and not found["generated"] and found["over_real"]["mean"] > 0


def test_controls_make_no_yes():
    "A placebo or held-back real images that gain are no generated images that help."
    study = made_study({a: GAINS[a] for a in ("real", "placebo", "ceiling")})
    for arm in ("placebo", "ceiling"): put(study, arm, "twin", *HELPS)
    assert study_answer(study).startswith("Not asked")
    assert recommended(study)["arm"] == "real"


def test_less_is_better_for_nll():
    study = complete(made_study())
    d = {"metric": "nll", "low": -.2, "high": -.1, "p_holm": .01}
    assert shown(study, d) == 1 and shown(study, d | {"metric": "accuracy"}) == -1


@pytest.fixture
def quick(monkeypatch):
    "Draws no pictures, for tests of text."
    monkeypatch.setattr(study_page, "draw_study", lambda study, folder: [])


def text_of(folder, study): return make_study_page(write_study(folder, study)).read_text()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("study"), made_study())
    (folder / "study.csv").write_text("arm\n")
    make_study_page(folder)
    return folder


def test_self_contained_and_complete(drawn):
    text = (drawn / "study.html").read_text()
    page = Page(text)
    assert not {"script", "iframe", "object", "base", "form"} & {t for t, _ in page.tags}
    links = {attrs[name] for _, attrs in page.tags for name in ("src", "srcset", "href") if name in attrs}
    assert {link for link in links if not link.startswith("data:")} == {"study.json", "study.csv"}
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    assert "url(" not in style and "@import" not in style and len(text) < 2_600_000
    assert all(a["alt"] and int(a["width"]) <= 900 for a in page.all("img"))
    assert len(page.all("img")) == len(STUDY_PICTURES) + 3        # and three of the search for copies
    places = [page.text.index(words) for words in ("Yes", "What to do", "Each arm against its twin")]
    assert places == sorted(places)


def test_nothing_is_wider_than_a_phone(drawn):
    "Pictures have a form of 360 pixels, tables and code scroll by themselves, and long words break."
    for path in (drawn / "figures").glob("*-phone.png"):
        with Image.open(path) as picture: assert picture.width <= 720, path.name      # two pixels for each
    text = (drawn / "study.html").read_text()
    tables, scrolling = text.count("<table"), len(re.findall(r'<div class="scroll"[^>]*>\s*<table', text))
    assert tables == scrolling > 5
    for rule in (r"main {[^}]*overflow-wrap: break-word", r"\.scroll {[^}]*overflow-x: auto",
                 r"img {[^}]*max-width: 100%", r"pre {[^}]*overflow-x: auto"):
        assert re.search(rule, text), rule


def test_numbers_are_those_of_the_records(tmp_path, quick):
    study = made_study()
    page = Page(text_of(tmp_path, study)).text
    for d in study["differences"]:
        if d["metric"] == "accuracy" and (d["role"] == "twin" or d["fraction"] == 1):
            numbers = [f"{100 * d[k]:+.1f}".replace("-", "−") for k in ("mean", "low", "high")]
            assert "{} [{}, {}]".format(*numbers) in page
    for warning in ("Unfinished trainings are compared", "--until-converged",
                    "Round 2 made things worse", "Control: 20 of 20 planted copies were found.",
                    "41 of 2,700 training rows"):
        assert warning in page


def test_a_search_for_copies_that_misses_planted_ones_is_not_trusted(tmp_path, quick):
    study = made_study()
    study["memorisation"]["planted"]["found"] = 13
    says = "Of 20 planted copies only 13 were found, so the search for copies cannot be trusted."
    assert Page(text_of(tmp_path, study)).text.count(says) == 2
    study["memorisation"]["planted"] = None
    assert "No known copies were planted" in Page(text_of(tmp_path, study)).text


HEADINGS = {
    "rounds": "Rounds", "memorisation": "Copies of training images", "label_errors": "Doubtful labels",
    "measures": "How good the generated images are", "provenance": "Provenance", "costs": "Time and memory",
    "convergence": "Were the trainings finished?", "scores": "All numbers"}


@pytest.mark.parametrize("part", [k for k in made_study() if k not in ("version", "arms")])
def test_a_missing_part_leaves_no_trace(tmp_path, quick, part):
    study = made_study()
    for gone in (None, "absent"):
        changed = study | {part: None}
        if gone: del changed[part]
        page = Page(text_of(tmp_path, changed)).text
        assert HEADINGS.get(part, "no heading") not in page and not re.search(r"\b(None|nan)\b", page)


def test_pictures_need_their_part():
    study = made_study()
    for part in ("robustness", "reliability", "confusion", "rounds"):
        assert STUDY_PICTURES[part].needs(complete(study))
        assert not STUDY_PICTURES[part].needs(complete({k: v for k, v in study.items() if k != part}))
    assert not any(p.needs(complete({"arms": {}})) for p in STUDY_PICTURES.values())


def hostile_study():
    arms = ("real", "<b>x</b> & \"y'", "$\\frac{x}$ " + "n" * 200)
    study = small_study(HELPS, FEW, names=arms)
    classes = ("<script>alert(1)</script>", "害怕", "$a$ $b$", "שמח" * 60)
    renamed = made_study({a: GAINS[b] for a, b in zip(arms, ("real", "flips", "soft"))}, classes=classes)
    study |= {k: renamed[k] for k in ("classes", "counts", "scores", "hurt", "confusion", "label_errors")}
    texts = {"title": "<i>t", "command": "fer-synth <u>", "source": "a\u202eb.zip"}
    return study | texts | {"warnings": ["<s>w"]}


def test_hostile_names_are_text(tmp_path, quick):
    page = Page(text_of(tmp_path, hostile_study()))
    assert not {"b", "i", "u", "s", "script"} & {t for t, _ in page.tags}
    for name in ("<b>x</b> & \"y'", "<script>alert(1)</script>", "<s>w", "fer-synth <u>", "害怕", "\\u202e"):
        assert name in page.text, name


def test_hostile_names_are_drawn():
    for name in ("forest", "recall", "confusion"):
        file = png(STUDY_PICTURES[name].draw(complete(hostile_study()), 3.6))
        with Image.open(io.BytesIO(file)) as picture: assert picture.width <= 720


def test_thirty_arms_are_drawn_and_two_are():
    many = {f"arm {i} with a long name, {i}": ("generated", "real", i / 10, i / 10) for i in range(29)}
    for gains in ({"real": GAINS["real"]} | many, {a: GAINS[a] for a in ("real", "soft")}):
        study = complete(made_study(gains, classes=("cat", "dog")))
        for name in ("forest", "recall"):
            figure = STUDY_PICTURES[name].draw(study, 3.6)
            assert figure.get_figwidth() <= 3.6 and figure.get_figheight() > 1


def test_same_records_same_page(tmp_path, quick):
    study = made_study()
    assert text_of(tmp_path / "a", study) == text_of(tmp_path / "b", copy.deepcopy(study))


def test_what_is_no_study_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "study.json"))): make_study_page(tmp_path)
    for text in ("{", "[]", '{"version": 1}', '{"version": 9, "arms": {}}'):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(UserError, match="study.json"): make_study_page(tmp_path)
    assert not Path(tmp_path / "study.html").exists()


def test_pictures_from_elsewhere_are_not_fetched(tmp_path, quick):
    study = made_study()
    study["memorisation"]["worst"] = [{"picture": "https://example.org/x.png", "distance": .1}]
    assert "example.org" not in text_of(tmp_path, study)
