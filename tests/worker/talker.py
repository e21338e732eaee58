"""A program that writes a long log to standard error and exits in the middle of a line."""

import sys

for number in range(10_000):
    sys.stderr.write(f"line {number}\n")
sys.stderr.write("cut short")
