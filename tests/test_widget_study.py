"The study explorer: what is shown follows what is chosen, and two arms open in the confusion explorer."
import numpy as np
import pytest
from study_records import GAINS, made_answers, made_study, write_study

from fer_synth.settings import UserError
from fer_synth.widgets.confusion_state import from_answers
from fer_synth.widgets.study import StudyExplorer
from fer_synth.widgets.study_state import StudyState, rows_sentence


@pytest.fixture(scope="module")
def study(): return made_study()


def test_rows_are_the_differences_of_what_is_chosen(study):
    state = StudyState(study)
    for role in state.known["comparison"]:
        for fraction in state.known["fraction"]:
            for metric in state.known["metric"]:
                state.choose(against=role, fraction=fraction, metric=metric)
                slow = {d["arm"]: d for d in study["differences"]
                        if (d["role"], d["fraction"], d["metric"]) == (role, fraction, metric)}
                assert state.rows() == slow and list(state.rows()) == [a for a in study["arms"] if a in slow]
    assert state.known["comparison"] == ["twin", "real", "best baseline"]
    assert state.known["fraction"] == [.25, 1]


def test_the_sentence_claims_nothing_from_few_seeds():
    assert "too few for a conclusion" in rows_sentence(StudyState(made_study(seeds=3)))
    assert "shown to be better: ‘soft’" in rows_sentence(StudyState(made_study()))


def test_every_control_moves_the_view(study, tmp_path):
    x = StudyExplorer(write_study(tmp_path / "s", study), threaded=False)
    def parts(): return x.forest.value, x.table.value, x.sentence.value
    for control, value in (("against", "real"), ("fraction", .25), ("metric", "macro_f1"),
                           ("arms", ("soft", "flips"))):
        before = parts()
        getattr(x.controls, control).value = value
        assert all(a != b for a, b in zip(before, parts())), control
    assert x.decision.arms == ("soft", "flips") and x.decision.metric == "macro_f1"
    x.controls.all.click()
    assert x.decision.arms == tuple(study["arms"]) == x.controls.arms.value
    assert x.last_error is None and x.picture().width == int(x.forest.layout.width[:-2]) * 2


def test_no_arm_is_one_sentence_and_no_change(study):
    x = StudyExplorer(study)
    before = x.decision
    x.controls.arms.value = ()
    assert isinstance(x.last_error, UserError) and "choose one" in x.status.value and x.decision == before


@pytest.mark.parametrize("kind", ["all students", "predictions"])
def test_two_arms_open_in_the_confusion_explorer(study, kind):
    answers, asked = made_answers(study, students=2), []
    def load(*wanted):
        asked.append(wanted)
        if kind == "all students": return answers
        first = {arm: answers.probs[i, :, 0] for i, arm in enumerate(answers.arms)}
        return from_answers(answers.y_true, first, answers.classes)
    x = StudyExplorer(study, load, n=20, threaded=False)
    x.controls.fraction.value = .25
    x.controls.this.value, x.controls.other.value = "distilled+soft", "flips"
    x.controls.open.click()
    assert asked == [("distilled+soft", "flips", .25)] and x.last_error is None
    state = x.confusion.state
    assert state.arms == ("distilled+soft", "flips") and state.n_seeds == 5
    place = list(study["arms"]).index("flips")
    right = (answers.probs[place, :, 0].argmax(-1) == answers.y_true).sum()
    assert np.trace(state.counts("against")) == right
    assert x.picture().height > x.confusion.picture().height


def test_arms_that_are_the_same_or_unknown_are_named(study):
    x = StudyExplorer(study, lambda a, b, fraction: made_answers(made_study({"real": GAINS["real"]})), n=20)
    x.controls.this.value = x.controls.other.value = "soft"
    x.controls.open.click()
    assert "two different arms" in x.status.value
    x.controls.other.value = "real"
    x.controls.open.click()
    assert "There are no answers of &#x27;soft&#x27;" in x.status.value and x.confusion is None


def test_without_answers_or_differences_there_is_a_sentence(study):
    x = StudyExplorer(study)
    x.controls.open.click()
    assert "answers of the students are not here" in x.status.value
    with pytest.raises(UserError, match="no differences"): StudyExplorer({"arms": {"real": {}}})


def test_odd_names_are_shown():
    names = ("<b>real</b>", "$x$ and $y$", "name " * 40)
    gains = dict(zip(names, (GAINS["real"], GAINS["flips"], ("generated", "<b>real</b>", 2, 2))))
    x = StudyExplorer(made_study(gains, classes=("$a$ $b$", "害怕 " * 50)), threaded=False)
    x.controls.against.value = "best baseline"
    for metric in x.state.known["metric"][-2:]: x.controls.metric.value = metric
    assert x.last_error is None and "<b>real" not in x.table.value + x.sentence.value + x.heading.value[3:-4]
