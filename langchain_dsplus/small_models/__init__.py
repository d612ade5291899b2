"""Small models: cheap, local, and able to say how sure they are."""
