"""One model, timed: what to run, for how long, and what may be said about it afterwards."""
