"""The destructor that Serve awaits."""

from __future__ import annotations

import pytest

from serve_app.deployments.replica import Served


class Model:
    """A deployment whose constructor may fail half-way."""

    def __init__(self, folder: str) -> None:
        self.closed = 0
        if not folder:
            raise ValueError("The model folder does not exist")
        self._ledger = folder

    async def close(self) -> None:
        assert self._ledger
        self.closed += 1


class ServedModel(Served, Model): ...


async def test_closed_once() -> None:
    made = ServedModel("/models/a")
    closing = made.__del__()
    assert closing is not None
    await closing
    assert made.__del__() is None
    assert made.closed == 1


def test_one_whose_constructor_failed_has_nothing_to_close() -> None:
    half = ServedModel.__new__(ServedModel)  # as Serve makes it
    with pytest.raises(ValueError, match="does not exist"):
        half.__init__("")
    assert half.__del__() is None
