"""Starts child processes, and keeps one ready for programs that take long to start."""

from typing import Any

from worker.child_process import ChildProcess


class Launcher:
    """Starts the program of a job.

    spare: the module whose process is kept ready. That process has done its imports and waits for its spec.
    """

    def __init__(self, max_log_bytes: int, spare: str | None = None, log_json: bool = False) -> None:
        self._max_log_bytes = max_log_bytes
        self._log_json = log_json
        self._spare_module = spare
        self._spare: ChildProcess | None = None

    def start(self, module: str, devices: int, spec: dict[str, Any]) -> ChildProcess:
        """A process that works on `spec`; with several devices one process each, under `torch.distributed.run`."""
        if devices > 1:
            run = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(devices), "-m", module]
            child = self._child(run)
        elif module == self._spare_module and self._spare is not None and self._spare.is_alive():
            child, self._spare = self._spare, None
        else:
            child = self._child([module])
        child.send_spec(spec)
        return child

    def prepare(self) -> None:
        """Start the spare process, unless one is alive."""
        if self._spare_module is not None and (self._spare is None or not self._spare.is_alive()):
            self.close()
            self._spare = self._child([self._spare_module])

    def close(self) -> None:
        """Stop the spare process."""
        if self._spare is not None:
            with self._spare:
                self._spare = None

    def _child(self, arguments: list[str]) -> ChildProcess:
        return ChildProcess(arguments, self._max_log_bytes, self._log_json)
