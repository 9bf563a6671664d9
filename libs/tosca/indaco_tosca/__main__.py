"""Starts the program of :mod:`indaco_tosca.program`, which is over after a tenth of a second."""

import gc
import sys

if __name__ == "__main__":
    gc.disable()  # before the imports: to look through all that they make, again and again, would take a tenth of the time
    from indaco_tosca.program import main

    status = main()
    gc.freeze()  # nor at the end
    sys.exit(status)
