"""Run the demo against a service that is up: `python -m examples.demo --out FOLDER`.

The service's address and key come from SENSORIUM_URL and SENSORIUM_API_KEY.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import httpx2 as httpx
from rich.console import Console
from rich.table import Table

from examples.demo import digits, spirals
from examples.demo.client import Client, DemoFailed


def main() -> None:
    """Both data sets, one table, pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("var/demo"), help="folder of the pictures")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    started_at = time.monotonic()
    client = Client(os.environ["SENSORIUM_URL"], os.environ["SENSORIUM_API_KEY"])
    table = Table("data · model", "question", "answer", "without a model", "training")
    try:
        for row in [*digits.run(client, out), *spirals.run(client, out)]:
            table.add_row(*row)
    except (DemoFailed, httpx.HTTPError) as error:
        sys.exit(f"demo failed: {error}")
    except KeyboardInterrupt:
        sys.exit("demo interrupted")
    console = Console(width=110)
    console.print(table)
    names = ", ".join(str(path) for path in sorted(out.glob("*.png")))
    console.print(f"pictures: {names} · {time.monotonic() - started_at:.0f} s in all", soft_wrap=True)


if __name__ == "__main__":
    main()
