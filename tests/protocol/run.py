"""Run worlds from the command line: ``python tests/protocol/run.py [--seeds N] [--first S] [--off RULE …] [--mutate] [--trace SEED]``."""
