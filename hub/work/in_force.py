"""What every shell that runs rules names once, from its settings: work types, shutoff pack and rules for readings.

Reads files, writes nothing.
"""

from hub.metering import validation_rules
from hub.settings import Settings
from hub.work import catalogue, opening_rules, policy


def use(settings: Settings) -> None:
    """Make the utility's work types, policy pack and rules those of this process. Raises ConfigurationError."""
    validation_rules.use(settings.rules_dir)
    catalogue.use(settings.types_dir, currency=settings.currency)
    opening_rules.use(settings.rules_dir)
    policy.use(settings.policy_pack, settings.packs_dir, zone=settings.zone, silence_hours=settings.fact_max_age_hours)
