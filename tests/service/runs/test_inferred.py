"""Models of whole-number columns: counts, and categories of the occurring values."""

import numpy as np

from tests.conftest import Service
from tests.service.steps import dataset, train


def test_declared_counts_of_a_whole_number_column_train(service: Service) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 2)).astype(np.float32)
    arrays = {"x": x, "visits": generator.poisson(3, 60), "cells": generator.negative_binomial(1, 0.001, 60)}
    declared = {"modalities": {"visits": {"likelihood": "negative_binomial"}}}
    version = dataset(service, "visits", declared, **arrays)
    found = {each["name"]: each for each in version["schema"]["modalities"]}
    assert [found[name]["likelihood"] for name in ("cells", "visits")] == ["negative_binomial"] * 2
    run = train(service, "visits", "visits")
    assert run["state"] == "succeeded", run
    body = {"inputs": {"x": x[:2].tolist()}}
    outputs = service.http.post("/v1/models/visits/versions/1/reconstruct", json=body).json()["outputs"]
    assert np.shape(outputs["visits"]["rate"]) == (2,)
    assert np.shape(outputs["cells"]["rate"]) == (2,)
