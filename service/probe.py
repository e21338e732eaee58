"""`python -m service.probe [URL]`: whether a process of ours is healthy, for the health checks of containers.

Without a URL it asks the worker whose SENSORIUM_METRICS_PORT is set, or the API at SENSORIUM_PORT. It imports nothing
but the standard library: it runs every few seconds.
"""

import os
import sys
import urllib.error
import urllib.request

SECONDS = 4.0


def main() -> None:
    """End with 0 where the answer is good, and otherwise with 1 and the reason."""
    port = os.environ.get("SENSORIUM_METRICS_PORT") or os.environ.get("SENSORIUM_PORT") or "8000"
    url = sys.argv[1] if len(sys.argv) > 1 else f"http://127.0.0.1:{port}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 whoever runs it chooses the URL
            answer.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error.code} {error.read().decode(errors='replace').strip()}")
    except OSError as error:
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    main()
