"""What all processes of a server share: keys, money, rate limits and the list of runs, in SQLite or PostgreSQL.

    tables       what is kept, as SQLAlchemy describes it
    migrations   how a database came to have these tables, step by step
    connecting   one transaction at a time; what cannot be reached is one sentence
    keys         made, found by their hash, revoked
    leases       reservations of model calls, and what was spent on a day
    database     all of it as the `State` of a server
    rebuilding   runs and spending made anew from the folders of runs

The folders of runs are the truth of what was asked; keys stand here alone.
"""
