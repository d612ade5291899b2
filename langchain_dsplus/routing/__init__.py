"""Who answers an input: the decision, the router that drives it, streams, nodes and what a router is bound to."""
