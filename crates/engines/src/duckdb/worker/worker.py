# The worker that runs SQL in the user's own DuckDB for unship.
#
# Frames on both pipes: a 4-byte big-endian length, then that much UTF-8 JSON. Every cell is text
# or null: the client asks DuckDB itself for the text, so nothing is rounded on the way.
import json
import os
import queue
import signal
import struct
import sys
import threading
import time

PROTOCOL = 1
ROWS_PER_FRAME = 2048
MAX_FRAME = 1 << 28

# What a library prints must not land between two frames.
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
# Ctrl-C reaches the whole process group; only the parent decides what it means.
signal.signal(signal.SIGINT, signal.SIG_IGN)

requests = queue.Queue()
running = None
lock = threading.Lock()
connection = None


def send(number, answer):
    body = json.dumps({"id": number, "answer": answer}, ensure_ascii=False)
    body = body.encode("utf-8", "replace")
    if len(body) > MAX_FRAME:
        raise OverflowError("the answer does not fit a frame of %d bytes" % MAX_FRAME)
    answers.write(struct.pack(">I", len(body)) + body)
    answers.flush()


def interrupt(number):
    # DuckDB forgets an interrupt that comes before the query has begun, so say it until it is heard.
    while True:
        with lock:
            if running != number or connection is None:
                return
            connection.interrupt()
        time.sleep(0.02)


def listen():
    pipe = os.fdopen(0, "rb", closefd=False)
    while True:
        head = pipe.read(4)
        size = struct.unpack(">I", head)[0] if len(head) == 4 else 0
        body = pipe.read(size) if 0 < size <= MAX_FRAME else b""
        if size == 0 or len(body) != size:
            # The parent is gone (or broken): an open transaction must not outlive it.
            os._exit(0)
        frame = json.loads(body)
        request = frame["request"]
        if request["op"] == "cancel":
            threading.Thread(target=interrupt, args=(request["target"],), daemon=True).start()
        else:
            requests.put(frame)


def value(param):
    kind, text = param
    if text is None:
        return None
    if kind == "bool":
        return text == "true"
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "bytes":
        return bytes.fromhex(text)
    return text


def close():
    global connection
    if connection is not None:
        old, connection = connection, None
        old.close()


def answer(number, request):
    global connection
    op = request["op"]
    if op == "connect":
        close()
        connection = duckdb.connect(":memory:")
    elif op == "close":
        close()
    elif connection is None:
        raise RuntimeError("no database is open")
    else:
        if len(duckdb.extract_statements(request["sql"])) != 1:
            raise ValueError("one SQL statement is expected at a time")
        connection.execute(request["sql"], [value(p) for p in request["params"]])
        if op == "query":
            while True:
                rows = connection.fetchmany(ROWS_PER_FRAME)
                if not rows:
                    break
                send(number, {"kind": "rows", "rows": rows})
    send(number, {"kind": "done"})


try:
    import duckdb
except BaseException:
    # `pip install --user` puts packages where an isolated interpreter does not look.
    try:
        import site

        site.addsitedir(site.getusersitepackages())
        import duckdb
    except BaseException as error:
        send(0, {"kind": "failed", "message": "%s: %s" % (type(error).__name__, error)})
        sys.exit(1)

send(0, {"kind": "hello", "protocol": PROTOCOL, "duckdb": duckdb.__version__, "pid": os.getpid()})
threading.Thread(target=listen, daemon=True).start()
while True:
    frame = requests.get()
    number = frame["id"]
    if frame["request"]["op"] == "shutdown":
        close()
        send(number, {"kind": "done"})
        os._exit(0)
    with lock:
        running = number
    failure = None
    try:
        answer(number, frame["request"])
    except Exception as error:
        failure = str(error)
        if not isinstance(error, duckdb.Error):
            failure = "%s: %s" % (type(error).__name__, failure)
    with lock:
        running = None
    if failure is not None:
        send(number, {"kind": "failed", "message": failure})
