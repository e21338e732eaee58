"""`python -m service.cli` runs the `sensorium` command."""

from service.cli import main

if __name__ == "__main__":
    main()
