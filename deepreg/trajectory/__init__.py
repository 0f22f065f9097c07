"""Group-based trajectories: mixtures over persons, from long data to forecasts."""
