"""Backfill: every slide of an archive becomes a job, in bounded numbers, from wherever the last start stopped."""

from worker.backfill.order import Order
from worker.backfill.run import Run, RunLimits, count

__all__ = ["Order", "Run", "RunLimits", "count"]
