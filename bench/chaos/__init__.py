"""Chaos: the whole product as processes, faults by a seeded schedule, and checks that doubt it."""
