"""The drawing of a router: the small models, and the large chain for what they are unsure of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable

from langchain_dsplus.routing.state import State
from langchain_dsplus.tags import LARGE_TAG

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph, Node


def draw(state: State, input_schema: type[Any], output_schema: type[Any]) -> Graph:
    """Both branches, from the input to the output."""
    from uuid import uuid4

    from langchain_core.runnables.graph import Graph, Node

    graph = Graph()

    def add(part: Runnable[Any, Any], name: str) -> Node:
        node = Node(id=uuid4().hex, name=name, data=part, metadata=None)  # ids of their own: routers may be joined
        graph.nodes[node.id] = node
        return node

    previous = graph.add_node(input_schema)
    label = None
    smalls = []
    for name, model in zip(state.names, state.models, strict=True):
        node = add(model, name)
        graph.add_edge(previous, node, label, conditional=label is not None)
        smalls.append(node)
        previous, label = node, "unsure"
    large = add(state.large, LARGE_TAG)
    graph.add_edge(previous, large, "unsure", conditional=True)
    end = graph.add_node(output_schema)
    for node in smalls:
        graph.add_edge(node, end, "confident", conditional=True)
    graph.add_edge(large, end)
    return graph
