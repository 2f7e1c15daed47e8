"""Pure functions: tensors in, a number or a named result out."""
