"""A likelihood of a package of its own, in one file: log-normal, for numbers above 0."""

from pathlib import Path

from tests import installed

NAME = "log_normal"
MODULE = '''"""The log-normal likelihood."""

import math

import torch
from torch import Tensor

from models.config import Facts, Output, Support
from models.likelihoods import Likelihood, Metric

FACTS = Facts(
    name="log_normal",
    home="log_normal:LogNormal",
    outputs=(Output("median"), Output("log_standard_deviation")),
    support=Support(minimum=0, open=True),
    scales=("predicted",),
    suggests=lambda figures: figures.get("minimum", 0) > 0 and figures["maximum"] > 1e4 * figures["minimum"],
)


class LogError(Metric):
    name = "root_mean_squared_log_error"

    def of_elements(self, prediction, value):
        return (prediction.log() - value.log()).double().square()

    def of_mean(self, mean):
        return math.sqrt(mean)

    def best_constant(self, chunks, modality):
        import numpy as np
        logarithms = [np.log(chunk.values) for chunk in chunks]
        return np.exp(np.concatenate(logarithms).mean(axis=0))


class LogNormal(Likelihood):
    """log x ~ N(offset + scale mu, scale^2 s^2): mu from the decoder, s = 0.3 or from the decoder."""

    metric = LogError()
    needs_statistics = True

    def __init__(self, modality):
        super().__init__(modality)
        self.register_buffer("offset", torch.zeros(modality.shape))
        self.register_buffer("scale", torch.ones(modality.shape))

    def input_transform(self):
        return None

    def transformed(self, value):
        return value.log()

    def set_statistics(self, mean, standard_deviation):
        self.offset.copy_(mean)
        self.scale.copy_(standard_deviation)

    def standardise_inside(self, value):
        return (value.log() - self.offset) / self.scale

    def moments(self, raw):
        if self.modality.scale == "predicted":
            centre, unbounded = self.split(raw)
            return centre, torch.nn.functional.softplus(unbounded) + 0.01
        return raw, torch.full_like(raw, 0.3)

    def log_density(self, raw, value):
        centre, spread = self.moments(raw)
        ratio = (self.standardise_inside(value) - centre) / spread
        return -ratio.square() / 2 - (spread * self.scale).log() - math.log(2 * math.pi) / 2 - value.log()

    def describe(self, raw):
        centre, spread = self.moments(raw)
        deviation = (spread.square().mean(dim=0) + centre.var(dim=0, correction=0)).sqrt() * self.scale
        median = (self.offset + self.scale * centre.mean(dim=0)).exp()
        return {"median": median, "log_standard_deviation": deviation}

    def quantile(self, raw, probability):
        centre, spread = self.moments(raw)
        return (self.offset + self.scale * (centre + spread * torch.special.ndtri(probability))).exp()

    def fill(self, described):
        return described["median"]
'''


def install(folder: Path) -> Path:
    """Install the package in a folder; returns the folder, for the path."""
    return installed.install(folder, NAME, MODULE, {"sensorium.likelihoods": {NAME: f"{NAME}:FACTS"}})
