"""The tests run verl on the CPU, on every machine, and ask for it by the switch that users have."""

import os

os.environ.setdefault("VERL_PLATFORM", "cpu")
