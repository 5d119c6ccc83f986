"""Physical constants, each defined here and nowhere else."""

from __future__ import annotations

from scipy import constants

SPEED_OF_LIGHT: float = constants.speed_of_light  # [m/s]

# 3GPP's density of thermal noise [dBm/Hz], as in TR 38.901 and TR 36.942. Boltzmann's constant at 290 K gives -173.98.
THERMAL_NOISE_DBM_PER_HZ = -174.0
