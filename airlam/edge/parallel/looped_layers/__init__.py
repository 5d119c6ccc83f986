"""The benchmark of looped layers: what depth without parameters is worth, and what it costs a pool of devices."""
