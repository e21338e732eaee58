"""A program that writes much to standard error, and ends in the middle of a line."""

import sys

for number in range(10_000):
    sys.stderr.write(f"line {number}\n")
sys.stderr.write("cut short")
