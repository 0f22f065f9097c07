"""Constant theta: its fit, covariances, bounds and what certifies a minimum."""
