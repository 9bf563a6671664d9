"""Render the first boot of a machine for the software that needs no configuration service.

The script is text made of data: every value goes through shell quoting or into a file, none is ever part of the program.
It runs as root on the distributions that use apt or dnf, and can be run again without harm.
"""

from indaco_tosca.recipes.boot import first_boot, user_data
from indaco_tosca.recipes.components import DOCKER_COMPOSE, DOCKER_RUN, INLINE_COMPOSE, SCRIPT, render, understands
from indaco_tosca.recipes.shell import RecipeError, environment
from indaco_tosca.recipes.volumes import script

__all__ = [
    "DOCKER_COMPOSE",
    "DOCKER_RUN",
    "INLINE_COMPOSE",
    "SCRIPT",
    "RecipeError",
    "environment",
    "first_boot",
    "render",
    "script",
    "understands",
    "user_data",
]
