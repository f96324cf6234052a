"""Boards out of service stay so over a restart."""

from __future__ import annotations

from belayd.store import DisabledBoard


async def test_a_disabled_board_stays_so_until_it_is_enabled(place) -> None:
    store = await place.open()
    first = DisabledBoard("a", "olga", "broken pin", place.wall())
    second = DisabledBoard("b", "olga", "", place.wall())
    for each in (first, second):
        store.disabled.disable(each)
    await store.disabled.settled()
    await store.close()

    store = await place.open()
    assert dict(store.disabled.boards) == {"a": first, "b": second}
    again = DisabledBoard("a", "pit", "pin and port", place.wall.go(days=1))
    store.disabled.disable(again)
    store.disabled.enable("b")
    store.disabled.enable("never disabled")
    assert dict(store.disabled.boards) == {"a": again}
    await store.close()

    assert dict((await place.open()).disabled.boards) == {"a": again}
