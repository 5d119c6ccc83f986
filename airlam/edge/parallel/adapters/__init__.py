"""Parameter-efficient training on a pool: LoRA, or a parallel adapter whose backbone need not run after one epoch."""
