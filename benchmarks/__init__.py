"""Measurements against raw limits, each with a goal: ``make bench`` runs them all, ``make bench ONLY=name`` some.

A row is one function in a module of this package. It measures ours and, where there is a raw limit, a program in ``baselines/`` that
imports nothing of ours, in turn and on the same servers, so that both see the same machine. Beside each figure stands what other
processes did meanwhile: a run on a busy machine shows itself.
"""
