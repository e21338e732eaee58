"""`python -m tests.containers`: the containers, really started, on whatever engine runs here."""

from tests.containers import engine, hosts, scenario
from tests.containers.report import Report


def main() -> None:
    """Every step, in the order of an installation's life; ends with 1 at the first that does not hold."""
    engine.check()
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
        report.say(installation.project.log())
        raise
    finally:
        installation.remove()
    hosts.main(report, scenario.IMAGE)
    report.close()


if __name__ == "__main__":
    main()
