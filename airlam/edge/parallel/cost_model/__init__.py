"""What a plan costs on a pool of devices: time, bytes, memory, joules; modelled, and held against real runs."""
