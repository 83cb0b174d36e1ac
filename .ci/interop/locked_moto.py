"""moto's server, with a lock where its own comment says that it needs one.

Two requests to one shard at once can be given the same sequence number there, and then one of two records is gone
though both were answered as stored.
"""

import sys
import threading

from moto.kinesis import models
from moto.server import main

lock = threading.Lock()
put_record = models.Shard.put_record


def put_one_by_one(self, *args, **kwargs):
    with lock:
        return put_record(self, *args, **kwargs)


models.Shard.put_record = put_one_by_one
main(sys.argv[1:])
