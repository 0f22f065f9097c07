"""Scorecards: regressions whose coefficients are small integers, and the cards made of them."""
