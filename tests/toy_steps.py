"A workplace whose steps write small files from those of their inputs, for tests of what runs a plan."
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_synth.settings import UserError
from fer_synth.steps import Plan, Step, Store
from fer_synth.workers import Workplace


@dataclass
class ToyPlace(Workplace):
    "Computes `toy_plan`, in which the named steps misbehave."
    marks: str                  # a folder in which processes leave word for each other
    kills: tuple = ()           # these steps kill their process (SIGKILL) at their first try
    fails: tuple = ()           # these raise an error of Python
    refuses: tuple = ()         # these raise a UserError
    slow: tuple = ()            # these wait until the file `go` appears, or until they are asked to stop
    data: str = "here"          # "gone": the data are not where they were

    def first_time(self, name: str) -> bool:
        try: (Path(self.marks)/name).touch(exist_ok=False)
        except FileExistsError: return False
        return True

    def open(self, store: Store):
        with open(Path(self.marks)/"opened", "a") as f: f.write(f"{os.getpid()}\n")
        if self.data == "gone": raise UserError("faces.zip is not on this machine; copy it there.")

        def compute(step, folder):
            with open(Path(self.marks)/"begun", "a") as f: f.write(f"{step.name} {os.getpid()}\n")
            self.misbehave(step, folder)
            numbers = [np.load(store.folder(i)/"numbers.npy") for i in step.inputs]
            noise = np.random.default_rng(step.seed).normal(size=5)
            np.save(folder.make()/"numbers.npy", np.sum([noise, *numbers], axis=0))
            (folder/"more").mkdir(exist_ok=True)
            (folder/"more"/"name.txt").write_text(step.name)
        return compute

    def misbehave(self, step, folder):
        folder.write_json("begun.json", {"step": step.name})
        if step.name in self.kills and self.first_time(f"killed-{step.name}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step.name in self.fails: raise ZeroDivisionError("one over nothing")
        if step.name in self.refuses: raise UserError(f"{step.name} is too small; give 2 or more.")
        end = time.monotonic() + 240        # no test waits for ever
        while step.name in self.slow and not (Path(self.marks)/"go").exists() and time.monotonic() < end:
            if folder.stop.asked(): folder.stop.obey(step.name)
            time.sleep(0.02)


def toy_plan() -> Plan:
    "Two small studies of three students each, and one step that reads all students."
    data = Step("data", "data", {})
    steps, students = [data], []
    for cell in range(2):
        gan = Step(f"gan-{cell}", "gan", {"cell": cell}, (data,), seed=cell, work=100)
        pool = Step(f"pool-{cell}", "pool", {"cell": cell}, (gan,), seed=cell)
        new = [Step(f"student-{cell}-{i}", "student", {"cell": cell, "i": i}, (pool,), seed=10 * cell + i)
               for i in range(3)]
        steps += [gan, pool, *new]
        students += new
    return Plan([*steps, Step("compare", "compare", {}, tuple(students))])
