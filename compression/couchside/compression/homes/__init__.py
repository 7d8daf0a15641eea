"""Simulated homes with ground truth, made of real people's ratings: ``couchside-simulate``.

No public log of a household's viewing exists. These homes are as real as the data allow: each
member is a real user of a ratings data set, who watches those films, in that order, and likes them
as much; two to four of them share a TV. What is invented is when they sit down, how long, and what
they watch besides: live programmes and series of a guide. Every invention is a constant in
:mod:`people` and :mod:`diary` with a sentence about it, and the truth (who watched, who chose, why)
comes along.

So a home is good for finding out who is watching, for context (daypart, live, series), for load and
for demos. It says nothing about how often people watch TV, and its films are as good a test of a
ranking as the ratings are.
"""
