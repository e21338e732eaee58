"""The examples run as a newcomer would run them, and leave what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.predictor import load

ROOT = Path(__file__).parent.parent.parent
PICTURES = ("data", "losses", "m2-from-m1", "reconstruction")


@pytest.mark.slow
@pytest.mark.parametrize(("example", "rows", "epochs"), [("mmvae", 2000, 6), ("mmvrnn", 200, 6)])
def test_an_example_draws_its_pictures_saves_its_model_and_beats_the_mean(
    example: str, rows: int, epochs: int, tmp_path: Path
) -> None:
    choices = ["--rows", str(rows), "--epochs", str(epochs), "--out", str(tmp_path)]
    command = [sys.executable, "-m", f"examples.{example}", *choices]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for picture in PICTURES:
        assert (tmp_path / f"{example}-{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert {modality.name for modality in load(tmp_path / f"{example}.safetensors").config.modalities} == {"m1", "m2"}
    errors = re.findall(r"test MSE ([0-9.]+), predicting the mean ([0-9.]+)", done.stdout)
    assert len(errors) == 2
    assert all(float(error) < float(mean) for error, mean in errors)


@pytest.mark.parametrize("example", ["mmvae", "mmvrnn"])
def test_an_example_is_short(example: str) -> None:
    assert len((ROOT / "examples" / f"{example}.py").read_text().splitlines()) < 60
