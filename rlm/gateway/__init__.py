"""Every model call passes here, and is paid for from a ledger.

The way of a call, module by module:

    types           a `Request` comes in
    gateway         `Gateway.complete` takes it through the steps below, and tries again where an attempt failed
    lanes, pacing   it waits for a slot, in turn with other questions, and for the provider's rate limit
    models          is there such a model, is its key set, what does it cost?
    tokens          how long is the prompt?
    ledger          the most it can cost is reserved; without enough left it is not made
    paying, purse   so it is in a purse that several processes pay from, where there is one
    provider        litellm sends one request and reads the response into a `Completion`; an offline model answers
    clients         the connections it goes over, one set for each event loop
    failures        an attempt that failed: try again? when? was it billed?
    ledger          what it did cost is settled
    types           a `Reply` goes out, or one of `errors`

`litellm_setup` alone imports litellm, on first use by a model that needs it; `models`, `provider` and `clients` use
what it hands out. `failures` knows litellm's exceptions by their names, and `tokens` reads the vocabulary files that
litellm carries, without importing it. `options` says which parameters a caller may add to a request, and `naming` which
model a short name stands for. `offline` holds the models that answer without a network. Beside the way: `blocks` puts a
document's text into a prompt, `blocking` runs async code for callers that block.
"""
