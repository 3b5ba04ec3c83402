"""Whether the events of a trace agree with each other: who called whom and when, what it cost, who said what.

Every rule holds in each trace that the engine writes, be the run whole, cancelled, over its budget or broken off. So an
event that breaks one was not written by the engine, even if its hash is right. A rule is a function over what was told
so far and the next event; it gives a sentence, '' where they agree. The trace may be a stranger's, and of any length:
what is kept is a few facts of each conversation that is under way, and events are only known to fit the table.

What was taken out of a trace (an event's `redacted`) is not there to be compared: a rule that needs it lets it pass.
"""
