"""Builds accounting."""

import asyncio
from datetime import timedelta
from importlib import metadata

from indaco_common.service import Infra, Service, ServiceSpec
from indaco_common.store import Query, Repository

from .api import Api
from .exporters.apel import ApelOptions
from .exporters.spool import Spool
from .exporting import ApelExporter, all_records
from .handlers import Exporting, Recording
from .metrics import UsageMetrics
from .model import Status, UsageRecord
from .schedule import Schedule
from .settings import AccountingSettings

COUNT_EVERY_S = 15.0


def build(infra: Infra, settings: AccountingSettings) -> Service:
    records = infra.repository(UsageRecord)
    metrics = UsageMetrics(infra.metrics.registry, max_labelsets=settings.metrics_labelsets)
    exporter = _exporter(infra, settings, records, metrics)
    every = timedelta(seconds=settings.export_every_s)
    exporting = Exporting(infra.repository(Schedule), exporter, infra.clock, every=every)

    async def restore() -> None:
        async for record in all_records(records):
            metrics.restore([record])
        await count()

    async def count() -> None:
        _, total = await records.find(Query(equal={"status": Status.OPEN}, limit=1))
        metrics.opened(total)

    async def keep_counting() -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            await count()

    return Service(
        infra,
        handlers=(Recording(records, metrics), exporting),
        routes=Api(records, exporter, infra.clock).routes(),
        starting=(restore, exporting.plan),
        tasks={"open-records": keep_counting},
    )


def _exporter(
    infra: Infra, settings: AccountingSettings, records: Repository[UsageRecord], metrics: UsageMetrics
) -> ApelExporter:
    options = ApelOptions(
        version=metadata.version("indaco"),
        site_names=settings.site_names,
        user_name=settings.user_name,
        pseudonym_key=settings.pseudonym_key.get_secret_value().encode(),
    )
    spool = Spool(settings.spool or infra.settings.data / "accounting" / "apel" / "outgoing")
    return ApelExporter(records, spool, options, metrics, infra.clock, export_simulated=settings.export_simulated)


SERVICE = ServiceSpec("accounting", AccountingSettings, handlers=(Recording, Exporting), build=build, port=8084)
