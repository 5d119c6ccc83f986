"""Processes of a parallel run: who starts, meets, is missed, and ends."""
