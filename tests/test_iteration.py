"""Orders to an iteration: in their order, bounded, and a close before what was only allowed."""

from __future__ import annotations

import pytest

from belayd.errors import RequestInvalid
from belayd.iteration import MOST_CREDIT, MOST_PUSHED, MOST_SENDS, MOST_SENT_BYTES, IterationOrder, Orders


def taken(orders: Orders) -> list[tuple[str, str, int]]:
    """Take orders until there is none or the last."""
    found = []
    while (order := orders.take()) is not None and order.letter != "z":
        found.append((order.letter, order.body, order.items))
    return [*found, *([("z", "", 0)] if order else [])]


def test_credit_is_taken_in_small_parts() -> None:
    orders = Orders(MOST_PUSHED + 3)
    assert taken(orders) == [("c", f"{MOST_PUSHED:x}", MOST_PUSHED), ("c", "3", 3)]
    assert not orders


def test_without_credit_there_is_nothing_to_take() -> None:
    orders = Orders(0)
    assert (bool(orders), orders.take()) == (False, None)


def test_values_and_credit_keep_their_order() -> None:
    orders = Orders(1)
    orders.send("'a'")
    orders.grant(2)
    orders.grant(3)
    orders.send("'b'")
    assert taken(orders) == [("c", "1", 1), ("s", "'a'", 1), ("c", "5", 5), ("s", "'b'", 1)]


def test_a_close_waits_for_values_but_not_for_credit() -> None:
    orders = Orders(1)
    orders.send("7")
    orders.grant(1000)
    orders.close()
    orders.grant(5)
    orders.send("8")
    assert taken(orders) == [("c", "1", 1), ("s", "7", 1), ("z", "", 0)]


def test_a_close_at_once_waits_for_nothing() -> None:
    orders = Orders(1)
    orders.send("7")
    orders.close(at_once=True)
    assert taken(orders) == [("z", "", 0)]


def test_an_order_that_did_not_reach_the_board_comes_again() -> None:
    orders = Orders(2)
    orders.send("7")
    first = orders.take()
    assert first is not None
    orders.put_back(first)
    assert taken(orders) == [("c", "2", 2), ("s", "7", 1)]
    orders.put_back(IterationOrder("s", "7", 1))
    assert taken(orders) == [("s", "7", 1)]


def test_too_much_credit_is_refused_and_what_was_taken_makes_room() -> None:
    orders = Orders(MOST_CREDIT)
    with pytest.raises(RequestInvalid):
        orders.grant(1)
    assert orders.take() is not None
    orders.grant(MOST_PUSHED)


def test_a_value_before_anything_was_allowed_is_refused() -> None:
    with pytest.raises(RequestInvalid, match="has not begun"):
        Orders(0).send("1")


def test_too_many_values_that_wait_are_refused() -> None:
    orders = Orders(1)
    for _ in range(MOST_SENDS - 1):
        orders.send("1")
    with pytest.raises(RequestInvalid, match="too much"):
        orders.send("1")


def test_a_value_may_be_long_but_not_many() -> None:
    orders = Orders(1)
    orders.send("1" * (2 * MOST_SENT_BYTES))
    with pytest.raises(RequestInvalid, match="too much"):
        orders.send("1")
    assert orders.take() and orders.take()
    orders.name = "begun"
    orders.send("1")
