"""A Spark session that outlives the commands that use it, and the command that uses it.

spark_driver.py serve SOCKET      answers until it is ended; the settings are those of SPARK_CONF_DIR
spark_driver.py sql [STATEMENT…]  has the session at UNSHIP_TEST_SPARK carry out statements, in order,
                                  and prints the rows of each as JSON; without statements they come
                                  from standard input, each ended by a semicolon at a line's end

A request is a line of JSON, `{"sql": […], "session": NAME}`, and so is an answer, `{"rows": […]}` or
`{"error": TEXT}`. What `session` names is a session of Spark's own, with what it remembers of tables;
without a name it is a new one, as if another program had been started.
"""

import json
import os
import socket
import socketserver
import sys
import threading


def serve(path):
    from pyspark.sql import SparkSession

    root = SparkSession.builder.getOrCreate()
    root.sparkContext.setLogLevel("OFF")
    named, lock = {}, threading.Lock()

    def session(name):
        if name is None:
            return root.newSession()
        with lock:
            if name not in named:
                named[name] = root.newSession()
            return named[name]

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                request = json.loads(line)
                try:
                    spark = session(request.get("session"))
                    rows = [
                        [list(row) for row in spark.sql(text).collect()] for text in request["sql"]
                    ]
                    answer = {"rows": rows}
                except Exception as error:  # Whatever it is, whoever asked is told.
                    answer = {"error": str(error).split("\n\tat ")[0]}
                self.wfile.write(json.dumps(answer, default=str).encode() + b"\n")
                self.wfile.flush()

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    # The name appears when there is somebody to answer.
    server = Server(path + ".new", Handler)
    os.rename(path + ".new", path)
    server.serve_forever()


def sql(*statements):
    if not statements:
        lines = sys.stdin.read().strip()
        statements = [text.strip() for text in (lines + "\n").split(";\n") if text.strip()]
    with socket.socket(socket.AF_UNIX) as to:
        to.connect(os.environ["UNSHIP_TEST_SPARK"])
        to.sendall(json.dumps({"sql": statements}).encode() + b"\n")
        answer = json.loads(to.makefile().readline())
    if "error" in answer:
        sys.exit(answer["error"])
    for rows in answer["rows"]:
        print(json.dumps(rows))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"serve": serve, "sql": sql}[command](*arguments)
