"""Starts the processes that do jobs, and keeps one ready where starting takes long."""

from typing import Any

from worker.child import Child


class Children:
    """`spare` is the module of the process to keep ready: it has imported everything and waits for its spec."""

    def __init__(self, most_log_bytes: int, spare: str | None = None, log_json: bool = False) -> None:
        self._most_log_bytes = most_log_bytes
        self._log_json = log_json
        self._module = spare
        self._spare: Child | None = None

    def start(self, module: str, devices: int, spec: dict[str, Any]) -> Child:
        """A process at work on this spec; on several devices, as many processes under `torch.distributed.run`."""
        if devices > 1:
            run = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(devices), "-m", module]
            child = Child(run, self._most_log_bytes, self._log_json)
        elif module == self._module and self._spare is not None and self._spare.alive():
            child, self._spare = self._spare, None
        else:
            child = Child([module], self._most_log_bytes, self._log_json)
        child.give(spec)
        return child

    def prepare(self) -> None:
        """Have a spare process ready, unless there is one."""
        if self._module is not None and (self._spare is None or not self._spare.alive()):
            self.close()
            self._spare = Child([self._module], self._most_log_bytes, self._log_json)

    def close(self) -> None:
        """End the spare process."""
        if self._spare is not None:
            with self._spare:
                self._spare = None
