"""`models` alone is a library: it trains, evaluates, saves, loads and answers without the service and the worker."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import importlib.util
from pathlib import Path

import numpy as np

import models
from models.config import MMVAEConfig, ModalityConfig, TrainingConfig
from models.synthetic import quadratic_sinusoidal

assert not any(map(importlib.util.find_spec, ("service", "worker", "tests")))
modalities = tuple(ModalityConfig(name=name, shape=(2,), likelihood="gaussian") for name in ("m1", "m2"))
config = MMVAEConfig(modalities=modalities, latent_features=3)
dataset = models.Dataset.from_arrays(quadratic_sinusoidal(200, seed=1))
training = TrainingConfig(epochs=2, batch_size=50)
*events, finished = models.fit(config, dataset, training, seed=1)
assert isinstance(finished, models.Finished)
epochs = [event for event in events if isinstance(event, models.Epoch)]
assert [event.epoch for event in epochs] == [1, 2]
evaluation = models.evaluate(finished.model, dataset, finished.train_rows, finished.validation_rows, 1)
assert evaluation["rows"] == {"split": "validation", "count": 20}

models.save(finished.model, Path("model.safetensors"), metadata={})
predictor = models.load(Path("model.safetensors"))
latent = predictor.encode({"m1": np.zeros((4, 2), np.float32)}, {"m1": np.ones(4, dtype=bool)})
assert latent.mean.shape == (4, 3)
again = models.Predictor(finished.model).encode({"m1": np.zeros((4, 2), np.float32)}, {"m1": np.ones(4, dtype=bool)})
assert np.array_equal(latent.mean, again.mean)

stopped = list(models.fit(config, dataset, training, seed=1, should_stop=lambda: True))[-1]
assert isinstance(stopped, models.Checkpoint)
*_, resumed = models.fit(config, dataset, training, seed=1, resume_from=stopped.state)
weights = finished.model.state_dict()
assert all((value == weights[name]).all() for name, value in resumed.model.state_dict().items())
print("done")
"""


def test_the_library_trains_evaluates_saves_loads_encodes_and_resumes(tmp_path: Path) -> None:
    """-S leaves out the editable install, which would put the repository's root on the path."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "models").symlink_to(ROOT / "models")
    path = f"{tmp_path / 'installed'}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
