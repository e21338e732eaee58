"""`python -m service.http.health_check [URL]`: the health check of a container. Exit status 0 if healthy, else 1.

Without a URL it requests `/readyz` of the worker at SENSORIUM_METRICS_PORT if that is set, else `/healthz` of the API
at SENSORIUM_PORT. It imports only the standard library, because it runs every few seconds.
"""

import os
import sys
import urllib.error
import urllib.request

SECONDS = 4.0
# Without the proxy that the environment may name: the request goes to this container.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    """Exit with 0 if the answer is good, else with 1 and the reason."""
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
