"""The texts for a model whose code uses a verb or a call wrongly: what was found, and what to do."""

# -- arguments ---------------------------------------------------------------------------------------------

NO_VERB = "context has no verb {verb!r}; it has {verbs}"
SIGNATURE = "{name}{signature}: {problem}"
TEXT = "{name} is text, found {value}"
COUNT = "{name} is a whole number of at least 1, found {value}"
FLAG = "{name} is True or False, found {value}"
ONE_OF = "{name} is one of {known}, found {value}"
MODE = "no search mode {value}; there are {modes}"
NODE_ENTRY = 'name the node by its id, as in context.peek(hit["node"]), not by the whole entry'
NODES = 'nodes is a list such as ["L0-00012"], found {value}'
TEXTS = "{name} is a list of texts, found {value}"
TEXTS_ITEM = "{name} holds {value}, every item is a text"
ONE_EACH = "{name} is a list with one item for each of the {count}, found {value}"
ONE_EACH_COUNT = "{name} has {found} for {count}; give one for each"
QUESTION = "the question is empty; ask with at least one word"
LEVEL = "level is a whole number or None, found {value}"
WHERE = 'where is a dict such as {{"year": "2021"}}, found {value}'
WHERE_FIELDS = "where has {count:,} fields, at most {most}"
WHERE_VALUE = "where[{name}] is text or a number, found {value}"
OFFSETS = "start and end are whole numbers of characters, found {start} and {end}"
OUTSIDE_DOCUMENT = "{doc} has characters 0 to {chars}, asked for {start} to {end}"
SLICE = "a slice has two places, 0 or more, found {start} and {end}"
READ_ITEM = 'read takes a node, or a list of nodes such as ["L0-00012", "L0-00013"]'
ROWS = (
    "rows are what context.rows(...) gives, a list of such rows or nodes, or a list of texts, found {value}"
)
ROW_NODE = "{node} is a summary, and a row is a text of the documents; give its leaves"
MAP_ROWS = "{rows:,} rows in one map, at most {most:,}; map a slice of them, such as rows[:{most}]"
FIELDS = 'fields say what each row is asked for, such as {{"label": ["spam", "ham"]}}, found {value}'
NO_ROWS = "rows are what context.rows(...) gives, or a slice of it, found {value}"
ROW_PLACES = "there are rows 0 to {count:,}, asked for {start} to {stop}"
NO_CELL = "there are cells 1 to {cells}, found {value}"
MODEL = "sub-calls are answered by {models}, found model={value}; leave it out"

# -- branches ----------------------------------------------------------------------------------------------

BRANCH, SCOPE = "the branch {under} that you were given", "what the question is about"
NODE_OUTSIDE = "node {node} is outside {view}"
TIMEOUT = "the timeout of {seconds} s was reached before this was answered"
DOCUMENT_OUTSIDE = "no document {doc} in {view}"
SPAN_OUTSIDE = "{span} reaches outside {view}"
NODE_OF_MORE = "node {node} also sums up texts outside what the question is about; read its children"
LABEL_OF_MORE = "(on the way: its children are about the question)"

# -- sizes -------------------------------------------------------------------------------------------------

QUERY_CHARS = "the query has {chars:,} characters, at most {most:,}; ask in a few words"
SLICE_CHARS = "a slice holds at most {most:,} characters; take smaller slices, or grep and search"
SPAN_CHARS = "{chars:,} characters asked for, at most {most:,} at once"
TEXT_CHARS = (
    "the text has {chars:,} characters, at most {most:,} can be held at once; use context.grep, context.search or "
    "context[a:b]"
)
AREAS_CHARS = "no area fits into {chars:,} characters; give more"
GATHER_CHARS = "no passage fits into {chars:,} characters; give more"
READ_NODES = "{nodes:,} nodes to read at once, at most {most:,}; read fewer, or grep"
READ_CHARS = "{texts} more than {most:,} characters; read fewer, or a part"
PACK_NODES = "{nodes:,} chunks to pack, at most {most:,}; give under=, a branch"
MOST_ROWS = "{rows:,} rows, at most {most:,}; give under=, doc= or where=, or a coarser split"
ROW_CHARS = "row {row} has {chars:,} characters, at most {most:,} can be read at once; give a finer split"
BATCH = "{count} {name} in one batch, at most {most}; split it, or pack more into each"
PASSAGES = "{count:,} passages in one call, at most {most:,}; choose fewer, or split it"
PASSAGE_CHARS = "{chars:,} characters of passages in one prompt, at most {most:,}; split it"
CALL_CHARS = (
    "{chars:,} characters of passages in one call, at most {most:,}; make several calls, one after another"
)

REDUCE_ONE = "{named} are given, and llm_reduce reads one of them; reduce each, and then the answers as texts"
REDUCE_CHARS = (
    "{chars:,} characters to reduce, at most {most:,} at once; reduce branches one by one, under=node"
)
REDUCE_NOTHING = "there is no text to reduce"
REDUCE_DEAR = "llm_reduce of {packs} over {levels} is not begun: {problem}; a smaller branch takes less"

# -- what is left out of a result, and told below the output of the cell ------------------------------------

CUT = "context.{verb} gave {cut}"
CUT_LIST = "the first {given:,} of {total} {what}"
OR_MORE = "{total:,} or more"
CUT_TO = "what fits {name}={most:,}, the most that it takes, and not {asked}"
ROWS_LEFT_OUT = (
    "{rows:,} rows, without {more:,} that lie there only in part; split='line' cuts such to what is inside"
)
CUT_MORE = "and {more:,} more results were cut"

# -- the run -----------------------------------------------------------------------------------------------

DEPTH = "children go {most} deep and you are at {depth}; use llm_query with nodes=[...]"
FULL = "this run has read so much that its trace is full; answer from what your variables hold"
STOPPING = "the run is being stopped; no more calls are answered"
STOPPED = "the run was stopped"
OUT_OF_TIME = "this cell's time is up; ask for less at once, such as one branch or one document"
FAULT = "{name} failed by a fault of the system itself ({problem}); it is recorded; go on without this call"

# -- an answer that is not taken ---------------------------------------------------------------------------

UNSUPPORTED = (
    "{unsupported} of {quoted} {stands} in the documents: {quotes}; copy the exact words, or leave them out."
)
UNCITED = (
    "it cites nothing; quote the exact words of the documents that carry it, or, if they do not hold the answer, begin "
    'it with "{not_in_documents}".'
)
UNFIT = "it does not fit the schema: {errors}"
NOT_JSON = "$: {value!r} is not JSON: {problem}"
NO_ANSWER = "$: there is no answer"
NESTED = "$: it is {problem}"
NO_JSON = "$: it holds {problem}"
TOO_LONG_TO_CHECK = "$: it takes too long to check against the schema; give a smaller answer"
TOO_LARGE_A_NUMBER = "$: it holds a number that is too large to check"
SCHEMA_LEADS_NOWHERE = "$: the schema leads nowhere: {problem}"
