"""A constant load of inference requests during a fault or a restart."""

import threading
import time
from collections import Counter
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import httpx2 as httpx

INPUTS = {"audio": [[1, 1, 1], None, [0, 0, 0]], "text": [None, 1, 0]}
EVERY_SECONDS = 0.05


class Load(AbstractContextManager["Load"]):
    """Sends encode requests through the public port until the block ends. outcomes: counts per status or error."""

    def __init__(self, url: str, key: str, run: dict[str, Any]) -> None:
        self.outcomes: Counter[str] = Counter()
        self._path = f"{url}/v1/models/{run['model']}/versions/{run['version']}/encode"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    @property
    def failed(self) -> int:
        """The number of requests without a 200 response."""
        return sum(count for outcome, count in self.outcomes.items() if outcome != "200")

    def _ask(self) -> None:
        with httpx.Client(headers=self._headers, timeout=30) as http:
            while not self._ending.wait(EVERY_SECONDS):
                try:
                    answer = http.post(self._path, json={"inputs": INPUTS})
                    self.outcomes[str(answer.status_code)] += 1
                except httpx.TransportError as error:
                    self.outcomes[type(error).__name__] += 1
                    time.sleep(EVERY_SECONDS)
