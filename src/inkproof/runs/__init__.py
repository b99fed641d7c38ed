"""Runs: a recipe trained on data becomes a directory; a directory becomes predictions again."""

from inkproof.runs.directory import latest_partial, new_run_path
from inkproof.runs.ladder import LADDER_CHART, Progress, climb, fitting_rungs
from inkproof.runs.run import Run, open_run
from inkproof.runs.sides import DataOptions, open_sides
from inkproof.runs.training import TrainedRun, TrainingOptions, train_run

__all__ = [
    "LADDER_CHART",
    "DataOptions",
    "Progress",
    "Run",
    "TrainedRun",
    "TrainingOptions",
    "climb",
    "fitting_rungs",
    "latest_partial",
    "new_run_path",
    "open_run",
    "open_sides",
    "train_run",
]
