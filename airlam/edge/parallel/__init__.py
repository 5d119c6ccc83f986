"""Training of one model on a pool of unequal devices: who computes, holds and sends what."""
