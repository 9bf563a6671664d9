"""The bus: at-least-once delivery of sealed envelopes, no order promised, with delay tiers and dead queues."""

from .port import Bus, Dead, DeadLetter, Delivery, Done, Later, QueueState, Verdict

__all__ = ["Bus", "Dead", "DeadLetter", "Delivery", "Done", "Later", "QueueState", "Verdict"]
