"""`python -m tests.containers`: start the real containers on the local container engine, and test them."""

from tests.containers import engine, hosts, scenario
from tests.containers.report import Report


def main() -> None:
    """Run all steps in the order of an installation's life; stop with status 1 at the first failure."""
    engine.check()
    report = Report()
    scenario.build(report)
    installation = scenario.Installation(report)
    try:
        installation.upgrade()
        installation.demo()
        installation.scale()
        installation.inject_faults()
        installation.restart_all()
        installation.save_and_restore()
    except BaseException:
        report.say(installation.project.log())
        raise
    finally:
        installation.remove()
    hosts.main(report, scenario.IMAGE)
    report.close()


if __name__ == "__main__":
    main()
