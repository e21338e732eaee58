"""What the README says can be pasted works when pasted."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_session_of_the_readme_works_when_pasted(tmp_path: Path) -> None:
    need(shutil.which("curl"), "curl")
    (session,) = re.findall(r"^```bash\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    script = tmp_path / "session.sh"
    script.write_text("set -euo pipefail\n" + session)
    (ROOT / "var").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "service.cli", "serve", "--home", str(tmp_path / "home"), "--port", "0"]
    done = subprocess.run(
        [*command, "--run", f"bash {script}"], cwd=ROOT, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^run_\w+ succeeded$", done.stdout, re.MULTILINE)
    assert '"outputs":{"image":{"mean":' in done.stdout
    assert '"standard_deviation":' in done.stdout


def test_every_make_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets
