"""A weather station, as far as a board without sensors can be one."""

import machine
from lib.average import mean

READINGS = (20.5, 21.0, 22.25)


def name():
    return "station-" + "".join("%02x" % byte for byte in machine.unique_id()[:3])


def temperature():
    return mean(READINGS)


def report():
    print("measured", len(READINGS), "times")
    return {"name": name(), "celsius": temperature(), "raw": READINGS}
