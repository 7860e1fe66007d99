"""What the compile server and its parent say to each other, over one socket.

To the server: a number (`NUMBER_BYTES`, little-endian), then JSON with the folder of kernels' texts and the job. To the
parent: `READY` once, then for each job its number, one byte (`SUCCESS` or `FAILURE`), and machine code or a text.
Invariant: imports nothing, as both sides import it.
"""

READY = b"ready"
SUCCESS = b"+"
FAILURE = b"-"
NUMBER_BYTES = 8
