"""The INDIGO PaaS Orchestrator API at the root: the paths, words and shapes that orchent, orpy and the dashboard know."""
