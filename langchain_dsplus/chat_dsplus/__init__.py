"""A chat model that is a cascade of chat models."""
