"""An S3 server in memory, `moto`, with the faults that a store can have.

s3.py FAULT    serves the bucket `lake`, prints its port, and ends with its standard input. What is
               written in the file FAULT happens to the next commit that unship makes, and the file
               is gone then:
                 before JSON  somebody carries out these operations first, as delta.py does
                 lose         the commit is made, and nobody answers
                 deny         the commit is refused
               These stay until the file is taken away:
                 drop         nobody answers, and no commit is made
                 naive        the store overwrites what is there
               Whoever gets /requests is told how many requests there were.
"""

import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client
from werkzeug.wrappers import Response

FAULT = Path(sys.argv[1])
S3 = DomainDispatcherApplication(create_backend_app)
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
COUNTED = {"all": 0}


def is_there(path):
    got = Client(S3).head(path, headers={"Authorization": AUTHORIZATION})
    return got.status_code == 200


def hang_up(environ):
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionError("nobody is answered")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/requests":
        return Response(str(COUNTED["all"]))(environ, start_response)
    COUNTED["all"] += 1
    fault = FAULT.read_text() if FAULT.exists() else ""
    if fault == "naive":
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return S3(environ, start_response)
    if not fault or "HTTP_IF_NONE_MATCH" not in environ or is_there(path):
        return S3(environ, start_response)
    # Python's writer sends its commits in the same way.
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    environ["wsgi.input"] = io.BytesIO(body)
    if b'"engineInfo":"unship/' not in body:
        return S3(environ, start_response)
    if fault == "drop":
        return hang_up(environ)
    FAULT.unlink()
    what, _, operations = fault.partition(" ")
    if what == "before":
        job = Path(__file__).with_name("delta.py")
        subprocess.run([sys.executable, str(job), "do", operations], check=True)
    elif what == "lose":
        list(S3(environ, lambda *_: None))
        return hang_up(environ)
    elif what == "deny":
        text = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        return Response(text, status=403)(environ, start_response)
    return S3(environ, start_response)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


if __name__ == "__main__":
    Client(S3).put("/lake", headers={"Authorization": AUTHORIZATION})
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_port}"
    print(server.server_port, flush=True)
    sys.stdin.read()
    os._exit(0)
