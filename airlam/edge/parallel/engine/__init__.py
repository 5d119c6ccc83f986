"""Training on one rank: its part of the model, its collectives, its steps and its states."""
