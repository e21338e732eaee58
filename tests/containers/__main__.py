"""`python -m tests.containers`: the containers, really started, on whatever engine runs here."""

import subprocess

from tests.containers import hosts, scenario
from tests.containers.report import Report


def main() -> None:
    """Every step, in the order of an installation's life; ends with 1 at the first that does not hold."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise SystemExit("no container engine runs here: start one first")
    report = Report()
    scenario.build(report)
    installation = scenario.Installation(report)
    try:
        installation.upgrade()
        installation.demo()
        installation.scale()
        installation.hurt()
        installation.roll()
        installation.save_and_restore()
    except BaseException:
        print(installation.project.log())
        raise
    finally:
        installation.remove()
    hosts.main(report)
    report.close()


if __name__ == "__main__":
    main()
