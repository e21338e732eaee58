"""What Sensorium is used for, as programs to run and to read."""
