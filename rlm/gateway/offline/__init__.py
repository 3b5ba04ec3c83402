"""Models that run in this process without a network: rules, paid for and counted like any model."""

#: How the names of all of them begin.
PREFIX = "offline/"
#: Who read the text where all models were of this kind, as a person is told.
READ_BY = "no language model (offline extractive)"
