"""Which bars and stations matter, and how near is near: a risk terrain of 1,000 simulated places."""

import deepreg

data = deepreg.simulate.risk_terrain(1000, rng=1).frame
fit = deepreg.rtm("events ~ corner", data, sets={"bars": "bar_*", "stations": "station_*"}).fit()
print(fit.summary())
print(fit.stability(draws=25, rng=0))

# What flagging the riskiest places catches, this year and the next.
print(fit.pai(outcome="events_next", z=2).round(2))
print(fit.conjunctions(outcome="events_next").round(2))
