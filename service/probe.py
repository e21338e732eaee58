"""`python -m service.probe [URL]`: whether a process of ours is healthy, for the health checks of containers.

Without a URL it asks the worker whose SENSORIUM_METRICS_PORT is set whether it takes messages, or the API at
SENSORIUM_PORT whether it answers. It imports nothing
but the standard library: it runs every few seconds.
"""

import os
import sys
import urllib.error
import urllib.request

SECONDS = 4.0
# Whatever proxy the environment names, it is not on the way to ourselves.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    """End with 0 where the answer is good, and otherwise with 1 and the reason."""
    if port := os.environ.get("SENSORIUM_METRICS_PORT"):
        own = f"{port}/readyz"
    else:
        own = f"{os.environ.get('SENSORIUM_PORT') or '8000'}/healthz"
    url = sys.argv[1] if len(sys.argv) > 1 else f"http://127.0.0.1:{own}"
    try:
        with DIRECT.open(url, timeout=SECONDS) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error.code} {error.read().decode(errors='replace').strip()}")
    except OSError as error:
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    main()
