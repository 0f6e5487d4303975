"""Decisions, pure: what a workflow means, whether it is sound, what may happen next and why. No I/O, clock or chance."""
