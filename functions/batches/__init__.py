"""Batches: what clients ask of them, the engine that runs them, and the schedule that polls them."""
