"""One line for notebooks in the fastai style: `from inkproof.notebook import *`.

Gives what a notebook on digits written for `from fastai.vision.all import *` and `from fastkaggle import *` uses, with
the same names and call shapes. Pairs that lie in memory are trained from there, without per-sample Python; data, losses
and metrics are audited as they pass, and a finding is a Python warning (an `AuditWarning`), once.
"""

from inkproof.startup import import_torch

import_torch()  # sooner than the imports below would

import math
import os
import random
import re
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from inkproof.models import SigmoidRange, sigmoid_range
from inkproof.notebook.files import L, Path, URLs, get_image_files, iskaggle, setup_comp, untar_data
from inkproof.notebook.functions import (
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    Flatten,
    MSELossFlat,
    accuracy,
    error_rate,
    first,
    mse,
    rmse,
    set_seed,
    tensor,
)
from inkproof.notebook.learning import SGD, Adam, Learner, SuggestedLRs, minimum, slide, steep, valley
from inkproof.notebook.libraries import pd, plt
from inkproof.notebook.loaders import DataLoader, DataLoaders
from inkproof.notebook.pictures import show_image, show_images

__all__ = [
    "SGD",
    "Adam",
    "BCEWithLogitsLossFlat",
    "CrossEntropyLossFlat",
    "DataLoader",
    "DataLoaders",
    "F",
    "Flatten",
    "Image",
    "L",
    "Learner",
    "MSELossFlat",
    "Path",
    "SigmoidRange",
    "SuggestedLRs",
    "Tensor",
    "URLs",
    "accuracy",
    "error_rate",
    "first",
    "get_image_files",
    "iskaggle",
    "math",
    "minimum",
    "mse",
    "nn",
    "np",
    "os",
    "partial",
    "pd",
    "plt",
    "random",
    "re",
    "rmse",
    "set_seed",
    "setup_comp",
    "show_image",
    "show_images",
    "sigmoid_range",
    "slide",
    "steep",
    "tensor",
    "torch",
    "untar_data",
    "valley",
]
