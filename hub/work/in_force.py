"""What every shell that runs rules names once, from its settings: the work types and the shutoff pack in force.

Reads files, writes nothing.
"""

from hub.settings import Settings
from hub.work import catalogue, policy


def use(settings: Settings) -> None:
    """Make the utility's work types and its policy pack those of this process. Raises ConfigurationError."""
    catalogue.use(settings.types_dir, currency=settings.currency)
    policy.use(settings.policy_pack, settings.packs_dir, zone=settings.zone, silence_hours=settings.fact_max_age_hours)
