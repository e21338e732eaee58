"""The code of docs/models.md runs as it stands: its files as an installed package, its other blocks as a program."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from models.config import TrainingConfig, likelihood
from models.config.architecture import BUILT_IN_EXPERTS

PAGE = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
# A block that begins with the name of a file is that file.
FILES = {found[1]: block for block in BLOCKS if (found := re.match(r"# (\w+\.py)\n", block))}
PROGRAMS = [block for block in BLOCKS if block not in FILES.values()]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that holds the page's files and entry points as pip would leave them."""
    (metadata,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    groups = tomllib.loads(metadata)["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in points.items()) for group, points in groups.items()
    ]
    information = tmp_path / "mine-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (information / "entry_points.txt").write_text("\n".join(lines))
    for name, block in FILES.items():
        (tmp_path / name).write_text(block)
    return tmp_path


@pytest.mark.parametrize(
    ("program", "printed"),
    list(
        zip(PROGRAMS, ["evaluated on 50 rows", "sound from place: (200, 1, 32)", "code of m1 = 0: (1, 4)"], strict=True)
    ),
    ids=["training", "entry points", "parts"],
)
def test_a_program_of_the_page_runs(program: str, printed: str, installed: Path) -> None:
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=installed, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout


def test_the_page_names_every_choice() -> None:
    choices = ["mmvae", "mmvrnn", "missing_embeddings", "zero", "product_of_experts", "filter", "smooth", "gru", "lstm"]
    choices += ["subsets", "number", "independent", "constant", "linear", "cyclical", "elbo", "subsampled_elbo", "iwae"]
    fields = ["objective", "beta", "free_bits", "burst_deletion", "modality_dropout", "modality_weights", "select"]
    assert set(fields) < TrainingConfig.model_fields.keys()
    for name in [*BUILT_IN_EXPERTS, *likelihood.BUILT_IN, *choices, *fields]:
        assert re.search(rf"`{name}\b", PAGE), name
