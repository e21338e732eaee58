"""A run that names only its dataset reaches the quality of its preset, with calibrated deviations."""

import numpy as np
import pytest

from models.synthetic import quadratic_sinusoidal
from tests.conftest import Service

ROWS = 2000
# One modality from the other, published (JMVAE) .091 and .081; the least possible is .010 and .051.
MOST = {"m2": 0.020, "m1": 0.060}


@pytest.mark.slow
def test_a_run_that_names_only_its_dataset_is_as_good_as_its_preset(service: Service) -> None:
    generator = {"name": "quadratic_sinusoidal", "rows": 5000, "seed": 1}
    assert service.http.post("/v1/datasets", json={"name": "curves", "source": {"generator": generator}}).is_success
    service.work("data")
    run = service.http.post("/v1/runs", json={"dataset": {"name": "curves"}, "model": "curves"}).json()
    service.work("train")
    run = service.http.get(f"/v1/runs/{run['id']}").json()
    assert (run["state"], run["preset"]) == ("succeeded", "cross-modal"), run
    fresh = quadratic_sinusoidal(ROWS, seed=2)
    inside, of = 0, 0
    for given, target in (("m1", "m2"), ("m2", "m1")):
        body = {"inputs": {given: fresh[given].tolist()}, "targets": [target]}
        path = "/v1/models/curves/versions/1/reconstruct"
        mean, drawn = (
            service.http.post(path, json={**body, "n_samples": draws}).json()["outputs"][target] for draws in (0, 32)
        )
        error = np.square(np.array(mean["mean"]) - fresh[target]).mean()
        assert error <= MOST[target]
        within = np.abs(np.array(drawn["mean"]) - fresh[target]) <= 1.6448536 * np.array(drawn["standard_deviation"])
        inside, of = inside + int(within.sum()), of + within.size
    assert 0.85 <= inside / of <= 0.95
