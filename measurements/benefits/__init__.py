"""Benefits: what a model does downstream."""
