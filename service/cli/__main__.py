"""`python -m service.cli` is `sensorium`."""

from service.cli import main

if __name__ == "__main__":
    main()
