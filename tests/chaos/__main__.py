"""``python -m tests.chaos``: one run, its figures to build/chaos.json; exit 1 with every promise that was broken."""

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

from indaco_common import telemetry
from indaco_common.settings import Settings
from indaco_common.testing.backing import REPOSITORY, missing_servers

from .run import PER_DEPLOYMENT_S, Plan, run

OWN = {"INDACO_TEST_AMQP", "INDACO_TEST_AMQP_MANAGEMENT"}  # a run starts a broker of its own


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--backends", choices=sorted(PER_DEPLOYMENT_S), default="embedded", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of arrivals, moments and victims (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs of random processes (default: %(default)s)")
    parser.add_argument("--deployments", type=int, default=200, help="that users ask for (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.backends == "real" and (missing := set(missing_servers()) - OWN):
        parser.error(f"not set: {', '.join(sorted(missing))}; see deploy/local/all.sh")
    telemetry.set_up_logging(Settings(log_level="error", log_format="console"))
    plan = Plan(arguments.backends, arguments.seed, arguments.kills, arguments.deployments)
    print(
        f"chaos: {plan.deployments} deployments over {plan.seconds:.0f} s, {plan.kills} kills, seed {plan.seed}, {plan.backends}"
    )
    facts = asyncio.run(until_told_to_stop(plan))
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    (build / "chaos.json").write_text(json.dumps(facts, indent=1))
    print(json.dumps(facts, indent=1))
    for promise in facts["broken"]:
        print(f"BROKEN: {promise}", file=sys.stderr)
    return 0 if facts["holds"] else 1


async def until_told_to_stop(plan: Plan) -> dict[str, Any]:
    """Run; what was started is stopped as well when somebody ends the run early."""
    task = asyncio.create_task(run(plan, lambda line: print(f"  {line}", flush=True)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


if __name__ == "__main__":
    sys.exit(main())
