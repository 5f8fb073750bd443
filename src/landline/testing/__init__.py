"""What our tests and users' tests lean on: networks that exist in virtual time only."""

from .network import (
    Answer,
    Event,
    Fate,
    Result,
    SimulatedNetwork,
    answers,
    connects,
    fails_to_start,
    lookup_fails,
    never_answers,
    refuses,
    silent,
)

__all__ = [
    "Answer",
    "Event",
    "Fate",
    "Result",
    "SimulatedNetwork",
    "answers",
    "connects",
    "fails_to_start",
    "lookup_fails",
    "never_answers",
    "refuses",
    "silent",
]
