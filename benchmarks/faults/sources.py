"""What the bench trains on: two sources on which thresholds were set, and those on which they are judged."""

import string
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inkproof import ImageSet, open_images


def letters(count: int = 1500, size: int = 16) -> ImageSet:
    """Ten letters, rendered small, moved, turned, dimmed, with noise."""
    random = np.random.default_rng(0)
    font = ImageFont.load_default(size=size - 3)
    names = string.ascii_uppercase[:10]
    labels = random.integers(0, 10, count)
    pixels = np.zeros((count, 1, size, size), np.uint8)
    for row, label in enumerate(labels):
        image = Image.new("L", (size, size))
        ImageDraw.Draw(image).text(random.integers(1, 5, 2).tolist(), names[label], fill=255, font=font)
        turned = np.asarray(image.rotate(random.uniform(-15, 15), resample=Image.Resampling.BILINEAR), np.float32)
        noisy = turned * random.uniform(0.6, 1) + random.normal(0, 8, turned.shape)
        pixels[row, 0] = np.clip(noisy, 0, 255).astype(np.uint8)
    return ImageSet(pixels, labels, classes=tuple(names), source="letters")


def shapes(count: int = 1200, size: int = 20) -> ImageSet:
    """Four shapes of random size and place, in noise."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 4, count)
    pixels = np.zeros((count, 1, size, size), np.uint8)
    for row, label in enumerate(labels):
        image = Image.new("L", (size, size), int(random.integers(0, 60)))
        draw = ImageDraw.Draw(image)
        side, (left, top) = int(random.integers(8, 12)), random.integers(1, 8, 2).tolist()
        box, ink = (left, top, left + side, top + side), int(random.integers(150, 255))
        if label == 0:
            draw.ellipse(box, fill=ink)
        elif label == 1:
            draw.rectangle(box, outline=ink, width=2)
        elif label == 2:
            draw.line((box[0], box[1], box[2], box[3]), fill=ink, width=3)
        else:
            draw.line((box[0], top + side // 2, box[2], top + side // 2), fill=ink, width=3)
        pixels[row, 0] = np.clip(np.asarray(image, np.float32) + random.normal(0, 10, (size, size)), 0, 255)
    return ImageSet(pixels, labels, classes=("disc", "frame", "slope", "bar"), source="shapes")


def textures(count: int = 1600, size: int = 16) -> ImageSet:
    """Five coloured textures that plain classifiers read poorly: stripes and checks of random phase, in much noise."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 5, count)
    row, column = np.mgrid[:size, :size]
    pixels = np.zeros((count, 3, size, size), np.uint8)
    for image, label in enumerate(labels):
        phase, width = random.uniform(0, 6.3, 2), random.uniform(0.9, 1.2)
        waves = (
            np.sin(width * row + phase[0]),
            np.sin(width * column + phase[0]),
            np.sin(width * (row + column) + phase[0]),
            np.sin(width * row + phase[0]) * np.sin(width * column + phase[1]),
            np.sin(0.3 * width * (row + column) + phase[0]),
        )
        tint = random.uniform(20, 60, 3) * (1 + 0.25 * np.eye(3)[label % 3])
        noise = random.normal(0, 25, (3, size, size))
        pixels[image] = np.clip(128 + tint[:, None, None] * waves[label] + noise, 0, 255)
    return ImageSet(pixels, labels, classes=("rows", "columns", "slopes", "checks", "broad"), source="textures")


TUNED_ON = ("digits", "3 and 7")
"""Sources on which the thresholds were set; MNIST's training images are the third."""


def sources(mnist: Path | None = None) -> dict[str, ImageSet]:
    """All sources by name; 3,000 of MNIST's training images where a directory of its files is given."""
    digits = open_images("digits")
    assert isinstance(digits, ImageSet)
    pair = digits.with_classes(("3", "7"), rest="drop")
    known = {"digits": digits, "3 and 7": pair, "letters": letters(), "shapes": shapes(), "textures": textures()}
    if mnist is not None:
        opened = open_images(str(mnist))
        known["MNIST"] = (opened if isinstance(opened, ImageSet) else opened.train).subset(np.arange(3000))
    return known


def rate(images: ImageSet) -> float:
    """A learning rate that is right for a source: on grey images that are not standardised, units die of digits'."""
    return 0.005 if images.source == "textures" else 0.05
