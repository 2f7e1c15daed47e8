"""The words and conventions every other folder shares; imports no torch."""
