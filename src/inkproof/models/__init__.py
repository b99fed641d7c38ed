"""The networks, each a function of image shape and number of outputs that gives a fresh `nn.Module`.

All take float images (n, channels, height, width) scaled to 0..1 and give raw outputs (n, outputs). Initial
weights are drawn from torch's global generator; give `Learner` a factory (`lambda: conv(shape, 10)`) and its seed
decides them.
"""

from inkproof.models.convolutional import conv, strong
from inkproof.models.dense import SigmoidRange, deep, hidden, linear, sigmoid_range
from inkproof.models.mean_image import MeanImage, mean_image

__all__ = ["MeanImage", "SigmoidRange", "conv", "deep", "hidden", "linear", "mean_image", "sigmoid_range", "strong"]
