"""Config keys and loading: fast-reid's config with this project's keys, checked."""

from icre.config.load import add_icre_config, load_config, register_check

__all__ = ["add_icre_config", "load_config", "register_check"]
