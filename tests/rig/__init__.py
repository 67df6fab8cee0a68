"""The test rig: real servers, a real OpenID provider and the gateway, on loopback, in a directory of their own.

Standard library only, so that benchmarks and the demo can use it too. What a machine lacks is reported by name
(`Missing`); whether that skips or fails is the caller's decision.
"""


class Missing(Exception):
    """Something the machine does not have. The text says what, and how to get it."""


class Broken(Exception):
    """Something that is there and does not work. The text holds the end of its log."""
