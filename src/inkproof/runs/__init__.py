"""Runs: a recipe trained on data becomes a directory; a directory becomes predictions again."""

from inkproof.runs.comparing import compare_runs
from inkproof.runs.directory import latest_partial, new_run_path
from inkproof.runs.ladder import LADDER_CHART, Progress, climb, fitting_rungs
from inkproof.runs.run import Run, open_run
from inkproof.runs.sides import DataOptions, data_options, open_sides
from inkproof.runs.submitting import record_submission, sidecar_of
from inkproof.runs.training import TrainedRun, TrainingOptions, train_run
from inkproof.runs.verdict import Verdict
from inkproof.runs.verifying import verify_run

__all__ = [
    "LADDER_CHART",
    "DataOptions",
    "Progress",
    "Run",
    "TrainedRun",
    "TrainingOptions",
    "Verdict",
    "climb",
    "compare_runs",
    "data_options",
    "fitting_rungs",
    "latest_partial",
    "new_run_path",
    "open_run",
    "open_sides",
    "record_submission",
    "sidecar_of",
    "train_run",
    "verify_run",
]
