"""Properties: what can be measured about a model in isolation."""
