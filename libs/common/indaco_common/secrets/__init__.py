"""Secrets: the port, its adapter to Vault and OpenBao, the set-up of a vault, and a vault of one's own for one machine.

``port`` what services need · ``vault`` the adapter (with ``login`` and ``transport``) · ``setup`` mount, policies and
roles, for operators · ``embedded`` an OpenBao child process (with ``child``) · ``policies/`` one file per service.
"""
