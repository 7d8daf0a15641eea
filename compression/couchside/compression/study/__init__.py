"""User models at the published level on public ratings, and the baselines beside them.

A study answers "how good is this family of models?" where others have answered it before:
leave-one-out on MovieLens, a cut in time where there is a clock. It makes no Bundle; its weights
stay with whoever may hold the data.
"""

BASELINES = ("popularity", "popularity-7d", "item-knn", "ease", "ials")
"""Models to beat, by name."""
OURS = "couchside"
"""The name of our own model in a table."""
