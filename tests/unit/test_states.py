"""The state machine: every place has its statuses, and results have no way out."""

from app.domain.states import MOVES, STATUS_IN, TERMINAL, JobStatus, Place


def test_every_status_belongs_to_a_place() -> None:
    assert set().union(*STATUS_IN.values()) == set(JobStatus)
    assert STATUS_IN[Place.RESULT] == TERMINAL


def test_a_result_has_no_way_out_and_every_other_place_leads_to_one() -> None:
    assert MOVES[Place.RESULT] == frozenset()
    for place in set(Place) - {Place.RESULT}:
        assert Place.RESULT in MOVES[place]
