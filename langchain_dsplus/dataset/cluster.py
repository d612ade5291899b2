"""The same blocks on Ray: an actor for each worker, and one that holds what they share."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_dsplus._imports import require
from langchain_dsplus.dataset.block import BlockRouter
from langchain_dsplus.dataset.desk import Desk, SpentError

_AHEAD = 2
"""Blocks that a worker has at hand: the one it is at, and the next."""
_TALKING = 256
"""Workers' threads that the desk hears at a time."""


class RemoteDesk:
    """A desk that is an actor: its two methods, waited for.

    It goes by its name, not by a handle: Ray would keep that in its object store, and a worker that is started again
    needs what it was made from.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def actor(self) -> Any:
        """The actor."""
        return require("ray", "ray").get_actor(self.name)

    def begin(self, key: str) -> Any:
        """As `Desk.begin`."""
        return require("ray", "ray").get(self.actor.begin.remote(key))

    def end(self, entry: dict[str, Any], fresh: Any, *, over: bool) -> None:
        """As `Desk.end`."""
        require("ray", "ray").get(self.actor.end.remote(entry, fresh, over=over))


class Cluster:
    """Ray, with workers that are started again where they die.

    Args:
        address: True for the cluster that runs or a new one here, or an address.
        workers: Actors; None for one for each CPU.
        restarts: Of each actor.

    Raises:
        ImportError: If Ray is not installed.
    """

    def __init__(self, address: str | bool | None, *, workers: int | None, restarts: int) -> None:
        self.ray: Any = require("ray", "ray")
        if not self.ray.is_initialized():
            self.ray.init(address=address if isinstance(address, str) else None, log_to_driver=False)
        self.workers = workers or max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        self.restarts = restarts

    def desk(self, path: Path, identity: str | None, limits: Mapping[str, Any]) -> RemoteDesk:
        """The desk as an actor on this machine, since the folder is here."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        name = f"dsplus-desk-{secrets.token_hex(8)}"
        kind = self.ray.remote(Desk).options(
            name=name,
            num_cpus=0,
            max_concurrency=_TALKING,
            scheduling_strategy=here,
            max_restarts=self.restarts,  # it reads its journal anew, and what it is told twice counts once there
            max_task_retries=self.restarts,
        )
        self._desk = kind.remote(str(path.absolute()), identity, **limits)  # it lives as long as this handle
        return RemoteDesk(name)

    def route(
        self, blocks: Iterator[tuple[int, list[Any]]], make_router: Callable[[], Any], desk: Any, options: Any
    ) -> Iterator[tuple[int, int, Any]]:
        """Yield the blocks' tables as they are done, in any order.

        Raises:
            SpentError: If a worker was refused for want of money, once all others are done.
        """
        kind = self.ray.remote(BlockRouter).options(
            num_cpus=1, max_restarts=self.restarts, max_task_retries=self.restarts
        )
        actors = [kind.remote(make_router, desk, **options) for _ in range(self.workers)]
        free = actors * _AHEAD
        running: dict[Any, tuple[Any, int, int]] = {}
        spent: SpentError | None = None
        try:
            while True:
                while free and spent is None and (block := next(blocks, None)) is not None:
                    actor = free.pop(0)
                    running[actor.route.remote(*block)] = actor, block[0], len(block[1])
                if not running:
                    break
                (done, *_), _ = self.ray.wait(list(running))
                actor, place, rows = running.pop(done)
                free.append(actor)
                try:
                    yield place, rows, self.ray.get(done)
                except SpentError as error:
                    spent = SpentError(*getattr(error, "cause", error).args)  # Ray wraps it, with a traceback
        finally:
            for actor in (*actors, self._desk):
                self.ray.kill(actor)
        if spent is not None:
            raise spent
