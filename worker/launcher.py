"""Starts the processes that do jobs, and keeps one ready where starting takes long."""

from typing import Any

from worker.child_process import ChildProcess


class Launcher:
    """`spare` is the module of the process to keep ready: it has imported everything and waits for its spec."""

    def __init__(self, max_log_bytes: int, spare: str | None = None, log_json: bool = False) -> None:
        self._max_log_bytes = max_log_bytes
        self._log_json = log_json
        self._module = spare
        self._spare: ChildProcess | None = None

    def start(self, module: str, devices: int, spec: dict[str, Any]) -> ChildProcess:
        """A process at work on this spec; on several devices, as many processes under `torch.distributed.run`."""
        if devices > 1:
            run = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(devices), "-m", module]
            child = ChildProcess(run, self._max_log_bytes, self._log_json)
        elif module == self._module and self._spare is not None and self._spare.alive():
            child, self._spare = self._spare, None
        else:
            child = ChildProcess([module], self._max_log_bytes, self._log_json)
        child.give(spec)
        return child

    def prepare(self) -> None:
        """Have a spare process ready, unless there is one."""
        if self._module is not None and (self._spare is None or not self._spare.alive()):
            self.close()
            self._spare = ChildProcess([self._module], self._max_log_bytes, self._log_json)

    def close(self) -> None:
        """End the spare process."""
        if self._spare is not None:
            with self._spare:
                self._spare = None
