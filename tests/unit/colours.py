"""How far apart colours are for readers with full and with limited colour vision."""

import itertools
from collections.abc import Iterable

import numpy as np

# Machado, Oliveira and Fernandes (2009), severity 1.0, for linear RGB
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
XYZ_OF_RGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65
JUST_NOTICED = 2.3  # in CIE Lab, Mahy and others (1994)
APART = 5 * JUST_NOTICED  # what we ask for: lines are thin, and not side by side


def linear(colour: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb``."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab of linear RGB."""
    xyz = XYZ_OF_RGB @ rgb.clip(0, 1) / XYZ_OF_RGB.sum(axis=1)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(first: str, second: str, vision: str) -> float:
    """Distance in CIE Lab of two colours as a reader with this vision sees them."""
    seen = [lab(VISION[vision] @ linear(colour)) for colour in (first, second)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def alike(colours: Iterable[str]) -> list[tuple[str, str, str]]:
    """Pairs that a reader may take for each other, and with which vision."""
    pairs = itertools.combinations(sorted(set(colours)), 2)
    return [(*pair, vision) for pair in pairs for vision in VISION if distance(*pair, vision) < APART]


def contrast(first: str, second: str) -> float:
    """Contrast of WCAG 2.1, from 1 to 21."""
    low, high = sorted(float(XYZ_OF_RGB[1] @ linear(colour)) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)
