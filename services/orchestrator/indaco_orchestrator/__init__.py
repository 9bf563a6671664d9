"""The orchestrator: brings each deployment to the state its owner wants, at the place that sla reserved."""
