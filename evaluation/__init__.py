"""From a configuration to committed cells: validate, plan, record, measure, commit."""
